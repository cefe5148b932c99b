"""One replica's log of one shard: what is prepared, verified, durable, committed and applied.

    start ≤ applied ≤ commit ≤ end        verified, durable ≤ end

- `start`: the log here begins behind this seq; 0 where all of history went through this log.
- `applied`: the index shows everything up to here. Entries above it are kept in memory, and the
  keys they touch are *dirty*.
- `commit`: every member is known to have it. Nothing at or below it is ever truncated.
- `verified`: up to here this log is known to be that of the present epoch's primary.
- An entry's *epoch* is the one in which it was first appended: (epoch, seq) names it and, through
  the check of its predecessor, the entire log before it.

No decisions here: `shard_primary.py` and `shard_backup.py` decide.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from octad.sharding.ids import Epoch, Seq
from octad.storage_node.index.index_format import upload_key_of
from octad.storage_node.journal.record_format import Location, RecordKind
from octad.storage_node.journal.several_records import request_ids
from octad.storage_node.operations.index_changes import Operation, PutObject, Refused
from octad.storage_node.operations.partitions import AppendBatch, AppendBatches
from octad.storage_node.replication.request_window import Outcome, RequestWindow, refused_at

NO_REQUEST = bytes(16)


class Entry(msgspec.Struct, eq=False, gc=False):
    """One entry of the shard's log, kept until it is applied."""

    epoch: Epoch
    seq: Seq
    kind: RecordKind
    request_id: bytes
    metadata: bytes
    data: bytes | memoryview | None  # None: only in the journal, at `location`.
    operation: Operation
    touched: tuple[bytes, ...]
    location: Location | None = None  # Of its journal record; set by the caller on append.
    settled: bool = False  # Applied or truncated: no replay needs it any more.


def outcome_of(entry: Entry) -> Outcome:
    """What the request window keeps of the request that the entry carries."""
    operation = entry.operation
    return refused_at(entry.seq, operation.code) if type(operation) is Refused else entry.seq


def request_ids_of(operation: Operation, request_id: bytes) -> list[bytes]:
    """The ids of all requests that an entry carries out; `request_id` is the one in its header."""
    return [each for each in request_ids(operation, request_id) if each != NO_REQUEST]


