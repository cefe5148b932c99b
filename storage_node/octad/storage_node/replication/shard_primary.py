"""A shard replica as primary: orders writes, commits them, answers reads, changes the row.

Rules R2, R3, R4, R9, R10, R12, R13, R15 and R17 of `docs/reference/replication.md`.
"""

from __future__ import annotations

from octad.sharding.ids import Epoch, NodeId, Seq, shard_name
from octad.sharding.limits import LOG_ENTRIES_MAX, MEMBER_STUCK_S, RESEND_ENTRIES_MAX, RESEND_S
from octad.sharding.map.shard_map import Member
from octad.storage_node.index.operations import Barrier, Operation, encode_operation, touched
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.replication.replica_actions import (
    Actions,
    AlreadyOrdered,
    AlreadyRefused,
    Append,
    NotPrimary,
    NotServing,
    OutcomeUnknown,
    SendCommit,
    SendPrepare,
    SendSession,
    TooFewCopies,
)
from octad.storage_node.replication.replica_state import ReadTicket, ReplicaState
from octad.storage_node.replication.shard_log import NO_REQUEST, Entry

_BARRIER = Barrier()
_BARRIER_METADATA = encode_operation(_BARRIER)
ANY_EPOCH = Epoch(0)  # Before all: of an attempt that may be executed whenever it was made.


