"""Strangers who connect to a node's port for other nodes, and say nothing, keep no node out."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.rpc.rpc_pairs import ONE, TWO, Note, PeerNode, until

from octad.sharding.ids import NodeId
from octad.sharding.limits import RPC_HANDSHAKES_MAX


async def test_a_node_gets_through_a_crowd_that_takes_all_handshakes(
    nodes: dict[NodeId, PeerNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the crowd came faster than its handshakes end.
    monkeypatch.setattr("octad.storage_node.rpc.peers.RPC_BEAT_S", 600.0)
    one, two = nodes[ONE], nodes[TWO] = PeerNode(ONE), PeerNode(TWO)
    await two.listen()
    host, _, port = two.address.rpartition(":")
    crowd: list[asyncio.StreamWriter] = []

    async def besiege() -> None:
        while True:
            _, writer = await asyncio.open_connection(host, int(port))
            crowd.append(writer)
            await asyncio.sleep(0.001)

    siege = asyncio.create_task(besiege())
    await until(lambda: len(two.peers._strangers) == RPC_HANDSHAKES_MAX)
    one.peers.set_addresses({TWO: two.address})
    await until(lambda: one.peers.connected(TWO) and two.peers.connected(ONE))
    assert (await one.peers.call(TWO, Note(1), timeout_s=5))[0] == Note(1)
    assert len(two.peers._connections) <= RPC_HANDSHAKES_MAX + 1
    siege.cancel()
    await asyncio.gather(siege, return_exceptions=True)
    for writer in crowd:
        writer.transport.abort()
