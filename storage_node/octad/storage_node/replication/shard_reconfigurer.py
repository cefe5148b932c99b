"""What a primary does about its row: remove, recruit, promote, hand over; one at a time.

Rules R7, R10, R12, R13, R15, R17 and R18 of `docs/reference/replication.md`. Each change is a swap
of its own; while its outcome is not known, nothing is committed (R9).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from octad.sharding.ids import NodeId, Seq, ShardId
from octad.sharding.limits import (
    DRAIN_S_MAX,
    LEASE_S,
    RECRUIT_AGAIN_S,
    RESEND_S,
    SHARD_DEPTH_MAX,
)
from octad.sharding.map.shard_map import Learner, Member, ShardRow, SplitPoint
from octad.storage_node.replication import reconfiguration
from octad.storage_node.replication.replica_actions import Actions, FlushIndex, Swap
from octad.storage_node.replication.shard_primary import Primary


class Reconfigurer(Primary):
    """See the module. `tend` is called a few times a second, and when something has happened."""

    def tend(self, now: float) -> Actions:
        """Send again what was lost; then the one change of the row that is most needed."""
        row = self.row
        assert row is not None
        if not self.leading:
            flush: Actions = [FlushIndex()] if self.unflushed else []
            self.unflushed = False
            return flush + self.submit(Swap(row, reconfiguration.resumed(row)), now)
        return [] if self.is_at_rest(row, now) else self.look_after(row, now)

    def look_after(self, row: ShardRow, now: float) -> Actions:
        """All that a primary does from time to time."""
        actions = self.answer_joins() + self.resend(now)
        swap = self._removal(row, now)
        if swap is None and self.log.commit >= self.barrier and self.rowless:
            swap = self._handed_to(self._readable(row), row, now)
        elif swap is None and self.log.commit >= self.barrier:
            swap = self._promotion(row) or self._recruitment(row, now)
            swap = swap or self._forgetting(row) or self._planned(row, now)
        if swap is not None:
            return actions + self.submit(swap, now)
        return actions

    def is_at_rest(self, row: ShardRow, now: float) -> bool:
        """Whether `look_after` would find nothing to do: most shards, most of the time."""
        log = self.log
        if log.commit < log.end or self.joins_waiting or self.progress or self.copying:
            return False
        if self.rowless:
            return False
        seen, plan, strength, as_wanted = self.as_wanted
        if seen is not row or plan is not self.plan or strength is not self.strength:
            as_wanted = self._is_as_wanted(row)
            self.as_wanted = row, self.plan, self.strength, as_wanted
        if not as_wanted or self.leases.blocks(self.shard):
            return False
        if not self._promised(row.members, now):
            return False
        dead = self.leases.dead
        return not dead or all(member.node not in dead for member in row.members)

    def _is_as_wanted(self, row: ShardRow) -> bool:
        plan = self.plan
        if not reconfiguration.is_at_full_strength(row, self.strength.replicas):
            return False
        return plan is None or (
            plan.primary == self.node
            and plan.depth <= row.depth
            and {member.node for member in row.members} == set(plan.members)
        )

    # -- strength ------------------------------------------------------------------------------

    def _removal(self, row: ShardRow, now: float) -> Swap | None:
        """Rules R7, R10: silent or stuck members leave, and a spare comes in for one of them."""
        unwanted = self._unwanted(row)
        bad = [
            member.node
            for member in row.members
            if member.node != self.node
            and (
                member.node in unwanted
                or member.node in self.leases.dead
                or self.is_stuck(member.node, now)
                or not self.leases.promised_by(member.node, self.shard, now)
            )
        ]
        if not bad:
            self.leases.unblock(self.shard)
            return None
        if any(node in unwanted or self.is_stuck(node, now) for node in bad):
            self.leases.block(self.shard, now)  # Else the wait would never end.
        leaving = {node for node in bad if self._may_remove(node, now)}
        if not leaving:
            return None
        self._note_removed(row, leaving - unwanted, now)
        proposed = reconfiguration.without(row, leaving, self.log.commit, self.strength.replicas)
        if self.log.commit >= self.barrier and not leaving & unwanted:
            recruit = self._recruit(row, leaving, now)
            if recruit is not None:
                proposed = reconfiguration.with_recruit(proposed, recruit)
        return Swap(row, proposed)

    def _may_remove(self, node: NodeId, now: float) -> bool:
        """Rule R7. Whoever may be starting is waited for, but not for long while a client waits."""
        urgent = self.is_stuck(node, now) and self.log.has_requests_above(self.log.commit)
        return self.leases.grace_over(self.shard, node, self.learned_at, now, urgent=urgent)

    def _recruitment(self, row: ShardRow, now: float) -> Swap | None:
        """A shard that lacks a member takes a spare: its writes have full strength again."""
        if len(row.members) >= self.strength.replicas or now < self.recruit_not_before:
            return None
        self.recruit_not_before = now + RESEND_S
        recruit = self._recruit(row, frozenset(), now)
        return None if recruit is None else Swap(row, reconfiguration.recruited(row, recruit))

    def _forgetting(self, row: ShardRow) -> Swap | None:
        """Rule R13, where a takeover left full members enough: a split waits for it."""
        if not row.last_full or reconfiguration.without_former(row, self.strength.replicas) == row:
            return None
        return Swap(row, reconfiguration.at_strength(row))

    def _note_removed(self, row: ShardRow, removed: set[NodeId], now: float) -> None:
        """Who is there and does nothing for this shard would do nothing again, as a recruit.

        Unless it has another disk by now: then it was not this one's member any more. Or its
        process has ended: it was heard just before that, and its next one is as good as any.
        """
        for member in row.members:
            same_disk = self.incarnations.get(member.node) == member.incarnation
            if (
                member.node in removed
                and member.node not in self.leases.dead
                and same_disk
                and self.leases.heard_of(member.node, LEASE_S, now)
            ):
                self.no_spares_until[member.node] = now + RECRUIT_AGAIN_S

    def _recruit(self, row: ShardRow, leaving: Collection[NodeId], now: float) -> Member | None:
        """The commit point is frozen from here to the outcome: `base` follows it at once."""
        useless = [node for node, until in self.no_spares_until.items() if now < until]
        spare = self.choose_spare(self.shard, row, useless)
        if spare is None or row.member(spare.node) is not None or spare.node in leaving:
            return None
        base_epoch = self.log.epoch_at(self.log.commit)
        assert base_epoch is not None
        return Member(spare.node, spare.incarnation, Seq(self.log.commit + 1), base_epoch)

    def _promotion(self, row: ShardRow) -> Swap | None:
        """Rule R12: whoever has all of history, durably, in this session and epoch."""
        for member in row.members:
            whole = member.node in self.whole_elsewhere
            if member.base and (whole or (member.node == self.node and self.whole is None)):
                return self._promoted(row, member.node)
        for learner in row.learners:
            caught_up = self.learner_match.get(learner.node, -1) >= self.log.commit
            if caught_up and learner.node in self.whole_elsewhere:
                return self._promoted(row, learner.node)
        return None

    def _promoted(self, row: ShardRow, node: NodeId) -> Swap:
        return Swap(row, reconfiguration.promoted(row, node, self.strength.replicas))

    # -- plans ---------------------------------------------------------------------------------

    def _unwanted(self, row: ShardRow) -> set[NodeId]:
        """Members that the plan does without, once everyone it names is a full member."""
        plan = self.plan
        if plan is None or self.node not in plan.members or not self._planned_are_full(row):
            return set()
        return {member.node for member in row.members} - set(plan.members)

    def _planned_are_full(self, row: ShardRow) -> bool:
        assert self.plan is not None
        full = {member.node for member in row.members if member.base == 0}
        return full.issuperset(self.plan.members)

    def _planned(self, row: ShardRow, now: float) -> Swap | None:
        """The plan's next step: learners, then the new primary, and at last a split."""
        plan = self.plan
        if plan is None:
            return None
        for swap in self._learner_steps(row):
            return swap
        if plan.primary == self.node:
            return self._split(row, plan.depth, now)
        if not self._planned_are_full(row) or plan.primary in self.rowless_elsewhere:
            return None
        return self._handed_to([plan.primary], row, now)

    def _handed_to(self, heirs: list[NodeId], row: ShardRow, now: float) -> Swap | None:
        """Rule R17: to the first of `heirs` that answers."""
        heirs = [node for node in heirs if self.leases.promised_by(node, self.shard, now)]
        if not heirs or not self._drained(now):
            return None
        self.stopped = True  # Before the swap is sent, and for good in this epoch.
        return Swap(row, reconfiguration.handed_over(row, heirs[0]))

    def _readable(self, row: ShardRow) -> list[NodeId]:
        """The other full members that can read what they have."""
        unreadable = self.rowless_elsewhere | {self.node}
        return [m.node for m in row.members if m.base == 0 and m.node not in unreadable]

    def _split(self, row: ShardRow, depth: int, now: float) -> Swap | None:
        """Rule R18: nothing is under way and everybody is here: both halves begin the same."""
        if not row.depth < depth <= SHARD_DEPTH_MAX or self._unwanted(row):
            return None
        if not reconfiguration.is_at_full_strength(row, self.strength.replicas):
            return None
        if not self._promised(row.members, now) or not self._drained(now):
            return None
        self.stopped = True  # As R17: before the swap is sent, and for good in this epoch.
        epoch = self.log.epoch_at(self.log.commit)
        assert epoch is not None
        sibling = ShardId(self.shard + (1 << row.depth))
        return Swap(row, reconfiguration.split(row, SplitPoint(self.log.commit, epoch)), sibling)

    def _learner_steps(self, row: ShardRow) -> Iterator[Swap]:
        assert self.plan is not None
        here = {member.node for member in row.members}
        learning = {learner.node for learner in row.learners}
        for node in learning - set(self.plan.members):
            yield Swap(row, reconfiguration.without_learner(row, node))
        for node in self.plan.members:
            if node not in here | learning:
                incarnation = self.incarnations.get(node)
                if incarnation is not None:
                    learner = Learner(node, incarnation)
                    yield Swap(row, reconfiguration.with_learner(row, learner))

    def _drained(self, now: float) -> bool:
        """Take no new writes until the tail is empty; give up for a while when that takes long."""
        if self.draining_until is None:
            if now < self.drain_not_before:
                return False
            self.draining_until = now + DRAIN_S_MAX
        if self.log.commit == self.log.end == self.log.applied:
            return True
        if now >= self.draining_until:
            self.draining_until = None
            self.drain_not_before = now + 10 * DRAIN_S_MAX
        return False
