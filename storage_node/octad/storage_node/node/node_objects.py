"""A node's objects: what its front door and other nodes ask of its shards, and their upkeep.

front door ─> objects ─> client ─┬─> service ─> shards, index, journal
other nodes ─────────> server ───┘
beside requests: flush, compact, scrub, repair; collect dead extents; report what is used
"""

from __future__ import annotations

import os
from collections.abc import Coroutine

import msgspec

from octad.client.runtime.steady_clock import now
from octad.coordinator.schema.placement_records import NodeSettings, PlacementKeys
from octad.sharding.ids import NodeId
from octad.sharding.limits import FULL_REMEMBERED_S
from octad.storage_node.history.history_messages import ReadHistory, ReadRecords
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.log.log_messages import (
    AppendToLog,
    EmptyPartition,
    FencePartition,
    FetchLog,
    FindOffset,
    MakeProducer,
    PinPartition,
    ReadHeld,
    ReadPartition,
    ReleasePin,
    TrimPartition,
)
from octad.storage_node.log.log_upkeep import LogUpkeep
from octad.storage_node.log.offset_search import OffsetSearch
from octad.storage_node.log.partition_changes import PartitionChanges
from octad.storage_node.log.partition_leader import PartitionLeader
from octad.storage_node.log.partition_reader import PartitionReader
from octad.storage_node.log.tail_cache import TailCache
from octad.storage_node.log.topic_log import TopicLog
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.node.node_engine import Engine
from octad.storage_node.node.node_replication import Replication
from octad.storage_node.node.reports.bucket_usage_messages import ReadBucketUsage
from octad.storage_node.node.reports.bucket_usage_reporter import BucketUsageReporter
from octad.storage_node.node.reports.usage_reporter import UsageReporter
from octad.storage_node.node.this_node import ThisNode
from octad.storage_node.objects.cluster_objects import ClusterObjects
from octad.storage_node.replication.digest_messages import ReadDigests
from octad.storage_node.shards.bucket_directory import BucketDirectory
from octad.storage_node.shards.shard_client import ShardClient
from octad.storage_node.shards.shard_server import ShardServer
from octad.storage_node.shards.shard_service import ShardService
from octad.storage_node.shards.topic_directory import TopicDirectory
from octad.storage_node.upkeep.damaged_records import DamagedRecords, DamageReport
from octad.storage_node.upkeep.engine_upkeep import EngineUpkeep
from octad.storage_node.upkeep.extent_upkeep import WAITS_VARIABLE, ExtentUpkeep, waits_of
from octad.storage_node.upkeep.record_repair import RecordRepair


