"""A proxy that opens tunnels, all of them to one place, for the length of a `with`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

TUNNELS_MAX = 16


@asynccontextmanager
async def tunnels_to(target: str) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Its URL, and the heads of what it was asked; `target` is host:port."""
    host, _, port = target.rpartition(":")
    heads: list[bytes] = []
    open_tunnels = asyncio.Semaphore(TUNNELS_MAX)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with open_tunnels:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            there, back = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
    finally:
        server.close()
        for _ in range(TUNNELS_MAX):  # Clients have left them: wait until all have ended.
            await open_tunnels.acquire()
