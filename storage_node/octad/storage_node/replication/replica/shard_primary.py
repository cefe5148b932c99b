"""A shard replica as primary: orders writes, commits them, answers reads.

Rules R2, R3, R4, R9, R11, R12, R15, R16, R21 and R22 of `docs/reference/replication.md`. What the
others have is in `shard_followers.py`, how it stops taking writes in `shard_drain.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from octad.sharding.ids import Epoch, NodeId, Seq, shard_name
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.journal.several_records import Several
from octad.storage_node.operations.index_changes import (
    Barrier,
    Operation,
    encode_operation,
    touched,
)
from octad.storage_node.replication.guards import GuardRefuses, Refusal
from octad.storage_node.replication.prepared_rows import PreparedRows, StoredRows
from octad.storage_node.replication.replica.pending_swap import PendingSwap
from octad.storage_node.replication.replica.shard_drain import Drain
from octad.storage_node.replication.replica.shard_followers import Followers
from octad.storage_node.replication.replica.shard_history import ShardHistory
from octad.storage_node.replication.replica.shard_leases import ShardLeases
from octad.storage_node.replication.replica_actions import (
    Abandon,
    Actions,
    AlreadyOrdered,
    AlreadyRefused,
    Append,
    NotPrimary,
    NotServing,
    OutcomeUnknown,
    SendPrepare,
    TooFewCopies,
    commit_to,
)
from octad.storage_node.replication.replica_state import Place, ReadTicket, Strength
from octad.storage_node.replication.request_window import refusal_of, seq_of
from octad.storage_node.replication.shard_log import NO_REQUEST, Entry, ShardLog, request_ids_of
from octad.storage_node.replication.writes import ANY_EPOCH, Write

LOG_ENTRIES_MAX = 4096

_BARRIER = Barrier()
_BARRIER_METADATA = encode_operation(_BARRIER)


class Primary:
    """Owns whether this node leads, since when, and from where on it serves. See the module."""

    __slots__ = (
        "announced",
        "barrier",
        "drain",
        "followers",
        "history",
        "leading",
        "leases",
        "log",
        "place",
        "strength",
        "swaps",
        "term",
    )

    def __init__(
        self,
        place: Place,
        log: ShardLog,
        history: ShardHistory,
        leases: ShardLeases,
        swaps: PendingSwap,
        strength: Strength,
    ) -> None:
        self.place = place
        self.log = log
        self.history = history
        self.leases = leases
        self.swaps = swaps
        self.followers = Followers(place, log)
        self.drain = Drain(log)
        self.strength = strength
        self.leading = False  # Primary of the configuration's epoch, by its own swap.
        self.term = Epoch(0)  # The epoch in which this node last began to lead.
        self.barrier = Seq(0)  # Serving needs commit >= barrier.
        self.announced = log.applied  # Highest commit point told to everyone.

    def on_strength(self, strength: Strength) -> None:
        """How many copies the shard's pool keeps, and with how few a write is acknowledged."""
        self.strength = strength

    # -- an epoch of ours ----------------------------------------------------------------------

    def lead(self, *, goes_on: bool) -> Actions:
        """A swap of ours has named us primary of a new epoch (rules R11, R15)."""
        configuration = self.place.configuration
        assert configuration is not None
        self.leading = True
        self.followers.begin_epoch(configuration)
        self.leases.lead(configuration)
        actions = self.followers.prepare_tail()
        if not goes_on:
            self.log.requests.forget_above(self.log.end)
            self.term = configuration.epoch
            actions += self.order_barrier()
        return actions + self.advance()

    def step_down(self) -> Actions:
        """Callers that wait for uncommitted writes get no outcome from this node."""
        abandoned = tuple(self.log.above(self.log.commit)) if self.leading else ()
        self.leading = False
        self.drain.end()
        self.followers.end()
        self.leases.forget()
        return [Abandon(abandoned)] if abandoned else []

    def on_swap_lost(self) -> Actions:
        """Our swap changed nothing: the commit point may move again."""
        if self.drain.stopped:
            return self.step_down()  # R17: it has stopped; only a new epoch serves again.
        return self.advance()

    def leads(self, epoch: Epoch) -> bool:
        """Whether this node leads exactly this epoch."""
        return self.leading and epoch == self.place.epoch

    # -- writes --------------------------------------------------------------------------------

    def decide(
        self, write: Write, stored: StoredRows, now: float, *, may_write_refusals: bool = True
    ) -> Write:
        """The write to order, as its guard decides; `propose` it at once (rule R21).

        The order of the checks is that of the rule. Raises GuardRefuses, unless the refusal is to
        be ordered itself: then that is the write (rule R22).
        """
        assert write.guard is not None
        assert not isinstance(write.operation, Several), "each of several would need its own id"
        by_entry = write.may_be_elsewhere and may_write_refusals
        code = self._require_new(write.request_id, refused_again=by_entry)
        self._require_own_term(write.asked_in)
        if code:
            return write.decided(Refusal(code, ""))
        rows = PreparedRows(self.place.shard, self.log, stored)
        decision = write.guard(rows)
        if isinstance(decision, Refusal) and not by_entry:
            ticket = self.refusal_ticket(rows.looked_at, now)
            if ticket is None:
                raise NotServing(f"shard {shard_name(self.place.shard)} has no lease")
            raise GuardRefuses(decision, ticket)
        return write.decided(decision)

    def propose(self, write: Write) -> tuple[Entry, Actions]:
        """Order a write. It is committed once `Apply` names its entry; raises when not serving.

        A guarded one is what `decide` has just returned: nothing has happened since.
        """
        self._require_new(write.request_id, refused_again=write.kind is RecordKind.REFUSED)
        if isinstance(write.operation, Several):
            self._require_all_new(write.operation, write.request_id)
        place = self.place
        assert place.configuration is not None
        if self.drain.until is not None:
            raise NotServing(f"shard {shard_name(place.shard)} is moving")
        if len(place.configuration.members) < self.strength.min_copies:
            raise TooFewCopies(f"shard {shard_name(place.shard)} has too few copies")
        if len(self.log.entries) >= LOG_ENTRIES_MAX:
            raise NotServing(f"shard {shard_name(place.shard)}: {LOG_ENTRIES_MAX} writes in flight")
        actions = self._order(
            write.kind, write.request_id, write.metadata, write.data, write.operation
        )
        return self.log.entries[-1], actions

    def check_retry(self, request_id: bytes, age_s: float, now: float) -> None:
        """Rule R16, before any precondition is looked at, for a request first made `age_s` ago.

        Raises AlreadyOrdered, or OutcomeUnknown if the window does not reach back so far.
        """
        self._require_new(request_id, refused_again=True)
        if not self.log.requests.reaches_back(age_s, now):
            raise OutcomeUnknown(shard_name(self.place.shard))

    def _require_new(self, request_id: bytes, *, refused_again: bool = False) -> int:
        """Raises AlreadyOrdered or AlreadyRefused; returns why it is to be refused again, if so."""
        self.require_serving()
        requests = self.log.requests
        known = requests.find(request_id)
        if known is not None:
            seq = seq_of(known)
            entry = self.log.at(seq) if seq > self.log.applied else None
            raise AlreadyOrdered(seq, entry, refusal_of(known))
        code = requests.was_refused(request_id)
        if code and not refused_again:
            raise AlreadyRefused(code)
        return code

    def _require_all_new(self, several: Several, request_id: bytes) -> None:
        """None of its requests was ordered before (rule R16), or all were, as one entry."""
        assert request_id == NO_REQUEST, "each of several has its own id, or none"
        ids = request_ids_of(several, request_id)
        if len({self.log.requests.find(each) for each in ids}) > 1:
            name = shard_name(self.place.shard)
            raise NotServing(f"shard {name} has some of these already: ask for each by itself")
        for each in ids:
            self._require_new(each)

    def _require_own_term(self, asked_in: Epoch) -> None:
        """Rule R3: refuses an attempt sent under another primary, or before the present term.

        That primary, or the next, may have refused the request, and no one else remembers that.
        """
        if ANY_EPOCH < asked_in < self.term:
            raise NotServing(f"shard {shard_name(self.place.shard)}: asked in epoch {asked_in}")

    def require_serving(self) -> None:
        """Raises NotPrimary or NotServing."""
        if not self.leading:
            known = self.place.configuration
            raise NotPrimary(self.place.shard, known.primary if known is not None else None)
        if self.log.commit < self.barrier or self.drain.stopped or self.history.rowless:
            raise NotServing(f"shard {shard_name(self.place.shard)} is starting or moving")

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
        log, targets = self.log, self.followers.targets
        previous_epoch = log.epoch_at(log.end)
        assert previous_epoch is not None
        entry = Entry(
            self.place.epoch,
            Seq(log.end + 1),
            kind,
            request_id,
            metadata,
            data,
            operation,
            touched(operation),
        )
        log.append(entry)
        committed = self.announced = log.commit
        if not targets:
            return [Append(entry, committed)]
        prepare = SendPrepare(targets, entry, previous_epoch, committed)
        return [Append(entry, committed), prepare]

    # -- acknowledgements ----------------------------------------------------------------------

    def on_ack(
        self, sender: NodeId, epoch: Epoch, upto: Seq, session: int, complete: bool
    ) -> Actions:
        """`sender` has everything up to `upto` durable (rule R2)."""
        if not self.leads(epoch):
            return []
        if session:
            return self.followers.on_learner_ack(sender, upto, session, complete)
        return self.advance() if self.followers.has_more(sender, upto, complete) else []

    def on_nack(self, sender: NodeId, epoch: Epoch) -> Actions:
        """`sender` misses something, or has just come back: send the tail again."""
        if not self.leads(epoch) or sender not in self.followers.match:
            return []
        if self.log.end == self.log.commit:
            return [self.followers.commit_point(sender)]
        return self.followers.prepare_again(sender, 0, self.log.commit)

    def on_join(self, sender: NodeId, epoch: Epoch, nonce: int) -> Actions:
        """Rule R12: a new session for a learner; what the last one had counts for nothing.

        A learner may have heard of its configuration before the primary knows how its swap ended.
        """
        early = self.swaps.pending is not None or self.log.commit < self.barrier
        if not self.leads(epoch) or early:
            if self.leading and epoch >= self.place.epoch:
                self.followers.sessions.wait(sender, epoch, nonce)
            return []
        configuration, followers = self.place.configuration, self.followers
        assert configuration is not None
        if all(learner.node != sender for learner in configuration.learners):
            return []
        session = followers.begin_session(sender, configuration)
        again = followers.prepare_again(sender, session, self.log.commit)
        return [followers.session_of(sender, nonce), *again]

    def answer_joins(self) -> Actions:
        """Those that came before they could be answered."""
        sessions = self.followers.sessions
        if not sessions.waiting or self.swaps.pending is not None:
            return []
        return [
            action
            for sender, (epoch, nonce) in sessions.take_waiting().items()
            for action in self.on_join(sender, epoch, nonce)
        ]

    def announcement(self) -> Actions:
        """Tell everyone of a commit point that no Prepare has carried to them."""
        if not self.leading or self.announced >= self.log.commit:
            return []
        self.announced = self.log.commit
        return [self.followers.commit_point(*[node for node, _ in self.followers.targets])]

    def advance(self) -> Actions:
        """Committed = every member has it durable; no majority, nothing under a swap (R2, R9)."""
        if self.swaps.pending is not None:
            return []
        configuration, log = self.place.configuration, self.log
        committed = min(self.followers.match.values())
        assert configuration is not None
        if len(configuration.members) < self.strength.min_copies:
            committed = min(committed, self.barrier)  # R11: no one is told of more.
        if committed <= log.commit:
            return []
        assert committed <= log.end, "a member acknowledged what was never prepared"
        return commit_to(log, Seq(committed))

    # -- reads ---------------------------------------------------------------------------------

    def serves(self) -> bool:
        """Whether this node is the primary, past its barrier, and can read its rows."""
        return (
            self.leading
            and not self.drain.stopped
            and not self.history.rowless
            and self.log.commit >= self.barrier
        )

    def primary_ticket(self, key: bytes, now: float) -> ReadTicket | None:
        """Rule R3 at the primary: the committed state, under the lease."""
        if not self.serves() or not self.has_lease(now) or not self.log.shows_committed(key):
            return None
        return ReadTicket(self.place.epoch, Seq(0))

    def begin_list(self, epoch: Epoch, now: float) -> ReadTicket | None:
        """For a request to read many keys at once, in `epoch` (rule R3); None: not here.

        Then wait until the index `shows` the ticket, read, and see that `read_holds`.
        """
        if not self.leads(epoch) or not self.serves() or not self.has_lease(now):
            return None
        return ReadTicket(epoch, self.log.commit)

    def shows(self, ticket: ReadTicket) -> bool:
        """Whether the index has all that was committed when a list was asked for.

        It need not have what was committed since, or a list would never begin while others write.
        """
        return self.log.applied >= ticket.wait_for

    def refusal_ticket(self, keys: Iterable[bytes], now: float) -> ReadTicket | None:
        """A 412, 304 or 404 for these as they are prepared now: good once all that is committed."""
        if not self.serves() or not self.has_lease(now):
            return None
        newest = [entry.seq for entry in map(self.log.newest, keys) if entry is not None]
        return ReadTicket(self.place.epoch, max(newest, default=Seq(0)))

    def has_lease(self, now: float) -> bool:
        """Rule R4: promised by every other member, and by those that we propose."""
        if not self.leading:
            return False
        configuration, pending = self.place.configuration, self.swaps.pending
        assert configuration is not None
        if not self.leases.promised(configuration.members, now):
            return False
        if pending is None:
            return True
        proposed = pending.proposed.members
        return len(proposed) > 1 and self.leases.promised(proposed, now)

    def copies_heard(self, now: float) -> list[NodeId]:
        """Members with all of history that acknowledged the barrier and were heard just now."""
        if not self.serves():
            return []
        configuration = self.place.configuration
        assert configuration is not None
        full = [
            member.node
            for member in configuration.members
            if member.base == 0 and member.node not in self.followers.rowless
        ]
        me, promised_by = self.place.node, self.leases.promised_by
        return [node for node in full if node == me or promised_by(node, now)]

    def refuse_request(self, request_id: bytes, ticket: ReadTicket, code: int, now: float) -> bool:
        """Whether the refusal may be answered now; then the request is never executed any more.

        Not when another attempt of the same request has been ordered while this one waited.
        """
        if self.place.epoch != ticket.epoch or not self.serves():
            return False
        if self.log.commit < ticket.wait_for or not self.has_lease(now):
            return False
        if self.log.requests.find(request_id) is not None:
            return False
        if request_id != NO_REQUEST:  # Else the next one without an id would pass for a try of it.
            self.log.requests.refuse(request_id, code, now)
        return True
