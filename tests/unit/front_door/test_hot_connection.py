"""Our own protocol alone, on a transport that is none: what it reads as what, and what it hands on.

Any cutting of the same bytes must come to the same requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.core.s3_errors import S3Error
from octad.sharding.limits import INLINE_BYTES_MAX
from octad.storage_node.s3.answers import Answer
from octad.storage_node.shell.front_door.connections import (
    IDLE_S_MAX,
    READ_BUFFER_BYTES,
    Connection,
    Host,
)
from octad.storage_node.shell.front_door.hot_connection import (
    BODY_BYTES_MAX,
    SLOW_S,
    HotConnection,
    HotDoor,
)
from octad.storage_node.shell.front_door.request import Request
from octad.storage_node.shell.front_door.request_head import HEAD_BYTES_MAX

GET = b"GET /bucket/key HTTP/1.1\r\nhost: x\r\n\r\n"


class FakeTransport(asyncio.Transport):
    """Remembers what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = self.aborted = self.reading_paused = False

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
            asyncio.get_running_loop().call_soon(lambda: self.host.guest_ends(keep=True))

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
        self.door = HotDoor(self.answer, lambda: bytes(16), self.guest_of)
        self.connection = self.door()
        self.connection.connection_made(self.transport)

    def guest_of(self, host: Host) -> Connection:
        self.guests.append(FakeGuest(self, host))
        return cast(Connection, self.guests[-1])

    async def answer(self, request: Request, request_id: bytes) -> Answer:
        if self.gate is not None:
            await self.gate.wait()
        body = b""
        if self.body_wanted:
            await request.body.invite()
            async for piece in request.body.pieces():
                body += piece
        what = f"{request.method} {request.target} {request.headers.get('x-n', '')}".encode()
        self.answered.append(("hot", what + b" " + body))
        return Answer(200, "", what)

    async def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.data_received(piece)
            await self.settle()

    async def settle(self) -> None:
        for _ in range(8):
            await asyncio.sleep(0)


def in_loop(test: Callable[[Site], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        site = Site()
        await test(site)
        site.connection.connection_lost(None)
        await site.settle()
        assert not site.door.connections

    asyncio.run(run())


def hot_request(number: int, body: bytes) -> tuple[tuple[str, bytes], bytes]:
    what = b"PUT /b/k%%20%d %d" % (number, number)
    lines = b"Host: x\r\nX-N: %d\r\ncontent-length: %d\r\n" % (number, len(body))
    return ("hot", what + b" " + body), (
        b"PUT /b/k%%20%d HTTP/1.1\r\n%b\r\n%b" % (number, lines, body)
    )


def large_request(number: int) -> tuple[tuple[str, bytes], bytes]:
    head = b"PUT /b/large-%d HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (number, BODY_BYTES_MAX + 3)
    request = head + bytes(BODY_BYTES_MAX) + b"END"
    return ("aiohttp", request), request


requests = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 99), st.binary(max_size=40)).map(lambda each: hot_request(*each)),
        st.integers(0, 9).map(large_request),
    ),
    min_size=1,
    max_size=5,
)


@given(requests, st.lists(st.integers(0, 2000), max_size=8), st.booleans())
def test_any_cutting_of_the_bytes_comes_to_the_same_requests(
    sent: list[tuple[tuple[str, bytes], bytes]], cuts: list[int], at_once: bool
) -> None:
    data = b"".join(request for _, request in sent)
    # Most of what there is to get wrong lies near the ends of requests.
    ends = [sum(len(request) for _, request in sent[: count + 1]) for count in range(len(sent))]
    at = sorted(
        {cut % len(data) for cut in cuts} | {max(0, end - cut) for end in ends for cut in cuts}
    )
    pieces = [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True)]

    async def run(site: Site) -> None:
        if at_once:
            for piece in filter(None, pieces):
                site.connection.data_received(piece)
        else:
            await site.feed(*filter(None, pieces))
        for _ in range(4 * len(sent)):
            await site.settle()
        assert site.answered == [expected for expected, _ in sent]
        assert len(site.guests) <= 1, "one guest serves all visits"
        assert not site.connection.is_busy
        assert not site.transport.reading_paused

    in_loop(run)


