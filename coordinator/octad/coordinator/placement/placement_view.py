"""Everything that placement is decided from, decoded: what the store says at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from octad.coordinator.schema.cluster_view import BadRecord, ClusterView, decode_record
from octad.coordinator.schema.placement_records import (
    PLAN_FORMAT_VERSION,
    SHARDS_PER_CHUNK,
    NodeSettings,
    PlacementKeys,
    PlacementOperation,
    PlanProgress,
    ShardPlan,
    ShardTarget,
    TargetChunk,
    UsageRecord,
)
from octad.coordinator.schema.records import NodeRecord, PoolRecord
from octad.coordinator.store.interface import KeyValue, Revision
from octad.sharding.assignment.assignment import PlacementNode
from octad.sharding.ids import NodeId, PoolId, ShardId, number_of, pool_of, shard_id, shard_name
from octad.sharding.map.shard_map import ShardConfiguration

_Record = TypeVar("_Record")
NO_SETTINGS = NodeSettings()


@dataclass(frozen=True, slots=True)
class Stored(Generic[_Record]):
    """A record with its revision, for a later compare, and its bytes, for unknown fields."""

    record: _Record
    revision: Revision
    value: bytes


@dataclass(frozen=True, slots=True)
class PlacementView:
    """See the module. `targets` are those of `operation` alone, whichever way it goes."""

    cluster: ClusterView
    pools: Mapping[PoolId, Stored[PoolRecord]] = field(default_factory=dict)
    settings: Mapping[NodeId, Stored[NodeSettings]] = field(default_factory=dict)
    operation: Stored[PlacementOperation] | None = None
    targets: Mapping[ShardId, ShardTarget] = field(default_factory=dict)
    other_targets: tuple[str, ...] = ()  # Keys of operations that are over, or never began.
    plans: Mapping[ShardId, Stored[ShardPlan]] = field(default_factory=dict)
    progress: Mapping[ShardId, Stored[PlanProgress]] = field(default_factory=dict)
    usage: Mapping[NodeId, UsageRecord] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether all of the operation's targets are here; they may arrive after it."""
        chunks = self.operation.record.chunks if self.operation else ()
        here = {chunk_of(shard, SHARDS_PER_CHUNK) for shard in self.targets}
        return here.issuperset(chunks)

    def settings_of(self, node: NodeId) -> NodeSettings:
        stored = self.settings.get(node)
        return stored.record if stored else NO_SETTINGS

    def may_hold_data(self, node: NodeId) -> bool:
        """Whether shards may be given to `node`: live, neither drained nor removed."""
        settings = self.settings_of(node)
        return node in self.cluster.nodes and not (settings.draining or settings.removed)

    def zone_of(self, node: NodeId) -> str | None:
        """Its failure domain, set by an operator or the node; None: unknown, or one of its own."""
        settings, record = self.settings_of(node), self.cluster.nodes.get(node)
        return settings.zone if settings.zone is not None else (record.zone if record else None)

    def placement_node(self, record: NodeRecord) -> PlacementNode:
        settings = self.settings_of(record.id)
        weight = record.weight if settings.weight is None else settings.weight
        zone = record.zone if settings.zone is None else settings.zone
        return PlacementNode(record.id, weight, zone)

    def usable_nodes(self) -> list[PlacementNode]:
        """The nodes that data may be placed on, in order."""
        nodes = self.cluster.nodes
        return [self.placement_node(nodes[n]) for n in sorted(nodes) if self.may_hold_data(n)]

    def target_of(self, shard: ShardId) -> tuple[NodeId, ...] | None:
        """The operation's target replicas, primary first; None where it has none."""
        target = self.targets.get(shard)
        if target is None or self.operation is None:
            return None
        return target.old if self.operation.record.backwards else target.new

    def shard_bytes(self) -> dict[ShardId, int]:
        """How much one replica of each shard takes, as far as nodes report it."""
        sizes: dict[ShardId, int] = {}
        by_name = {shard_name(shard): shard for shard in self.cluster.configurations}
        for usage in self.usage.values():
            for name, size in usage.shards.items():
                shard = by_name.get(name)
                if shard is not None:
                    sizes[shard] = max(size, sizes.get(shard, 0))
        return sizes


