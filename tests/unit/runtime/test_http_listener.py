"""What whoever reaches a port with an aiohttp application on it can take, and what not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from octad.client.runtime import http_listener
from octad.client.runtime.http_listener import HttpListener, body_in_time
from octad.client.runtime.longest_idle import IDLE_S_MIN

ROOM = 3
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n"
LARGE = b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n"


class Site:
    """A listener and what its handlers wait for."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.ended = 0

    def application(self) -> web.Application:
        application = web.Application(client_max_size=100)
        application.router.add_get("/", self._quick)
        application.router.add_get("/slow", self._slow)
        application.router.add_get("/large", self._large)
        application.router.add_post("/body", self._body)
        return application

    async def connect(self, said: bytes = b"") -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 16)
        self.writers.append(writer)
        writer.write(said)
        return reader

    async def ask(self, said: bytes) -> bytes:
        """The status line of the answer on a connection of its own."""
        return await (await self.connect(said)).readline()

    async def _quick(self, _: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def _slow(self, _: web.Request) -> web.Response:
        await self.go_on.wait()
        return web.Response(text="at last")

    async def _large(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(1 << 16))
        finally:
            self.ended += 1

    async def _body(self, request: web.Request) -> web.Response:
        return web.Response(text=str(len(await body_in_time(request))))


@asynccontextmanager
async def running(room: int = ROOM) -> AsyncIterator[Site]:
    site = Site()
    listener = HttpListener(site.application(), room, 0.1, "test's port")
    site.port = await listener.start("127.0.0.1", 0)
    try:
        yield site
    finally:
        site.go_on.set()
        await listener.stop()
        for writer in site.writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def test_the_longest_idle_connection_makes_room_for_a_new_one() -> None:
    async with running() as site:
        idle = [await site.connect(GET) for _ in range(ROOM)]
        for one in idle:
            assert await one.readline() == b"HTTP/1.1 200 OK\r\n"
        await asyncio.sleep(IDLE_S_MIN)
        assert await site.ask(GET) == b"HTTP/1.1 200 OK\r\n"
        async with asyncio.timeout(5):
            await idle[0].read()
        site.writers[1].write(GET)
        assert b"200 OK" in await idle[1].readuntil(b"200 OK")


async def test_where_all_are_busy_a_newcomer_is_told_and_those_under_way_are_answered() -> None:
    async with running() as site:
        busy = [await site.connect(SLOW) for _ in range(ROOM)]
        await asyncio.sleep(IDLE_S_MIN)
        answer = await (await site.connect(GET)).read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in answer
        assert answer.endswith(b'"passes":true}')
        site.go_on.set()
        for one in busy:
            assert await one.readline() == b"HTTP/1.1 200 OK\r\n"


async def test_a_request_that_nobody_finishes_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_listener, "IDLE_S_MAX", 0.2)
    monkeypatch.setattr(http_listener, "_LOOK_S", 0.05)
    async with running() as site:
        silent, slow = await site.connect(), await site.connect(GET[:-2])
        busy = await site.connect(SLOW)
        async with asyncio.timeout(5):
            assert await silent.read() == b""
            assert await slow.read() == b""
        site.go_on.set()
        assert await busy.readline() == b"HTTP/1.1 200 OK\r\n"


async def test_an_answer_that_nobody_reads_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_listener, "STALLED_S_MAX", 0.2)
    monkeypatch.setattr(http_listener, "_LOOK_S", 0.05)
    async with running() as site:
        await site.connect(LARGE)
        async with asyncio.timeout(10):
            while not site.ended:
                await asyncio.sleep(0.01)


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_listener, "BODY_S_MAX", 0.1)
    async with running() as site:
        head = b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
        assert b" 408 " in await site.ask(head % 10 + b"half")
        assert b" 200 " in await site.ask(head % 4 + b"body")
        assert b" 413 " in await site.ask(head % 101 + bytes(101))


async def test_what_is_no_http_and_heads_beyond_bounds_are_refused() -> None:
    async with running() as site:
        many = b"".join(b"x-%d: v\r\n" % number for number in range(40))
        long = b"x: " + b"v" * 5000 + b"\r\n"
        for bad in (b"\x16\x03\x01\x00garbage\r\n\r\n", b"GET / HTTP/1.1\r\nbad\r\n\r\n"):
            assert b" 400 " in await site.ask(bad)
        for large in (many, long):
            assert b" 400 " in await site.ask(GET[:-2] + large + b"\r\n")
