"""One storage node: its parts put together, started in order and stopped in reverse.

    data directory ─ join ─ journal and index (replay) ─ store, mirror ─ RPC ─ shards ─ front door

What each part does is in its own file; this one only knows which needs which.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec

from octad.client.core.address import Address
from octad.client.core.join_token import JoinToken
from octad.coordinator.core.access_keys import secret_of
from octad.coordinator.core.records import AccessKeyRecord, NodeRecord, PoolRecord, StoreKeys
from octad.coordinator.shell.join_client import JoinAnswer
from octad.coordinator.store.interface import ConfigStore, KeyValue, StoreUnavailable
from octad.coordinator.store.mirror import Mirror
from octad.coordinator.store.open_store import open_store
from octad.sharding.ids import NodeId, PoolId, node_name
from octad.sharding.shard_map import Pool, ShardMap
from octad.storage_node.core.record_format import Identity
from octad.storage_node.shell.bucket_directory import BucketDirectory
from octad.storage_node.shell.cluster_objects import ClusterObjects
from octad.storage_node.shell.compactor import check_segments
from octad.storage_node.shell.counted_index import CountedIndex
from octad.storage_node.shell.data_directory import DataDirectory
from octad.storage_node.shell.engine_upkeep import EngineUpkeep
from octad.storage_node.shell.front_door.server import FrontDoor
from octad.storage_node.shell.journal import Journal
from octad.storage_node.shell.membership import Membership
from octad.storage_node.shell.peers import Peers
from octad.storage_node.shell.routing import ShardClient, ShardServer
from octad.storage_node.shell.row_keeper import RowKeeper
from octad.storage_node.shell.shard_host import ShardHost
from octad.storage_node.shell.shard_leads import ShardLeads
from octad.storage_node.shell.shard_service import ShardService

STOP_GRACE_S = 10.0
READY_POLL_S = 0.02
BOOT_BYTES = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What an operator says of a node. Both ports are on `listen.host`."""

    data: Path
    listen: Address
    rpc_port: int
    advertise_host: str
    coordinator_urls: str
    token: JoinToken
    zone: str
    weight: float


