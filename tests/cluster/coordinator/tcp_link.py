"""A TCP proxy in the test's own loop: what is reached through it can be cut off, and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_CHUNK = 64 * 1024


class TcpLink:
    """Made by `tcp_link`; reached at `address`, passes everything to and from `target`."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._open = asyncio.Event()
        self._open.set()
        self._silent = asyncio.Event()
        self._refuses = False
        self._closed = False
        self._last_word: bytes | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()
        self.address = ""

    def silence(self) -> None:
        """Nothing passes any more and no one is told, as when a switch has died."""
        self._open.clear()
        self._silent.set()

    async def is_silent(self) -> None:
        """Waits until nothing passes any more."""
        await self._silent.wait()

    def silence_after(self, word: bytes) -> None:
        """As soon as an answer that holds `word` has passed."""
        self._last_word = word

    def sever(self) -> None:
        """Connections are reset, and new ones closed at once."""
        self._refuses = True
        for writer in list(self._writers):
            writer.transport.abort()

    def heal(self) -> None:
        """What was held back arrives now."""
        self._refuses = False
        self._last_word = None
        self._silent.clear()
        self._open.set()

    def begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Someone has connected."""
        if self._closed:  # Accepted as the link ended: no task of it would be waited for.
            writer.transport.abort()
            return
        task = asyncio.create_task(self._keep(reader, writer))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _keep(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if not self._refuses:
                await self._serve(reader, writer)
        except OSError:
            pass  # One of the ends has gone.
        finally:
            await self._end(writer)

    async def _end(self, writer: asyncio.StreamWriter) -> None:
        """What was written arrives, if the other side reads."""
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass  # It was reset.
        finally:
            self._writers.discard(writer)

    async def close(self) -> None:
        """For good."""
        self._closed = True
        while self._passing:
            self.sever()
            for task in list(self._passing):
                task.cancel()
            await asyncio.gather(*self._passing, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._writers.add(far_writer)
        ways = [
            asyncio.create_task(self._pass(reader, far_writer, answers=False)),
            asyncio.create_task(self._pass(far_reader, writer, answers=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await self._end(far_writer)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while data := await reader.read(_CHUNK):
            await self._open.wait()
            writer.write(data)
            await writer.drain()
            if answers and self._last_word is not None and self._last_word in data:
                self.silence()


@asynccontextmanager
async def tcp_link(target: str) -> AsyncIterator[TcpLink]:
    """A link to `target` (host:port) for the time of the block."""
    link = TcpLink(target)
    server = await asyncio.start_server(link.begin, "127.0.0.1", 0)
    link.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield link
    finally:
        server.close()
        await link.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), 1)
        await link.close()  # Ends connections that were accepted meanwhile.
