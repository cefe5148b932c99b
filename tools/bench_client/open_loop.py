"""Reads at a fixed rate, whatever becomes of them, while one of three nodes is frozen.

    open_loop.py ENDPOINT ACCESS_KEY SECRET_KEY COORDINATOR NODE_PID SECONDS

A read's time counts from when it was due, so that one that waits for others is not forgotten.
Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from typing import NamedTuple

from octad import AsyncBucket, AsyncClient

BUCKET, KEYS = "open-loop", [f"k{number}" for number in range(200)]
AT_ONCE, PEAK_S, NORMAL_S = 64, 4.0, 15.0


class Reads(NamedTuple):
    """How long they took, in milliseconds, and how many failed."""

    p50: float
    p99: float
    longest: float
    failed: int


async def measure(
    endpoint: str, access_key: str, secret_key: str, coordinator: str, pid: int, seconds: float
) -> dict[str, object]:
    """At half of the peak rate: first as usual, then with the node `pid` frozen for `seconds`."""
    keys = access_key, secret_key
    async with AsyncClient(endpoint, *keys, coordinator, hedge=True) as client:
        bucket = await client.create_bucket(BUCKET)
        await asyncio.gather(*(bucket.put(key, bytes(4096)) for key in KEYS))
        peak = await _peak(bucket)
        normal = await _open_loop(bucket, peak / 2, NORMAL_S)
        os.kill(pid, signal.SIGSTOP)
        try:
            frozen = await _open_loop(bucket, peak / 2, seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
    return {"rate": peak / 2, "normal": normal._asdict(), "frozen": frozen._asdict()}


async def _peak(bucket: AsyncBucket) -> float:
    """Reads a second with `AT_ONCE` at a time."""
    done = 0
    end = time.monotonic() + PEAK_S

    async def reader(first: int) -> None:
        nonlocal done
        while time.monotonic() < end:
            await bucket.get(KEYS[(first + done) % len(KEYS)])
            done += 1

    await asyncio.gather(*map(reader, range(AT_ONCE)))
    return done / PEAK_S


async def _open_loop(bucket: AsyncBucket, rate: float, seconds: float) -> Reads:
    took_ms: list[float] = []
    failed = 0

    async def read(due: float, key: str) -> None:
        nonlocal failed
        try:
            await bucket.get(key)
        except Exception:
            failed += 1
        took_ms.append((time.monotonic() - due) * 1000)

    begin = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * seconds)):
            due = begin + number / rate
            if (wait_s := due - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            elif number % AT_ONCE == 0:
                await asyncio.sleep(0)  # Late already: let the others go on.
            tasks.create_task(read(due, KEYS[number % len(KEYS)]))
    took_ms.sort()
    at = [took_ms[int(len(took_ms) * share)] for share in (0.5, 0.99)]
    return Reads(at[0], at[1], took_ms[-1], failed)


if __name__ == "__main__":
    endpoint, access_key, secret_key, coordinator, pid, seconds = sys.argv[1:7]
    found = measure(endpoint, access_key, secret_key, coordinator, int(pid), float(seconds))
    print(json.dumps(asyncio.run(found)))
