"""A node's replication: its shards, the other nodes, what the store says of both, and copies.

peers ── messages ──> host <── configurations, plans, deaths ── changes, facts <── mirror
                       │ └── swaps ──> changes ──> store
                       └── copies ──> copier ──> peers
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import Protocol

import msgspec

from octad.client.runtime.steady_clock import now
from octad.coordinator.schema.records import NodeRecord
from octad.coordinator.store.interface import KeyValue
from octad.sharding.ids import NodeId, ShardId, node_name
from octad.sharding.map.shard_map import ShardMap
from octad.storage_node.history.history_copier import HistoryCopier
from octad.storage_node.history.history_source import HistorySource
from octad.storage_node.node.format_level import LevelInUse
from octad.storage_node.node.index_succession import IndexSuccession
from octad.storage_node.node.node_engine import Engine
from octad.storage_node.node.this_node import ThisNode
from octad.storage_node.replication.host.cluster_facts import ClusterFacts
from octad.storage_node.replication.host.configuration_changes import ConfigurationChanges
from octad.storage_node.replication.host.replica_table import ReplicaTable
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.pair_leases import PairLeases
from octad.storage_node.rpc.peer import OnRequest, PeerHandlers
from octad.storage_node.rpc.peers import Peers
from octad.storage_node.shards.bucket_directory import BucketDirectory
from octad.storage_node.upkeep.copy_comparer import CopyComparer
from octad.storage_node.upkeep.shard_counter import ShardCounter

log = logging.getLogger(__name__)


class Asker(Protocol):
    """The client of other nodes' shards, which waits for them where it must."""

    def configuration_changed(self, shard: ShardId) -> None:
        """The map has another configuration of `shard`."""

    def connected(self, node: NodeId) -> None:
        """`node` can be asked again."""


class Replication:
    """See the module. `start` it after the engine, `act` once the mirror has listed."""

    def __init__(self, this: ThisNode, engine: Engine, buckets: BucketDirectory) -> None:
        self._this = this
        self._index = engine.index
        node, boot, journal, index = this.id, this.boot.hex(), engine.journal, engine.index
        self._addresses: dict[NodeId, str] = {}
        self.peers = Peers(node, boot, this.config.token, this.config.tls)
        self.facts = ClusterFacts(this.keys, self.peers.heard_boot)
        self.map = ShardMap(self.facts.pools, self.facts.configurations)
        self._configurations = ConfigurationChanges(
            node, boot, this.store, this.keys, this.mirror, self.facts
        )
        leases = PairLeases(node, int.from_bytes(this.boot, "big"), now())
        leases.dead = self.facts.dead
        table = ReplicaTable(
            node, this.identity.incarnation, leases, self.facts, self._configurations.refetch
        )
        self.counter = ShardCounter(journal, index, table.replicas, buckets.pool_of)
        self.copier = HistoryCopier(
            journal, index, self.peers.call, buckets.pool_of, self.counter.ask
        )
        self.host = ShardHost(
            table, journal, index, self.peers, self._configurations, self.copier, this.fail
        )
        self._level = LevelInUse(this, self.host.use_level)
        self.facts.tell(self.host)
        self.history = HistorySource(journal, index, table.replicas.get, buckets.pool_of)
        self.comparer = CopyComparer(self.host, self.counter, self.peers.call)
        self.succession = IndexSuccession(this, engine, self.host)

    async def start(self, cleanup: AsyncExitStack, on_request: OnRequest, asker: Asker) -> None:
        """Recover from the disk; then the other nodes can connect."""
        host, config = self.host, self._this.config
        cleanup.callback(host.close)
        self._index.before_flush = host.before_flush
        complete = host.recover()
        cleanup.push_async_callback(self.copier.close)
        self.copier.start((shard, host.replicas[shard].log.applied) for shard in complete)

        def on_connected(node: NodeId, _boot: str) -> None:
            host.on_connected(node)
            asker.connected(node)

        self.peers.handle(PeerHandlers(host.on_message, on_request, on_connected, _disconnected))
        cleanup.push_async_callback(self.peers.close)
        await self.peers.listen(config.listen.host, config.rpc_port)

    async def act(self, cleanup: AsyncExitStack, asker: Asker) -> None:
        """The shards learn of their configurations, and change them, from now on."""
        cleanup.push_async_callback(self._configurations.stop)
        await self._configurations.start(self.host, asker.configuration_changed)

    def on_change(self, key: str, entry: KeyValue | None) -> None:
        """The mirror saw a key change; those of other kinds are passed over."""
        keys = self._this.keys
        self.facts.on_change(key, entry)
        if key.startswith(keys.shards):
            self._configurations.on_change(key, entry)
        elif key == keys.format_level:
            self._level.on_change(entry)
        elif entry is not None and key.startswith(keys.nodes):
            self._on_node(msgspec.json.decode(entry.value, type=NodeRecord))

    def _on_node(self, record: NodeRecord) -> None:
        """A node that leaves keeps its address here: a lapsed lease must not cut a connection."""
        if record.id != self._this.id and self._addresses.get(record.id) != record.rpc_address:
            self._addresses[record.id] = record.rpc_address
            self.peers.set_addresses(self._addresses)

    def is_ready(self) -> bool:
        """Whether every shard is configured, and those that this node leads are served."""
        configurations, pools = self.facts.configurations, self.facts.pools
        if not pools:
            return False
        if self.succession.state:
            return True  # Others serve what it cannot read; alone, it refuses.
        for pool in pools:
            for shard in self.map.shards_of(pool):
                configuration = configurations.get(shard)
                if configuration is None:
                    return False
                if configuration.primary == self._this.id and not self.host.serves(shard):
                    return False
        return True

    def shard_counts(self) -> tuple[int, int]:
        """The number of shards of which this node is a member, and of those it leads."""
        node, configurations = self._this.id, self.facts.configurations.values()
        members = sum(configuration.member(node) is not None for configuration in configurations)
        return members, sum(configuration.primary == node for configuration in configurations)


def _disconnected(node: NodeId) -> None:
    log.warning("lost the connection to %s", node_name(node))
