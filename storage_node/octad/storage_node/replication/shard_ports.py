"""The ports between a node's shards and what works for them: the store, and copies of history.

    ShardHost ── Configurations: swap this, read it anew ──> ConfigurationChanges ──> the store
    ShardHost ── Histories: copy this, stop ───────────────> HistoryCopier ──> other nodes
    ConfigurationChanges, ClusterFacts, HistoryCopier ── ShardEvents: what came of it ──> ShardHost

So neither side knows the other's class, and tests stand in for either.
"""

from __future__ import annotations

from typing import Protocol

from octad.sharding.ids import NodeId, Seq, ShardId
from octad.sharding.map.shard_map import ShardConfiguration
from octad.storage_node.replication.replica_actions import Swap


class Configurations(Protocol):
    """What a node's shards ask of the configuration store; the answers are ShardEvents."""

    def submit(self, shard: ShardId, swap: Swap) -> None:
        """A replica proposes a change of its configuration."""

    def refetch(self, shard: ShardId) -> None:
        """Someone knows a newer configuration than this node: read it."""


class CopyTarget(Protocol):
    """What asks for copies of history, and learns that they are there."""

    def wants_copy(self, shard: ShardId, start: Seq) -> bool:
        """Whether history up to `start` is still missing here."""

    def on_copied(
        self, shard: ShardId, start: Seq, as_of: Seq, request_ids: list[tuple[bytes, Seq]]
    ) -> None:
        """History up to `as_of` is durable here."""


class Histories(Protocol):
    """What a node's shards ask of the copier of history."""

    def begin(
        self,
        target: CopyTarget,
        shard: ShardId,
        depth: int,
        start: Seq,
        sources: tuple[NodeId, ...],
        urgency: int,
    ) -> None:
        """Copy what the shard had at `start` or later; the lowest `urgency` goes first."""

    def cancel(self, shard: ShardId) -> None:
        """End its copy, if there is one."""

    def forget_marks(self, shard: ShardId, upto: Seq) -> None:
        """The shard's replica is complete, and has applied `upto`."""


class ShardEvents(CopyTarget, Protocol):
    """What a node's other parts report to its shards."""

    def on_configuration(self, shard: ShardId, configuration: ShardConfiguration) -> None:
        """The configuration store has this configuration."""

    def on_swap_outcome(
        self, shard: ShardId, swap: Swap, configuration: ShardConfiguration
    ) -> None:
        """What the store holds, now that `swap` has happened or can never happen."""

    def on_plan(self, shard: ShardId) -> None:
        """The plan of `shard` has changed."""

    def look_around(self) -> None:
        """Time has passed, or a node is known to be dead."""
