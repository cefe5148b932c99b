"""A process that takes a lock again and again, and writes to what it protects; to be hit.

    python -m tests.cluster.coordination.lock_worker '<Task as JSON>'

It prints a JSON line whenever it was given the lock, was sure to hold it, or is to let go. Before a
write it looks whether it holds the lock; a freeze in between is what fencing tokens are for.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

import msgspec
from tests.cluster.coordination.lock_check import Told

from octad.client.membership import CallRefused, CoordinatorsUnreachable, Lock, lock

HELD_S = (0.1, 1.0)
BETWEEN_WRITES_S = 0.05
RETRY_S = 0.2


class Task(msgspec.Struct):
    """What a worker is to do."""

    urls: str
    token: str
    lock: str
    name: str
    ttl_s: float
    protected_port: int


def main() -> None:
    asyncio.run(_run(msgspec.json.decode(sys.argv[1], type=Task)))


async def _run(task: Task) -> None:
    while True:
        try:
            async with lock(
                task.lock,
                coordinator=task.urls,
                token=task.token,
                value=task.name,
                ttl_s=task.ttl_s,
            ) as held:
                _tell("given", task, held, time.monotonic())
                await _use(task, held)
        except (CallRefused, CoordinatorsUnreachable) as error:
            print(f"{task.name}: {error}", file=sys.stderr, flush=True)
            await asyncio.sleep(RETRY_S)


async def _use(task: Task, held: Lock) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", task.protected_port)
    try:
        end = time.monotonic() + random.uniform(*HELD_S)
        while (now := time.monotonic()) < end:
            if not held.is_held:
                return
            _tell("held", task, held, now)
            writer.write(f"{task.name} {held.token}\n".encode())
            if await reader.readline() != b"yes\n":
                return
            await asyncio.sleep(BETWEEN_WRITES_S)
        now = time.monotonic()
        if held.is_held:
            _tell("ends", task, held, now)
    finally:
        writer.close()


def _tell(what: str, task: Task, held: Lock, at: float) -> None:
    print(msgspec.json.encode(Told(what, task.name, held.token, at)).decode(), flush=True)


if __name__ == "__main__":
    main()
