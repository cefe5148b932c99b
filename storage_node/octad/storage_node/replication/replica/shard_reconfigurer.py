"""What a primary does about its configuration: remove, recruit, promote, hand over; one at a time.

Rules R7, R10, R12, R13, R15, R17 and R18 of `docs/reference/replication.md`. Each change is a swap
of its own; while its outcome is not known, nothing is committed (R9).
"""

from __future__ import annotations

from collections.abc import Iterator

from octad.sharding.ids import NodeId, ShardId
from octad.sharding.limits import SHARD_DEPTH_MAX
from octad.sharding.map.shard_map import Learner, ShardConfiguration, SplitPoint
from octad.storage_node.replication import reconfiguration
from octad.storage_node.replication.reconfiguration import Plan
from octad.storage_node.replication.replica.log_ends import LogEnds
from octad.storage_node.replication.replica.pending_swap import PendingSwap
from octad.storage_node.replication.replica.shard_history import ShardHistory
from octad.storage_node.replication.replica.shard_leases import ShardLeases
from octad.storage_node.replication.replica.shard_primary import Primary
from octad.storage_node.replication.replica.shard_spares import Spares
from octad.storage_node.replication.replica_actions import Actions, Swap
from octad.storage_node.replication.replica_state import Place, Strength
from octad.storage_node.replication.shard_log import ShardLog

_NOT_LOOKED_AT = None, None, None, False


