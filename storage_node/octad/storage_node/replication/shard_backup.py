"""A shard replica as backup, recruit or learner: takes Prepares, acknowledges, reads, takes over.

Rules R1, R2, R3, R11, R12 and R13 of `docs/reference/replication.md`.
"""

from __future__ import annotations

from typing import TypeAlias

from octad.sharding.ids import Epoch, NodeId, Seq
from octad.sharding.limits import RESEND_S, TAKEOVER_STAGGER_S
from octad.sharding.map.shard_map import Member
from octad.storage_node.index.operations import decode_operation, touched
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.replication.pair_leases import number_digest
from octad.storage_node.replication.reconfiguration import taken_over
from octad.storage_node.replication.replica_actions import (
    Actions,
    Append,
    Copy,
    SendJoin,
    SendNack,
    Swap,
)
from octad.storage_node.replication.replica_state import ReadTicket, ReplicaState
from octad.storage_node.replication.shard_log import Entry

SentEntry: TypeAlias = tuple[Epoch, Seq, RecordKind, bytes, bytes, bytes | memoryview]


class Backup(ReplicaState):
    """See the module."""

    def on_prepare(
        self,
        sender: NodeId,
        epoch: Epoch,
        session: int,
        entry: SentEntry,
        previous_epoch: Epoch,
        commit: Seq,
    ) -> Actions:
        """Rule R1. `entry` is (its epoch, seq, kind, request id, metadata, data)."""
        refusal = self.refuse(sender, epoch)
        if refusal is not None:
            return refusal
        if session != self.session:
            return []  # Of a session that is over; ours starts with a message of its own.
        log = self.log
        seq = entry[1]
        if seq - 1 > log.end or not self.continues(Seq(seq - 1), previous_epoch):
            return self._ask_again(sender)
        actions = self._take(entry) if seq > log.applied else []
        if seq > log.verified:
            log.verified = seq
        if commit > log.commit:
            actions += self.learn_commit(commit)
        if seq <= log.durable:  # Sent again: nothing to wait for.
            actions += self.acknowledge()
        return actions

    def _take(self, sent: SentEntry) -> Actions:
        """Append what is not here yet, over what another primary had put there."""
        epoch, seq, kind, request_id, metadata, data = sent
        log = self.log
        if seq <= log.end:
            if log.at(seq).epoch == epoch:
                return []
            log.truncate(seq)
        operation = decode_operation(kind, metadata)
        entry = Entry(epoch, seq, kind, request_id, metadata, data, operation, touched(operation))
        log.append(entry)
        return [Append(entry, log.commit)]

    def _ask_again(self, primary: NodeId) -> Actions:
        if self.session:
            self.rejoin = True  # What a learner missed, the primary may not have any more.
            return []
        return [SendNack(primary, self.log.verified)]

    def on_commit(self, sender: NodeId, epoch: Epoch, commit: Seq, commit_epoch: Epoch) -> Actions:
        """The primary's commit point; the epoch of its entry verifies our log (rule R1).

        One that is new and verifies nothing more comes of acknowledgements, ours among them. One
        that is known already is sent again because an acknowledgement is missing.
        """
        refusal = self.refuse(sender, epoch)
        if refusal is not None:
            return refusal
        if self.learning and not self.session:
            return []
        if commit > self.log.end or not self.continues(commit, commit_epoch):
            return self._ask_again(sender)
        log = self.log
        is_news = log.commit < commit <= log.verified
        log.verified = max(log.verified, commit)
        actions = self.learn_commit(commit)
        return actions if is_news else actions + self.acknowledge_if_durable(commit)

    def acknowledge_if_durable(self, seq: Seq) -> Actions:
        """After something was verified that was already durable: the primary waits for that."""
        return self.acknowledge() if seq <= self.log.durable else []

    def on_session(
        self, sender: NodeId, epoch: Epoch, nonce: int, session: int, start: Seq, first: Epoch
    ) -> Actions:
        """Rule R12: our log begins anew behind `start`, whose entry is of epoch `first`."""
        refusal = self.refuse(sender, epoch)
        if refusal is not None:
            return refusal
        if not self.learning:
            return []
        if not nonce or nonce != self.nonce:
            if not self.nonce and session != self.session:
                self.rejoin = True  # The primary counts on a session that is not ours.
            return []
        self.nonce, self.session, self.rejoin = 0, session, False
        return [*self.want_start(start, first), Copy(start, (sender,))]

    def continues(self, seq: Seq, epoch: Epoch) -> bool:
        """Is our log up to `seq` the one of which the primary speaks?"""
        return seq <= self.log.verified or self.log.epoch_at(seq) == epoch

    def learn_commit(self, commit: Seq) -> Actions:
        """Only within what is verified: above it, our entries may be others."""
        known = min(commit, self.log.verified)
        return self.commit_to(Seq(known)) if known > self.log.commit else []

    # -- history that others have --------------------------------------------------------------

    def begin_recruit(self, member: Member) -> Actions:
        """The row has us as a recruit: our log begins at its base, and we copy what is before."""
        actions: Actions = []
        start = Seq(member.base - 1)
        if (self.log.start, self.log.start_epoch) != (start, member.base_epoch):
            actions += self.want_start(start, member.base_epoch)
        return actions + self.copy_again()

    def copy_again(self) -> Actions:
        """From the primary, or from whoever was complete up to our base (rule R10)."""
        member = self.member
        if member is None or member.base == 0 or self.whole is None or self.row is None:
            return []
        if self.copied_as_of is not None:
            return []
        former = [f.node for f in self.row.last_full if f.upto >= member.base - 1]
        sources = [self.row.primary, *(node for node in former if node != self.row.primary)]
        return [Copy(Seq(member.base - 1), tuple(n for n in sources if n != self.node))]

    def wants_copy(self, start: Seq) -> bool:
        """Whether a copy behind `start` would be of use."""
        return (
            not self.failed
            and not self.rowless
            and start == self.log.start
            and self.whole is not None
            and self.wanted_start is None
        )

    def on_copied(
        self, start: Seq, as_of: Seq, request_ids: list[tuple[bytes, Seq]], now: float
    ) -> Actions:
        """Every row as of `as_of` or later is durable here, and `start` was asked for."""
        if not self.wants_copy(start):
            return []
        assert as_of >= start
        self.copied_as_of = as_of
        self.log.requests.restore(request_ids, now)
        return self.check_whole()

    def check_whole(self) -> Actions:
        """The copy mixes rows of different ages: it is whole once our log has passed them all."""
        if self.copied_as_of is None or self.log.applied < self.copied_as_of:
            return []
        self.copied_as_of = self.whole = None
        if self.row is None or self.row.primary == self.node:
            return []
        return self.acknowledge()

    def is_complete(self) -> bool:
        """Whether our index and log together have all of history: rule R11's guard."""
        if self.whole is None:
            return True
        return self.copied_as_of is not None and self.copied_as_of <= self.log.durable

    def source_as_of(self, start: Seq) -> Seq | None:
        """For a copy behind `start` from this replica: how recent it is at least; None: too old.

        What is void is no source: it may have what was given up (rule R19).
        """
        if self.void or self.failed or self.rowless:
            return None
        as_of = self.log.applied if self.whole is None else self.whole
        return Seq(as_of) if as_of >= start else None

    def learn_former(self) -> Actions:
        """A removed member had everything up to `upto`: the row says that it is committed.

        Also one that became full with a copy, and went down before it had applied what made it so.
        """
        assert self.row is not None
        for former in self.row.last_full:
            if (former.node, former.incarnation) == (self.node, self.incarnation):
                known = min(former.upto, self.log.end)
                if self.is_complete() and known > self.log.commit:
                    return self.commit_to(Seq(known))
        return []

    # -- reads ---------------------------------------------------------------------------------

    def backup_ticket(self, key: bytes, now: float) -> ReadTicket | None:
        """Rule R3 at a full member: no entry of the key above the index, and a read lease."""
        if key in self.log.dirty or not self.has_read_lease(now):
            return None
        assert self.row is not None
        return ReadTicket(self.row.epoch, Seq(0))

    def has_read_lease(self, now: float) -> bool:
        """Rule R6, for a full member that is not the primary."""
        row, member = self.row, self.member
        if row is None or member is None or member.base or row.primary == self.node:
            return False
        if self.whole is not None or self.rowless:
            return False
        others = [other.node for other in row.members if other.node != row.primary]
        return self.leases.may_read(self.shard, row.epoch, row.primary, others, now)

    # -- time ----------------------------------------------------------------------------------

    def watch(self, now: float) -> Actions:
        """Join as learner, or take over from a silent primary (rules R11, R12)."""
        row = self.row
        assert row is not None
        if self.learning:
            return self._join(row.primary, now)
        if self.member is None or self.is_at_rest_behind(row.primary, now):
            return []
        if not self.may_take_over(now):
            self.quiet_until = self.leases.grace_end(self.shard, row.primary, self.learned_at)
            return self._ask_about_tail(row.primary, now)
        self.leases.forget(self.shard)  # R9: no promises while we challenge.
        return self.submit(Swap(row, taken_over(row, self.node, self.log.commit)), now)

    def is_at_rest_behind(self, primary: NodeId, now: float) -> bool:
        """Whether nothing is to be asked, and the grace cannot be over: it only ever ends later."""
        log = self.log
        quiet = now < self.quiet_until and primary not in self.leases.dead
        return quiet and log.commit == log.end

    def _ask_about_tail(self, primary: NodeId, now: float) -> Actions:
        """A commit point that nothing follows is announced once; when it was lost, ask for it."""
        tail = (self.log.commit, self.log.end)
        if tail[0] == tail[1] or tail != self.tail:
            self.tail, self.tail_since = tail, now
        elif now - self.tail_since > RESEND_S:
            self.tail_since = now
            return [SendNack(primary, self.log.verified)]
        return []

    def may_take_over(self, now: float) -> bool:
        """Rule R11: a complete member, after the grace.

        The first of the heirs goes first: two who want the same delay each other.
        """
        row = self.row
        if row is None or not self.leases.grace_over(self.shard, row.primary, self.learned_at, now):
            return False
        if not self.is_complete() or self.wanted_start is not None or self.rowless:
            return False
        heirs = [m.node for m in row.members if m.base == 0 and m.node != row.primary]
        heirs = [node for node in heirs if node not in self.leases.dead]
        place = heirs.index(self.node) if self.node in heirs else len(heirs)
        if not place:
            return True
        end = self.leases.grace_end(self.shard, row.primary, self.learned_at)
        return now >= end + place * TAKEOVER_STAGGER_S

    def _join(self, primary: NodeId, now: float) -> Actions:
        waiting = self.nonce or self.session
        if waiting and not self.rejoin and (self.session or now - self.joined_at < RESEND_S):
            return []
        if self.rejoin and now - self.joined_at < RESEND_S:
            return []
        self.joins += 1
        self.nonce = number_digest(self.leases.boot, self.joins)
        self.session, self.rejoin, self.joined_at = 0, False, now
        return [SendJoin(primary, self.nonce)]
