"""Watchers in a process of their own, which take what comes and look for one thing in it.

    python -m tools.bench_coordinator.listeners HOST PORT SERVICE COUNT

Prints `ready` once all watch, then `VERSION SECONDS` for each version of an instance once the last
of them has heard of it, by the clock that all processes of a machine share. An SDK's watcher would
decode 1,000 instances first, and 2,000 of those in one process measure that process.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import cast

import uvloop

from octad.client.membership.event_document import EVENTS_PATH, SSE_TYPE

CONNECTING_AT_ONCE = 20
_VERSION = re.compile(rb'"version":"(\d+)"')
_EVENT = b"event: events\n"
_KEPT = 64  # Of what came, for a match that comes in two pieces.


class Listener(asyncio.Protocol):
    """`heard` is called with each version; `whole` is done once the first state is there."""

    def __init__(self, request: bytes, heard: dict[bytes, int], count: int) -> None:
        self._request, self._heard, self._count = request, heard, count
        self._end = b""
        self.whole: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)  # uvloop's is no subclass.

    def data_received(self, data: bytes) -> None:
        seen = self._end + data
        if not self.whole.done():
            if seen.rstrip(b"\r\n").endswith(b"}") and b"\n\n" in seen[-8:]:
                self.whole.set_result(None)
            self._end = seen[-_KEPT:]
            return
        position = 0
        for found in _VERSION.finditer(seen):
            position = found.end()
            version = found[1]
            self._heard[version] = self._heard.get(version, 0) + 1
            if self._heard[version] == self._count:
                print(version.decode(), time.monotonic(), flush=True)
        self._end = seen[max(position, len(seen) - _KEPT) :]

    def connection_lost(self, exc: Exception | None) -> None:
        print(f"a watcher was let go: {exc}", file=sys.stderr)
        sys.exit(1)


async def listen(host: str, port: int, service: str, count: int) -> None:
    request = (
        f"GET {EVENTS_PATH}?prefix=services/{service}/ HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Accept: {SSE_TYPE}\r\n\r\n"
    ).encode()
    heard: dict[bytes, int] = {}
    room = asyncio.Semaphore(CONNECTING_AT_ONCE)

    async def one() -> None:
        async with room:
            loop = asyncio.get_running_loop()
            _, listener = await loop.create_connection(
                lambda: Listener(request, heard, count), host, port
            )
            await listener.whole

    await asyncio.gather(*(one() for _ in range(count)))
    print("ready", flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(listen(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
