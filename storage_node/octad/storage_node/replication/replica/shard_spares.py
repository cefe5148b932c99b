"""Which node a primary recruits for a missing member (rule R10)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from octad.sharding.ids import NodeId, Seq
from octad.sharding.limits import RESEND_S
from octad.sharding.map.shard_map import Member, ShardConfiguration
from octad.storage_node.replication.replica.shard_leases import ShardLeases
from octad.storage_node.replication.replica_state import ChooseSpare, Place
from octad.storage_node.replication.shard_log import ShardLog

RECRUIT_AGAIN_S = 10.0  # Until a node that was removed although it beats is a spare again.


class Spares:
    """Owns which nodes are of no use to this shard for a while, and when to look again."""

    __slots__ = ("choose", "incarnations", "leases", "log", "not_before", "place", "useless_until")

    def __init__(
        self,
        place: Place,
        log: ShardLog,
        leases: ShardLeases,
        choose: ChooseSpare,
        incarnations: Mapping[NodeId, str],
    ) -> None:
        self.place = place
        self.log = log
        self.leases = leases
        self.choose = choose
        self.incarnations = incarnations  # Every known node's, kept by the caller.
        self.not_before = 0.0
        self.useless_until: dict[NodeId, float] = {}  # Nodes that were removed although they beat.

    def may_ask(self, now: float) -> bool:
        """Whether it is time to look for a spare; then it is not again for a while."""
        if now < self.not_before:
            return False
        self.not_before = now + RESEND_S
        return True

    def note_removed(
        self, configuration: ShardConfiguration, removed: set[NodeId], now: float
    ) -> None:
        """A node that is up and did nothing for this shard would do nothing as a recruit.

        That does not hold if it has another disk by now, which was no member. Nor if its process
        has ended: it was heard just before that, and its next process is as good as any.
        """
        for member in configuration.members:
            same_disk = self.incarnations.get(member.node) == member.incarnation
            if (
                member.node in removed
                and member.node not in self.leases.pairs.dead
                and same_disk
                and self.leases.hears(member.node, now)
            ):
                self.useless_until[member.node] = now + RECRUIT_AGAIN_S

    def recruit(
        self, configuration: ShardConfiguration, leaving: Collection[NodeId], now: float
    ) -> Member | None:
        """The commit point is frozen from here to the outcome: `base` follows it at once."""
        useless = [node for node, until in self.useless_until.items() if now < until]
        spare = self.choose(self.place.shard, configuration, useless)
        if spare is None or configuration.member(spare.node) is not None or spare.node in leaving:
            return None
        base_epoch = self.log.epoch_at(self.log.commit)
        assert base_epoch is not None
        return Member(spare.node, spare.incarnation, Seq(self.log.commit + 1), base_epoch)
