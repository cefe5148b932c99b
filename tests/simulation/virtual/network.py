"""The simulated network: connections between processes, as TCP has them.

Bytes arrive in order or not at all, in pieces of any size, after a while. Where a link is cut they
wait, as TCP sends them again, until it is healed or an end has given up. A process that is killed
resets its connections; a machine that loses its power says nothing. What a process does not read
fills its socket, and then the sender's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from tests.simulation.virtual.timeline import Timeline

if TYPE_CHECKING:
    from tests.simulation.virtual.virtual_loop import VirtualLoop

DELAY_S = (0.0002, 0.0017)
SENT_AGAIN_S = 0.2  # How soon what was lost on a link comes after it is healed.
TORN = 0.05  # Of the reads: those that get a part of what is there.
RECEIVED_BYTES_MAX = 1 << 20  # In the kernel of a process that does not read.
HIGH_WATER_BYTES = 64 * 1024

Link = tuple[str, str]


class _Last(Enum):
    """What comes behind the last byte."""

    END = "end"
    RESET = "reset"


class Network:
    """See the module. Hosts are named; `cuts` and `clogs` are links, from a host to another."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.cuts: set[Link] = set()
        self.clogs: dict[Link, float] = {}
        self._servers: dict[tuple[str, int], Server] = {}
        self._transports: dict[Transport, None] = {}

    def listen(
        self,
        loop: VirtualLoop,
        factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
    ) -> Server:
        server = self._servers[host, port] = Server(self, loop, factory, (host, port))
        return server

    def forget(self, server: Server) -> None:
        if self._servers.get(server.address) is server:
            del self._servers[server.address]

    async def connect(
        self, loop: VirtualLoop, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[Transport, asyncio.BaseProtocol]:
        opened: asyncio.Future[tuple[Transport, asyncio.BaseProtocol]] = loop.create_future()
        self.timeline.after(self.delay(), self._arrive, loop, factory, (host, port), opened)
        return await opened

    def _arrive(
        self,
        loop: VirtualLoop,
        factory: Callable[[], asyncio.BaseProtocol],
        address: tuple[str, int],
        opened: asyncio.Future[Any],
    ) -> None:
        """A connection request is at its host."""
        host = address[0]
        if loop.is_dead or opened.done():
            return
        if (loop.host, host) in self.cuts or (host, loop.host) in self.cuts:
            self.timeline.after(SENT_AGAIN_S, self._arrive, loop, factory, address, opened)
            return
        server = self._servers.get(address)
        if server is None or server.loop.is_dead:
            loop.call_soon(_refuse, opened, address)
            return
        near, far = Transport(self, loop, host), Transport(self, server.loop, loop.host)
        near.other, far.other = far, near
        self._transports |= {near: None, far: None}
        server.loop.call_soon(far.begin, server.factory)
        self.timeline.after(self.delay(), near.open, factory, opened)

    def delay(self) -> float:
        return self.timeline.random.uniform(*DELAY_S)

    def delay_on(self, link: Link) -> float:
        delay = self.timeline.random.uniform(*DELAY_S)
        clog = self.clogs.get(link)
        return delay if clog is None else delay + clog * self.timeline.random.random()

    def unclog(self, link: Link) -> None:
        self.clogs.pop(link, None)

    def process_ended(self, loop: VirtualLoop, *, silently: bool) -> None:
        """Its sockets are gone: the other ends hear of it, unless the machine itself is off."""
        for server in [each for each in self._servers.values() if each.loop is loop]:
            self.forget(server)
        for transport in [each for each in self._transports if each.loop is loop]:
            transport.vanish(silently=silently)

    def reset(self, a: str, b: str) -> None:
        """Both ends of what is between two hosts learn that it has broken."""
        for transport in [
            t for t in self._transports if (t.loop.host, t.far_host) in ((a, b), (b, a))
        ]:
            transport.break_off()

    def ended(self, transport: Transport) -> None:
        self._transports.pop(transport, None)


class Server:
    """What `create_server` gives."""

    def __init__(
        self,
        network: Network,
        loop: VirtualLoop,
        factory: Callable[[], asyncio.BaseProtocol],
        address: tuple[str, int],
    ) -> None:
        self._network = network
        self.loop = loop
        self.factory = factory
        self.address = address
        self.sockets = [Socket(address)]

    def close(self) -> None:
        self._network.forget(self)

    async def wait_closed(self) -> None:
        """Its connections are their owners'."""


class Socket:
    """Of a connection or a server: it has a name, and options that mean nothing here."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address

    def getsockname(self) -> tuple[str, int]:
        return self._address

    def setsockopt(self, *_: object) -> None:
        """There is no kernel."""


class Transport(asyncio.Transport):
    """One end of a connection."""

    other: Transport

    def __init__(self, network: Network, loop: VirtualLoop, far_host: str) -> None:
        super().__init__({"peername": (far_host, 1), "socket": Socket((loop.host, 1))})
        self.loop = loop
        self.far_host = far_host
        self._network = network
        self._timeline = network.timeline
        self._protocol: asyncio.BufferedProtocol | asyncio.Protocol | None = None
        self._high = HIGH_WATER_BYTES
        self._way: deque[tuple[float, bytes | _Last]] = deque()  # When it arrives at best, what.
        self._outgoing_bytes = 0
        self._is_writing_paused = False
        self._is_reading_paused = False
        self._received: deque[memoryview | _Last] = deque()
        self._received_bytes = 0
        self._read_planned = False
        self._closing = False
        self._is_lost = False

    # -- the beginning -----------------------------------------------------------------------------

    def begin(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """In its own process."""
        if self._is_lost:
            return
        protocol = factory()
        self._protocol = cast("asyncio.BufferedProtocol", protocol)
        protocol.connection_made(self)
        self._plan_read()

    def open(
        self, factory: Callable[[], asyncio.BaseProtocol], opened: asyncio.Future[Any]
    ) -> None:
        """The answer to a connection request has come."""
        if self.loop.is_dead or opened.done() or self._is_lost:
            self._end_with(_Last.RESET)
            if not opened.done() and not self.loop.is_dead:
                self.loop.call_soon(_refuse, opened, (self.far_host, 0))
            return
        self.loop.call_soon(self._begin_opened, factory, opened)

    def _begin_opened(
        self, factory: Callable[[], asyncio.BaseProtocol], opened: asyncio.Future[Any]
    ) -> None:
        if opened.done() or self._is_lost:
            self.abort()
            return
        self.begin(factory)
        opened.set_result((self, self._protocol))

    # -- what a protocol calls ---------------------------------------------------------------------

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH_WATER_BYTES if high is None else high

    def get_write_buffer_size(self) -> int:
        return self._outgoing_bytes

    def write(self, data: bytes | bytearray | memoryview[int]) -> None:
        self._send(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[int]]) -> None:
        self._send(b"".join(list_of_data))

    def pause_reading(self) -> None:
        self._is_reading_paused = True

    def resume_reading(self) -> None:
        self._is_reading_paused = False
        self._plan_read()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """What was written still arrives."""
        self._end_with(_Last.END)

    def abort(self) -> None:
        self._end_with(_Last.RESET)

    def _end_with(self, last: _Last) -> None:
        if not self._closing:
            self._closing = True
            self._put_on_way(last)
            self.loop.call_soon(self._end, None)

    # -- the way -----------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        if self._closing or not data:
            return
        self._outgoing_bytes += len(data)
        self._put_on_way(data)
        if self._outgoing_bytes > self._high and not self._is_writing_paused:
            self._is_writing_paused = True
            assert self._protocol is not None
            self._protocol.pause_writing()

    def _put_on_way(self, what: bytes | _Last) -> None:
        """In order: nothing overtakes."""
        way = self._way
        at = self._timeline.time + self._network.delay_on((self.loop.host, self.far_host))
        way.append((max(at, way[-1][0]) if way else at, what))
        if len(way) == 1:
            self._timeline.at(way[0][0], self._arrive)

    def _arrive(self) -> None:
        """The first on its way is there, unless the link is cut or the other end's socket full."""
        way, other, time = self._way, self.other, self._timeline.time
        if not way:
            return
        is_cut = (self.loop.host, self.far_host) in self._network.cuts
        if is_cut or other._received_bytes > RECEIVED_BYTES_MAX:
            self._timeline.after(SENT_AGAIN_S * self._timeline.random.random(), self._arrive)
            return
        while way and way[0][0] <= time:
            _, what = way.popleft()
            if isinstance(what, bytes):
                self._outgoing_bytes -= len(what)
                other._received_bytes += len(what)
                other._received.append(memoryview(what))
            else:
                other._received.append(what)
        other._plan_read()
        if self._is_writing_paused and self._outgoing_bytes <= self._high // 4:
            self._is_writing_paused = False
            if not self._is_lost and not self.loop.is_dead and self._protocol is not None:
                self.loop.call_soon(self._protocol.resume_writing)
        if way:
            self._timeline.at(way[0][0], self._arrive)

    # -- reading -----------------------------------------------------------------------------------

    def _plan_read(self) -> None:
        if (
            self._received
            and not self._read_planned
            and not self._is_reading_paused
            and self._protocol is not None
            and not self.loop.is_dead
        ):
            self._read_planned = True
            self.loop.call_soon(self._read)

    def _read(self) -> None:
        """As much as the protocol takes at once, or less; what comes last ends it."""
        self._read_planned = False
        if self._is_lost or self._closing or self._is_reading_paused or not self._received:
            return
        first = self._received[0]
        protocol = self._protocol
        assert protocol is not None
        if isinstance(first, _Last):
            self._received.popleft()
            self._closing = True
            if first is _Last.END:
                protocol.eof_received()
            self._end(None if first is _Last.END else ConnectionResetError("reset"))
            return
        if isinstance(protocol, asyncio.Protocol):
            self._received.popleft()
            self._received_bytes -= len(first)
            protocol.data_received(bytes(first))
            self._plan_read()
            return
        space = memoryview(protocol.get_buffer(len(first)))
        count = min(len(space), len(first))
        if count > 1 and self._timeline.random.random() < TORN:
            count = self._timeline.random.randrange(1, count)
        space[:count] = first[:count]
        if count == len(first):
            self._received.popleft()
        else:
            self._received[0] = first[count:]
        self._received_bytes -= count
        protocol.buffer_updated(count)
        self._plan_read()

    # -- the end -----------------------------------------------------------------------------------

    def _end(self, error: Exception | None) -> None:
        """`connection_lost`, once."""
        if self._is_lost:
            return
        self._is_lost = self._closing = True
        self._received.clear()
        self._received_bytes = 0
        self._network.ended(self)
        if self._protocol is not None and not self.loop.is_dead:
            self._protocol.connection_lost(error)

    def break_off(self) -> None:
        """The network has lost it: both ends learn so."""
        if not self._is_lost and not self.loop.is_dead:
            self._way.clear()
            self.loop.call_soon(self._end, ConnectionResetError("lost"))

    def vanish(self, *, silently: bool) -> None:
        """Its process has ended."""
        self._is_lost = self._closing = True
        self._network.ended(self)
        if silently:
            self._way.clear()
        else:
            self._put_on_way(_Last.RESET)


def _refuse(opened: asyncio.Future[Any], address: tuple[str, int]) -> None:
    if not opened.done():
        opened.set_exception(ConnectionRefusedError(f"no one listens at {address[0]}:{address[1]}"))
