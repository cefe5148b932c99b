"""What a shard replica knows, and what follows from it alone: the base of both of its roles."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from octad.sharding.ids import Epoch, NodeId, Seq, ShardId
from octad.sharding.map.shard_map import Learner, Member, ShardRow
from octad.storage_node.replication.pair_leases import PairLeases
from octad.storage_node.replication.reconfiguration import Plan, check_succession
from octad.storage_node.replication.replica_actions import (
    Actions,
    Apply,
    Propose,
    Refetch,
    SendAck,
    StartLog,
    Swap,
    Targets,
)
from octad.storage_node.replication.shard_log import ShardLog

# Of which shard, its row, and whom not to choose.
ChooseSpare: TypeAlias = Callable[[ShardId, ShardRow, Collection[NodeId]], Learner | None]


@dataclass(frozen=True, slots=True)
class Strength:
    """How many copies a shard should have, and with how few a write may be acknowledged."""

    replicas: int
    min_copies: int

    def __post_init__(self) -> None:
        assert 1 <= self.min_copies <= self.replicas


class ReadTicket(msgspec.Struct, frozen=True, gc=False):
    """What was so before a read: it must still be so after it (rule R3)."""

    epoch: Epoch
    wait_for: Seq  # A refusal is good once it is committed, a list once it is applied; a read: 0.


_NOT_LOOKED_AT = None, None, None, False


class ReplicaState:
    """See the module. `shard_replica.py` says what the public parts mean."""

    def __init__(
        self,
        shard: ShardId,
        node: NodeId,
        incarnation: str,
        leases: PairLeases,
        strength: Strength,
        choose_spare: ChooseSpare,
        log: ShardLog,
    ) -> None:
        self.shard = shard
        self.node = node
        self.incarnation = incarnation
        self.leases = leases
        self.strength = strength
        self.choose_spare = choose_spare
        self.log = log
        self.row: ShardRow | None = None
        self.member: Member | None = None  # Our place in `row`, if it means this disk,
        self.learning = False  # or whether it has this disk as a learner.
        self.learned_at = 0.0  # When this node learned `row`.
        self.pending: Swap | None = None  # Submitted; until its outcome is known, no commits.
        self.plan: Plan | None = None
        self.acted_epoch = Epoch(0)  # The highest under which the log was changed, before this row.
        self.void = False  # It may show what an operator's recovery gave up (R19): no part in it.
        self.unflushed = False  # Rows of a copy that was not finished count, since a recovery.
        self.failed = False  # It met a bug: no part in anything until the node starts again.
        # The index is damaged, the log is not: it acknowledges what it makes durable, and never
        # reads, lists, challenges, becomes full or is a source until the node starts again.
        self.rowless = False
        self.depth: int | None = None  # To which the log here is split; None: as the first row.
        self.split_due = False  # Once everything committed is applied.
        self.held: ShardRow | None = None  # A row of greater depth: first the log is split.
        self.missing_before: Seq | None = None  # Recovery: a record without its predecessor.
        self.recovered_ids: list[bytes] = []  # Recovery: applied, and not yet in the window.
        # As primary.
        self.leading = False  # Primary of row.epoch, by a swap of our own.
        self.reign = Epoch(0)  # In which epoch we began to lead, last time.
        self.stopped = False  # For good in this epoch: the row was, or may be, handed over.
        self.barrier = Seq(0)  # Serving needs commit >= barrier.
        self.match: dict[NodeId, Seq] = {}  # What each member has durable.
        self.targets: Targets = ()  # Whom to send Prepares.
        self.announced = log.applied  # Highest commit point told to everyone.
        self.sessions: dict[NodeId, int] = {}  # The present session of each learner.
        self.sessions_started = 0
        self.joins_waiting: dict[NodeId, tuple[Epoch, int]] = {}  # Learners' epochs and nonces.
        self.learner_match: dict[NodeId, Seq] = {}
        self.whole_elsewhere: set[NodeId] = set()  # Recruits and learners with all of history.
        self.rowless_elsewhere: set[NodeId] = set()  # Full members that cannot read their rows.
        self.copying: set[NodeId] = set()  # Those that do not have it yet.
        self.progress: dict[NodeId, tuple[Seq, float, float]] = {}  # Acked, since, send again at.
        # Whether `row`, as it was looked at, is what plan and strength ask for.
        self.as_wanted: tuple[ShardRow | None, Plan | None, Strength | None, bool] = _NOT_LOOKED_AT
        self.draining_until: float | None = None
        self.drain_not_before = 0.0
        self.recruit_not_before = 0.0
        self.no_spares_until: dict[NodeId, float] = {}  # Removed though they beat.
        self.incarnations: Mapping[NodeId, str] = {}  # The shell's: of every node it knows.
        # As recruit or learner.
        self.whole: Seq | None = None  # The index has all up to here; None: up to `applied`.
        self.copied_as_of: Seq | None = None  # Of the copy that is installed.
        self.wanted_start: tuple[Seq, Epoch] | None = None  # Once everything committed is applied.
        self.session = 0
        self.nonce = 0  # Of the session asked for; 0: none.
        self.joins = 0
        self.rejoin = False
        self.joined_at = 0.0
        # As backup.
        self.tail: tuple[Seq, Seq] = (log.commit, log.end)  # What is not committed,
        self.tail_since = 0.0  # unchanged since.
        self.quiet_until = 0.0  # No sooner may anybody challenge the primary of `row`.

    # -- who we are ----------------------------------------------------------------------------

    @property
    def epoch(self) -> Epoch:
        """Of the row as it is known here."""
        assert self.row is not None
        return self.row.epoch

    def find_own_place(self) -> None:
        """Known from now on, because every message asks for it; whoever must not act has none."""
        takes_part = self.row is not None and not self.void and not self.failed
        self.member = self.own_member() if takes_part else None
        self.learning = takes_part and self.is_learner()

    def own_member(self) -> Member | None:
        """Our place among the members, if the row means this disk."""
        assert self.row is not None
        member = self.row.member(self.node)
        return None if member is None or member.incarnation != self.incarnation else member

    def is_learner(self) -> bool:
        """Whether the row names this disk as a learner."""
        assert self.row is not None
        return any(
            learner.node == self.node and learner.incarnation == self.incarnation
            for learner in self.row.learners
        )

    def other_members(self) -> list[NodeId]:
        """All members but this node."""
        assert self.row is not None
        return [member.node for member in self.row.members if member.node != self.node]

    # -- an operator's recovery ----------------------------------------------------------------

    def learn_recoveries(self, row: ShardRow) -> None:
        """Rule R19: a copy of before a recovery is good only as far as that recovery went.

        The replica that an operator has put in the place of lost members is whole from then on,
        whatever a copy that was under way has left.
        """
        self.void = self.is_void_under(row)
        if self._is_put_in_charge(row):
            self.unflushed |= self.whole is not None
            self.whole = self.copied_as_of = self.wanted_start = None
        if not self.void:
            self.acted_epoch = row.epoch

    def is_void_under(self, row: ShardRow) -> bool:
        """Whether it may show what a recovery that `row` knows of has given up (rule R19)."""
        void, whole = self.void, self.whole
        for recovery in row.recovered:
            if (recovery.node, recovery.incarnation) == (self.node, self.incarnation):
                if self._is_put_in_charge(row):
                    void, whole = False, None  # By an earlier one: now it is all there is.
            elif self.acted_epoch < recovery.epoch:
                void = void or self.log.commit > recovery.upto or whole is not None
        return void

    def _is_put_in_charge(self, row: ShardRow) -> bool:
        """Whether a recovery has once named this disk, and `row` has it as a full primary."""
        member = row.member(self.node)
        return (
            row.primary == self.node
            and member is not None
            and member.base == 0
            and any(
                (recovery.node, recovery.incarnation) == (self.node, self.incarnation)
                for recovery in row.recovered
            )
        )

    # -- both roles ----------------------------------------------------------------------------

    def submit(self, swap: Swap, now: float) -> Actions:
        """Rule R9: from now until its outcome is known, nothing is committed or granted."""
        assert self.pending is None
        check_succession(swap.expected, swap.proposed)
        self.pending = swap
        self.leases.block(self.shard, now)
        return [Propose(swap)]

    def commit_to(self, seq: Seq) -> Actions:
        """The commit point moves."""
        entries = self.log.commit_to(seq)
        return [Apply(entries)] if entries else []

    def refuse(self, sender: NodeId, epoch: Epoch) -> Actions | None:
        """The actions instead of taking a primary's message; None: take it (rule R1)."""
        row = self.row
        if self.failed:
            return []
        if row is None or epoch > row.epoch:
            return [Refetch()]
        if epoch < row.epoch or sender != row.primary or sender == self.node:
            return []
        if self.pending is not None or self.wanted_start is not None:
            return []
        return None if self.member is not None or self.learning else []

    def acknowledge(self) -> Actions:
        """Rule R2: what is verified in this epoch and durable, never the end of the log."""
        assert self.row is not None
        log = self.log
        upto = Seq(min(log.verified, log.durable))
        readable = self.whole is None and not self.rowless
        return [SendAck(self.row.primary, upto, self.session, readable)]

    def want_start(self, start: Seq, epoch: Epoch) -> Actions:
        """The log is to begin anew behind `start`, when what is committed is in the index."""
        self.wanted_start = (start, epoch)
        return self.start_log()

    def start_log(self) -> Actions:
        """Rules R12, R13: nothing that is committed and only here is lost on the way."""
        log = self.log
        if self.wanted_start is None or log.applied < log.commit:
            return []
        start, epoch = self.wanted_start
        self.wanted_start = None
        assert start >= log.commit, "a new member starts behind everything committed"
        if self.whole is None:
            self.whole = log.applied
        commit = log.commit
        log.restart_at(start, epoch)
        self.copied_as_of = None
        return [StartLog(start, epoch, commit, self.whole, self.depth)]