def test_every_cut_of_two_requests_in_two_pieces() -> None:
    (first, one), (second, two) = hot_request(1, b"body"), hot_request(2, b"")
    for cut in range(len(one + two)):

        async def run(site: Site, cut: int = cut) -> None:
            await site.feed((one + two)[:cut], (one + two)[cut:])
            assert site.answered == [first, second]

        in_loop(run)


def test_answers_leave_in_the_order_of_their_requests_and_one_at_a_time() -> None:
    async def run(site: Site) -> None:
        site.gate = asyncio.Event()
        await site.feed(hot_request(1, b"a")[1] + hot_request(2, b"b")[1])
        assert site.connection.is_busy
        assert not site.answered
        site.gate.set()
        await site.settle()
        assert [what for _, what in site.answered] == [b"PUT /b/k%201 1 a", b"PUT /b/k%202 2 b"]

    in_loop(run)


def test_what_is_sent_ahead_is_bounded_and_read_on_when_its_turn_comes() -> None:
    async def run(site: Site) -> None:
        site.gate = asyncio.Event()
        request = hot_request(1, bytes(INLINE_BYTES_MAX))[1]
        await site.feed(request, request, request)
        assert site.transport.reading_paused
        assert 2 * len(request) > READ_BUFFER_BYTES
        site.gate.set()
        while len(site.answered) < 3:
            await site.settle()
        assert not site.transport.reading_paused

    in_loop(run)


@pytest.mark.parametrize(
    "unusual",
    [
        b"PUT /b/k HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nEND",
        b"no HTTP at all\r\n\r\nEND",
        b"GET /" + b"x" * HEAD_BYTES_MAX + b"END",
        b"GET /b/k HTTP/1.1\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nEND",
    ],
)
def test_where_the_end_of_a_request_cannot_be_told_aiohttp_keeps_the_connection(
    unusual: bytes,
) -> None:
    async def run(site: Site) -> None:
        await site.feed(GET, unusual, GET + b"END")
        assert site.answered == [
            ("hot", b"GET /bucket/key  "),
            ("aiohttp", unusual),
            ("aiohttp", GET + b"END"),
        ]

    in_loop(run)


def test_a_slow_body_becomes_aiohttps_with_all_that_has_arrived() -> None:
    async def run(site: Site) -> None:
        request = hot_request(1, b"0123END")[1]
        await site.feed(request[:-5])
        now = asyncio.get_running_loop().time()
        site.connection.look(now + SLOW_S / 2)
        assert not site.guests
        site.connection.look(now + SLOW_S + 1)
        await site.feed(request[-5:] + GET)
        assert site.answered == [("aiohttp", request), ("hot", b"GET /bucket/key  ")]

    in_loop(run)


def test_a_connection_without_a_whole_head_is_closed_in_the_end() -> None:
    async def run(site: Site) -> None:
        await site.feed(GET, GET[:-1])
        now = asyncio.get_running_loop().time()
        site.connection.look(now + IDLE_S_MAX - 1)
        assert not site.transport.closed
        site.connection.look(now + IDLE_S_MAX + 1)
        assert site.transport.closed
        assert not site.transport.aborted, "its last answer may still be on its way"
        site.connection.look(now + IDLE_S_MAX + 3)
        assert site.transport.aborted, "and is not waited for without an end"

    in_loop(run)


def test_a_connection_that_is_being_answered_is_not_idle() -> None:
    async def run(site: Site) -> None:
        site.gate = asyncio.Event()
        await site.feed(GET)
        site.connection.look(asyncio.get_running_loop().time() + 2 * IDLE_S_MAX)
        site.connection.close_if_idle()
        assert not site.transport.closed
        site.gate.set()
        await site.settle()
        site.connection.close_if_idle()
        assert site.transport.closed

    in_loop(run)


def test_a_client_that_reads_nothing_gets_no_second_answer() -> None:
    async def run(site: Site) -> None:
        site.connection.pause_writing()
        await site.feed(GET + GET)
        assert len(site.answered) == 1
        site.connection.resume_writing()
        await site.settle()
        assert len(site.answered) == 2

    in_loop(run)


