"""Peers over real sockets: order, batches, answers, refusals, losses, and no trace afterwards."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest
from tests.unit.rpc.rpc_pairs import ONE, THREE, TWO, Note, PeerNode, until

from octad.sharding.ids import BucketId, NodeId
from octad.sharding.limits import FRAME_BODY_BYTES_MAX, MIB, RPC_WRITE_HIGH_WATER_BYTES
from octad.storage_node.rpc.messages import Message, Reply, Request
from octad.storage_node.rpc.peer import Answer, OnRequest
from octad.storage_node.rpc.peer_connection import Body, Buffer
from octad.storage_node.rpc.peer_refusal import Refusal
from octad.storage_node.rpc.rpc_errors import (
    BAD_MESSAGE,
    INTERNAL,
    CallTimeout,
    PeerUnavailable,
    RemoteError,
    RpcRefusal,
)
from octad.storage_node.shards.object_messages import CloseBucket

Nodes = dict[NodeId, PeerNode]
Pair = tuple[PeerNode, PeerNode]


async def start_pair(nodes: Nodes, on_request: OnRequest) -> Pair:
    """Nodes 1 and 2, connected; node 2 answers by `on_request`."""
    one = nodes[ONE] = PeerNode(ONE)
    two = nodes[TWO] = PeerNode(TWO, on_request=on_request)
    await two.listen()
    one.peers.set_addresses({TWO: two.address})
    await until(lambda: one.peers.connected(TWO) and two.peers.connected(ONE))
    return one, two


async def ask(
    asking: PeerNode, node: NodeId, question: Request[Reply], body: bytes = b""
) -> tuple[Reply, bytes]:
    answer, answered = await asking.peers.call(node, question, body, timeout_s=5)
    return answer, bytes(answered)


async def test_both_sides_learn_of_each_other_with_the_boot_id(pair: Pair) -> None:
    one, two = pair
    assert one.events == ["+2 boot-2"]
    assert two.events == ["+1 boot-1"]


async def test_one_way_messages_arrive_in_order_in_both_directions(pair: Pair) -> None:
    one, two = pair
    for number in range(500):
        body = bytes([number % 256]) * (number * 37 % 9000)
        assert one.peers.send(TWO, Note(number), body)
        assert two.peers.send(ONE, Note(number))
        if number % 50 == 0:
            await asyncio.sleep(0)
    await until(lambda: len(two.received) == len(one.received) == 500)
    assert one.numbers() == two.numbers() == list(range(500))
    for number, (_, _, received) in enumerate(two.received):
        assert received == bytes([number % 256]) * (number * 37 % 9000)


async def test_what_is_sent_in_one_tick_is_written_at_once(pair: Pair) -> None:
    one, two = pair
    before = one.writes(TWO)
    for number in range(16):
        one.peers.send(TWO, Note(number), bytes(4096))
    await until(lambda: len(two.received) == 16)
    assert one.writes(TWO) == before + 1


async def test_a_call_gives_the_answer_and_its_body_in_both_directions(pair: Pair) -> None:
    one, two = pair
    assert await ask(one, TWO, Note(1), b"up") == (Note(1), b"up")
    assert await ask(two, ONE, Note(2), b"down") == (Note(2), b"down")


async def test_many_calls_at_once_each_get_their_own_answer(nodes: Nodes) -> None:
    async def answer_out_of_order(node: NodeId, asked: Message, body: memoryview) -> Answer:
        assert isinstance(asked, Note)
        await asyncio.sleep((asked.number * 7 % 5) / 1000)
        return asked, body

    one, _ = await start_pair(nodes, answer_out_of_order)
    answers = await asyncio.gather(
        *(one.peers.call(TWO, Note(number), timeout_s=5) for number in range(50))
    )
    assert [answer for answer, _ in answers] == [Note(number) for number in range(50)]


@pytest.mark.parametrize("size", [0, 1, 40_000, MIB, FRAME_BODY_BYTES_MAX])
async def test_bodies_of_any_size_go_there_and_back(pair: Pair, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    _, answered = await pair[0].peers.call(TWO, Note(1), body, timeout_s=5)
    assert answered == body


async def test_a_body_may_come_in_pieces_and_in_any_kind_of_buffer(pair: Pair) -> None:
    one, two = pair
    words = memoryview(b"12345678").cast("I")
    pieces: list[Buffer] = [b"1234", bytearray(b"56"), memoryview(b"78")]
    bodies: list[Body] = [pieces, bytearray(b"12345678"), words]
    for body in bodies:
        one.peers.send(TWO, Note(1), body)
    await until(lambda: len(two.received) == 3)
    assert [bytes(body) for _, _, body in two.received] == [b"12345678"] * 3


async def test_a_body_beyond_the_limit_is_the_senders_error_and_ends_nothing(pair: Pair) -> None:
    one, _ = pair
    with pytest.raises(ValueError, match="a body of"):
        one.peers.send(TWO, Note(1), bytes(FRAME_BODY_BYTES_MAX + 1))
    assert (await one.peers.call(TWO, Note(2), timeout_s=5))[0] == Note(2)


async def test_a_handler_may_answer_at_once_with_a_future_or_with_a_coroutine(nodes: Nodes) -> None:
    later: list[asyncio.Future[Answer]] = []

    async def coroutine() -> Answer:
        return Note(3), b"coroutine"

    def handler(node: NodeId, asked: Message, body: memoryview) -> object:
        assert isinstance(asked, Note)
        if asked.text == "at once":
            return Note(1), b"at once"
        if asked.text == "future":
            later.append(asyncio.get_running_loop().create_future())
            return later[0]
        return coroutine()

    one, _ = await start_pair(nodes, handler)  # type: ignore[arg-type]
    assert await ask(one, TWO, Note(0, "at once")) == (Note(1), b"at once")
    assert await ask(one, TWO, Note(0, "task")) == (Note(3), b"coroutine")
    waiting = asyncio.ensure_future(ask(one, TWO, Note(0, "future")))
    await until(lambda: bool(later))
    later[0].set_result((Note(2), b"future"))
    assert await waiting == (Note(2), b"future")


async def test_a_refusal_reaches_the_caller_with_its_code(nodes: Nodes) -> None:
    async def refuse_later() -> Answer:
        raise RpcRefusal("not-primary", "ask n3")

    def refuse(node: NodeId, asked: Message, body: memoryview) -> object:
        if asked == Note(1):
            raise RpcRefusal("disk-full", "no room")
        return refuse_later()

    one, _ = await start_pair(nodes, refuse)  # type: ignore[arg-type]
    with pytest.raises(RemoteError) as at_once:
        await one.peers.call(TWO, Note(1), timeout_s=5)
    with pytest.raises(RemoteError) as later:
        await one.peers.call(TWO, Note(2), timeout_s=5)
    assert (at_once.value.code, at_once.value.text) == ("disk-full", "no room")
    assert (later.value.code, later.value.node) == ("not-primary", TWO)


async def test_a_bug_in_a_handler_is_logged_and_answered_and_ends_nothing(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    def divide(node: NodeId, asked: Message, body: memoryview) -> Answer:
        assert isinstance(asked, Note)
        return Note(1 // asked.number), b""

    one, two = await start_pair(nodes, divide)
    with pytest.raises(RemoteError) as error:
        await one.peers.call(TWO, Note(0), timeout_s=5)
    assert error.value.code == INTERNAL
    assert "Traceback" in caplog.text
    assert await ask(one, TWO, Note(1)) == (Note(1), b"")
    assert two.events == ["+1 boot-1"]


async def test_an_answer_of_another_type_than_the_requests_is_an_error_of_that_node(
    nodes: Nodes,
) -> None:
    one, two = await start_pair(nodes, lambda *_: (Note(1), b""))
    with pytest.raises(RemoteError, match="Note is no answer to CloseBucket") as error:
        await one.peers.call(TWO, CloseBucket(BucketId(1)), timeout_s=5)
    assert (error.value.node, error.value.code) == (TWO, INTERNAL)
    assert one.peers.refusals == {Refusal.MESSAGE: 1}
    assert await ask(one, TWO, Note(1)) == (Note(1), b"")
    assert two.events == ["+1 boot-1"]


async def test_an_answer_that_cannot_be_sent_is_an_internal_error(nodes: Nodes) -> None:
    one, _ = await start_pair(nodes, lambda *_: (Note(1), bytes(FRAME_BODY_BYTES_MAX + 1)))
    with pytest.raises(RemoteError) as error:
        await one.peers.call(TWO, Note(0), timeout_s=5)
    assert error.value.code == INTERNAL


async def test_a_bug_in_a_one_way_handler_is_logged_and_ends_nothing(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = await start_pair(nodes, lambda _, asked, body: (asked, body))

    def on_one_way(node: NodeId, sent: Message, body: memoryview) -> None:
        raise ZeroDivisionError

    object.__setattr__(two.handlers, "on_one_way", on_one_way)
    one.peers.send(TWO, Note(1))
    assert (await one.peers.call(TWO, Note(2), timeout_s=5))[0] == Note(2)
    assert "ZeroDivisionError" in caplog.text


async def test_a_message_of_a_newer_node_is_refused_and_the_connection_stays(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair
    newer = b"\x91\x7d"  # A tag that no one here has.
    with monkeypatch.context() as patch:
        patch.setattr("octad.storage_node.rpc.peer_connection.encode_message", lambda _: newer)
        one.peers.send(TWO, Note(1))
        call = asyncio.ensure_future(one.peers.call(TWO, Note(2), timeout_s=5))
        await asyncio.sleep(0)
    with pytest.raises(RemoteError) as error:
        await call
    assert error.value.code == BAD_MESSAGE
    assert two.peers.refusals["message"] == 2  # type: ignore[index]
    assert (await one.peers.call(TWO, Note(3), timeout_s=5))[0] == Note(3)


async def test_a_call_without_an_answer_times_out_and_a_late_answer_is_dropped(
    nodes: Nodes,
) -> None:
    async def sleep_if_asked(node: NodeId, asked: Message, body: memoryview) -> Answer:
        await asyncio.sleep(0.4 if asked == Note(1) else 0)
        return asked, b""

    one, _ = await start_pair(nodes, sleep_if_asked)
    started = asyncio.get_running_loop().time()
    patient = asyncio.ensure_future(one.peers.call(TWO, Note(1), timeout_s=5))
    with pytest.raises(CallTimeout):
        await one.peers.call(TWO, Note(1), timeout_s=0.05)
    assert 0.03 < asyncio.get_running_loop().time() - started < 0.39
    assert (await patient)[0] == Note(1)
    assert (await one.peers.call(TWO, Note(2), timeout_s=5))[0] == Note(2)


async def test_each_call_has_its_own_deadline(nodes: Nodes) -> None:
    one, _ = await start_pair(nodes, lambda *_: asyncio.get_running_loop().create_future())
    ended: list[float] = []

    async def call(timeout_s: float) -> None:
        with pytest.raises(CallTimeout):
            await one.peers.call(TWO, Note(1), timeout_s=timeout_s)
        ended.append(timeout_s)

    await asyncio.gather(call(0.2), call(0.05), call(0.1))
    assert ended == [0.05, 0.1, 0.2]


async def test_a_cancelled_call_ends_and_the_next_ones_work(nodes: Nodes) -> None:
    async def sleep_if_asked(node: NodeId, asked: Message, body: memoryview) -> Answer:
        await asyncio.sleep(0.03 if asked == Note(1) else 0)
        return asked, b""

    one, _ = await start_pair(nodes, sleep_if_asked)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await one.peers.call(TWO, Note(1), timeout_s=5)
    await asyncio.sleep(0.05)
    assert (await one.peers.call(TWO, Note(2), timeout_s=5))[0] == Note(2)


async def test_without_a_connection_nothing_is_sent(nodes: Nodes) -> None:
    one = nodes[ONE] = PeerNode(ONE)
    assert not one.peers.connected(TWO)
    assert not one.peers.send(TWO, Note(1))
    assert one.peers.outgoing_bytes(TWO) == 0
    await one.peers.drained(TWO)
    with pytest.raises(PeerUnavailable) as error:
        await one.peers.call(TWO, Note(1), timeout_s=5)
    assert not error.value.sent


async def test_a_peer_that_dies_during_a_call_leaves_its_outcome_unknown(nodes: Nodes) -> None:
    one, two = await start_pair(nodes, lambda *_: asyncio.get_running_loop().create_future())
    call = asyncio.ensure_future(one.peers.call(TWO, Note(1), timeout_s=5))
    await until(lambda: bool(two.handlers.answers))
    await two.peers.close()
    with pytest.raises(PeerUnavailable) as error:
        await call
    assert error.value.sent
    assert one.events == ["+2 boot-2", "-2"]
    assert not one.peers.send(TWO, Note(2))


async def test_a_peer_that_comes_back_is_dialed_again_and_its_new_boot_is_told(
    nodes: Nodes,
) -> None:
    one, two = await start_pair(nodes, lambda _, asked, body: (asked, body))
    await two.peers.close()
    again = nodes[TWO] = PeerNode(TWO, boot="second")
    port = int(two.address.rpartition(":")[2])
    await again.peers.listen("127.0.0.1", port)
    await until(lambda: one.peers.connected(TWO))
    assert one.events == ["+2 boot-2", "-2", "+2 second"]
    assert await ask(one, TWO, Note(1)) == (Note(1), b"")


async def test_a_dialer_that_comes_back_replaces_its_old_connection(nodes: Nodes) -> None:
    one, two = await start_pair(nodes, lambda _, asked, body: (asked, body))
    again = nodes[THREE] = PeerNode(ONE, boot="second")
    again.peers.set_addresses({TWO: two.address})
    await until(lambda: "+1 second" in two.events)
    one.peers.set_addresses({})
    assert two.events[:3] == ["+1 boot-1", "-1", "+1 second"]
    await until(lambda: again.peers.connected(TWO))
    assert (await two.peers.call(ONE, Note(1), timeout_s=5))[0] == Note(1)


async def test_three_nodes_are_connected_by_three_connections(nodes: Nodes) -> None:
    for node in (ONE, TWO, THREE):
        nodes[node] = PeerNode(node)
        await nodes[node].listen()
    for each in nodes.values():
        each.peers.set_addresses({other: nodes[other].address for other in nodes})
    await until(lambda: all(len(node.events) == 2 for node in nodes.values()))
    for node, other in ((ONE, TWO), (TWO, THREE), (THREE, ONE), (TWO, ONE)):
        assert (await nodes[node].peers.call(other, Note(1), timeout_s=5))[0] == Note(1)
    assert sum(len(node.peers._connections) for node in nodes.values()) == 6


async def test_a_node_that_is_no_longer_named_is_dropped(pair: Pair) -> None:
    one, two = pair
    one.peers.set_addresses({ONE: one.address})
    assert one.events == ["+2 boot-2", "-2"]
    await until(lambda: two.events == ["+1 boot-1", "-1"])
    await asyncio.sleep(0.12)
    assert not one.peers.connected(TWO)


async def test_naming_the_same_addresses_again_changes_nothing(pair: Pair) -> None:
    one, two = pair
    one.peers.set_addresses({ONE: one.address, TWO: two.address})
    await asyncio.sleep(0.02)
    assert one.events == ["+2 boot-2"]


async def test_a_node_that_moved_is_dialed_at_its_new_address(nodes: Nodes) -> None:
    one = nodes[ONE] = PeerNode(ONE)
    two = nodes[TWO] = PeerNode(TWO)
    await two.listen()
    one.peers.set_addresses({TWO: "not an address"})
    await asyncio.sleep(0.01)
    one.peers.set_addresses({TWO: two.address})
    await until(lambda: one.peers.connected(TWO))


async def test_outgoing_bytes_grow_while_the_peer_does_not_read_and_drain_after(
    pair: Pair,
) -> None:
    one, two = pair
    transport = two.peers._open[ONE].connection._transport
    assert transport is not None
    transport.pause_reading()
    sent = 0
    while one.peers.outgoing_bytes(TWO) <= RPC_WRITE_HIGH_WATER_BYTES:
        one.peers.send(TWO, Note(sent), bytes(MIB))
        sent += 1
        await asyncio.sleep(0)
    draining = asyncio.ensure_future(one.peers.drained(TWO))
    await asyncio.sleep(0.02)
    assert not draining.done()
    transport.resume_reading()
    await asyncio.wait_for(draining, 5)
    assert one.peers.outgoing_bytes(TWO) < RPC_WRITE_HIGH_WATER_BYTES
    await until(lambda: two.numbers() == list(range(sent)))


async def test_who_waits_for_draining_is_woken_when_the_connection_is_lost(pair: Pair) -> None:
    one, two = pair
    transport = two.peers._open[ONE].connection._transport
    assert transport is not None
    transport.pause_reading()
    while one.peers.outgoing_bytes(TWO) <= RPC_WRITE_HIGH_WATER_BYTES:
        one.peers.send(TWO, Note(0), bytes(MIB))
        await asyncio.sleep(0)
    draining = asyncio.ensure_future(one.peers.drained(TWO))
    await asyncio.sleep(0)
    one.peers.set_addresses({})
    await asyncio.wait_for(draining, 1)


async def test_closing_ends_handlers_that_still_work(nodes: Nodes) -> None:
    cancelled = asyncio.Event()

    async def work(node: NodeId, asked: Message, body: memoryview) -> Answer:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return asked, b""

    one, two = await start_pair(nodes, work)
    call = asyncio.ensure_future(one.peers.call(TWO, Note(1), timeout_s=5))
    await until(lambda: bool(two.handlers.answers))
    await two.peers.close()
    assert cancelled.is_set()
    with pytest.raises(PeerUnavailable):
        await call


async def test_a_bug_in_the_connection_handlers_is_logged_and_ends_nothing(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = await start_pair(nodes, lambda _, asked, body: (asked, body))
    caplog.set_level(logging.ERROR)

    def bug(*_: object) -> None:
        raise ZeroDivisionError

    one.peers.handle(replace(one.handlers, on_connected=bug, on_disconnected=bug))
    two.peers._open[ONE].connection.drop()
    await until(lambda: "the loss of n2 hit a bug" in caplog.text)
    await until(lambda: one.peers.connected(TWO) and two.peers.connected(ONE))
    assert "the connection with n2 hit a bug" in caplog.text
    assert await ask(one, TWO, Note(1)) == (Note(1), b"")