class Primary(ReplicaState):
    """See the module. Changes of the row are in `shard_reconfigurer.py`."""

    # -- writes --------------------------------------------------------------------------------

    def propose(
        self,
        kind: RecordKind,
        request_id: bytes,
        metadata: bytes,
        data: bytes | memoryview,
        operation: Operation,
        asked_in: Epoch = ANY_EPOCH,
    ) -> tuple[Entry, Actions]:
        """Order a write. It is committed once `Apply` names its entry; raises when not serving.

        `asked_in` is the epoch of the row by which this attempt was sent here; it is needed where
        the request may be refused (rule R3).
        """
        self._require_new(request_id)
        self._require_own_reign(asked_in)
        assert self.row is not None
        if self.draining_until is not None:
            raise NotServing(f"shard {shard_name(self.shard)} is moving")
        if len(self.row.members) < self.strength.min_copies:
            raise TooFewCopies(f"shard {shard_name(self.shard)} has too few copies")
        if len(self.log.entries) >= LOG_ENTRIES_MAX:
            raise NotServing(f"shard {shard_name(self.shard)}: {LOG_ENTRIES_MAX} writes in flight")
        actions = self._order(kind, request_id, metadata, data, operation)
        return self.log.entries[-1], actions

    def check_retry(self, request_id: bytes, age_s: float, now: float) -> None:
        """Rule R16, before any precondition is looked at, for a request first made `age_s` ago.

        Raises AlreadyOrdered, AlreadyRefused, or OutcomeUnknown when nobody remembers so far back.
        """
        self._require_new(request_id)
        if not self.log.requests.reaches_back(age_s, now):
            raise OutcomeUnknown(shard_name(self.shard))

    def _require_new(self, request_id: bytes) -> None:
        self.require_serving()
        requests = self.log.requests
        known = requests.find(request_id)
        if known is not None:
            entry = self.log.at(known) if known > self.log.applied else None
            raise AlreadyOrdered(known, entry)
        if requests.was_refused(request_id):
            raise AlreadyRefused

    def _require_own_reign(self, asked_in: Epoch) -> None:
        """Rule R3: an attempt that was made under another primary, or before our last start.

        That primary, or the next, may have refused the request, which nobody else remembers.
        """
        if ANY_EPOCH < asked_in < self.reign:
            raise NotServing(f"shard {shard_name(self.shard)}: asked in epoch {asked_in}")

    def require_serving(self) -> None:
        """Raises NotPrimary or NotServing."""
        if not self.leading:
            raise NotPrimary(self.shard, self.row.primary if self.row else None)
        if self.log.commit < self.barrier or self.stopped or self.rowless:
            raise NotServing(f"shard {shard_name(self.shard)} is starting or moving")

    def order_barrier(self) -> Actions:
        """Rule R11: the first entry of an epoch of ours; serving waits for it."""
        self.barrier = Seq(self.log.end + 1)
        return self._order(RecordKind.BARRIER, NO_REQUEST, _BARRIER_METADATA, b"", _BARRIER)

    def _order(
        self,
        kind: RecordKind,
        request_id: bytes,
        metadata: bytes,
        data: bytes | memoryview,
        operation: Operation,
    ) -> Actions:
        assert self.row is not None
        log = self.log
        previous_epoch = log.epoch_at(log.end)
        assert previous_epoch is not None
        entry = Entry(
            self.row.epoch,
            Seq(log.end + 1),
            kind,
            request_id,
            metadata,
            data,
            operation,
            touched(operation),
        )
        log.append(entry)
        commit = log.commit
        self.announced = commit
        if not self.targets:
            return [Append(entry, commit)]
        prepare = SendPrepare(self.targets, entry, previous_epoch, commit)
        return [Append(entry, commit), prepare]

    # -- acknowledgements ----------------------------------------------------------------------

    def on_ack(self, sender: NodeId, epoch: Epoch, upto: Seq, session: int, whole: bool) -> Actions:
        """`sender` has everything up to `upto` durable (rule R2)."""
        if not self.leads(epoch):
            return []
        if session:
            return self._on_learner_ack(sender, upto, session, whole)
        known = self.match.get(sender)
        if known is None:
            return []
        if not whole and sender not in self.copying:
            self.rowless_elsewhere.add(sender)
        elif whole:
            self.rowless_elsewhere.discard(sender)
            if sender in self.copying:
                self.has_become_whole(sender)
        if upto > known:
            self.match[sender] = upto
            return self.advance()
        return []

    def _on_learner_ack(self, sender: NodeId, upto: Seq, session: int, whole: bool) -> Actions:
        if self.sessions.get(sender) != session:
            return [self._session(sender, 0)]  # Of another session, whose log may be gone.
        self.learner_match[sender] = max(self.learner_match[sender], upto)
        if whole:
            self.has_become_whole(sender)
        return []

    def _session(self, learner: NodeId, nonce: int) -> SendSession:
        """Which session is the present one; an answer to who asked with `nonce`, if to any."""
        start_epoch = self.log.epoch_at(self.log.commit)
        assert start_epoch is not None
        session = self.sessions.get(learner, 0)
        return SendSession(learner, nonce, session, self.log.commit, start_epoch)

    def has_become_whole(self, node: NodeId) -> None:
        """A recruit or learner has all of history: it may become a full member."""
        self.whole_elsewhere.add(node)
        self.copying.discard(node)

    def on_nack(self, sender: NodeId, epoch: Epoch) -> Actions:
        """`sender` misses something, or has just come back: send the tail again."""
        if not self.leads(epoch) or sender not in self.match:
            return []
        if self.log.end == self.log.commit:
            return [self._commit_point(sender)]
        return self.prepare_again(sender, 0, self.log.commit)

    def on_join(self, sender: NodeId, epoch: Epoch, nonce: int) -> Actions:
        """Rule R12: a new session for a learner; what the last one had counts for nothing.

        A learner may have heard of its row before the primary knows how its swap ended.
        """
        if not self.leads(epoch) or self.pending is not None or self.log.commit < self.barrier:
            if self.leading and self.row is not None and epoch >= self.row.epoch:
                self.joins_waiting[sender] = epoch, nonce
            return []
        assert self.row is not None
        if all(learner.node != sender for learner in self.row.learners):
            return []
        self.sessions_started += 1
        session = self.sessions[sender] = self.sessions_started
        self.learner_match[sender] = Seq(0)
        self.whole_elsewhere.discard(sender)
        self.set_targets()
        again = self.prepare_again(sender, session, self.log.commit)
        return [self._session(sender, nonce), *again]

    def answer_joins(self) -> Actions:
        """Those that came before they could be answered."""
        if not self.joins_waiting or self.pending is not None:
            return []
        waiting, self.joins_waiting = self.joins_waiting, {}
        return [
            action
            for sender, (epoch, nonce) in waiting.items()
            for action in self.on_join(sender, epoch, nonce)
        ]

    def announcement(self) -> Actions:
        """Tell everyone of a commit point that no Prepare has carried to them."""
        if not self.leading or self.announced >= self.log.commit:
            return []
        self.announced = self.log.commit
        return [self._commit_point(*[node for node, _ in self.targets])]

    def advance(self) -> Actions:
        """Committed = every member has it durable; no majority, nothing under a swap (R2, R9)."""
        if self.pending is not None:
            return []
        committed = min(self.match.values())
        assert self.row is not None
        if len(self.row.members) < self.strength.min_copies:
            committed = min(committed, self.barrier)  # R11: nobody is told of more.
        if committed <= self.log.commit:
            return []
        assert committed <= self.log.end, "a member acknowledged what was never prepared"
        return self.commit_to(Seq(committed))

    def leads(self, epoch: Epoch) -> bool:
        """Whether this node leads exactly this epoch."""
        return self.leading and self.row is not None and epoch == self.row.epoch

    def set_targets(self) -> None:
        """Whom Prepares go to: members, and learners in a session."""
        members = [(node, 0) for node in self.other_members()]
        self.targets = (*members, *self.sessions.items())
        assert self.row is not None
        partial = {member.node for member in self.row.members if member.base}
        self.copying = (partial | self.sessions.keys()) - self.whole_elsewhere

    def reset_match(self) -> None:
        """A new epoch: what earlier ones acknowledged counts no more (rule R2).

        A recruit has whatever is committed from its base on: while it was a member, nothing was
        committed without it, and the swap that made it one froze the commit point below its base.
        """
        assert self.row is not None
        commit = self.log.commit
        self.match = {m.node: Seq(max(commit, m.base - 1)) for m in self.row.members}
        self.match[self.node] = self.log.durable
        self.learner_match = dict.fromkeys(self.sessions, Seq(0))
        self.whole_elsewhere.clear()
        self.rowless_elsewhere.clear()  # Each acknowledges the barrier, and says so again.
        self.progress.clear()
        self.set_targets()

    def prepare_again(self, node: NodeId, session: int, after: Seq) -> Actions:
        """Everything behind `after`, which is committed or acknowledged."""
        actions: Actions = []
        previous_epoch = self.log.epoch_at(after)
        assert previous_epoch is not None
        commit = self.log.commit
        target = ((node, session),)
        for entry in self.log.above(after):
            actions.append(SendPrepare(target, entry, previous_epoch, commit))
            previous_epoch = entry.epoch
        return actions

    def prepare_tail(self) -> Actions:
        """To everyone, under a new epoch (rule R11)."""
        return [
            action
            for node, session in self.targets
            for action in self.prepare_again(node, session, self._tail_start(node))
        ]

    def _tail_start(self, node: NodeId) -> Seq:
        return Seq(max(self.log.commit, min(self.match.get(node, Seq(0)), self.log.end)))

    def resend(self, now: float) -> Actions:
        """For what was lost on the way: to whom nothing new has been acknowledged for a while."""
        actions: Actions = []
        for node, session in self.targets:
            got = self.learner_match[node] if session else self.match[node]
            if got >= self.log.end and node not in self.copying:
                self.progress.pop(node, None)
                continue
            known = self.progress.get(node)
            if known is None or (known[0] != got and got < self.log.end):
                self.progress[node] = (got, now, now + RESEND_S)
            elif now >= known[2]:
                self.progress[node] = (got, known[1], now + RESEND_S)
                actions.append(self._commit_point(node))
                if not session:
                    again = self.prepare_again(node, 0, self._tail_start(node))
                    actions += again[:RESEND_ENTRIES_MAX]
        return actions

    def is_stuck(self, node: NodeId, now: float) -> bool:
        """Whether a member has had something to acknowledge for too long, and did not."""
        known = self.progress.get(node)
        return known is not None and known[0] < self.log.end and now - known[1] > MEMBER_STUCK_S

    def _commit_point(self, *nodes: NodeId) -> SendCommit:
        commit_epoch = self.log.epoch_at(self.log.commit)
        assert commit_epoch is not None
        return SendCommit(nodes, self.log.commit, commit_epoch)

    # -- reads ---------------------------------------------------------------------------------

    def serves(self) -> bool:
        """Whether this node is the primary, past its barrier, and can read its rows."""
        return (
            self.leading
            and not self.stopped
            and not self.rowless
            and self.log.commit >= self.barrier
        )

    def primary_ticket(self, key: bytes, now: float) -> ReadTicket | None:
        """Rule R3 at the primary: the committed state, under the lease."""
        if not self.serves() or not self.has_lease(now) or not self.log.shows_committed(key):
            return None
        assert self.row is not None
        return ReadTicket(self.row.epoch, Seq(0))

    def begin_list(self, epoch: Epoch, now: float) -> ReadTicket | None:
        """When a request comes to read many keys at once, in `epoch` (rule R3); None: not here.

        Then wait until the index `shows` the ticket, read, and see that `read_holds`.
        """
        if not self.leads(epoch) or not self.serves() or not self.has_lease(now):
            return None
        return ReadTicket(epoch, self.log.commit)

    def shows(self, ticket: ReadTicket) -> bool:
        """Whether the index has all that was committed when a list was asked for.

        Not all that is committed by now: a list would never begin while others write.
        """
        return self.log.applied >= ticket.wait_for

    def refusal_ticket(self, key: bytes, now: float) -> ReadTicket | None:
        """A 412, 304 or 404 for `key` as it is prepared now: good once that is committed."""
        if not self.serves() or not self.has_lease(now):
            return None
        assert self.row is not None
        newest = self.log.newest(key)
        return ReadTicket(self.row.epoch, newest.seq if newest is not None else Seq(0))

    def has_lease(self, now: float) -> bool:
        """Rule R4: promised by every other member, and by those of the row that we propose."""
        row = self.row
        if row is None or not self.leading:
            return False
        if not self._promised(row.members, now):
            return False
        if self.pending is None:
            return True
        proposed = self.pending.proposed.members
        return len(proposed) > 1 and self._promised(proposed, now)

    def _promised(self, members: tuple[Member, ...], now: float) -> bool:
        promised_by, shard, me = self.leases.promised_by, self.shard, self.node
        for member in members:
            if member.node != me and not promised_by(member.node, shard, now):
                return False
        return True

    def copies_heard(self, now: float) -> list[NodeId]:
        """Members with all of history that acknowledged the barrier and were heard just now."""
        if not self.serves():
            return []
        assert self.row is not None
        full = [
            member.node
            for member in self.row.members
            if member.base == 0 and member.node not in self.rowless_elsewhere
        ]
        promised_by = self.leases.promised_by
        return [node for node in full if node == self.node or promised_by(node, self.shard, now)]

    def refuse_request(self, request_id: bytes, ticket: ReadTicket, now: float) -> bool:
        """Whether the refusal may be answered now; then the request is never executed any more.

        Not when another attempt of the same request has been ordered while this one waited.
        """
        if self.row is None or self.row.epoch != ticket.epoch or not self.serves():
            return False
        if self.log.commit < ticket.wait_for or not self.has_lease(now):
            return False
        if self.log.requests.find(request_id) is not None:
            return False
        self.log.requests.refuse(request_id, now)
        return True
