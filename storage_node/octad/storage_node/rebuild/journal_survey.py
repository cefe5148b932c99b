"""What the journal alone says: which of its entries are committed, and what the rows then are.

Two readings of all records in the journal's order. The first (`Survey`) finds each shard's commit
point, its barriers, and where its log began anew. The second (`Rebuilder`) applies what is
committed and not void; a record changes a row only if the row is not of a later seq, so that
records which compaction moved behind others do no harm (`operations/copy_format.py`). What is above
the commit points stays for replay. Void is an entry

- that a later record of the shard's log with the same or a lower seq has replaced, or that the log
  had behind the point where it was split;
- that has a barrier of a later epoch at or below its seq;
- that was above the commit point when the log began anew: its seq is not above the new start, or
  its epoch is below that of the start.

What was copied from another node, and records of rows that compaction moved, are never void. In a
shard whose history was copied, rows and deletions stand in any order in the journal; so there every
deletion leaves a mark until all is read (`operations/index_behind_copy.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from octad.sharding.ids import Epoch, Seq, ShardId
from octad.storage_node.index.history_format import decode_history_copied, decode_history_deleted
from octad.storage_node.index.index_format import ROW_TABLES, decode_ordered
from octad.storage_node.journal.record_format import (
    Location,
    Position,
    Record,
    RecordKind,
    SegmentId,
    start_of,
)
from octad.storage_node.journal.shard_state import ShardState
from octad.storage_node.operations.copy_format import Original, original_of, row_key_of
from octad.storage_node.operations.index_behind_copy import add_behind_copy, take_away
from octad.storage_node.operations.index_changes import (
    IndexChanges,
    decode_log_split,
    decode_log_start,
    decode_operation,
)
from octad.storage_node.operations.kind import Scope
from octad.storage_node.operations.registry import kind_numbered

_NO_STATE = ShardState(Seq(0), Epoch(0), Epoch(0))


class _Start(NamedTuple):
    """The log began anew behind `seq`; what it had above `commit` was cut off."""

    seq: Seq
    epoch: Epoch
    commit: Seq
    complete_to: Seq


class Survey:
    """The first reading. `states` are those that the note of retired segments has."""

    def __init__(self, states: dict[ShardId, ShardState], oldest: SegmentId) -> None:
        self._states = states
        self._oldest = oldest
        self.commits: dict[ShardId, Seq] = {shard: each.applied for shard, each in states.items()}
        # The last seq that is known to be committed with its epoch.
        self._known = {shard: (each.applied, each.applied_epoch) for shard, each in states.items()}
        self._barriers: dict[ShardId, list[tuple[Epoch, Seq, Position | None]]] = {}
        self._entries: dict[ShardId, list[tuple[Seq, Epoch, Position]]] = {}
        self._ends: dict[ShardId, Seq] = {}
        self._cuts: dict[ShardId, list[tuple[Position, Seq]]] = {}  # Before, from which seq.
        self._starts: dict[ShardId, list[_Start]] = {}
        self._installed: dict[ShardId, tuple[Seq, Seq]] = {}  # Start, and how recent.
        self.view_epochs: dict[ShardId, Epoch] = {}
        self._depths = {shard: each.depth for shard, each in states.items()}
        self.copied_to: dict[ShardId, SegmentId] = {}
        self.late = {shard for shard, each in states.items() if each.start or each.complete_to}

    def see(self, location: Location, record: Record) -> None:
        if record.kind is RecordKind.SYNCED_MARK:
            return
        original = original_of(location, record)
        if self.is_superfluous(record, original):
            return
        shard, kind, place = record.shard, original.kind, start_of(location)
        if kind is RecordKind.HISTORY_DELETED or original.from_another_node:
            self.late.add(shard)
            self.copied_to[shard] = SegmentId(location.segment + 1)
            return
        if kind is RecordKind.HISTORY_COPIED:
            self._installed[shard] = (record.seq, decode_history_copied(original.metadata).as_of)
            return
        self.view_epochs[shard] = max(self.view_epochs.get(shard, Epoch(0)), record.epoch)
        if kind is RecordKind.LOG_START:
            self._see_start(record, original)
            return
        if kind is RecordKind.LOG_SPLIT:
            self._see_split(place, record, original)
            return
        if kind is RecordKind.BARRIER:
            at = None if record.kind is RecordKind.COPY else place
            self._barriers.setdefault(shard, []).append((record.epoch, record.seq, at))
        if record.kind is not RecordKind.COPY:
            self._see_entry(place, record)
        elif not kind_numbered(kind).kept:  # Only what is applied is copied for its row.
            self._know(shard, record.seq, record.epoch)

    def _see_start(self, record: Record, original: Original) -> None:
        shard = record.shard
        self.late.add(shard)
        started = decode_log_start(original.metadata)
        start = _Start(record.seq, record.epoch, record.commit, started.complete_to)
        self._depths[shard] = started.depth
        self._starts.setdefault(shard, []).append(start)
        if record.kind is not RecordKind.COPY:
            self._ends[shard] = record.seq
        self._know(shard, record.seq, record.epoch)

    def _see_split(self, place: Position, record: Record, original: Original) -> None:
        """Up to here the log is the beginning of both halves, and what it had behind it is void."""
        shard, seq, depth = record.shard, record.seq, decode_log_split(original.metadata).depth
        if (self._depths.get(shard) or 0) >= depth:
            return  # The note was written after it, or compaction has copied the record.
        if record.kind is not RecordKind.COPY and seq < self._ends.get(shard, Seq(0)):
            self._cuts.setdefault(shard, []).append((place, Seq(seq + 1)))
            self._ends[shard] = seq
        half = ShardId(shard + (1 << (depth - 1)))
        self._depths[shard] = self._depths[half] = depth
        for each in (shard, half):
            self._know(each, seq, record.epoch)
            self.view_epochs[each] = max(self.view_epochs.get(each, Epoch(0)), record.epoch)
        if shard in self.late:  # The log of both halves began where the unsplit log did.
            self.late.add(half)
            self._states.setdefault(half, self._states.get(shard, _NO_STATE))
            if shard in self._starts:
                self._starts.setdefault(half, list(self._starts[shard]))  # From here on its own.
            if shard in self._installed:
                self._installed.setdefault(half, self._installed[shard])

    def _see_entry(self, place: Position, record: Record) -> None:
        shard, seq = record.shard, record.seq
        self.commits[shard] = max(self.commits.get(shard, Seq(0)), record.commit)
        if seq <= self._ends.get(shard, Seq(0)):
            self._cuts.setdefault(shard, []).append((place, seq))
        self._ends[shard] = seq
        # Only what may lie above the commit point in the end is remembered.
        entries = self._entries.setdefault(shard, [])
        if entries and entries[0][0] < self.commits[shard]:
            entries[:] = [each for each in entries if each[0] >= self.commits[shard]]
        entries.append((seq, record.epoch, place))

    def _know(self, shard: ShardId, seq: Seq, epoch: Epoch) -> None:
        self.commits[shard] = max(self.commits.get(shard, Seq(0)), seq)
        if seq >= self._known.get(shard, (Seq(0), Epoch(0)))[0]:
            self._known[shard] = (seq, epoch)

    def is_superfluous(self, record: Record, original: Original) -> bool:
        """A kept record whose time is over: nothing is left that it could make void.

        What makes such a record void itself may be gone already.
        """
        kind = kind_numbered(original.kind)
        return (
            record.kind is RecordKind.COPY
            and kind.kept
            and kind.row_key is None
            and original.origin <= self._oldest
        )

    def is_void(self, location: Location, record: Record, original: Original) -> bool:
        kind = kind_numbered(original.kind)
        if original.from_another_node or kind.scope is Scope.COPY:
            return False
        if record.kind is RecordKind.COPY and not kind.kept:
            return False
        copied = record.kind is RecordKind.COPY
        place = None if copied else start_of(location)
        return self._voids(record.shard, record.epoch, record.seq, place)

    def replay_from(self, end: Position) -> Position:
        """The first entry above its shard's commit point that is not void; `end` without one."""
        above = [
            place
            for shard, entries in self._entries.items()
            for seq, epoch, place in entries
            if seq > self.commits[shard] and not self._voids(shard, epoch, seq, place)
        ]
        return min([end, *above])

    def state(self, shard: ShardId) -> ShardState:
        """How far the rows will go."""
        commit = self.commits[shard]
        standing = [
            epoch
            for seq, epoch, place in self._entries.get(shard, ())
            if seq == commit and not self._voids(shard, epoch, seq, place)
        ]
        if standing:
            epoch = standing[-1]
        else:
            seq, epoch = self._known.get(shard, (Seq(0), Epoch(0)))
            assert seq == commit, f"the entry at the commit point of shard {shard} is gone"
        view = max(epoch, self.view_epochs.get(shard, epoch))
        return self._with_history(shard, ShardState(commit, epoch, view))

    def _with_history(self, shard: ShardId, state: ShardState) -> ShardState:
        """With what is known of where the log began, and of the history before."""
        noted = self._states.get(shard, _NO_STATE)
        complete_to, installed = noted.complete_to, noted.copied_as_of
        start, start_epoch = noted.start, noted.start_epoch
        last = max(self._starts.get(shard, ()), default=None)
        if last is not None and (last.seq > start or shard not in self._states):
            start, start_epoch = last.seq, last.epoch
            complete_to, installed = last.complete_to, None
        copied = self._installed.get(shard)
        if copied is not None and copied[0] == start and complete_to is not None:
            installed = copied[1]
        if installed is not None and installed <= state.applied:
            complete_to = installed = None
        return msgspec.structs.replace(
            state,
            start=start,
            start_epoch=start_epoch,
            complete_to=complete_to,
            copied_as_of=installed,
            depth=self._depths.get(shard),
        )

    def _voids(self, shard: ShardId, epoch: Epoch, seq: Seq, place: Position | None) -> bool:
        return self._is_cut(shard, epoch, seq, place) or any(
            later > epoch and first <= seq and not self._is_cut(shard, later, first, at)
            for later, first, at in self._barriers.get(shard, ())
        )

    def _is_cut(self, shard: ShardId, epoch: Epoch, seq: Seq, place: Position | None) -> bool:
        """Cut off by a start of the log, or replaced; what compaction moved has no place."""
        if place is not None and any(
            place < before and seq >= first for before, first in self._cuts.get(shard, ())
        ):
            return True
        return any(
            seq > start.commit and (seq <= start.seq or epoch < start.epoch)
            for start in self._starts.get(shard, ())
        )


