"""One node's replica of one shard, as a state machine without I/O: what everything else talks to.

    primary:  propose ─ Append, SendPrepare to all ─ on_durable, on_ack ─ all have it ─ Apply
    backup:   on_prepare ─ Append ─ on_durable ─ SendAck … commit point learned ─ Apply
    anybody:  on_timer ─ Propose(swap of the row) ─ on_swap_outcome, or on_row

Feed it events (methods named `on_…`, and `propose`); each gives the actions for the shell to
perform, in order. Time arrives in the event. The numbered rules are in
`docs/reference/replication.md`; the parts are

    shard_log.py           entries, and how far they are verified, durable, committed, applied
    shard_primary.py       orders, commits, reads              (R2, R3, R4, R11, R16)
    shard_reconfigurer.py  removes, recruits, promotes, moves  (R7, R9, R10, R12, R13, R17, R18)
    shard_backup.py        takes Prepares, copies, takes over  (R1, R2, R3, R11, R12)
    shard_splitter.py      splits the log in place             (R18)
    pair_leases.py         promises between nodes              (R4, R5, R6, R7)
"""

from __future__ import annotations

from octad.sharding.ids import Epoch, NodeId, Seq
from octad.sharding.map.shard_map import ShardRow
from octad.storage_node.replication.reconfiguration import Plan
from octad.storage_node.replication.replica_actions import Abandon, Actions, SendNack, Swap
from octad.storage_node.replication.replica_state import ReadTicket
from octad.storage_node.replication.shard_backup import Backup
from octad.storage_node.replication.shard_log import Entry
from octad.storage_node.replication.shard_reconfigurer import Reconfigurer
from octad.storage_node.replication.shard_splitter import Splitter

NEVER_ACTED = Epoch(0)


