"""Reads, changes and watches settings, at whichever coordinator answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec

from octad.client.cluster.coordinator_calls import (
    CALL_S_MAX,
    NEXT_AFTER_S,
    Coordinators,
    CoordinatorsUnreachable,
)
from octad.client.cluster.service_token import ServiceToken, decode_service_token
from octad.client.kv.kv_records import (
    KV_PATH,
    KvAnswer,
    KvEntry,
    KvKeys,
    check_key,
    check_prefix,
    check_value,
)

_WAIT_S = 20.0  # Of one long poll.
_AGAIN_S = 0.5

_Document = TypeVar("_Document", KvEntry, KvKeys)

log = logging.getLogger(__name__)


class Kv:
    """Made by `open_kv`. All methods raise BadKey, CallRefused, CoordinatorsUnreachable."""

    def __init__(self, coordinators: Coordinators) -> None:
        self._coordinators = coordinators

    async def get(self, key: str) -> KvEntry:
        """The key, as new as a coordinator has it; its `value` is None where there is none."""
        check_key(key)
        return await self._read(f"{KV_PATH}/{key}", KvEntry, None)

    async def keys(self, prefix: str = "") -> KvKeys:
        """The keys that begin with `prefix`."""
        check_prefix(prefix)
        return await self._read(_listing(prefix), KvKeys, None)

    async def put(self, key: str, value: bytes, *, if_revision: int | None = None) -> int:
        """The new revision. With `if_revision`: only if the key is at that one (0: is not there).

        Then CallRefused with the code `other-revision` says that it is not. Where no coordinator
        answers, it may have been changed all the same: read it.
        """
        check_key(key)
        check_value(key, value)
        return await self._change("PUT", key, value, if_revision)

    async def delete(self, key: str, *, if_revision: int | None = None) -> int:
        """The revision at which it went; 0: there was none. `if_revision` as in `put`."""
        check_key(key)
        return await self._change("DELETE", key, b"", if_revision)

    async def watch(self, key: str) -> AsyncGenerator[KvEntry, None]:
        """The key as it is now, then whenever it has changed: its newest state, not each one."""
        check_key(key)
        async for entry in self._follow(f"{KV_PATH}/{key}", KvEntry):
            yield entry

    async def watch_keys(self, prefix: str = "") -> AsyncGenerator[KvKeys, None]:
        """The same of all keys that begin with `prefix`, without their values."""
        check_prefix(prefix)
        async for keys in self._follow(_listing(prefix), KvKeys):
            yield keys

    async def _follow(self, path: str, kind: type[_Document]) -> AsyncGenerator[_Document, None]:
        """Only the first contact raises CoordinatorsUnreachable."""
        told = await self._read(path, kind, None)
        yield told
        while True:
            try:
                newest = await self._read(path, kind, told.as_of)
            except CoordinatorsUnreachable as error:
                log.info("watching %s: %s", path, error)
                await asyncio.sleep(_AGAIN_S)
                continue
            if newest.as_of > told.as_of and _content(newest) != _content(told):
                told = newest
                yield told

    async def _read(self, path: str, kind: type[_Document], after: int | None) -> _Document:
        """What is there; once it has changed since `after`, or after some seconds."""
        wait_s = 0.0 if after is None else _WAIT_S
        if after is not None:
            path += f"{'&' if '?' in path else '?'}after={after}&wait={wait_s:g}"
        body = await self._coordinators.write(
            "GET", path, timeout_s=wait_s + CALL_S_MAX, next_after_s=wait_s + NEXT_AFTER_S
        )
        return msgspec.json.decode(body, type=kind)

    async def _change(self, method: str, key: str, value: bytes, if_revision: int | None) -> int:
        path = f"{KV_PATH}/{key}"
        if if_revision is not None:
            path += f"?if_revision={if_revision}"
        body = await self._coordinators.write(method, path, value)
        return msgspec.json.decode(body, type=KvAnswer).revision


@asynccontextmanager
async def open_kv(
    *, coordinator: str, token: str | ServiceToken, authority_file: str | None = None
) -> AsyncIterator[Kv]:
    """`coordinator`: URLs separated by commas; `authority_file`: whom to trust with https
    (AWS_CA_BUNDLE). Raises ValueError for bad arguments.
    """
    decoded = decode_service_token(token) if isinstance(token, str) else token
    coordinators = Coordinators(coordinator, decoded, authority_file)
    try:
        yield Kv(coordinators)
    finally:
        await coordinators.close()


def _listing(prefix: str) -> str:
    return f"{KV_PATH}?prefix={prefix}"  # Nothing in it needs quoting.


def _content(document: KvEntry | KvKeys) -> object:
    """What a watcher is told of; ages and revisions of others are no change."""
    return document.revision if isinstance(document, KvEntry) else document.keys
