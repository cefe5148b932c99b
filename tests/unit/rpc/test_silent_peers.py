"""A frozen or cut-off peer: calls to it fail at once, and it is used again once it is back."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.unit.rpc.rpc_pairs import ONE, TWO, Note, PeerNode, TamperingProxy, until

from octad.sharding.ids import NodeId
from octad.sharding.limits import RPC_SUSPECT_BEATS
from octad.storage_node.rpc.rpc_errors import CallTimeout, PeerUnavailable

Nodes = dict[NodeId, PeerNode]
Pair = tuple[PeerNode, PeerNode]
Tampered = tuple[PeerNode, PeerNode, TamperingProxy]
BEAT_S = 0.05


@pytest.fixture(autouse=True)
def fast_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octad.storage_node.rpc.peers.RPC_BEAT_S", BEAT_S)


def freeze(node: PeerNode, other: NodeId) -> asyncio.Transport:
    """From now on it takes nothing and says nothing, as a process that was stopped."""
    node.peers._beat_timer.cancel()
    transport = node.peers._open[other].connection._transport
    assert transport is not None
    transport.pause_reading()
    return transport


async def test_calls_to_a_frozen_peer_fail_at_once_until_it_answers_again(pair: Pair) -> None:
    one, two = pair
    await asyncio.sleep(0.3)  # The beats at their usual pace are over.
    frozen = freeze(two, ONE)
    with pytest.raises(CallTimeout):
        await one.peers.call(TWO, Note(1), timeout_s=BEAT_S)
    connection = one.peers._open[TWO].connection
    await until(lambda: connection.is_silent)
    started = time.monotonic()
    with pytest.raises(PeerUnavailable, match=r"n2: it does not answer; it is asked again") as no:
        await one.peers.call(TWO, Note(2), timeout_s=60)
    assert time.monotonic() - started < BEAT_S
    assert not no.value.sent
    assert (one.peers.figures.calls_timed_out, one.peers.figures.calls_refused) == (1, 1)
    frozen.resume_reading()
    two.peers._beat()
    await until(lambda: connection._heard)
    assert not connection.is_silent
    assert (await one.peers.call(TWO, Note(3), timeout_s=5))[0] == Note(3)
    assert one.events == ["+2 boot-2"]


async def test_a_peer_that_is_only_slow_to_answer_calls_is_not_taken_for_frozen(
    nodes: Nodes,
) -> None:
    one = nodes[ONE] = PeerNode(ONE)
    two = nodes[TWO] = PeerNode(
        TWO, on_request=lambda *_: asyncio.get_running_loop().create_future()
    )
    await two.listen()
    one.peers.set_addresses({TWO: two.address})
    await until(lambda: one.peers.connected(TWO))
    for _ in range(2):
        with pytest.raises(CallTimeout):
            await one.peers.call(TWO, Note(1), timeout_s=1.5 * RPC_SUSPECT_BEATS * BEAT_S)
    assert one.peers.figures.calls_refused == 0


async def test_calls_under_way_at_a_peer_that_is_let_go_end_with_it(tampered: Tampered) -> None:
    one, _, proxy = tampered
    proxy.frozen = True
    with pytest.raises(PeerUnavailable, match="the connection was lost") as lost:
        await one.peers.call(TWO, Note(1), timeout_s=60)
    assert lost.value.sent
    proxy.frozen = False


async def test_a_link_that_has_healed_is_used_within_a_second(tampered: Tampered) -> None:
    one, two, proxy = tampered
    proxy.frozen = True
    await until(lambda: not one.peers.connected(TWO) and not two.peers.connected(ONE))
    await asyncio.sleep(0.5)
    proxy.frozen = False
    healed = time.monotonic()
    await until(lambda: one.peers.connected(TWO) and two.peers.connected(ONE))
    assert time.monotonic() - healed < 1.0


async def test_a_node_that_is_up_again_is_dialed_within_a_second(nodes: Nodes) -> None:
    one, two = nodes[ONE], nodes[TWO] = PeerNode(ONE), PeerNode(TWO)
    await two.listen()
    port = int(two.address.rpartition(":")[2])
    one.peers.set_addresses({TWO: two.address})
    await until(lambda: one.peers.connected(TWO))
    await two.peers.close()
    await asyncio.sleep(0.5)
    with pytest.raises(PeerUnavailable, match=r"n2: not connected \(.*\); it is dialed again"):
        await one.peers.call(TWO, Note(1), timeout_s=60)
    again = nodes[TWO] = PeerNode(TWO, boot="second")
    await again.peers.listen("127.0.0.1", port)
    up = time.monotonic()
    await until(lambda: one.peers.connected(TWO))
    assert time.monotonic() - up < 1.0


async def test_a_call_says_whose_turn_it_is_to_dial(nodes: Nodes) -> None:
    two = nodes[TWO] = PeerNode(TWO)
    two.peers.set_addresses({ONE: "127.0.0.1:1"})
    with pytest.raises(PeerUnavailable, match="n1: not connected: it has to dial this node"):
        await two.peers.call(ONE, Note(1))
    with pytest.raises(PeerUnavailable, match="n9: not connected: its address is not known"):
        await two.peers.call(NodeId(9), Note(1))


async def test_an_address_that_takes_nothing_is_given_up_soon_and_tried_again(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octad.storage_node.rpc.peer_dialer.RPC_CONNECT_S_MAX", 0.05)
    one = nodes[ONE] = PeerNode(ONE)

    async def swallow(*_: object, **__: object) -> None:
        await asyncio.sleep(60)  # As a network that drops the packets.

    with monkeypatch.context() as cut:
        cut.setattr(type(asyncio.get_running_loop()), "create_connection", swallow, raising=True)
        one.peers.set_addresses({TWO: "127.0.0.1:1"})
        await asyncio.sleep(0.3)
    assert one.peers._why_not_connected(TWO).startswith("not connected (no connection within")
    assert not one.peers._strangers
