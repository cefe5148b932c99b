"""What a lock protects: it remembers the highest token that it has seen, and refuses lower ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.cluster.coordination.lock_check import Written


class Protected:
    """Reached at `port`, with lines of a holder's name and its token; answers yes or no."""

    def __init__(self) -> None:
        self.written: list[Written] = []
        self.port = 0
        self._highest = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                holder, token = line.decode().split()
                accepted = int(token) >= self._highest
                self._highest = max(self._highest, int(token))
                self.written.append(Written(holder, int(token), time.monotonic(), accepted))
                writer.write(b"yes\n" if accepted else b"no\n")
        except ConnectionError:
            pass  # It was killed.
        finally:
            writer.close()


@asynccontextmanager
async def protected() -> AsyncIterator[Protected]:
    made = Protected()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