class Rebuilder:
    """The second reading. `stored` returns what an index key has by now."""

    def __init__(self, survey: Survey, stored: Callable[[bytes], bytes | None]) -> None:
        self._survey = survey
        self._stored = stored
        self._all = IndexChanges(stored)
        self.changes = self._all.changes  # To be written and emptied now and then.

    def apply(self, location: Location, record: Record) -> bool:
        """Add what `record` does to the rows; True for a copy that no row shows."""
        if record.kind is RecordKind.SYNCED_MARK:
            return False
        survey, original = self._survey, original_of(location, record)
        if survey.is_superfluous(record, original) or survey.is_void(location, record, original):
            return False
        copied = record.kind is RecordKind.COPY
        if original.kind is RecordKind.HISTORY_DELETED:
            gone = decode_history_deleted(original.metadata).order_keys
            take_away(self._all, record.shard, gone, record.seq, self._stored)
            return copied
        kind = kind_numbered(original.kind)
        if kind.scope is not Scope.ENTRY:
            return copied
        above = record.seq > survey.commits.get(record.shard, Seq(0))
        if above and not original.from_another_node:
            return False
        self._add(location, record, original)
        kept = copied and kind.kept
        row = row_key_of(original)
        return kept and (row is None or self._is_later(row, record.seq))

    def _add(self, location: Location, record: Record, original: Original) -> None:
        operation = decode_operation(original.kind, original.metadata)
        shard, epoch, seq = record.shard, record.epoch, record.seq
        if shard in self._survey.late:
            add_behind_copy(self._all, shard, operation, location, epoch, seq, self._stored)
            return
        # Records that compaction moved lie behind later ones, so what was named before does not say
        # what is dead: such extents are found as those of a commit that never came.
        one = IndexChanges(lambda _key: None)
        one.apply(operation, location, shard, epoch, seq)
        outdated = {key for key in one.changes if key[0] in ROW_TABLES and self._is_later(key, seq)}
        for key, value in one.changes.items():
            if key not in outdated and key[9:] not in outdated:  # Behind `h` and the hash.
                self.changes[key] = value

    def _is_later(self, key: bytes, seq: Seq) -> bool:
        value = self.changes[key] if key in self.changes else self._stored(key)
        if value is None:
            return False
        return decode_ordered(value).seq > seq
