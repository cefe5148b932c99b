"""A shard replica as backup, recruit or learner: takes Prepares, acknowledges, reads, takes over.

Rules R1, R2, R3, R6, R11 and R12 of `docs/reference/replication.md`.
"""

from __future__ import annotations

from typing import TypeAlias

from octad.sharding.ids import Epoch, NodeId, Seq
from octad.sharding.limits import RESEND_S
from octad.sharding.map.shard_map import Member
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.index_changes import decode_operation, touched
from octad.storage_node.replication.reconfiguration import taken_over
from octad.storage_node.replication.replica.learner_sessions import OwnSession
from octad.storage_node.replication.replica.log_ends import LogEnds
from octad.storage_node.replication.replica.pending_swap import PendingSwap
from octad.storage_node.replication.replica.shard_history import ShardHistory
from octad.storage_node.replication.replica.shard_leases import ShardLeases
from octad.storage_node.replication.replica.shard_splitter import Splitter
from octad.storage_node.replication.replica_actions import (
    Actions,
    Append,
    Copy,
    Refetch,
    SendAck,
    SendNack,
    Swap,
    commit_to,
)
from octad.storage_node.replication.replica_state import Place, ReadTicket
from octad.storage_node.replication.shard_log import Entry, ShardLog

TAKEOVER_STAGGER_S = 0.3  # By place in the configuration: a tick, and a swap in the store.

SentEntry: TypeAlias = tuple[Epoch, Seq, RecordKind, bytes, bytes, bytes | memoryview]