class ShardLog:
    """See the module."""

    __slots__ = (
        "applied",
        "applied_epoch",
        "commit",
        "dirty",
        "durable",
        "end",
        "entries",
        "requests",
        "start",
        "start_epoch",
        "verified",
    )

    def __init__(self, applied: Seq, applied_epoch: Epoch) -> None:
        self.start = Seq(0)
        self.start_epoch = Epoch(0)
        self.applied = applied
        self.applied_epoch = applied_epoch
        self.commit = applied
        self.end = applied
        self.verified = applied
        self.durable = applied
        self.entries: deque[Entry] = deque()  # applied < seq <= end
        self.dirty: dict[bytes, int] = {}  # touched key -> number of entries that touch it
        self.requests = RequestWindow()

    def append(self, entry: Entry) -> None:
        """`entry` follows the last one."""
        assert entry.seq == self.end + 1
        self.entries.append(entry)
        self.end = entry.seq
        dirty = self.dirty
        for key in entry.touched:
            dirty[key] = dirty.get(key, 0) + 1
        if entry.request_id != NO_REQUEST:
            put = type(entry.operation) is PutObject  # By far the most entries.
            self.requests.add(entry.request_id, entry.seq if put else outcome_of(entry))
        else:
            for request_id in request_ids_of(entry.operation, entry.request_id):
                self.requests.add(request_id, entry.seq)

    def truncate(self, seq: Seq) -> None:
        """Drop the entries from `seq` on: the primary of this epoch has others there."""
        assert seq > self.commit, "never truncate below the commit point"
        while self.end >= seq:
            entry = self.entries.pop()
            self._clean(entry)
            for request_id in request_ids_of(entry.operation, entry.request_id):
                self.requests.remove(request_id, entry.seq)
            self.end = Seq(self.end - 1)
        self.durable = Seq(min(self.durable, self.end))
        self.verified = Seq(min(self.verified, self.end))

    def restart_at(self, start: Seq, epoch: Epoch) -> None:
        """Forget the log: it begins anew behind `start`, whose entry is of `epoch` (rule R12)."""
        for entry in self.entries:
            self._clean(entry)
            if entry.seq > self.commit:
                for request_id in request_ids_of(entry.operation, entry.request_id):
                    self.requests.remove(request_id, entry.seq)
        self.requests.forget_above(start)
        self.entries.clear()
        self.start = self.applied = self.commit = self.end = start
        self.verified = self.durable = start
        self.start_epoch = self.applied_epoch = epoch

    def half(self) -> ShardLog:
        """The log of a half of the shard: a copy of this one, which is all applied (rule R18)."""
        assert self.applied == self.end, "a log is split behind its last entry"
        log = ShardLog(self.applied, self.applied_epoch)
        log.start, log.start_epoch = self.start, self.start_epoch
        log.requests = self.requests.half()
        return log

    def verify(self, seq: Seq) -> None:
        """Up to `seq` this log is known to be that of the present epoch's primary."""
        if seq > self.verified:
            self.verified = seq

    def enter_epoch(self) -> None:
        """Rule R1: on entering an epoch nothing above the commit point is verified."""
        self.verified = self.commit

    def is_durable(self, entry: Entry) -> bool:
        """The journal has synced `entry`; False when it was truncated meanwhile."""
        if entry.settled:
            return False
        if entry.seq > self.durable:
            self.durable = entry.seq
        return True

    def commit_to(self, seq: Seq) -> tuple[Entry, ...]:
        """Everything up to `seq` is committed; returns the newly committed entries in order."""
        previous, self.commit = self.commit, seq
        first = previous - self.applied
        entries = self.entries
        if seq == previous + 1:  # The usual case.
            return (entries[first],)
        return tuple([entries[index] for index in range(first, first + seq - previous)])

    def applied_to(self, seq: Seq) -> list[bytes]:
        """The index holds every entry up to `seq`: their keys are clean unless touched again.

        Gives their request ids.
        """
        entries, clean = self.entries, self._clean
        request_ids: list[bytes] = []
        for _ in range(seq - self.applied):
            entry = entries.popleft()
            clean(entry)
            if entry.request_id != NO_REQUEST:
                request_ids.append(entry.request_id)
            else:
                request_ids += request_ids_of(entry.operation, entry.request_id)
            self.applied, self.applied_epoch = entry.seq, entry.epoch
        assert seq <= self.applied <= self.commit <= self.end
        return request_ids

    def above(self, seq: Seq) -> Iterator[Entry]:
        """The entries behind `seq`, in order."""
        entries = self.entries
        return (entries[index] for index in range(max(seq - self.applied, 0), len(entries)))

    def has_requests_above(self, seq: Seq) -> bool:
        """Whether a client may wait for an entry behind `seq`: appends to a log may have no id."""
        return any(
            isinstance(entry.operation, AppendBatch | AppendBatches)
            or request_ids_of(entry.operation, entry.request_id)
            for entry in self.above(seq)
        )

    def at(self, seq: Seq) -> Entry:
        """The entry at `seq`, which is not applied yet."""
        return self.entries[seq - self.applied - 1]

    def epoch_at(self, seq: Seq) -> Epoch | None:
        """The epoch of the entry at `seq`; None where it is not known any more, or not yet."""
        if seq == self.applied:
            return self.applied_epoch
        if self.applied < seq <= self.end:
            return self.at(seq).epoch
        return None

    def newest(self, key: bytes) -> Entry | None:
        """The last entry that touches `key` and is not applied: the key's prepared state."""
        if key not in self.dirty:
            return None
        return next(entry for entry in reversed(self.entries) if key in entry.touched)

    def touching(self, key: bytes) -> list[Entry]:
        """All entries that touch `key` and are not applied, in order."""
        return [e for e in self.entries if key in e.touched] if key in self.dirty else []

    def changes_row(self, index_key: bytes) -> bool:
        """Whether an entry that is not applied touches the row at `index_key`, or ends it.

        The end of an upload touches the upload's row alone, and takes those of its parts along.
        """
        upload = upload_key_of(index_key)
        return index_key in self.dirty or (upload is not None and upload in self.dirty)

    def shows_committed(self, key: bytes) -> bool:
        """Whether the index's state of `key` is the one of the commit point."""
        if self.applied == self.commit or key not in self.dirty:
            return True
        unapplied = range(self.commit - self.applied)
        return not any(key in self.entries[index].touched for index in unapplied)

    # -- replay --------------------------------------------------------------------------------

    def restore(self, start: Seq, start_epoch: Epoch) -> None:
        """The log begins behind `start`, as the index says."""
        self.start, self.start_epoch = start, start_epoch

    def keep_to(self, seq: Seq) -> None:
        """A record at `seq` supersedes what is behind it; what is applied stays."""
        last = max(self.applied, seq)
        if self.end > last:
            self.truncate(Seq(last + 1))

    def note_committed(self, commit: Seq) -> None:
        """A record carries this commit point."""
        self.commit = max(self.commit, min(commit, self.end))

    def uncommit(self) -> Seq:
        """Takes the commit point back to what is applied; returns where it was."""
        newly, self.commit = self.commit, self.applied
        return newly

    def replayed(self) -> None:
        """The journal is read to its end: all entries are durable."""
        self.durable = self.end
        self.verified = self.commit

    def _clean(self, entry: Entry) -> None:
        entry.settled = True
        dirty = self.dirty
        for key in entry.touched:
            left = dirty[key] - 1
            if left:
                dirty[key] = left
            else:
                del dirty[key]
