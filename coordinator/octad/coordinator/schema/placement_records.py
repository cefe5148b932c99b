"""The configuration store's records of placement: requests, targets, plans and progress.

    settings/<node>                what operators say of a node: drained, removed, weight, zone
    operation                      the current operation: one at a time
    targets/<operation>/<pool>/<chunk>  what each shard should become, and what it was before
    plans/<pool>/<n>               the plan of one shard's primary; one replica at a time
    progress/<pool>/<n>            that primary's progress, or why it makes none
    usage/<node>                   what a node holds, in bytes

The last two are written by nodes, everything else by coordinators. Examples and rules:
`docs/reference/placement.md`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from octad.coordinator.schema.records import StoreKeys
from octad.sharding.ids import NodeId, PoolId, ShardId, number_of, pool_of, shard_id

PLAN_FORMAT_VERSION = 1
# Targets of this many shards share a key: some 50 KB at most, far below what a store takes.
SHARDS_PER_CHUNK = 1024
MOVES_MAX_DEFAULT = 8
MOVES_PER_NODE_MAX_DEFAULT = 2

PlanReason = Literal["repair", "move", "primary", "split"]
OperationState = Literal["running", "stopped", "done"]
ProgressState = Literal["copying", "waiting", "refused"]


class NodeSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """`settings/<node>`: without it the node's own values hold."""

    draining: bool = False  # It shall hold nothing.
    removed: bool = False  # It holds nothing, and is not let in again.
    weight: float | None = None
    zone: str | None = None


class Replica(msgspec.Struct, frozen=True):
    """A node, and by its incarnation the disk that is meant."""

    node: NodeId
    incarnation: str


class ShardPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """`plans/<pool>/<n>`: one replacement, one hand-over or one split; see `plan_steps.py`."""

    reason: PlanReason
    replicas: int  # Never remove a member when fewer full ones than this would be left.
    add: Replica | None = None
    primary: NodeId | None = None
    remove: Replica | None = None
    depth: int | None = None
    version: int = PLAN_FORMAT_VERSION


class PlanProgress(msgspec.Struct, frozen=True):
    """`progress/<pool>/<n>`: written by the primary, in a transaction that compares the plan.

    `plan` is the mod revision of the plan it is about.
    """

    plan: int
    node: NodeId
    state: ProgressState
    bytes_done: int = 0
    bytes_total: int | None = None
    reason: str = ""  # Why it waits or was refused, for people.


class PlacementOperation(msgspec.Struct, frozen=True):
    """`operation`: the last request. Its targets are in chunks under its id."""

    id: str
    what: str  # For people: "drain n2".
    state: OperationState
    moves: int  # Copies that travel, as promised.
    primaries: int  # Shards that change their primary.
    chunks: tuple[str, ...] = ()  # `<pool>/<chunk>` of each.
    backwards: bool = False  # Reverted: every shard goes back to what it was.
    depths: dict[str, int] = {}  # Pools that are split, and the depth they shall have.
    moves_max: int = MOVES_MAX_DEFAULT
    moves_per_node_max: int = MOVES_PER_NODE_MAX_DEFAULT
    settings_before: dict[str, NodeSettings | None] = {}  # Restored by a revert.


class ShardTarget(msgspec.Struct, frozen=True, array_like=True):
    """Configurations as nodes, primaries first: what the shard was, and what it should become."""

    old: tuple[NodeId, ...]
    new: tuple[NodeId, ...]


class TargetChunk(msgspec.Struct, frozen=True):
    """`targets/…`: by shard number; shards that do not change are left out."""

    shards: dict[str, ShardTarget]


class UsageRecord(msgspec.Struct, frozen=True):
    """`usage/<node>`: written by the node, at most once a minute and when it has changed."""

    node: NodeId
    capacity_bytes: int
    free_bytes: int
    shards: dict[str, int]  # Bytes that its replica takes, by shard name.


class PlacementKeys:
    """The names of these keys in one cluster."""

    def __init__(self, keys: StoreKeys) -> None:
        self.settings = f"{keys.prefix}settings/"
        self.operation = f"{keys.prefix}operation"
        self.targets = f"{keys.prefix}targets/"
        self.plans = f"{keys.prefix}plans/"
        self.progress = f"{keys.prefix}progress/"
        self.usage = f"{keys.prefix}usage/"
        self.pools = keys.pools

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Everything to mirror."""
        return (
            self.settings,
            self.operation,
            self.targets,
            self.plans,
            self.progress,
            self.usage,
            self.pools,
        )

    def node_settings(self, node: NodeId) -> str:
        return f"{self.settings}{node}"

    def target(self, operation: str, chunk: str) -> str:
        return f"{self.targets}{operation}/{chunk}"

    def plan(self, shard: ShardId) -> str:
        return f"{self.plans}{pool_of(shard)}/{number_of(shard)}"

    def plan_progress(self, shard: ShardId) -> str:
        return f"{self.progress}{pool_of(shard)}/{number_of(shard)}"

    def node_usage(self, node: NodeId) -> str:
        return f"{self.usage}{node}"

    def shard_of(self, key: str) -> ShardId:
        """The shard of a plan's or a progress record's key."""
        pool, number = key.split("/")[-2:]
        return shard_id(PoolId(int(pool)), int(number))


def encode_record(record: msgspec.Struct, before: bytes | None = None) -> bytes:
    """`record` in JSON; fields in `before` that this octad does not know are preserved."""
    if before is None:
        return msgspec.json.encode(record)
    kept = msgspec.json.decode(before, type=dict[str, msgspec.Raw])
    for name in type(record).__struct_fields__:
        kept.pop(name, None)
    written = msgspec.json.decode(msgspec.json.encode(record), type=dict[str, msgspec.Raw])
    return msgspec.json.encode({**written, **kept})