class Backup:
    """Owns the session of a learner, and when to ask or challenge a primary that is silent."""

    __slots__ = (
        "ends",
        "history",
        "leases",
        "log",
        "place",
        "quiet_until",
        "session",
        "splitter",
        "swaps",
        "tail",
        "tail_since",
    )

    def __init__(
        self,
        place: Place,
        log: ShardLog,
        history: ShardHistory,
        leases: ShardLeases,
        swaps: PendingSwap,
        splitter: Splitter,
        ends: LogEnds,
    ) -> None:
        self.place = place
        self.log = log
        self.history = history
        self.leases = leases
        self.swaps = swaps
        self.splitter = splitter
        self.ends = ends
        self.session = OwnSession(leases.pairs.boot)
        self.tail: tuple[Seq, Seq] = (log.commit, log.end)  # What is not committed and is
        self.tail_since = 0.0  # unchanged since.
        self.quiet_until = 0.0  # Until then no one may challenge the primary.

    # -- what a primary says -------------------------------------------------------------------

    def refuse(self, sender: NodeId, epoch: Epoch) -> Actions | None:
        """What to do instead of taking a primary's message; None: take it (rule R1)."""
        place = self.place
        configuration = place.configuration
        if place.failed:
            return []
        if configuration is None or epoch > configuration.epoch:
            return [Refetch()]
        if epoch < configuration.epoch or sender != configuration.primary or sender == place.node:
            return []
        if self.swaps.pending is not None or self.history.wanted_start is not None:
            return []
        return None if place.member is not None or place.learning else []

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
        if session != self.session.number:
            return []  # It belongs to a session that is over.
        log = self.log
        seq = entry[1]
        if seq - 1 > log.end or not self.continues(Seq(seq - 1), previous_epoch):
            return self._ask_again(sender)
        actions = self._take(entry) if seq > log.applied else []
        log.verify(seq)
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
        if self.session.number:
            self.session.lost()
            return []
        return [SendNack(primary, self.log.verified)]

    def on_commit(self, sender: NodeId, epoch: Epoch, commit: Seq, commit_epoch: Epoch) -> Actions:
        """The primary's commit point; the epoch of its entry verifies our log (rule R1).

        A new one that verifies nothing more is the result of acknowledgements, ours among them. A
        known one is sent again because an acknowledgement is missing.
        """
        refusal = self.refuse(sender, epoch)
        if refusal is not None:
            return refusal
        if self.place.learning and not self.session.number:
            return []
        if commit > self.log.end or not self.continues(commit, commit_epoch):
            return self._ask_again(sender)
        log = self.log
        is_news = log.commit < commit <= log.verified
        log.verify(commit)
        actions = self.learn_commit(commit)
        return actions if is_news else actions + self.acknowledge_if_durable(commit)

    def acknowledge(self) -> Actions:
        """Rule R2: what is verified in this epoch and durable, never the end of the log."""
        configuration, log, history = self.place.configuration, self.log, self.history
        assert configuration is not None
        upto = Seq(min(log.verified, log.durable))
        readable = history.complete_to is None and not history.rowless
        return [SendAck(configuration.primary, upto, self.session.number, readable)]

    def on_own_disk(self, seq: Seq) -> Actions:
        """Our own journal is synced up to there."""
        place = self.place
        configuration = place.configuration
        if (
            configuration is None
            or configuration.primary == place.node
            or self.swaps.pending is not None
        ):
            return []
        if seq > self.log.verified or self.history.wanted_start is not None:
            return []
        if place.member is None and not self.session.number:
            return []
        return self.acknowledge()

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
        if not self.place.learning or not self.session.begin(nonce, session):
            return []
        return [*self._want_start(start, first), Copy(start, (sender,))]

    def continues(self, seq: Seq, epoch: Epoch) -> bool:
        """Whether this log up to `seq` is the one that the primary means."""
        return seq <= self.log.verified or self.log.epoch_at(seq) == epoch

    def learn_commit(self, commit: Seq) -> Actions:
        """Take it only as far as verified: entries above may differ from the primary's."""
        known = min(commit, self.log.verified)
        return commit_to(self.log, Seq(known)) if known > self.log.commit else []

    # -- history that others have --------------------------------------------------------------

    def begin_recruit(self, member: Member) -> Actions:
        """This node is a recruit: its log begins at its base, and it copies what is before."""
        actions: Actions = []
        start = Seq(member.base - 1)
        if (self.log.start, self.log.start_epoch) != (start, member.base_epoch):
            actions += self._want_start(start, member.base_epoch)
        return actions + self.history.copy_again()

    def _want_start(self, start: Seq, epoch: Epoch) -> Actions:
        return self.history.want_start(start, epoch, self.splitter.depth)

    def on_copied(
        self, start: Seq, as_of: Seq, request_ids: list[tuple[bytes, Seq]], now: float
    ) -> Actions:
        """Every row as of `as_of` or later is durable here, and `start` was asked for."""
        if not self.history.wants_copy(start):
            return []
        self.history.copied(as_of)
        self.log.requests.restore(request_ids, now)
        return self.check_complete()

    def check_complete(self) -> Actions:
        """The primary waits for the ack that says so (rule R12)."""
        if (
            not self.history.becomes_complete()
            or self.place.configuration is None
            or self.place.is_primary()
        ):
            return []
        return self.acknowledge()

    # -- reads ---------------------------------------------------------------------------------

    def backup_ticket(self, key: bytes, now: float) -> ReadTicket | None:
        """Rule R3 at a full member: no entry of the key above the index, and a read lease."""
        if key in self.log.dirty or not self.has_read_lease(now):
            return None
        return ReadTicket(self.place.epoch, Seq(0))

    def has_read_lease(self, now: float) -> bool:
        """Rule R6, for a full member that is not the primary."""
        configuration, member = self.place.configuration, self.place.member
        if (
            configuration is None
            or member is None
            or member.base
            or configuration.primary == self.place.node
        ):
            return False
        if self.history.complete_to is not None or self.history.rowless:
            return False
        return self.leases.may_read(configuration, now)

    # -- time ----------------------------------------------------------------------------------

    def watch(self, now: float) -> Actions:
        """Join as learner, or take over from a silent primary (rules R11, R12)."""
        configuration = self.place.configuration
        assert configuration is not None
        if self.place.learning:
            return self.session.ask(configuration.primary, now)
        if self.place.member is None or self.is_at_rest_behind(configuration.primary, now):
            return []
        if not self.may_take_over(now):
            self.quiet_until = self.leases.grace_end(configuration.primary)
            self.ends.forget()
            return self._ask_about_tail(configuration.primary, now)
        others = [n for n in self.place.other_full_members() if n != configuration.primary]
        if not self.ends.allow(others, now):
            return self.ends.ask(others)
        self.leases.forget()  # R9: no promises while we challenge.
        taken = taken_over(configuration, self.place.node, self.log.commit)
        return self.swaps.submit(Swap(configuration, taken), now)

    def is_at_rest_behind(self, primary: NodeId, now: float) -> bool:
        """Whether there is nothing to ask for, and the grace is not over (it only moves later)."""
        log = self.log
        quiet = now < self.quiet_until and primary not in self.leases.pairs.dead
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
        """Rule R11: a full member, after the grace.

        The first of the successors goes first, because two that try at once delay each other.
        """
        configuration, history = self.place.configuration, self.history
        if configuration is None or not self.leases.grace_over(configuration.primary, now):
            return False
        if not history.is_complete() or history.wanted_start is not None or history.rowless:
            return False
        successors = [
            m.node for m in configuration.members if m.base == 0 and m.node != configuration.primary
        ]
        successors = [node for node in successors if node not in self.leases.pairs.dead]
        me = self.place.node
        turn = successors.index(me) if me in successors else len(successors)
        if not turn:
            return True
        end = self.leases.grace_end(configuration.primary)
        return now >= end + turn * TAKEOVER_STAGGER_S