def test_a_write_whose_client_has_left_is_finished() -> None:
    async def run(site: Site) -> None:
        site.gate = asyncio.Event()
        await site.feed(hot_request(1, b"data")[1])
        site.connection.connection_lost(None)
        assert site.connection in site.door.connections, "the node waits for it when it stops"
        site.gate.set()
        await site.settle()
        assert site.answered == [hot_request(1, b"data")[0]]
        assert not site.transport.written

    in_loop(run)


def test_a_guest_is_told_that_the_client_has_left() -> None:
    async def run(site: Site) -> None:
        await site.feed(large_request(1)[1], GET)
        site.connection.connection_lost(None)
        assert site.guests[0].lost

    in_loop(run)


WAITING = b"PUT /b/k HTTP/1.1\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n"


def test_a_waiting_client_is_told_to_send_its_body_once() -> None:
    async def run(site: Site) -> None:
        await site.feed(WAITING, b"da")
        assert site.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
        await site.feed(b"ta" + GET)
        assert site.answered == [("hot", b"PUT /b/k  data"), ("hot", b"GET /bucket/key  ")]
        assert site.transport.written.count(b"100 Continue") == 1

    in_loop(run)


def test_a_waiting_client_that_is_refused_is_not_waited_for() -> None:
    async def run(site: Site) -> None:
        site.body_wanted = False
        await site.feed(WAITING)
        assert b"Connection: close" in site.transport.written
        assert site.transport.closed

    in_loop(run)


@pytest.mark.parametrize("body", [b"", b"data"])
def test_a_client_that_expects_to_be_invited_is_or_loses_its_connection(body: bytes) -> None:
    async def run(site: Site) -> None:
        request = WAITING.replace(b"length: 4", b"length: %d" % len(body)) + body
        await site.feed(request)
        assert site.transport.written.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
        site.body_wanted = False
        await site.feed(request + GET)
        assert len(site.answered) == 2, "what follows is not answered"
        assert site.transport.closed

    in_loop(run)


def test_a_waiting_client_that_leaves_ends_its_request() -> None:
    async def run(site: Site) -> None:
        await site.feed(WAITING, b"da")
        site.connection.connection_lost(None)
        await site.settle()
        assert not site.answered
        assert not site.connection.is_busy

    in_loop(run)


def test_what_was_cut_short_does_not_look_like_a_whole_answer() -> None:
    async def run(site: Site) -> None:
        site.gate = asyncio.Event()
        await site.feed(GET)
        site.connection.cut_short()
        await site.settle()
        assert site.transport.aborted
        assert not site.connection.is_busy

    in_loop(run)


def test_a_node_that_stops_keeps_no_connection() -> None:
    async def run(site: Site) -> None:
        site.door.stopping = True
        await site.feed(GET + GET)
        assert len(site.answered) == 1
        assert b"Connection: close" in site.transport.written
        assert site.transport.closed

    in_loop(run)


def test_a_node_that_stops_waits_for_a_body_that_is_on_its_way() -> None:
    async def run(site: Site) -> None:
        expected, request = hot_request(1, b"data")
        await site.feed(request[:-2])
        site.door.stopping = True
        site.connection.close_if_idle()
        assert site.connection.is_busy
        await site.feed(request[-2:])
        assert site.answered == [expected]
        assert site.transport.closed

    in_loop(run)


def test_a_body_that_stops_coming_is_no_body() -> None:
    async def run(site: Site) -> None:
        async def answer(request: Request, request_id: bytes) -> Answer:
            with pytest.raises(S3Error, match="RequestTimeout"):
                async for _ in request.body.pieces():
                    pass
            return Answer(400)

        site.door.answer = answer
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("octad.storage_node.shell.front_door.hot_connection.STALLED_S_MAX", 0.001)
            await site.feed(WAITING)
            await asyncio.sleep(0.05)
        assert site.transport.written.startswith(b"HTTP/1.1 400")
        assert site.transport.closed

    in_loop(run)
