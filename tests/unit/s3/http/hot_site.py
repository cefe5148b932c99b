"""One connection of our own protocol, on a transport of the test's."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

from octad.storage_node.s3.handlers.request import Request
from octad.storage_node.s3.http.connections import (
    Connection,
    Host,
)
from octad.storage_node.s3.http.door_figures import DoorFigures
from octad.storage_node.s3.http.hot_connection import (
    HotConnection,
    HotListener,
)
from octad.storage_node.s3.protocol.answers import Answer


class FakeSocket:
    """Of a connection that both sides keep open."""

    def getsockopt(self, *_: int) -> bytes:
        return b"\x01"


class FakeTransport(asyncio.Transport):
    """Remembers what is done to it, and hands over what was sent while it may be read."""

    def __init__(self) -> None:
        super().__init__({"socket": FakeSocket()})
        self.written = b""
        self.closed = self.aborted = self.reading_paused = False
        self.sent: deque[bytes] = deque()
        self.connection: HotConnection | None = None

    def pump(self) -> None:
        while self.sent and not self.reading_paused and not self.is_closing():
            assert self.connection is not None
            space = self.connection.get_buffer(-1)
            piece = self.sent.popleft()
            if len(piece) > len(space):
                self.sent.appendleft(piece[len(space) :])
                piece = piece[: len(space)]
            space[: len(piece)] = piece
            self.connection.buffer_updated(len(piece))

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.is_closing()
        self.written += data

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading_paused = True

    def resume_reading(self) -> None:
        self.reading_paused = False
        asyncio.get_running_loop().call_soon(self.pump)


class FakeGuest:
    """Stands for aiohttp: a request is whole when its host says so, and answered at once."""

    def __init__(self, site: Site, host: Host) -> None:
        self._site = site
        self.host = cast(HotConnection, host)
        self.received = b""
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert transport is self._site.transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.received.endswith(b"END"):
            self._site.answered.append(("aiohttp", self.received))
            self.received = b""
            self.host.guest_begins()
            asyncio.get_running_loop().call_soon(self.host.guest_ends)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


@dataclass
class Site:
    """One connection, what was answered on it, and by whom."""

    answered: list[tuple[str, bytes]] = field(default_factory=list)
    guests: list[FakeGuest] = field(default_factory=list)
    transport: FakeTransport = field(default_factory=FakeTransport)
    gate: asyncio.Event | None = None  # Where it is set, requests wait for it.
    body_wanted: bool = True

    def __post_init__(self) -> None:
        self.door = HotListener(self.answer, lambda: bytes(16), self.guest_of, DoorFigures())
        self.connection = self.door()
        self.connection.connection_made(self.transport)
        self.transport.connection = self.connection

    def guest_of(self, host: Host) -> Connection:
        self.guests.append(FakeGuest(self, host))
        return cast(Connection, self.guests[-1])

    async def answer(self, request: Request, request_id: bytes) -> Answer:
        if self.gate is not None:
            await self.gate.wait()
        body = b""
        if self.body_wanted:
            if "expect" in request.headers:
                await request.body.invite()
            body = await body_of(request)
        what = f"{request.method} {request.target} {request.headers.get('x-n', '')}".encode()
        self.answered.append(("hot", what + b" " + body))
        return Answer(200, "", what)

    def send(self, *pieces: bytes) -> None:
        self.transport.sent.extend(pieces)
        self.transport.pump()

    async def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.send(piece)
            await self.settle()

    async def settle(self) -> None:
        for _ in range(8):
            await asyncio.sleep(0)


async def body_of(request: Request, wait_s: float = 60) -> bytes:
    body = b""
    while request.body.left:
        space = memoryview(bytearray(min(request.body.left, 100_000)))
        count = await request.body.read_into(space, wait_s)
        body += space[:count]
        if count < len(space):
            break
    return body


def in_loop(test: Callable[[Site], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        site = Site()
        await test(site)
        site.connection.connection_lost(None)
        await site.settle()
        assert not site.door.connections

    asyncio.run(run())