class Reconfigurer:
    """Owns what the coordinator wants the shard to become, and whether it is that.

    `tend` is called a few times a second, and when something has happened.
    """

    __slots__ = (
        "as_wanted",
        "ends",
        "followers",
        "history",
        "leases",
        "log",
        "place",
        "plan",
        "primary",
        "spares",
        "swaps",
    )

    def __init__(
        self,
        place: Place,
        log: ShardLog,
        history: ShardHistory,
        leases: ShardLeases,
        swaps: PendingSwap,
        primary: Primary,
        spares: Spares,
        ends: LogEnds,
    ) -> None:
        self.place = place
        self.log = log
        self.history = history
        self.leases = leases
        self.swaps = swaps
        self.primary = primary
        self.followers = primary.followers
        self.spares = spares
        self.ends = ends
        self.plan: Plan | None = None
        # Whether the configuration, as it was looked at, is what plan and strength ask for.
        self.as_wanted: tuple[ShardConfiguration | None, Plan | None, Strength | None, bool] = (
            _NOT_LOOKED_AT
        )

    def on_plan(self, plan: Plan | None) -> None:
        """What the coordinator wants the shard to become; None: what it is."""
        self.plan = plan
        self.primary.drain.call_off()

    def tend(self, now: float) -> Actions:
        """Send again what was lost; then the one change that is most needed."""
        configuration = self.place.configuration
        assert configuration is not None
        if not self.primary.leading:
            return self.history.flush_due() + self._resume(configuration, now)
        at_rest = self.is_at_rest(configuration, now)
        actions = [] if at_rest else self.look_after(configuration, now)
        self.primary.drain.call_off_unless_asked()
        return actions

    def _resume(self, configuration: ShardConfiguration, now: float) -> Actions:
        """Rules R15, R23: a new epoch of ours, unless somebody else has a longer log."""
        others = self.place.other_full_members()
        if not self.ends.allow(others, now):
            return self.ends.ask(others)
        resumed = Swap(configuration, reconfiguration.resumed(configuration))
        return self.swaps.submit(resumed, now)

    def waits_for(self, node: NodeId) -> bool:
        """Whether `node` is to say where its log ends before this one leads again."""
        place = self.place
        if not self.ends.restarted or self.primary.leading or not place.is_primary():
            return False
        return place.member is not None and node in place.other_full_members()

    def look_after(self, configuration: ShardConfiguration, now: float) -> Actions:
        """All that a primary does from time to time."""
        primary = self.primary
        actions = primary.answer_joins() + primary.followers.resend(now)
        swap = self._removal(configuration, now)
        past_barrier = self.log.commit >= primary.barrier
        if swap is None and past_barrier and self.history.rowless:
            swap = self._handed_to(self._readable(configuration), configuration, now)
        elif swap is None and past_barrier:
            swap = self._promotion(configuration) or self._recruitment(configuration, now)
            swap = swap or self._forgetting(configuration) or self._planned(configuration, now)
        if swap is not None:
            return actions + self.swaps.submit(swap, now)
        return actions

    def is_at_rest(self, configuration: ShardConfiguration, now: float) -> bool:
        """Whether `look_after` would find nothing to do: most shards, most of the time."""
        log, followers = self.log, self.followers
        if log.commit < log.end or followers.progress or followers.copying:
            return False
        if followers.sessions.waiting or self.history.rowless:
            return False
        wanted = self.primary.strength
        seen, plan, strength, as_wanted = self.as_wanted
        if seen is not configuration or plan is not self.plan or strength is not wanted:
            as_wanted = self._is_as_wanted(configuration)
            self.as_wanted = configuration, self.plan, wanted, as_wanted
        if not as_wanted or self.leases.blocks():
            return False
        if not self.leases.promised(configuration.members, now):
            return False
        dead = self.leases.pairs.dead
        return not dead or all(member.node not in dead for member in configuration.members)

    def _is_as_wanted(self, configuration: ShardConfiguration) -> bool:
        plan = self.plan
        if not reconfiguration.is_at_full_strength(configuration, self.primary.strength.replicas):
            return False
        return plan is None or (
            plan.primary == self.place.node
            and plan.depth <= configuration.depth
            and {member.node for member in configuration.members} == set(plan.members)
        )

    # -- strength ------------------------------------------------------------------------------

    def _removal(self, configuration: ShardConfiguration, now: float) -> Swap | None:
        """Rules R7, R10: silent or stuck members leave, and a spare comes in for one of them."""
        followers, leases = self.followers, self.leases
        unwanted = self._unwanted(configuration)
        bad = [
            member.node
            for member in configuration.members
            if member.node != self.place.node
            and (
                member.node in unwanted
                or member.node in leases.pairs.dead
                or followers.is_stuck(member.node, now)
                or not leases.promised_by(member.node, now)
            )
        ]
        if not bad:
            leases.unblock()
            return None
        if any(node in unwanted or followers.is_stuck(node, now) for node in bad):
            leases.block(now)  # Otherwise the wait would never end.
        leaving = {node for node in bad if self._may_remove(node, now)}
        if not leaving:
            return None
        self.spares.note_removed(configuration, leaving - unwanted, now)
        replicas = self.primary.strength.replicas
        proposed = reconfiguration.without(configuration, leaving, self.log.commit, replicas)
        if self.log.commit >= self.primary.barrier and not leaving & unwanted:
            recruit = self.spares.recruit(configuration, leaving, now)
            if recruit is not None:
                proposed = reconfiguration.with_recruit(proposed, recruit)
        return Swap(configuration, proposed)

    def _may_remove(self, node: NodeId, now: float) -> bool:
        """Rule R7: wait for a node that may be starting, but not for long while a client waits."""
        stuck = self.followers.is_stuck(node, now)
        urgent = stuck and self.log.has_requests_above(self.log.commit)
        return self.leases.grace_over(node, now, urgent=urgent)

    def _recruitment(self, configuration: ShardConfiguration, now: float) -> Swap | None:
        """A shard that lacks a member takes a spare: its writes have full strength again."""
        if len(configuration.members) >= self.primary.strength.replicas:
            return None
        if not self.spares.may_ask(now):
            return None
        recruit = self.spares.recruit(configuration, frozenset(), now)
        if recruit is None:
            return None
        return Swap(configuration, reconfiguration.recruited(configuration, recruit))

    def _forgetting(self, configuration: ShardConfiguration) -> Swap | None:
        """Rule R13, where a takeover left full members enough: a split waits for it."""
        if not configuration.last_full:
            return None
        replicas = self.primary.strength.replicas
        if reconfiguration.without_former(configuration, replicas) == configuration:
            return None
        return Swap(configuration, reconfiguration.at_strength(configuration))

    def _promotion(self, configuration: ShardConfiguration) -> Swap | None:
        """Rule R12: a node that has all of history, durably, in this session and epoch."""
        complete = self.followers.complete
        for member in configuration.members:
            ours = member.node == self.place.node and self.history.complete_to is None
            if member.base and (member.node in complete or ours):
                return self._promoted(configuration, member.node)
        acked = self.followers.sessions.acked
        for learner in configuration.learners:
            caught_up = acked.get(learner.node, -1) >= self.log.commit
            if caught_up and learner.node in complete:
                return self._promoted(configuration, learner.node)
        return None

    def _promoted(self, configuration: ShardConfiguration, node: NodeId) -> Swap:
        replicas = self.primary.strength.replicas
        return Swap(configuration, reconfiguration.promoted(configuration, node, replicas))

    # -- plans ---------------------------------------------------------------------------------

    def _unwanted(self, configuration: ShardConfiguration) -> set[NodeId]:
        """Members that the plan does without, once everyone it names is a full member."""
        plan = self.plan
        if plan is None or self.place.node not in plan.members:
            return set()
        if not self._planned_are_full(configuration):
            return set()
        return {member.node for member in configuration.members} - set(plan.members)

    def _planned_are_full(self, configuration: ShardConfiguration) -> bool:
        assert self.plan is not None
        full = {member.node for member in configuration.members if member.base == 0}
        return full.issuperset(self.plan.members)

    def _planned(self, configuration: ShardConfiguration, now: float) -> Swap | None:
        """The plan's next step: learners, then the new primary, and at last a split."""
        plan = self.plan
        if plan is None:
            return None
        for swap in self._learner_steps(configuration):
            return swap
        if plan.primary == self.place.node:
            return self._split(configuration, plan.depth, now)
        if not self._planned_are_full(configuration) or plan.primary in self.followers.rowless:
            return None
        return self._handed_to([plan.primary], configuration, now)

    def _handed_to(
        self, successors: list[NodeId], configuration: ShardConfiguration, now: float
    ) -> Swap | None:
        """Rule R17: to the first of `successors` that answers."""
        successors = [node for node in successors if self.leases.promised_by(node, now)]
        if not successors or not self.primary.drain.drained(now):
            return None
        self.primary.drain.stop()
        return Swap(configuration, reconfiguration.handed_over(configuration, successors[0]))

    def _readable(self, configuration: ShardConfiguration) -> list[NodeId]:
        """The other full members that can read what they have."""
        unreadable = self.followers.rowless | {self.place.node}
        return [m.node for m in configuration.members if m.base == 0 and m.node not in unreadable]

    def _split(self, configuration: ShardConfiguration, depth: int, now: float) -> Swap | None:
        """Rule R18: nothing is under way and everyone is here: both halves begin the same."""
        if not configuration.depth < depth <= SHARD_DEPTH_MAX or self._unwanted(configuration):
            return None
        if not reconfiguration.is_at_full_strength(configuration, self.primary.strength.replicas):
            return None
        drain = self.primary.drain
        if not self.leases.promised(configuration.members, now) or not drain.drained(now):
            return None
        drain.stop()  # As R17.
        epoch = self.log.epoch_at(self.log.commit)
        assert epoch is not None
        sibling = ShardId(self.place.shard + (1 << configuration.depth))
        halves = reconfiguration.split(configuration, SplitPoint(self.log.commit, epoch))
        return Swap(configuration, halves, sibling)

    def _learner_steps(self, configuration: ShardConfiguration) -> Iterator[Swap]:
        assert self.plan is not None
        here = {member.node for member in configuration.members}
        learning = {learner.node for learner in configuration.learners}
        for node in learning - set(self.plan.members):
            yield Swap(configuration, reconfiguration.without_learner(configuration, node))
        for node in self.plan.members:
            if node not in here | learning:
                incarnation = self.spares.incarnations.get(node)
                if incarnation is not None:
                    learner = Learner(node, incarnation)
                    yield Swap(configuration, reconfiguration.with_learner(configuration, learner))
