"""Peers are tested on both event loops, and nothing may be left of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop
from tests.unit.rpc.rpc_pairs import ONE, TWO, PeerNode, TamperingProxy, until

from octad.sharding.ids import NodeId


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def nodes() -> AsyncIterator[dict[NodeId, PeerNode]]:
    """Fill it with nodes: they are closed at the end, and nothing may be left of them."""
    made: dict[NodeId, PeerNode] = {}
    yield made
    for node in made.values():
        await node.peers.close()
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


@pytest.fixture
async def pair(nodes: dict[NodeId, PeerNode]) -> tuple[PeerNode, PeerNode]:
    """Nodes 1 and 2, connected; each answers a request with the request."""
    one, two = nodes[ONE], nodes[TWO] = PeerNode(ONE), PeerNode(TWO)
    await one.listen()
    await two.listen()
    addresses = {ONE: one.address, TWO: two.address}
    one.peers.set_addresses(addresses)
    two.peers.set_addresses(addresses)
    await until(lambda: one.peers.connected(TWO) and two.peers.connected(ONE))
    return one, two


@pytest.fixture
async def tampered(
    nodes: dict[NodeId, PeerNode],
) -> AsyncIterator[tuple[PeerNode, PeerNode, TamperingProxy]]:
    """Nodes 1 and 2, connected through a proxy that can change what 1 sends to 2."""
    one, two = nodes[ONE], nodes[TWO] = PeerNode(ONE), PeerNode(TWO)
    await two.listen()
    proxy = TamperingProxy(two.address)
    one.peers.set_addresses({ONE: "", TWO: await proxy.listen()})
    await until(lambda: one.peers.connected(TWO) and two.peers.connected(ONE))
    yield one, two, proxy
    await one.peers.close()
    await proxy.close()