class Node:
    """A running node: made by `running_node`."""

    def __init__(
        self, config: NodeConfig, identity: Identity, joined: JoinAnswer, directory: DataDirectory
    ) -> None:
        self.id = identity.node
        self.failure: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._config = config
        self._identity = identity
        self._region = joined.region
        self._boot = os.urandom(BOOT_BYTES)
        self._requests = itertools.count(1)
        self._pools: dict[PoolId, Pool] = {}
        self._addresses: dict[NodeId, str] = {}
        self._secrets: dict[str, tuple[str, str]] = {}
        self._store: ConfigStore = open_store(joined.store, config.token)
        self._keys = StoreKeys(config.token.cluster)
        self._mirror = Mirror(self._store, self._keys.prefix)
        self._keeper = RowKeeper(directory.path, identity, self._mirror)
        self._journal = Journal.open(directory.journal, identity)
        self._index = CountedIndex(directory.index)
        self._peers = Peers(
            self.id,
            self._boot.hex(),
            config.token,
            lambda *message: self._host.on_message(*message),
            lambda *request: self._server.on_request(*request),
            lambda node, _boot: self._host.on_connected(node),
            lambda node: log.warning("lost the connection to %s", node_name(node)),
        )
        self._leads = ShardLeads(self.id, self._boot.hex(), self._store, self._keys, self._mirror)
        self._host = ShardHost(
            self.id,
            identity.incarnation,
            self._journal,
            self._index,
            self._peers,
            self._leads.wanted,
            self._refetch,
            self._fail,
        )
        self._buckets = BucketDirectory(self._store, self._keys, self._mirror)
        service = ShardService(self._host, self._index, self._journal, self._buckets, self._pools)
        self._server = ShardServer(service)
        shard_map = ShardMap(self._pools, self._leads.rows)
        client = ShardClient(self.id, service, self._server, self._peers, shard_map)
        objects = ClusterObjects(
            client, service, self._buckets, self._default_pool, self._next_request_id
        )
        self._front_door = FrontDoor(
            objects, self._secrets.get, self._region, self._next_request_id
        )
        self._background: set[asyncio.Task[None]] = set()
        self._draining: asyncio.Task[None] | None = None

    async def start(self, cleanup: AsyncExitStack) -> None:
        """Everything up, in order; what was started is undone by `cleanup`, in reverse."""
        config = self._config
        cleanup.push_async_callback(self._store.close)
        cleanup.callback(self._index.close)
        cleanup.push_async_callback(self._journal.close)
        cleanup.callback(self._host.close)
        check_segments(self._journal, self._index)
        self._index.follow(self._journal)
        self._host.recover()
        cleanup.push_async_callback(self._peers.close)
        await self._peers.listen(config.listen.host, config.rpc_port)
        cleanup.push_async_callback(self._mirror.stop)
        await self._mirror.start()
        cleanup.push_async_callback(self._keeper.close)
        self._keeper.start()
        self._mirror.subscribe(self._on_change)
        record = NodeRecord(
            id=self.id,
            incarnation=self._identity.incarnation,
            rpc_address=str(Address(config.advertise_host, config.rpc_port)),
            s3_address=str(Address(config.advertise_host, config.listen.port)),
            zone=config.zone,
            weight=config.weight,
            version=version("octad"),
            boot=self._boot.hex(),
        )
        membership = Membership(self._store, self._keys, record, self._fail)
        cleanup.push_async_callback(membership.stop)
        await membership.start()
        cleanup.push_async_callback(self._leads.stop)
        await self._leads.start(self._host)
        cleanup.push_async_callback(self.drain)
        await self._front_door.start(config.listen.host, config.listen.port)
        cleanup.push_async_callback(self._stop_background)
        self._run(self._keep_up())

    async def ready(self) -> None:
        """Returns once every shard has a row and those that this node is primary of are served."""
        while not self._is_ready():
            await asyncio.sleep(READY_POLL_S)

    async def drain(self) -> None:
        """Finish the clients' requests and take no more; other nodes are still answered."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._front_door.stop(STOP_GRACE_S))
        await asyncio.shield(self._draining)

    def _is_ready(self) -> bool:
        rows = self._leads.rows
        shard_map = ShardMap(self._pools, rows)
        if not self._pools:
            return False
        for pool in self._pools:
            for shard in shard_map.shards_of(pool):
                row = rows.get(shard)
                if row is None:
                    return False
                if row.primary == self.id and not self._host.serves(shard):
                    return False
        return True

    # -- what changes in the store -------------------------------------------------------------

    def _on_change(self, key: str, entry: KeyValue | None) -> None:
        keys = self._keys
        if key.startswith(keys.shards):
            self._leads.on_change(key, entry)
        elif key.startswith(keys.buckets):
            self._buckets.on_change(key, entry)
        elif key.startswith(keys.access_keys):
            self._on_access_key(key.removeprefix(keys.access_keys), entry)
        elif entry is not None and key.startswith(keys.nodes):
            self._on_node(msgspec.json.decode(entry.value, type=NodeRecord))
        elif entry is not None and key.startswith(keys.pools):
            pool = msgspec.json.decode(entry.value, type=PoolRecord)
            self._pools[pool.id] = Pool(pool.id, pool.replicas, pool.depth)

    def _on_node(self, record: NodeRecord) -> None:
        """A node that leaves keeps its address here: a lapsed lease must not cut a connection."""
        if record.id != self.id and self._addresses.get(record.id) != record.rpc_address:
            self._addresses[record.id] = record.rpc_address
            self._peers.set_addresses(self._addresses)

    def _on_access_key(self, access_key: str, entry: KeyValue | None) -> None:
        self._secrets.pop(access_key, None)
        if entry is not None:
            record = msgspec.json.decode(entry.value, type=AccessKeyRecord)
            if not record.disabled:
                secret = secret_of(self._config.token, record)
                self._secrets[access_key] = (secret, record.owner)

    # -- odds and ends -------------------------------------------------------------------------

    def _next_request_id(self) -> bytes:
        return self._boot + next(self._requests).to_bytes(8, "big")

    def _default_pool(self) -> PoolId:
        return min(self._pools)

    def _refetch(self) -> None:
        """Somebody knows a newer row than the mirror has shown: ask instead of waiting for it."""
        if not any(task.get_name() == "refetch" for task in self._background):
            self._run(self._refresh(), "refetch")

    async def _refresh(self) -> None:
        try:
            await self._mirror.refresh()
        except StoreUnavailable as error:
            log.warning("the configuration store: %s", error)

    def _fail(self, error: Exception) -> None:
        if not self.failure.done():
            self.failure.set_result(error)

    async def _keep_up(self) -> None:
        try:
            await EngineUpkeep(self._journal, self._index, self._host.is_dirty).run()
        except Exception as error:  # Also RocksDB's, which have no class of their own.
            self._fail(error)

    def _run(self, work: Coroutine[object, object, None], name: str | None = None) -> None:
        task = asyncio.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _stop_background(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
