"""A network of our own between the processes of a cluster: one TCP proxy before each of them.

A process is reached by the others through its proxy only. The proxy finds out which process is at
the other end of a connection (by the socket's owner, as the kernel knows it), and passes bytes on
in each direction as the link for that pair says: at once, late, or not until the link is intact
again. So one direction can fail alone, and bytes that are held back are not lost, as with TCP.
New connections during a cut are taken and lead nowhere, like those to a host that drops packets.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from octad.client.runtime.address import Address

READ_BYTES = 256 * 1024
HELD_PIECES_MAX = 64
UNKNOWN = "?"  # Whoever is none of the cluster's processes, such as this one.

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Link:
    """The treatment of bytes from one process to another."""

    intact: asyncio.Event
    delay_s: float = 0.0


@dataclass(slots=True)
class _Connection:
    source: str
    target: str
    task: asyncio.Task[None]


class Network:
    """All proxies. `owner_of(local, remote)` names the process whose socket that is."""

    def __init__(self, owner_of: Callable[[Address, Address], str]) -> None:
        self._owner_of = owner_of
        self._links: dict[tuple[str, str], Link] = {}
        self._servers: list[asyncio.Server] = []
        self._connections: dict[int, _Connection] = {}
        self._numbers = iter(range(1 << 60))

    async def add(self, target: str, listen: Address, dial: Address) -> None:
        """Start a proxy at `listen` for `target`, which listens at `dial`."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(target, dial, reader, writer)

        server = await asyncio.start_server(accept, listen.host, listen.port, limit=READ_BYTES)
        self._servers.append(server)

    def link(self, source: str, target: str) -> Link:
        """The link from `source` to `target`, intact unless it was cut."""
        found = self._links.get((source, target))
        if found is None:
            found = self._links[source, target] = Link(asyncio.Event())
            found.intact.set()
        return found

    def cut(self, source: str, target: str) -> None:
        """Block everything from `source` to `target`."""
        self.link(source, target).intact.clear()

    def heal(self, source: str, target: str) -> None:
        """Pass on the bytes held back, and all later ones, without delay."""
        link = self.link(source, target)
        link.delay_s = 0.0
        link.intact.set()

    def heal_all(self) -> None:
        for source, target in list(self._links):
            self.heal(source, target)

    def reset(self, name: str, others: Iterable[str]) -> None:
        """End the connections that `name` has with `others` now, without a word."""
        pairs = {(name, other) for other in others} | {(other, name) for other in others}
        for connection in self._connections.values():
            if (connection.source, connection.target) in pairs:
                connection.task.cancel()

    async def close(self) -> None:
        """Take no more connections and end those there are."""
        for server in self._servers:
            server.close()
        tasks = [connection.task for connection in self._connections.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()

    async def _serve(
        self,
        target: str,
        dial: Address,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """One connection to its end, which is no one's failure here."""
        source = self._owner_of(
            Address(*writer.get_extra_info("peername")), Address(*writer.get_extra_info("sockname"))
        )
        number = next(self._numbers)
        task = asyncio.create_task(self._pass_on(source, target, dial, reader, writer))
        self._connections[number] = _Connection(source, target, task)
        await asyncio.gather(task, return_exceptions=True)
        del self._connections[number]

    async def _pass_on(
        self,
        source: str,
        target: str,
        dial: Address,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        there, back = self.link(source, target), self.link(target, source)
        ends = [writer]
        try:
            await there.intact.wait()
            answers, onward = await asyncio.open_connection(dial.host, dial.port, limit=READ_BYTES)
            ends.append(onward)
            async with asyncio.TaskGroup() as both:
                both.create_task(_Pump(reader, onward, there).run())
                both.create_task(_Pump(answers, writer, back).run())
        except* OSError:
            log.debug("a connection from %s to %s ended", source, target)
        finally:
            for end in ends:
                end.transport.abort()


class _Pump:
    """Everything from one end to the other, its end included, as the link allows."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._link = link
        self._held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD_PIECES_MAX)
        self._writing = False

    async def run(self) -> None:
        """Raises OSError when either end has closed the connection."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._read())
            both.create_task(self._write_held())

    async def _read(self) -> None:
        link, clock = self._link, asyncio.get_running_loop().time
        while True:
            data = await self._reader.read(READ_BYTES)
            if data and not (self._writing or link.delay_s) and link.intact.is_set():
                await self._write(data)
            else:
                self._writing = True
                await self._held.put((clock() + link.delay_s, data))

    async def _write_held(self) -> None:
        """Forward in order, each piece when it is due: a delay costs time, not throughput."""
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await self._held.get()
            await asyncio.sleep(max(0.0, due - clock()))
            await self._link.intact.wait()
            await self._write(data)
            self._writing = not self._held.empty()

    async def _write(self, data: bytes) -> None:
        if not data:
            raise ConnectionResetError("the other end closed it")
        self._writer.write(data)
        await self._writer.drain()