def is_live(view: PlacementView, node: NodeId, incarnation: str) -> bool:
    """Whether that disk of `node` is there now, by its lease."""
    record = view.cluster.nodes.get(node)
    return record is not None and record.incarnation == incarnation


def shards_of(
    pool: PoolRecord, configurations: Mapping[ShardId, ShardConfiguration]
) -> list[ShardId]:
    """The configured shards of `pool`, in order; while it is split also the upper halves."""
    return sorted(shard for shard in configurations if pool_of(shard) == pool.id)


def is_split_half_way(
    pool: PoolRecord, configurations: Mapping[ShardId, ShardConfiguration]
) -> bool:
    """Whether some of the pool's shards were split already, and not all."""
    return any(
        configuration.depth > pool.depth
        for shard, configuration in configurations.items()
        if pool_of(shard) == pool.id
    )


def placement_view(
    keys: PlacementKeys, cluster: ClusterView, entries: Iterable[KeyValue]
) -> PlacementView:
    """The view that `entries` make; raises BadRecord."""
    pools: dict[PoolId, Stored[PoolRecord]] = {}
    settings: dict[NodeId, Stored[NodeSettings]] = {}
    plans: dict[ShardId, Stored[ShardPlan]] = {}
    progress: dict[ShardId, Stored[PlanProgress]] = {}
    usage: dict[NodeId, UsageRecord] = {}
    operation: Stored[PlacementOperation] | None = None
    chunks: list[KeyValue] = []
    for entry in entries:
        if entry.key.startswith(keys.plans):
            plans[keys.shard_of(entry.key)] = _plan(entry)
        elif entry.key.startswith(keys.progress):
            progress[keys.shard_of(entry.key)] = _stored(entry, PlanProgress)
        elif entry.key.startswith(keys.settings):
            node = NodeId(int(entry.key.removeprefix(keys.settings)))
            settings[node] = _stored(entry, NodeSettings)
        elif entry.key.startswith(keys.pools):
            pool = _stored(entry, PoolRecord)
            pools[pool.record.id] = pool
        elif entry.key.startswith(keys.usage):
            record = decode_record(entry, UsageRecord)
            usage[record.node] = record
        elif entry.key == keys.operation:
            operation = _stored(entry, PlacementOperation)
        elif entry.key.startswith(keys.targets):
            chunks.append(entry)
    targets, others = _targets(keys, operation, chunks)
    return PlacementView(
        cluster, pools, settings, operation, targets, tuple(others), plans, progress, usage
    )


def _targets(
    keys: PlacementKeys, operation: Stored[PlacementOperation] | None, chunks: Iterable[KeyValue]
) -> tuple[dict[ShardId, ShardTarget], list[str]]:
    current = f"{keys.targets}{operation.record.id}/" if operation else None
    targets: dict[ShardId, ShardTarget] = {}
    others = []
    for entry in chunks:
        if current is None or not entry.key.startswith(current):
            others.append(entry.key)
            continue
        pool = PoolId(int(entry.key.split("/")[-2]))
        for number, target in decode_record(entry, TargetChunk).shards.items():
            targets[shard_id(pool, int(number))] = target
    return targets, others


def _plan(entry: KeyValue) -> Stored[ShardPlan]:
    plan = _stored(entry, ShardPlan)
    if plan.record.version > PLAN_FORMAT_VERSION:
        raise BadRecord(
            entry.key,
            f"a plan of format {plan.record.version}, this octad knows {PLAN_FORMAT_VERSION}",
        )
    return plan


def _stored(entry: KeyValue, kind: type[_Record]) -> Stored[_Record]:
    return Stored(decode_record(entry, kind), entry.mod_revision, entry.value)


def chunk_of(shard: ShardId, shards_per_chunk: int) -> str:
    """The chunk that the target of `shard` is kept in."""
    return f"{pool_of(shard)}/{number_of(shard) // shards_per_chunk}"
