"""A node's replicas: made when a message first names them, or by splitting another.

A half of a split shard is made from the replica of the unsplit shard, if there is one here:
otherwise it would be a member without the data (rule R18). Until then its configurations wait, and
messages for it are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from octad.sharding.ids import Epoch, NodeId, Seq, ShardId
from octad.sharding.map.shard_map import Learner, ShardConfiguration
from octad.storage_node.replication.pair_leases import PairLeases
from octad.storage_node.replication.reconfiguration import Plan
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica.shard_splitter import ancestors
from octad.storage_node.replication.replica_actions import SplitLog
from octad.storage_node.replication.replica_state import Strength
from octad.storage_node.replication.shard_log import ShardLog


class ClusterPort(Protocol):
    """What the replicas need to know of the cluster: the store's other records, as they are now."""

    incarnations: dict[NodeId, str]  # Live nodes only.
    dead: dict[NodeId, bytes]  # Nodes whose process has ended, as its supervisor says.

    def strength(self, shard: ShardId) -> Strength | None:
        """How many copies the shard's pool keeps; None while the pool is not known."""

    def plan(self, shard: ShardId, configuration: ShardConfiguration) -> Plan:
        """What the shard should become."""

    def choose_spare(
        self, shard: ShardId, configuration: ShardConfiguration, useless: Collection[NodeId]
    ) -> Learner | None:
        """A live node that may take a missing member's place, and none of the `useless`."""


class ReplicaTable:
    """See the module."""

    def __init__(
        self,
        node: NodeId,
        incarnation: str,
        leases: PairLeases,
        facts: ClusterPort,
        on_refetch: Callable[[ShardId], None],
    ) -> None:
        self.replicas: dict[ShardId, ShardReplica] = {}
        self.node = node
        self._incarnation = incarnation
        self.leases = leases
        self._facts = facts
        self._on_refetch = on_refetch
        self.rowless = False  # The index is damaged, for any replica that comes.
        self._held: dict[ShardId, ShardConfiguration] = {}  # They wait until the log here is split.

    def make(self, shard: ShardId, log: ShardLog) -> ShardReplica:
        """A replica that goes on with `log`."""
        replica = self.replicas[shard] = ShardReplica(
            shard,
            self.node,
            self._incarnation,
            self.leases,
            Strength(1, 1),  # The pool's, as soon as there is a configuration.
            self._facts.choose_spare,
            log,
            self._facts.incarnations,
        )
        if self.rowless:
            replica.lose_rows()
        return replica

    def replica(self, shard: ShardId) -> ShardReplica:
        """This node's replica of `shard`, an empty one if there is none."""
        return self.replicas.get(shard) or self.make(shard, ShardLog(Seq(0), Epoch(0)))

    def addressed(self, shard: ShardId) -> ShardReplica | None:
        """The replica that a message is for; None while it is still a part of another."""
        replica = self.replicas.get(shard)
        if replica is not None:
            return replica
        unsplit = self._unsplit(shard)
        if unsplit is None:
            return self.replica(shard)
        self._on_refetch(unsplit)
        return None

    def concerned(self, shard: ShardId, configuration: ShardConfiguration) -> ShardReplica | None:
        """Which replica it is for; None if it names neither this node nor a shard that is here."""
        if shard not in self.replicas:
            unsplit = self._unsplit(shard)
            if unsplit is not None:
                self._held[shard] = configuration
                self._on_refetch(unsplit)
                return None
            learners = [learner.node for learner in configuration.learners]
            if configuration.member(self.node) is None and self.node not in learners:
                return None
        return self.replica(shard)

    def split(self, action: SplitLog) -> ShardReplica:
        """The second half, made if it is not there yet."""
        sibling = self.replicas.get(action.sibling)
        if sibling is None:
            sibling = self.make(action.sibling, action.log)
            sibling.inherit(action)
        return sibling

    def configuration_of_half(self, action: SplitLog) -> ShardConfiguration | None:
        """The newest configuration known of a half that has just been made."""
        held = self._held.pop(action.sibling, None)
        if held is not None:
            return held
        return None if action.swap is None else action.swap.proposed

    def released(self) -> list[tuple[ShardId, ShardConfiguration]]:
        """Configurations that waited for a replica which was empty, and so no part of theirs."""
        shards = [shard for shard in self._held if self._unsplit(shard) is None]
        return [(shard, self._held.pop(shard)) for shard in shards]

    def tell_facts(self, replica: ShardReplica, configuration: ShardConfiguration) -> None:
        """What the cluster wants of the shard, before the replica looks at `configuration`."""
        strength = self._facts.strength(replica.shard)
        if strength is not None:
            replica.on_strength(strength)
        plan = self._facts.plan(replica.shard, configuration)
        if plan != replica.reconfigurer.plan:
            replica.on_plan(plan)

    def _unsplit(self, shard: ShardId) -> ShardId | None:
        for ancestor, depth in ancestors(shard):
            known = self.replicas.get(ancestor)
            if known is not None and known.may_contain(depth):
                return ancestor
        return None
