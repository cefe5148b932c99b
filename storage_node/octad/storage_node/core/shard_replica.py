"""One node's replica of one shard, as a state machine without I/O: prepare, acknowledge, commit.

    primary:  propose ─ Append, SendPrepare to all ─ on_durable, on_ack ─ all have it ─ Apply
    backup:   on_prepare ─ Append ─ on_durable ─ SendAck … commit point learned ─ Apply

Feed it events (methods named `on_…`, and `propose`); each gives the actions for the shell to
perform, in order. The numbered rules are in `docs/reference/replication.md`. What this file does
not do yet: it never takes over from another primary and never changes the members, so it needs no
leases: with members fixed, an entry that a backup has not prepared cannot have been committed.

Words: an entry's *epoch* is the one in which it was first appended, so (epoch, seq) names it and,
through the check of its predecessor, the whole log before it. `applied ≤ commit ≤ end`; entries
above `applied` are kept here, their keys are *dirty*.

All of one state machine: its handlers share every field, so the file is left a little long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from octad.sharding.ids import Epoch, NodeId, Seq, ShardId, shard_name
from octad.sharding.shard_map import ShardRow
from octad.storage_node.core.operations import (
    Barrier,
    Operation,
    decode_operation,
    encode_operation,
    touched,
)
from octad.storage_node.core.record_format import Location, RecordKind

NO_REQUEST = bytes(16)
ENTRIES_MAX = 4096  # Prepared and not applied, a shard: what a restart re-prepares at most.


class NotPrimary(Exception):
    """Another node orders this shard's writes (or nobody that this node knows of)."""

    def __init__(self, shard: ShardId, primary: NodeId | None) -> None:
        super().__init__(f"shard {shard_name(shard)}: the primary is {primary}")
        self.primary = primary


class NotServing(Exception):
    """This node is the primary but cannot take the write now."""


@dataclass(slots=True, eq=False)
class Entry:
    """One entry of the shard's log, kept until it is applied."""

    epoch: Epoch
    seq: Seq
    kind: RecordKind
    request_id: bytes
    metadata: bytes
    data: bytes | memoryview | None  # None: only in the journal, at `location`.
    operation: Operation
    touched: tuple[bytes, ...]
    location: Location | None = None  # Of its journal record: the shell's, once it is appended.
    settled: bool = False  # Applied or truncated: no replay needs it any more.


@dataclass(frozen=True, slots=True)
class Append:
    """Journal `entry` with `commit` in its record; tell `on_durable` when it is synced."""

    entry: Entry
    commit: Seq


@dataclass(frozen=True, slots=True)
class SendPrepare:
    """To `node`: have this entry, whose predecessor was appended in `previous_epoch`."""

    node: NodeId
    entry: Entry
    previous_epoch: Epoch
    commit: Seq


@dataclass(frozen=True, slots=True)
class SendAck:
    """To the primary: everything up to `upto` is this epoch's and durable here."""

    node: NodeId
    upto: Seq


@dataclass(frozen=True, slots=True)
class SendNack:
    """To the primary: send again what is above `verified`."""

    node: NodeId
    verified: Seq


@dataclass(frozen=True, slots=True)
class SendCommit:
    """To `node`: everything up to `commit`, which was appended in `commit_epoch`, is committed."""

    node: NodeId
    commit: Seq
    commit_epoch: Epoch


