"""Implements `octad lock run`: a command that runs while this process holds a lock."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from octad.client.cluster.coordinator_calls import CallRefused, CoordinatorsUnreachable
from octad.client.cluster.service_records import BadRegistration
from octad.client.cluster.service_token import ServiceToken
from octad.client.membership.lock_records import BadLock
from octad.client.membership.locking import Lock, lock
from octad.client.runtime.command import CommandError
from octad.client.runtime.logs.log_lines import set_up_logging

_END_SHARE = 0.25  # Of the time to live: for the command to end before another one may begin.
_SIGNALLED = 128  # As a shell shows what a signal has ended.


@dataclass(frozen=True, slots=True)
class Asked:
    """The options as typed."""

    name: str
    value: str
    ttl_s: float
    wait_s: float | None
    coordinator: str
    token: ServiceToken
    command: tuple[str, ...]


def run_locked(asked: Asked) -> int:
    """Returns the command's exit code; raises CommandError."""
    set_up_logging()
    try:
        return asyncio.run(_run(asked))
    except (BadLock, BadRegistration, ValueError) as error:
        raise CommandError(str(error), "correct it: octad lock run --help", 2) from error
    except CallRefused as error:
        raise CommandError(str(error), "see who holds what: octad lock ls") from error
    except CoordinatorsUnreachable as error:
        raise CommandError(str(error), "start one, or correct --coordinator and --token") from error


async def _run(asked: Asked) -> int:
    wanted = lock(
        asked.name,
        coordinator=asked.coordinator,
        token=asked.token,
        value=asked.value,
        ttl_s=asked.ttl_s,
        wait_s=asked.wait_s,
    )
    try:
        held = await wanted.__aenter__()
    except TimeoutError as error:
        raise CommandError(
            f"lock {asked.name} was another's for {asked.wait_s:g} s",
            f"see whose: octad lock ls {asked.name}",
        ) from error
    try:
        return await _run_held(asked, held)
    finally:
        await wanted.__aexit__(None, None, None)


async def _run_held(asked: Asked, held: Lock) -> int:
    environment = {**os.environ, "OCTAD_FENCING_TOKEN": str(held.token)}
    try:
        process = await asyncio.create_subprocess_exec(*asked.command, env=environment)
    except OSError as error:
        raise CommandError(
            f"cannot run {asked.command[0]}: {error.strerror}", "correct COMMAND"
        ) from error
    async with _ending(process):
        ended = asyncio.create_task(process.wait())
        warned = asyncio.create_task(held.lost(before_s=asked.ttl_s * _END_SHARE))
        await asyncio.wait((ended, warned), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            process.terminate()
            lost = asyncio.create_task(held.lost())
            await asyncio.wait((ended, lost), return_when=asyncio.FIRST_COMPLETED)
            lost.cancel()
            if not ended.done():
                process.kill()
            await ended
            raise CommandError(
                f"lock {asked.name} could not be kept, so {asked.command[0]} was ended",
                "run it again",
            )
        warned.cancel()
    code = ended.result()
    return code if code >= 0 else _SIGNALLED - code


@asynccontextmanager
async def _ending(process: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """SIGTERM and SIGINT are for the command; it never outlives the block."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def pass_on(number: signal.Signals) -> None:
        if process.returncode is None:
            process.send_signal(number)

    for number in numbers:
        loop.add_signal_handler(number, pass_on, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
        if process.returncode is None:
            process.kill()
            await process.wait()
