"""A peer that does not read costs bounded memory and a clear error; beats pass whatever waits."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.rpc.rpc_pairs import ONE, THREE, TWO, Note, PeerNode, read_all, until

from octad.client.runtime.steady_clock import now
from octad.sharding.ids import NodeId
from octad.sharding.limits import (
    MIB,
    RPC_CALLS_MAX,
    RPC_OUTGOING_BYTES_MAX,
    RPC_UNSEEN_S_MAX,
    RPC_WAITING_S_MAX,
)
from octad.storage_node.rpc.frame_format import (
    ERROR,
    ONE_WAY,
    REQUEST,
    RESPONSE,
    DirectionKey,
    FrameReader,
    FrameSealer,
)
from octad.storage_node.rpc.messages import Message, message
from octad.storage_node.rpc.outgoing_frames import (
    RPC_OUTGOING_FRAMES_MAX,
    RPC_URGENT_CALL_BYTES_MAX,
    RPC_URGENT_FRAMES_MAX,
    OutgoingFrames,
)
from octad.storage_node.rpc.peer import Answer, OnRequest
from octad.storage_node.rpc.peer_connection import RPC_SOCKET_BYTES_MAX
from octad.storage_node.rpc.rpc_errors import BUSY, PeerUnavailable, RemoteError

Nodes = dict[NodeId, PeerNode]
Pair = tuple[PeerNode, PeerNode]
KEY = DirectionKey(bytes(16), b"D->A")


@message
class Pulse(Message, frozen=True, tag=119):
    """Small, and worthless when late."""

    urgent: ClassVar[bool] = True
    number: int


def stop_reading(reader: PeerNode, sender: NodeId) -> asyncio.Transport:
    transport = reader.peers._open[sender].connection._transport
    assert transport is not None
    transport.pause_reading()
    return transport


async def fill(sender: PeerNode, node: NodeId) -> int:
    """Sends bodies of 1 MiB until one is not taken; how many were."""
    sent = 0
    while sender.peers.send(node, Note(sent), bytes(MIB)):
        sent += 1
        await asyncio.sleep(0)
        assert sent < 1000
    return sent


async def pair_that_answers(nodes: Nodes, on_request: OnRequest) -> Pair:
    one, two = nodes[ONE], nodes[TWO] = PeerNode(ONE), PeerNode(TWO, on_request=on_request)
    await two.listen()
    one.peers.set_addresses({TWO: two.address})
    await until(lambda: one.peers.connected(TWO) and two.peers.connected(ONE))
    return one, two


@given(
    st.lists(
        st.tuples(
            st.sampled_from([REQUEST, RESPONSE, ERROR, ONE_WAY]),
            st.binary(max_size=1500),
            st.sampled_from([b"", b"body" * 500]),
            st.booleans(),
        ),
        max_size=20,
    ),
    st.integers(1, 5000),
)
def test_all_that_is_taken_in_leaves_in_order_within_its_lane_and_urgent_first(
    sent: list[tuple[int, bytes, bytes, bool]], portion: int
) -> None:
    waiting = OutgoingFrames(FrameSealer(KEY))
    for number, (kind, text, body, urgent) in enumerate(sent):
        assert waiting.add(kind, number, text, body, urgent, 0.0)
    assert waiting.bytes == sum(len(text) + len(body) for _, text, body, _ in sent)
    stream = b""
    while waiting:
        stream += b"".join(waiting.take(portion, RPC_WAITING_S_MAX))
    assert waiting.bytes == 0
    frames = read_all(FrameReader(KEY), stream)
    order = [frame.call_id for frame in frames]

    def passes(number: int) -> bool:
        kind, text, body, urgent = sent[number]
        small = not body and len(text) <= RPC_URGENT_CALL_BYTES_MAX
        return urgent or (kind != ONE_WAY and small)

    assert order == sorted(range(len(sent)), key=lambda number: not passes(number))
    for frame in frames:
        assert (frame.kind, frame.message, bytes(frame.body)) == sent[frame.call_id][:3]


def test_each_lane_takes_in_so_many_frames_and_no_more() -> None:
    waiting = OutgoingFrames(FrameSealer(KEY))
    for urgent, frames_max in ((True, RPC_URGENT_FRAMES_MAX), (False, RPC_OUTGOING_FRAMES_MAX)):
        taken = [waiting.add(ONE_WAY, 0, b"m", b"", urgent, 0.0) for _ in range(frames_max + 1)]
        assert taken == [True] * frames_max + [False]


def test_answers_find_room_when_messages_and_requests_do_not() -> None:
    waiting = OutgoingFrames(FrameSealer(KEY))
    body = bytes(MIB)
    while waiting.add(ONE_WAY, 0, b"", body, False, 0.0):
        pass
    assert waiting.bytes == RPC_OUTGOING_BYTES_MAX
    assert not waiting.add(REQUEST, 1, b"", body, False, 0.0)
    assert waiting.add(RESPONSE, 1, b"", body, False, 0.0)


def test_a_request_that_waited_too_long_does_not_leave_and_all_else_does() -> None:
    waiting = OutgoingFrames(FrameSealer(KEY))
    for kind in (REQUEST, ONE_WAY, RESPONSE):
        assert waiting.add(kind, kind, b"message", b"body", False, 0.0)
    assert waiting.add(REQUEST, 9, b"message", b"body", False, 1.0)
    stream = b"".join(waiting.take(MIB, RPC_WAITING_S_MAX + 0.5))
    sent = [(frame.kind, frame.call_id) for frame in read_all(FrameReader(KEY), stream)]
    assert sent == [(ONE_WAY, ONE_WAY), (RESPONSE, RESPONSE), (REQUEST, 9)]
    assert waiting.bytes == 0


async def test_a_process_that_did_not_run_takes_nothing_from_its_old_connections(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair
    assert one.peers.send(TWO, Note(1))
    await until(lambda: two.numbers() == [1])
    slept_s = 0.0

    def late() -> float:
        return now() + slept_s

    monkeypatch.setattr("octad.storage_node.rpc.peer_connection.now", late)
    before = two.peers._open[ONE].connection
    assert one.peers.send(TWO, Note(2))
    slept_s = RPC_UNSEEN_S_MAX + 1.0
    await until(lambda: before.is_lost)
    await until(lambda: one.peers.connected(TWO) and two.peers.connected(ONE))
    assert one.peers.send(TWO, Note(3))
    await until(lambda: len(two.numbers()) == 2)
    assert two.numbers() == [1, 3]


async def test_a_peer_that_does_not_read_costs_bounded_memory_and_a_clear_error(
    pair: Pair,
) -> None:
    one, two = pair
    reading = stop_reading(two, ONE)
    sent = await fill(one, TWO)
    bound = RPC_OUTGOING_BYTES_MAX + 2 * RPC_SOCKET_BYTES_MAX + 3 * MIB
    assert RPC_OUTGOING_BYTES_MAX - 2 * MIB < one.peers.outgoing_bytes(TWO) < bound
    assert one.peers.figures.messages_dropped == 1
    with pytest.raises(PeerUnavailable, match=r"n2: .* bytes are waiting to be sent to it") as full:
        await one.peers.call(TWO, Note(1), bytes(MIB), timeout_s=5)
    assert not full.value.sent
    reading.resume_reading()
    await until(lambda: len(two.received) == sent)
    assert two.numbers() == list(range(sent))
    assert (await one.peers.call(TWO, Note(1), bytes(MIB), timeout_s=5))[0] == Note(1)


async def test_a_peer_that_does_not_read_leaves_others_alone(nodes: Nodes) -> None:
    for node in (ONE, TWO, THREE):
        nodes[node] = PeerNode(node)
        await nodes[node].listen()
    one, two, three = nodes[ONE], nodes[TWO], nodes[THREE]
    one.peers.set_addresses({TWO: two.address, THREE: three.address})
    await until(lambda: one.peers.connected(TWO) and one.peers.connected(THREE))
    await until(lambda: two.peers.connected(ONE))
    stop_reading(two, ONE)
    await fill(one, TWO)
    assert (await one.peers.call(THREE, Note(1), bytes(MIB), timeout_s=1))[0] == Note(1)


async def test_a_beat_passes_what_waits(pair: Pair) -> None:
    one, two = pair
    reading = stop_reading(two, ONE)
    sent = await fill(one, TWO)
    one.peers.send(TWO, Pulse(1))
    reading.resume_reading()
    await until(lambda: len(two.received) == sent + 1)
    place = next(at for at, (_, got, _) in enumerate(two.received) if isinstance(got, Pulse))
    # Before it is only what the sockets held.
    assert place < sent / 2
    assert two.numbers() == list(range(sent))


async def test_a_small_call_passes_what_waits_and_a_large_one_does_not(pair: Pair) -> None:
    one, two = pair
    reading = stop_reading(two, ONE)
    sent = await fill(one, TWO)
    one.peers._open[TWO].connection._waiting.bytes -= MIB  # type: ignore[union-attr]
    large = asyncio.ensure_future(one.peers.call(TWO, Note(1), b"x", timeout_s=10))
    small = asyncio.ensure_future(one.peers.call(TWO, Note(2), timeout_s=10))
    await asyncio.sleep(0)
    reading.resume_reading()
    await small
    assert not large.done()
    await large
    assert len(two.received) == sent


async def test_what_is_sealed_already_goes_before_what_waits(pair: Pair) -> None:
    one, two = pair
    reading = stop_reading(two, ONE)
    connection = one.peers._open[TWO].connection
    while not connection._congested:
        one.peers.send(TWO, Note(0), bytes(MIB))
        await asyncio.sleep(0)
    # The tick in which the socket takes bytes again may be the one in which something was sealed.
    connection._congested = False
    one.peers.send(TWO, Note(1), b"sealed")
    connection._congested = True
    one.peers.send(TWO, Pulse(2))
    connection.resume_writing()
    reading.resume_reading()
    await until(lambda: any(isinstance(got, Pulse) for _, got, _ in two.received))
    assert not two.peers.refusals


async def test_too_many_calls_at_a_time_fail_at_once(nodes: Nodes) -> None:
    one, _ = await pair_that_answers(nodes, lambda *_: asyncio.get_running_loop().create_future())
    calls = [
        asyncio.ensure_future(one.peers.call(TWO, Note(number), timeout_s=30))
        for number in range(RPC_CALLS_MAX)
    ]
    await asyncio.sleep(0)
    with pytest.raises(PeerUnavailable, match="calls to it are under way"):
        await one.peers.call(TWO, Note(-1), timeout_s=30)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_peer_that_asks_for_too_much_at_a_time_is_told_so(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octad.storage_node.rpc.peer.RPC_REQUESTS_MAX", 2)
    later: list[asyncio.Future[Answer]] = []

    def wait(node: NodeId, asked: Message, body: memoryview) -> asyncio.Future[Answer]:
        later.append(asyncio.get_running_loop().create_future())
        return later[-1]

    one, two = await pair_that_answers(nodes, wait)
    first = [asyncio.ensure_future(one.peers.call(TWO, Note(n), timeout_s=5)) for n in range(2)]
    await until(lambda: len(later) == 2)
    with pytest.raises(RemoteError) as refused:
        await one.peers.call(TWO, Note(2), timeout_s=5)
    assert refused.value.code == BUSY
    assert two.peers.figures.requests_refused == 1
    for waiting in later:
        waiting.set_result((Note(0), b""))
    await asyncio.gather(*first)
    third = asyncio.ensure_future(one.peers.call(TWO, Note(3), timeout_s=5))
    await until(lambda: len(later) == 3)
    later[2].set_result((Note(3), b""))
    assert (await third)[0] == Note(3)


async def test_bodies_of_requests_under_way_are_bounded(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octad.storage_node.rpc.peer.RPC_REQUEST_BYTES_MAX", MIB)
    later: list[asyncio.Future[Answer]] = []

    def wait(node: NodeId, asked: Message, body: memoryview) -> asyncio.Future[Answer]:
        later.append(asyncio.get_running_loop().create_future())
        return later[-1]

    one, _ = await pair_that_answers(nodes, wait)
    body = bytes(MIB)
    first = [
        asyncio.ensure_future(one.peers.call(TWO, Note(n), body, timeout_s=5)) for n in range(2)
    ]
    await until(lambda: len(later) == 2)
    with pytest.raises(RemoteError, match=BUSY):
        await one.peers.call(TWO, Note(2), timeout_s=5)
    for waiting in later:
        waiting.set_result((Note(0), b""))
    await asyncio.gather(*first)


async def test_an_answer_without_room_becomes_an_error(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octad.storage_node.rpc.outgoing_frames.RPC_ANSWER_BYTES_MAX", 2 * MIB)
    one, _ = await pair_that_answers(nodes, lambda _, asked, body: (asked, bytes(MIB)))
    reading = stop_reading(one, TWO)
    calls = [asyncio.ensure_future(one.peers.call(TWO, Note(n), timeout_s=10)) for n in range(40)]
    await asyncio.sleep(0.1)
    reading.resume_reading()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    refused = [error for error in ended if isinstance(error, RemoteError)]
    assert 0 < len(refused) < 40
    assert {error.code for error in refused} == {BUSY}


async def test_a_peer_that_asks_and_never_reads_is_let_go(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    outgoing = "octad.storage_node.rpc.outgoing_frames"
    monkeypatch.setattr(f"{outgoing}.RPC_ANSWER_BYTES_MAX", 2 * MIB)
    monkeypatch.setattr(f"{outgoing}.RPC_URGENT_FRAMES_MAX", 3)
    one, two = await pair_that_answers(nodes, lambda _, asked, body: (asked, bytes(MIB)))
    stop_reading(one, TWO)
    calls = [asyncio.ensure_future(one.peers.call(TWO, Note(n), timeout_s=10)) for n in range(40)]
    await until(lambda: two.peers.refusals["overrun"] == 1)  # type: ignore[index]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(error, PeerUnavailable) for error in ended)