@dataclass(frozen=True, slots=True)
class Apply:
    """Change the index by these committed entries, in order; then call `on_applied`."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Lead:
    """The row names this node as primary: swap in `epoch + 1`, then give the new row to `lead`."""

    row: ShardRow


@dataclass(frozen=True, slots=True)
class Refetch:
    """A message spoke of a newer epoch: read the row again."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """These proposals are no longer ours to answer: their outcome is unknown here."""

    entries: tuple[Entry, ...]


Action: TypeAlias = (
    Append | SendPrepare | SendAck | SendNack | SendCommit | Apply | Lead | Refetch | Abandon
)
Actions: TypeAlias = list[Action]


class ShardReplica:
    """See the module. All methods are synchronous, cheap and without side effects outside."""

    def __init__(
        self,
        shard: ShardId,
        node: NodeId,
        incarnation: str,
        applied: Seq,
        applied_epoch: Epoch,
    ) -> None:
        self.shard = shard
        self.node = node
        self.incarnation = incarnation
        self.row: ShardRow | None = None
        self.leading = False  # Primary of row.epoch, by a swap of our own.
        self.barrier = Seq(0)  # Serving needs commit >= barrier.
        self.applied = applied
        self.applied_epoch = applied_epoch
        self.commit = applied
        self.end = applied
        self.entries: deque[Entry] = deque()  # applied < seq <= end
        self.dirty: dict[bytes, int] = {}  # touched key -> number of entries that touch it
        self.verified = applied  # Backup: up to here our log is known to be the primary's.
        # Backup: a SendNack is under way, and what comes before its answer is dropped, so that one
        # gap does not have the tail sent once for every message behind it.
        self.asked_again = False
        self.durable = applied
        self.match: dict[NodeId, Seq] = {}  # Primary: what each member has durable.
        self.announced = applied  # Primary: highest commit point told to everyone.
        self.missing_before: Seq | None = None  # Recovery: a record without its predecessor.

    # -- recovery ------------------------------------------------------------------------------

    def recover(self, entry: Entry, commit: Seq) -> None:
        """Replay one journal record, in the order of the journal (rule R14).

        It supersedes every earlier record of the shard with the same or a higher seq. One whose
        predecessor is missing must be superseded itself by what follows: replay begins behind the
        predecessor because that is needed no more. What lies above the highest commit point that
        any record carries stays prepared and dirty.
        """
        self.missing_before = None
        if entry.seq > self.end + 1:
            self.missing_before = entry.seq
            return
        known = entry.seq <= self.applied or (
            entry.seq <= self.end and self._entry(entry.seq).epoch == entry.epoch
        )
        self._truncate(max(self.applied, entry.seq if known else entry.seq - 1))
        if entry.seq == self.end + 1:
            self._append(entry)
        self.commit = max(self.commit, min(commit, self.end))

    def recovered(self) -> Actions:
        """The journal is replayed to its end: everything read from it is durable."""
        assert self.missing_before is None, (
            f"shard {shard_name(self.shard)}: what precedes seq {self.missing_before} is missing"
        )
        self.durable = self.end
        self.verified = self.announced = self.commit
        return self._apply_from(self.applied)

    # -- the configuration ---------------------------------------------------------------------

    def on_row(self, row: ShardRow) -> Actions:
        """The configuration store has this row. Older ones than what is known change nothing."""
        if self.row is not None and row.epoch <= self.row.epoch:
            return []
        actions = self._enter(row)
        member = row.member(self.node)
        if member is None or member.incarnation != self.incarnation:
            return actions
        if row.primary == self.node:
            return [*actions, Lead(row)]
        return [*actions, self._ask_again(row.primary)]

    def lead(self, row: ShardRow) -> Actions:
        """Our swap to `row` succeeded (rules R11, R15): re-prepare the tail, then a barrier."""
        assert row.primary == self.node
        if self.row is not None and row.epoch < self.row.epoch:
            return []
        actions = self._enter(row)
        self.leading = True
        # Every member has everything up to our commit point, by the meaning of that word.
        self.match = {member.node: self.commit for member in row.members}
        self.match[self.node] = self.durable
        self.barrier = Seq(self.end + 1)
        actions += self._prepare_again(self._others())
        barrier = Barrier()
        actions += self._propose(
            RecordKind.BARRIER, NO_REQUEST, encode_operation(barrier), b"", barrier
        )
        return actions

    def _enter(self, row: ShardRow) -> Actions:
        abandoned = tuple(self._above(self.commit)) if self.leading else ()
        self.row = row
        self.leading = False
        self.match = {}
        self.verified = self.commit  # R1: on entering an epoch.
        return [Abandon(abandoned)] if abandoned else []

    # -- the primary ---------------------------------------------------------------------------

    def propose(
        self,
        kind: RecordKind,
        request_id: bytes,
        metadata: bytes,
        data: bytes | memoryview,
        operation: Operation,
    ) -> tuple[Entry, Actions]:
        """Order a write. It is committed once `Apply` names its entry; raises when not serving."""
        if not self.leading:
            raise NotPrimary(self.shard, self.row.primary if self.row else None)
        if self.commit < self.barrier:
            raise NotServing(f"shard {shard_name(self.shard)} is starting")
        if len(self.entries) >= ENTRIES_MAX:
            raise NotServing(f"shard {shard_name(self.shard)} has {ENTRIES_MAX} writes in flight")
        actions = self._propose(kind, request_id, metadata, data, operation)
        return self.entries[-1], actions

    def _propose(
        self,
        kind: RecordKind,
        request_id: bytes,
        metadata: bytes,
        data: bytes | memoryview,
        operation: Operation,
    ) -> Actions:
        assert self.row is not None
        previous_epoch = self._epoch_at(self.end)
        assert previous_epoch is not None
        entry = Entry(
            self.row.epoch,
            Seq(self.end + 1),
            kind,
            request_id,
            metadata,
            data,
            operation,
            touched(operation),
        )
        self._append(entry)
        actions: Actions = [Append(entry, self.commit)]
        for node in self._others():
            actions.append(SendPrepare(node, entry, previous_epoch, self.commit))
        self.announced = self.commit
        return actions

    def on_ack(self, sender: NodeId, epoch: Epoch, upto: Seq) -> Actions:
        """`sender` has everything up to `upto` durable (rule R2)."""
        if not self._leads(sender, epoch):
            return []
        if upto > self.match[sender]:
            self.match[sender] = upto
            return self._advance()
        return []

    def on_nack(self, sender: NodeId, epoch: Epoch) -> Actions:
        """`sender` misses something, or has just come back: send the tail again."""
        if not self._leads(sender, epoch):
            return []
        if self.end == self.commit:
            commit_epoch = self._epoch_at(self.commit)
            assert commit_epoch is not None
            return [SendCommit(sender, self.commit, commit_epoch)]
        return self._prepare_again([sender])

    def announcement(self) -> Actions:
        """Tell the members of a commit point that no Prepare has carried to them."""
        if not self.leading or self.announced >= self.commit:
            return []
        self.announced = self.commit
        commit_epoch = self._epoch_at(self.commit)
        assert commit_epoch is not None
        return [SendCommit(node, self.commit, commit_epoch) for node in self._others()]

    def _leads(self, sender: NodeId, epoch: Epoch) -> bool:
        return (
            self.leading
            and self.row is not None
            and epoch == self.row.epoch
            and sender in self.match
        )

    def _others(self) -> list[NodeId]:
        assert self.row is not None
        return [member.node for member in self.row.members if member.node != self.node]

    def _prepare_again(self, nodes: Iterable[NodeId]) -> Actions:
        actions: Actions = []
        for node in nodes:
            previous_epoch = self._epoch_at(self.commit)
            assert previous_epoch is not None
            for entry in self._above(self.commit):
                actions.append(SendPrepare(node, entry, previous_epoch, self.commit))
                previous_epoch = entry.epoch
        return actions

    def _advance(self) -> Actions:
        """Committed = every member has it durable; no majority (rule R2)."""
        committed = min(self.match.values())
        if committed <= self.commit:
            return []
        assert committed <= self.end, "a member acknowledged what was never prepared"
        previous, self.commit = self.commit, Seq(committed)
        return self._apply_from(previous)

    # -- a backup ------------------------------------------------------------------------------

    def on_prepare(
        self,
        sender: NodeId,
        epoch: Epoch,
        entry: tuple[Epoch, Seq, RecordKind, bytes, bytes, bytes | memoryview],
        previous_epoch: Epoch,
        commit: Seq,
    ) -> Actions:
        """Rule R1. `entry` is (its epoch, seq, kind, request id, metadata, data)."""
        refusal = self._refuse(sender, epoch)
        if refusal is not None:
            return refusal
        entry_epoch, seq, kind, request_id, metadata, data = entry
        if seq - 1 > self.end or not self._continues(Seq(seq - 1), previous_epoch):
            return [] if self.asked_again else [self._ask_again(sender)]
        self.asked_again = False
        actions: Actions = []
        if seq > self.applied:
            if seq <= self.end and self._entry(seq).epoch != entry_epoch:
                self._truncate(Seq(seq - 1))
            if seq == self.end + 1:
                operation = decode_operation(kind, metadata)
                new = Entry(
                    entry_epoch,
                    seq,
                    kind,
                    request_id,
                    metadata,
                    data,
                    operation,
                    touched(operation),
                )
                self._append(new)
                actions.append(Append(new, self.commit))
        self.verified = max(self.verified, seq)
        actions += self._learn_commit(commit)
        if seq <= self.durable:  # Sent again: nothing to wait for.
            actions.append(SendAck(sender, Seq(min(self.verified, self.durable))))
        return actions

    def on_commit(self, sender: NodeId, epoch: Epoch, commit: Seq, commit_epoch: Epoch) -> Actions:
        """The primary's commit point; the epoch of its entry verifies our log (rule R1)."""
        refusal = self._refuse(sender, epoch)
        if refusal is not None:
            return refusal
        if commit > self.end or not self._continues(commit, commit_epoch):
            return [] if self.asked_again else [self._ask_again(sender)]
        self.asked_again = False
        self.verified = max(self.verified, commit)
        return self._learn_commit(commit)

    def on_connected(self, node: NodeId) -> Actions:
        """A new connection to `node`: what was on its way over the old one may be lost."""
        if self.row is None or self.row.primary != node or not self._is_member():
            return []
        return [self._ask_again(node)]

    def _ask_again(self, primary: NodeId) -> SendNack:
        self.asked_again = True
        return SendNack(primary, self.verified)

    def _refuse(self, sender: NodeId, epoch: Epoch) -> Actions | None:
        """The actions instead of taking a message of `epoch` from `sender`; None: take it."""
        if self.row is None or epoch > self.row.epoch:
            return [Refetch()]
        if epoch < self.row.epoch or sender != self.row.primary or not self._is_member():
            return []
        return None

    def _is_member(self) -> bool:
        if self.row is None:
            return False
        member = self.row.member(self.node)
        return member is not None and member.incarnation == self.incarnation

    def _continues(self, seq: Seq, epoch: Epoch) -> bool:
        """Is our log up to `seq` the one of which the primary speaks?"""
        return seq <= self.verified or self._epoch_at(seq) == epoch

    def _learn_commit(self, commit: Seq) -> Actions:
        known = min(commit, self.verified)
        if known <= self.commit:
            return []
        previous, self.commit = self.commit, Seq(known)
        return self._apply_from(previous)

    # -- both ----------------------------------------------------------------------------------

    def on_durable(self, entry: Entry) -> Actions:
        """The journal has synced `entry`. One that was truncated meanwhile counts for nothing."""
        if not self.applied < entry.seq <= self.end or self._entry(entry.seq) is not entry:
            return []
        self.durable = max(self.durable, entry.seq)
        if self.leading:
            self.match[self.node] = self.durable
            return self._advance()
        if self.row is None or not self._is_member() or self.row.primary == self.node:
            return []
        upto = Seq(min(self.verified, self.durable))
        return [SendAck(self.row.primary, upto)] if upto >= entry.seq else []

    def on_applied(self, upto: Seq) -> None:
        """The index holds every entry up to `upto`: their keys are clean unless touched again."""
        while self.entries and self.entries[0].seq <= upto:
            entry = self.entries.popleft()
            self._clean(entry)
            self.applied, self.applied_epoch = entry.seq, entry.epoch
        assert self.applied <= self.commit <= self.end

    def _append(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.end = entry.seq
        for key in entry.touched:
            self.dirty[key] = self.dirty.get(key, 0) + 1

    def _truncate(self, last: int) -> None:
        """Drop our entries past `last`: the primary of this epoch has others there."""
        assert last >= self.commit or self.end <= last, "never truncate below the commit point"
        while self.end > last:
            self._clean(self.entries.pop())
            self.end = Seq(self.end - 1)
        self.durable = Seq(min(self.durable, self.end))
        self.verified = Seq(min(self.verified, self.end))

    def _clean(self, entry: Entry) -> None:
        entry.settled = True
        for key in entry.touched:
            left = self.dirty[key] - 1
            if left:
                self.dirty[key] = left
            else:
                del self.dirty[key]

    def _apply_from(self, previous_commit: Seq) -> Actions:
        entries = tuple(entry for entry in self._above(previous_commit) if entry.seq <= self.commit)
        return [Apply(entries)] if entries else []

    def _above(self, seq: Seq) -> Iterable[Entry]:
        return (entry for entry in self.entries if entry.seq > seq)

    def _entry(self, seq: Seq) -> Entry:
        return self.entries[seq - self.applied - 1]

    def _epoch_at(self, seq: Seq) -> Epoch | None:
        """The epoch of the entry at `seq`; None where it is not known any more, or not yet."""
        if seq == self.applied:
            return self.applied_epoch
        if self.applied < seq <= self.end:
            return self._entry(seq).epoch
        return None
