"""A coordinator with its HTTP service in this process, on an embedded store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from octad.client.cluster.join_token import JoinToken
from octad.client.runtime.listener import listen_on
from octad.coordinator.checks.check_rules import parse_networks
from octad.coordinator.http.http_service import HttpService
from octad.coordinator.recovery.create_cluster import create_cluster
from octad.coordinator.schema.records import NodeRecord, StoreKeys
from octad.coordinator.server.coordinator import Coordinator
from octad.coordinator.server.coordinator_config import CoordinatorConfig
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import ConfigStore, LeaseId, Put
from octad.coordinator.store.open_store import StoreAddress
from octad.coordinator.tls.certificate import Certificate

TOKEN = JoinToken("1a2b3c4d", bytes(range(32)))
KEYS = StoreKeys(TOKEN.cluster)
STORE_ADDRESS = StoreAddress("etcd", ("http://root:password@127.0.0.1:2379",))
POLL_S = 0.005


@asynccontextmanager
async def open_cluster(directory: Path, replicas: int = 3) -> AsyncIterator[EmbeddedStore]:
    """A store that holds a cluster of 16 shards."""
    store = await EmbeddedStore.open(directory / "store.sqlite")
    try:
        await create_cluster(store, TOKEN, replicas, 4, "octad", "octad-secret")
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def running(
    store: ConfigStore,
    *,
    nodes_expected: int = 0,
    settle_s: float = 0.0,
    token: JoinToken = TOKEN,
    connections_max: int | None = None,
    check_networks: str = "",
    certificate: Certificate | None = None,
) -> AsyncIterator[tuple[Coordinator, str]]:
    """A coordinator and its URL."""
    listener = listen_on("127.0.0.1:0", "--listen")
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    config = CoordinatorConfig(
        token,
        STORE_ADDRESS,
        "etcd",
        address,
        "0.1.0",
        nodes_expected,
        settle_s,
        parse_networks(check_networks),
    )
    coordinator = Coordinator(store, config)
    service = HttpService(coordinator, connections_max, certificate)
    await coordinator.start()
    await service.start(listener)
    try:
        yield coordinator, f"{'http' if certificate is None else 'https'}://{address}"
    finally:
        await service.stop()
        await coordinator.stop()


async def register(store: ConfigStore, node: NodeRecord, ttl_s: float = 30.0) -> LeaseId:
    """What a node does once it has joined."""
    lease = await store.grant_lease(ttl_s)
    await store.transact([], [Put(KEYS.node(node.id), msgspec.json.encode(node), lease)])
    return lease


async def until(condition: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
    """Returns once `condition` holds; fails with `what` was waited for."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s} s: {what}") from None
