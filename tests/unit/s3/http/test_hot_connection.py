"""Our own protocol alone, on a transport that is none: what it reads as what, and what it hands on.

Any cutting of the same bytes must come to the same requests.
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.s3.http.hot_site import Site, body_of, in_loop

from octad.storage_node.s3.handlers.request import Request
from octad.storage_node.s3.http.connections import (
    IDLE_S_MAX,
    LINGER_S_MAX,
)
from octad.storage_node.s3.http.hot_connection import (
    AHEAD_BYTES_MAX,
    SCRATCH_BYTES,
    SKIPPED_BYTES_MAX,
)
from octad.storage_node.s3.http.request_head import HEAD_BYTES_MAX
from octad.storage_node.s3.protocol.answers import Answer

GET = b"GET /bucket/key HTTP/1.1\r\nhost: x\r\n\r\n"


def hot_request(number: int, body: bytes) -> tuple[tuple[str, bytes], bytes]:
    what = b"PUT /b/k%%20%d %d" % (number, number)
    lines = b"Host: x\r\nX-N: %d\r\ncontent-length: %d\r\n" % (number, len(body))
    return ("hot", what + b" " + body), (
        b"PUT /b/k%%20%d HTTP/1.1\r\n%b\r\n%b" % (number, lines, body)
    )


def large_request(number: int) -> tuple[tuple[str, bytes], bytes]:
    return hot_request(number, b"large" * 40_000)


requests = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 99), st.binary(max_size=40)).map(lambda each: hot_request(*each)),
        st.integers(0, 9).map(large_request),
    ),
    min_size=1,
    max_size=5,
)


@settings(deadline=None)
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
            site.send(*filter(None, pieces))
        else:
            await site.feed(*filter(None, pieces))
        for _ in range(8 * len(sent)):
            await site.settle()
        assert site.answered == [expected for expected, _ in sent]
        assert not site.guests
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
        await site.feed(*[GET] * 3_000)
        assert site.transport.reading_paused
        assert sum(map(len, site.transport.sent)) > 3_000 * len(GET) - 2 * AHEAD_BYTES_MAX
        site.gate.set()
        while len(site.answered) < 3_000:
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


def test_nothing_of_a_body_is_read_before_it_is_asked_for_but_what_came_with_its_head() -> None:
    async def run(site: Site) -> None:
        site.gate = asyncio.Event()
        expected, request = hot_request(1, b"large" * 40_000)
        await site.feed(request + GET)
        assert site.transport.reading_paused
        assert len(site.transport.sent[0]) == len(request + GET) - SCRATCH_BYTES
        site.gate.set()
        while len(site.answered) < 2:
            await site.settle()
        assert site.answered == [expected, ("hot", b"GET /bucket/key  ")]

    in_loop(run)


@pytest.mark.parametrize("size", [100, SKIPPED_BYTES_MAX - 1])
def test_what_is_left_of_a_small_body_that_nobody_wanted_is_dropped_as_it_comes(size: int) -> None:
    async def run(site: Site) -> None:
        site.body_wanted = False
        request = hot_request(1, bytes(size))[1]
        await site.feed(request[:80])
        assert [what for _, what in site.answered] == [b"PUT /b/k%201 1 "], "answered at once"
        await site.feed(request[80:-1])
        assert not site.connection._held
        await site.feed(request[-1:] + GET)
        assert site.answered[1:] == [("hot", b"GET /bucket/key  ")]
        assert not site.transport.closed

    in_loop(run)


def test_a_large_body_that_nobody_wanted_is_dropped_for_a_while_and_then_the_connection() -> None:
    async def run(site: Site) -> None:
        site.body_wanted = False
        request = hot_request(1, bytes(1_000_000))[1]
        await site.feed(request[:500_000])
        assert b"Connection: close" in site.transport.written
        assert not site.transport.sent, "the client may still be sending, and not reading"
        assert not site.connection._held
        now = asyncio.get_running_loop().time()
        site.connection.look(now + LINGER_S_MAX - 1)
        assert not site.transport.closed
        site.connection.look(now + LINGER_S_MAX + 1)
        assert site.transport.closed

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
        await site.feed(b"no HTTP at all\r\n\r\n")
        site.connection.connection_lost(None)
        assert site.guests[0].lost

    in_loop(run)


WAITING = b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n"


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


def test_a_body_that_stops_coming_is_not_waited_for_longer_than_was_asked() -> None:
    async def run(site: Site) -> None:
        bodies: list[bytes] = []

        async def answer(request: Request, request_id: bytes) -> Answer:
            bodies.append(await body_of(request, wait_s=0.001))
            return Answer(400)

        site.door.answer = answer
        await site.feed(hot_request(1, b"0123456789")[1][:-3])
        while not bodies:
            await asyncio.sleep(0.001)
        assert bodies == [b"0123456"]

    in_loop(run)