class Objects:
    """See the module. `upkeep` runs beside the requests, until cancelled."""

    def __init__(
        self, this: ThisNode, engine: Engine, replication: Replication, buckets: BucketDirectory
    ) -> None:
        self._this = this
        self._engine = engine
        self._replication = replication
        self._buckets = buckets
        host, shard_map = replication.host, replication.map
        pools = replication.facts.pools
        service = ShardService(host, engine.index, engine.journal, buckets, pools)
        self.server = ShardServer(service)
        self.server.register(ReadHistory, replication.history.answer)
        self.server.register(ReadRecords, replication.history.answer)
        self.server.register(ReadDigests, replication.counter.answer)
        self.client = ShardClient(this.id, service, self.server, replication.peers, shard_map)
        self.budget = BodyBudget(this.config.body_budget_bytes)
        self.store = ClusterObjects(
            self.client, service, buckets, pools, this.next_request_id, self.budget
        )
        self._begin_log(service)
        self._begin_upkeep()

    def _begin_log(self, service: ShardService) -> None:
        engine, host, buckets = self._engine, self._replication.host, self._buckets
        shard_map, pools = self._replication.map, self._replication.facts.pools
        leader = self.log_leader = PartitionLeader(host, engine.index, buckets, service)
        changes = PartitionChanges(host, service, leader)
        tail_cache = TailCache()
        host.applier.notes[RecordKind.LOG_APPEND] = tail_cache.note
        host.applier.notes[RecordKind.LOG_APPENDS] = tail_cache.note
        self.log_reader = PartitionReader(host, engine.index, engine.journal, tail_cache)
        self._log_upkeep = LogUpkeep(host, engine.index, buckets, leader, changes, shard_map)
        self.server.register_with_body(AppendToLog, leader.append)
        self.server.register(TrimPartition, changes.trim)
        self.server.register(MakeProducer, changes.make_producer)
        self.server.register(FencePartition, changes.raise_fence)
        self.server.register(PinPartition, changes.pin)
        self.server.register(ReleasePin, changes.release)
        self.server.register(FetchLog, self.log_reader.fetch)
        self.server.register(ReadPartition, self.log_reader.read_partition)
        self.server.register(ReadHeld, self.log_reader.read_held)
        search = OffsetSearch(engine.index, self.log_reader)
        self.server.register(FindOffset, search.find)
        self.server.register(EmptyPartition, self._log_upkeep.empty)
        self.topic_names = TopicDirectory(self._this.keys, buckets)
        self.topics = TopicLog(
            *(self.client, service, self.log_reader, self.topic_names, buckets, pools),
            self._this.next_request_id,
        )

    def _begin_upkeep(self) -> None:
        this, replication, buckets = self._this, self._replication, self._buckets
        journal, index, host = self._engine.journal, self._engine.index, replication.host
        repair = RecordRepair(this.id, journal, index, replication.map, self.client.call)
        damaged_records = DamagedRecords(
            journal, index, host.is_dirty, repair.fetch, buckets.name_of
        )
        self.server.repair = replication.history.repair = damaged_records.repair
        self.log_reader.repair = damaged_records.repair
        waits = waits_of(os.environ.get(WAITS_VARIABLE))
        self.engine_upkeep = EngineUpkeep(
            journal, index, host.is_dirty, damaged_records, waits.reader_pin_s
        )
        self.extent_upkeep = ExtentUpkeep(
            host,
            index,
            self.client,
            self.server,
            self.store.under_way,
            self.store.reads,
            repair,
            this.next_request_id,
            self._is_removed,
            self._doors,
            self._full_nodes,
            waits,
        )
        self._bucket_usage = BucketUsageReporter(
            this.store,
            this.keys,
            this.mirror,
            host,
            replication.map,
            buckets,
            replication.peers.call,
        )
        self.server.register(ReadBucketUsage, self._bucket_usage.answer)
        self._usage = UsageReporter(
            this.id,
            this.store,
            this.keys,
            journal.disk,
            this.directory.path,
            index,
            replication.map,
            buckets.pool_of,
        )

    def damage(self) -> DamageReport:
        """Records that are damaged here, or were."""
        return self.engine_upkeep.report().damage

    def upkeep(self) -> list[Coroutine[object, object, None]]:
        """Background work, for ever; a damaged index ends it."""
        return [
            self.engine_upkeep.run(),
            self.extent_upkeep.run(),
            self._log_upkeep.run(),
            self._usage.run(),
            self._bucket_usage.run(),
        ]

    def _is_removed(self, node: NodeId) -> bool:
        """Whether an operator has said that `node` is gone for good."""
        key = PlacementKeys(self._this.keys).node_settings(node)
        entry = self._this.mirror.entries.get(key)
        return entry is not None and msgspec.json.decode(entry.value, type=NodeSettings).removed

    async def _doors(self) -> list[NodeId]:
        """All nodes that may answer clients, by the store's present records."""
        prefix = self._this.keys.identities
        listing = await self._this.store.range(prefix)
        known = [NodeId(int(each.key.removeprefix(prefix))) for each in listing.entries]
        return [node for node in known if not self._is_removed(node)]

    def _full_nodes(self) -> set[NodeId]:
        """Nodes whose disks are full, or were within the last minute."""
        facts, disks = self._replication.facts, self._replication.host.full_disks
        return (facts.full & facts.nodes.keys()) | disks.since(now() - FULL_REMEMBERED_S)
