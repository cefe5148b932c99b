"""What the promises between nodes allow in one shard: rules R4, R6, R7 and R9 for it alone.

`pair_leases.py` has the promises, by pair of nodes; one for all shards of a node.
"""

from __future__ import annotations

from octad.sharding.ids import NodeId
from octad.sharding.limits import LEASE_S
from octad.sharding.map.shard_map import Member, ShardConfiguration
from octad.storage_node.replication.pair_leases import PairLeases
from octad.storage_node.replication.replica_state import Place


class ShardLeases:
    """Owns since when the configuration is known here, from which rule R7's wait counts."""

    __slots__ = ("_node", "_shard", "learned_at", "pairs", "place")

    def __init__(self, place: Place, pairs: PairLeases) -> None:
        self.place = place
        self.pairs = pairs
        self.learned_at = 0.0
        self._shard = place.shard
        self._node = place.node

    def enter(self, now: float) -> None:
        """We have learned of another configuration: the wait of rule R7 starts anew."""
        self.learned_at = now

    # -- what the others are told --------------------------------------------------------------

    def lead(self, configuration: ShardConfiguration) -> None:
        """We lead the epoch of `configuration`: its members and learners are asked for promises."""
        learners = [learner.node for learner in configuration.learners]
        others = [*self.place.other_members(), *learners]
        self.pairs.lead(self._shard, configuration.epoch, others)

    def follow(self, configuration: ShardConfiguration) -> None:
        """We promise the primary of `configuration` not to challenge it."""
        self.pairs.follow(self._shard, configuration.epoch, configuration.primary)

    def forget(self) -> None:
        """Neither: no promise is asked for or given (rule R9: as a challenger, too)."""
        self.pairs.forget(self._shard)

    def block(self, now: float) -> None:
        """Grant no reads from now on: the configuration is about to change (rule R9)."""
        self.pairs.block(self._shard, now)

    def unblock(self) -> None:
        """The configuration did not change after all."""
        self.pairs.unblock(self._shard)

    def blocks(self) -> bool:
        """Whether no reads are granted."""
        return self.pairs.blocks(self._shard)

    # -- what they allow -----------------------------------------------------------------------

    def promised_by(self, node: NodeId, now: float) -> bool:
        """Whether `node` has promised not to challenge us (rule R4)."""
        return self.pairs.promised_by(node, self._shard, now)

    def promised(self, members: tuple[Member, ...], now: float) -> bool:
        """Whether every other one of `members` has."""
        promised_by, shard, me = self.pairs.promised_by, self._shard, self._node
        for member in members:
            if member.node != me and not promised_by(member.node, shard, now):
                return False
        return True

    def may_read(self, configuration: ShardConfiguration, now: float) -> bool:
        """Rule R6: whether the primary lets us read, by promises of all its other members."""
        others = [
            other.node for other in configuration.members if other.node != configuration.primary
        ]
        return self.pairs.may_read(
            self._shard, configuration.epoch, configuration.primary, others, now
        )

    def grace_over(self, node: NodeId, now: float, *, urgent: bool = False) -> bool:
        """Rule R7: may we submit a configuration without `node`?"""
        return self.pairs.grace_over(self._shard, node, self.learned_at, now, urgent=urgent)

    def grace_end(self, node: NodeId) -> float:
        """From when on rule R7 allows it, if nothing more is promised or granted."""
        return self.pairs.grace_end(self._shard, node, self.learned_at)

    def hears(self, node: NodeId, now: float) -> bool:
        """Whether `node` has answered a beat of the last lease."""
        return self.pairs.heard_of(node, LEASE_S, now)