class ShardReplica(Reconfigurer, Backup, Splitter):
    """See the module. All methods are synchronous, cheap and without side effects outside."""

    # -- recovery ------------------------------------------------------------------------------

    def restore(
        self,
        start: Seq,
        start_epoch: Epoch,
        whole: Seq | None,
        copied_as_of: Seq | None,
        depth: int | None = None,
        acted_epoch: Epoch = NEVER_ACTED,
    ) -> None:
        """What the index says of this replica, before its journal is replayed."""
        self.acted_epoch = acted_epoch
        self.log.start, self.log.start_epoch = start, start_epoch
        self.whole, self.copied_as_of = whole, copied_as_of
        self.depth = depth

    def recover(self, entry: Entry, commit: Seq) -> None:
        """Replay one journal record, in the order of the journal (rule R14).

        It supersedes every earlier record of the shard with the same or a higher seq. One whose
        predecessor is missing must be superseded itself by what follows: replay begins behind the
        predecessor because that is needed no more. What lies above the highest commit point that
        any record carries stays prepared and dirty.
        """
        log, seq = self.log, entry.seq
        self.acted_epoch = max(self.acted_epoch, entry.epoch)
        self.missing_before = None
        if seq > log.end + 1:
            self.missing_before = seq
            return
        known = seq <= log.applied or (seq <= log.end and log.at(seq).epoch == entry.epoch)
        last = max(log.applied, seq if known else seq - 1)
        if log.end > last:
            log.truncate(Seq(last + 1))
        if seq == log.end + 1:
            log.append(entry)
        log.commit = max(log.commit, min(commit, log.end))

    def recovered(self) -> Actions:
        """The journal is replayed to its end: everything read from it is durable."""
        log = self.log
        assert self.missing_before is None, f"what precedes seq {self.missing_before} is missing"
        log.durable = log.end
        log.verified = self.announced = log.commit
        newly, log.commit = log.commit, log.applied
        self.check_whole()  # It may have been when it stopped, and no entry may follow.
        return self.commit_to(newly)

    def recover_start(
        self, start: Seq, epoch: Epoch, commit: Seq, whole: Seq, depth: int | None = None
    ) -> Actions:
        """Replay a record that `StartLog` wrote. Perform the actions before the next record.

        Records of the log before it may have been replayed in vain: what a start has cut off must
        not stand behind it.
        """
        log = self.log
        self.acted_epoch = max(self.acted_epoch, epoch)
        self.missing_before = None
        if start <= log.start:
            log.commit = log.applied
            if log.end > log.applied:
                log.truncate(Seq(log.applied + 1))
            return []
        log.commit = max(log.commit, min(commit, log.end))
        newly, log.commit = log.commit, log.applied
        actions = self.commit_to(newly)
        self.recovered_ids += log.applied_to(newly)
        self.whole, self.depth = whole, depth
        self.copied_as_of = None
        log.restart_at(start, epoch)
        return actions

    # -- the configuration ---------------------------------------------------------------------

    def on_row(self, row: ShardRow, now: float) -> Actions:
        """The configuration store has this row. Older ones than what is known change nothing."""
        known = self.row
        if self.failed or (known is not None and row.epoch <= known.epoch):
            return []
        if self.held is not None and row.epoch < self.held.epoch:
            return []
        split = self.split_for(row)
        return split if self.held is not None else split + self._on_row(row, now)

    def _on_row(self, row: ShardRow, now: float) -> Actions:
        pending = self.pending
        won = pending is not None and row == pending.proposed
        goes_on = won and self.leading and not self.stopped
        actions = self._enter(row, now, goes_on)
        if won and row.primary == self.node:
            return actions + self._lead(now, goes_on)
        member = self.member
        if member is None and not self.learning:
            self.leases.forget(self.shard)
            return actions + self.learn_former()
        if row.primary == self.node:
            self.leases.forget(self.shard)
            return actions + self.tend(now)  # R15: passive until a swap of our own.
        self.leases.follow(self.shard, row.epoch, row.primary)
        actions += self.learn_former()
        if member is None:
            return actions + self.watch(now)
        if member.base:
            actions += self.begin_recruit(member)
        return [*actions, SendNack(row.primary, self.log.verified)]

    def on_swap_outcome(self, swap: Swap, row: ShardRow, now: float) -> Actions:
        """What the store holds, now that `swap` has happened or can never happen (rule R8)."""
        if self.failed:
            return []
        if self.row is None or row.epoch > self.row.epoch:
            return self.on_row(row, now)
        if self.pending is not swap:
            return []
        self.pending = None
        self.leases.unblock(self.shard)
        if self.leading and self.stopped:
            return self._step_down()  # R17: it stopped for good; only a new epoch serves again.
        if self.leading:
            return self.advance()
        if self.row.primary != self.node:
            self.leases.follow(self.shard, self.row.epoch, self.row.primary)
        return []

    def on_plan(self, plan: Plan | None) -> None:
        """What the coordinator wants the shard to become; None: what it is."""
        self.plan = plan
        self.draining_until = None

    def _enter(self, row: ShardRow, now: float, goes_on: bool) -> Actions:
        actions: Actions = [] if goes_on else self._step_down()
        known = self.row
        if known is None or row.primary != known.primary:
            self.session, self.nonce = 0, 0
        elif row.epoch > known.epoch + 1:
            self.rejoin = True  # It may have been no learner in between, and lost its session.
        self.learn_recoveries(row)
        self.row = row
        self.find_own_place()
        self.learned_at = now
        self.pending = None
        self.log.verified = self.log.commit  # R1: on entering an epoch.
        if not self.learning:
            self.session, self.nonce, self.rejoin = 0, 0, False
        return actions

    def _step_down(self) -> Actions:
        abandoned = tuple(self.log.above(self.log.commit)) if self.leading else ()
        self.leading = self.stopped = False
        self.draining_until = None
        self.match, self.targets = {}, ()
        self.sessions.clear()
        self.joins_waiting.clear()
        self.leases.forget(self.shard)
        return [Abandon(abandoned)] if abandoned else []

    def _lead(self, now: float, goes_on: bool) -> Actions:
        """A swap of ours has named us primary of a new epoch (rules R11, R15)."""
        row = self.row
        assert row is not None
        self.leading, self.whole_elsewhere = True, set()
        learners = [learner.node for learner in row.learners]
        self.sessions = {node: n for node, n in self.sessions.items() if node in learners}
        self.reset_match()
        self.leases.lead(self.shard, row.epoch, [*self.other_members(), *learners])
        actions = self.prepare_tail()
        if not goes_on:
            self.reign = row.epoch
            actions += self.order_barrier()
        return actions + self.advance()

    def fail(self) -> Actions:
        """A bug has shown in this replica: what it believes may be wrong, so it acts no more.

        It is silent towards the others, who do without it; what is on its disk stays for the next
        start. Those who wait here try elsewhere.
        """
        self.failed = True
        self.find_own_place()
        self.session = self.nonce = 0
        return self._step_down()

    def lose_rows(self) -> Actions:
        """The index is damaged, and is being made anew from the journal, which is whole.

        A primary hands its shard over at its next turn (rule R17); a member tells its primary at
        once that its copy does not count as verified.
        """
        self.rowless = True
        if self.leading or self.row is None or self.pending is not None:
            return []
        if self.member is None or self.row.primary == self.node:
            return []
        return self.acknowledge()

    def regain_rows(self) -> Actions:
        """There is an index again that shows all that is applied; copies begin anew."""
        self.rowless = False
        if self.leading or self.row is None or self.pending is not None:
            return []
        self.rejoin = self.learning
        if self.member is None or self.row.primary == self.node:
            return []
        return [*self.copy_again(), *self.acknowledge()]

    # -- time and connections ------------------------------------------------------------------

    def on_timer(self, now: float) -> Actions:
        """A few times a second: what silence means, and what is to be done about the row."""
        row = self.row
        if row is None or self.pending is not None or self.failed:
            return []
        if row.primary == self.node:
            return self.tend(now) if self.member is not None else []
        return self.watch(now)

    def on_connected(self, node: NodeId) -> Actions:
        """A new connection to `node`: what was on its way over the old one may be lost."""
        if self.row is None or self.row.primary != node or self.pending is not None:
            return []
        if self.learning:
            self.rejoin = True
            return []
        if self.member is None:
            return []
        return [SendNack(node, self.log.verified)]

    # -- the disk ------------------------------------------------------------------------------

    def on_durable(self, entry: Entry) -> Actions:
        """The journal has synced `entry`. One that was truncated meanwhile counts for nothing."""
        if not self.log.is_durable(entry):
            return []
        if self.leading:
            self.match[self.node] = self.log.durable
            return self.advance()
        row = self.row
        if row is None or row.primary == self.node or self.pending is not None:
            return []
        if entry.seq > self.log.verified or self.wanted_start is not None:
            return []
        if self.member is None and not self.session:
            return []
        return self.acknowledge()

    def on_applied(self, upto: Seq, now: float) -> Actions:
        """The index holds every entry up to `upto`."""
        log = self.log
        request_ids = log.applied_to(upto)
        if self.recovered_ids:
            request_ids = self.recovered_ids + request_ids
            self.recovered_ids = []
        log.requests.applied(request_ids, now)
        if self.failed:
            return []
        if self.wanted_start is not None:
            return self.start_log() + self.copy_again() + self._on_held_row(now)
        if self.split_due:
            return self.split_if_due() + self._on_held_row(now)
        return self.check_whole() if self.copied_as_of is not None else []

    def _on_held_row(self, now: float) -> Actions:
        return [] if self.held is None else self.on_row(self.held, now)

    # -- reads ---------------------------------------------------------------------------------

    def begin_read(self, key: bytes, now: float) -> ReadTicket | None:
        """Before the index is read (rule R3); None: this node may not answer, ask the primary."""
        return self.primary_ticket(key, now) if self.leading else self.backup_ticket(key, now)

    def read_holds(self, ticket: ReadTicket, now: float) -> bool:
        """After it was read and before it is answered: whether it may be answered."""
        if self.row is None or self.row.epoch != ticket.epoch or self.log.commit < ticket.wait_for:
            return False
        if self.rowless:
            return False
        if self.leading:
            return not self.stopped and self.has_lease(now)
        return self.has_read_lease(now)
