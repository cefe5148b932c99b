"""Implements `octad kv`: one call of the SDK and what it shows."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

import msgspec

from octad.client.cli.status_table import columns
from octad.client.cluster.coordinator_calls import CallRefused, CoordinatorsUnreachable
from octad.client.cluster.service_token import ServiceToken
from octad.client.kv.kv_client import Kv, open_kv
from octad.client.kv.kv_records import BadKey, KvAnswer, KvEntry, KvKeys
from octad.client.runtime.command import CommandError
from octad.client.runtime.shown_command import shown_command

EXIT_NO_KEY = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """The options as typed."""

    action: Literal["get", "put", "rm", "ls", "watch"]
    key: str
    value: bytes
    if_revision: int | None
    as_json: bool
    coordinator: str
    token: ServiceToken


def run_kv(asked: Asked) -> int:
    """Raises CommandError."""
    try:
        return asyncio.run(_run(asked))
    except (BadKey, ValueError) as error:
        raise CommandError(str(error), "correct it: octad kv --help", 2) from error
    except CallRefused as error:
        get = shown_command("octad", "kv", "get", asked.key)
        fix = {
            "other-revision": f"see what is there now: {get}",
            "kv-full": "delete what no one needs: octad kv rm KEY",
        }.get(error.code, "correct it")
        raise CommandError(str(error), fix) from error
    except CoordinatorsUnreachable as error:
        raise CommandError(str(error), "start one, or correct --coordinator and --token") from error


async def _run(asked: Asked) -> int:
    async with open_kv(coordinator=asked.coordinator, token=asked.token) as kv:
        if asked.action == "watch":
            return await _watch(kv, asked)
        if asked.action == "get":
            entry = await kv.get(asked.key)
            if asked.as_json:
                _print(entry)
            elif entry.value is not None:
                sys.stdout.buffer.write(entry.value)
            return 0 if entry.value is not None else EXIT_NO_KEY
        if asked.action == "ls":
            keys = await kv.keys(asked.key)
            _print(keys) if asked.as_json else sys.stdout.writelines(_table(keys))
            return 0
        if asked.action == "put":
            revision = await kv.put(asked.key, asked.value, if_revision=asked.if_revision)
        else:
            revision = await kv.delete(asked.key, if_revision=asked.if_revision)
        if asked.as_json:
            _print(KvAnswer(revision))
        return 0 if revision else EXIT_NO_KEY


async def _watch(kv: Kv, asked: Asked) -> int:
    async with aclosing(kv.watch(asked.key)) as entries:
        async for entry in entries:
            if asked.as_json:
                _print(entry)
            else:
                shown = "-" if entry.value is None else entry.value.decode(errors="replace")
                sys.stdout.write(f"{entry.as_of}  {shown}\n")
            sys.stdout.flush()
    return 0


def _print(document: KvEntry | KvKeys | KvAnswer) -> None:
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")


def _table(keys: KvKeys) -> list[str]:
    rows = [(key.key, str(key.revision), str(key.bytes)) for key in keys.keys]
    lines = columns([("KEY", "REVISION", "BYTES"), *rows]) if rows else ["there is no such key"]
    return [f"{line}\n" for line in lines]
