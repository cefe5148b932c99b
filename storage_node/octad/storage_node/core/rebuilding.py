"""What the journal alone says: which of its entries are committed, and what the rows then are.

Two readings of all records in the journal's order. The first (`Survey`) finds each shard's commit
point and the barriers. An entry is *void* when a barrier of a later epoch stands at or below its
seq: it was truncated. The second (`Rebuilder`) applies what is committed and not void; a record
changes a row only if the row is not of a later seq, so that records which compaction moved behind
others do no harm (`core/copy_format.py`). What is above the commit points stays for replay.
"""

from __future__ import annotations

from collections.abc import Callable

from octad.sharding.ids import Epoch, Seq, ShardId
from octad.storage_node.core.copy_format import KEPT_KINDS, original_of, row_key_of
from octad.storage_node.core.index_format import (
    ROW_TABLES,
    ShardState,
    decode_ordered,
)
from octad.storage_node.core.operations import IndexChanges, decode_operation
from octad.storage_node.core.record_format import (
    FIRST_LOCAL_KIND,
    Location,
    Position,
    Record,
    RecordKind,
    start_of,
)


class Survey:
    """The first reading. `states` are those that the note of retired segments has."""

    def __init__(self, states: dict[ShardId, tuple[Seq, Epoch]]) -> None:
        self._states = states
        self.commits: dict[ShardId, Seq] = {shard: state[0] for shard, state in states.items()}
        self._barriers: dict[ShardId, list[tuple[Epoch, Seq]]] = {}
        self._entries: dict[ShardId, list[tuple[Seq, Epoch, Position]]] = {}
        self.view_epochs: dict[ShardId, Epoch] = {}

    def see(self, location: Location, record: Record) -> None:
        if record.kind is RecordKind.SYNCED_MARK:
            return
        shard = record.shard
        copied = record.kind is RecordKind.COPY
        known = record.seq if copied else record.commit  # Only what is applied is copied.
        self.commits[shard] = max(self.commits.get(shard, Seq(0)), known)
        self.view_epochs[shard] = max(self.view_epochs.get(shard, Epoch(0)), record.epoch)
        if original_of(location, record).kind is RecordKind.BARRIER:
            self._barriers.setdefault(shard, []).append((record.epoch, record.seq))
        if not copied:
            # Only what may lie above the commit point in the end is remembered.
            entries = self._entries.setdefault(shard, [])
            if entries and entries[0][0] < self.commits[shard]:
                entries[:] = [each for each in entries if each[0] >= self.commits[shard]]
            entries.append((record.seq, record.epoch, start_of(location)))

    def is_void(self, record: Record) -> bool:
        return self._voids(record.shard, record.epoch, record.seq)

    def replay_from(self, end: Position) -> Position:
        """The first entry above its shard's commit point that is not void; `end` without one."""
        above = [
            place
            for shard, entries in self._entries.items()
            for seq, epoch, place in entries
            if seq > self.commits[shard] and not self._voids(shard, epoch, seq)
        ]
        return min([end, *above])

    def state(self, shard: ShardId) -> ShardState:
        """How far the rows will go."""
        commit = self.commits[shard]
        found = [epoch for seq, epoch, _ in self._entries.get(shard, ()) if seq == commit]
        standing = [epoch for epoch in found if not self._voids(shard, epoch, commit)]
        if standing:
            epoch = standing[-1]
        else:
            seq, epoch = self._states.get(shard, (Seq(0), Epoch(0)))
            assert seq == commit, f"the entry at the commit point of shard {shard} is gone"
        return ShardState(commit, epoch, max(epoch, self.view_epochs.get(shard, epoch)))

    def _voids(self, shard: ShardId, epoch: Epoch, seq: Seq) -> bool:
        barriers = self._barriers.get(shard, ())
        return any(later > epoch and first <= seq for later, first in barriers)


class Rebuilder:
    """The second reading. `stored` gives what an index key has by now."""

    def __init__(self, survey: Survey, stored: Callable[[bytes], bytes | None]) -> None:
        self._survey = survey
        self._stored = stored
        self.changes: dict[bytes, bytes | None] = {}  # To be written and emptied now and then.

    def apply(self, location: Location, record: Record) -> bool:
        """Add what `record` does to the rows; True for a copy that no row shows."""
        if record.kind is RecordKind.SYNCED_MARK or self._survey.is_void(record):
            return False
        if record.seq > self._survey.commits[record.shard]:
            return False
        original = original_of(location, record)
        one = IndexChanges()
        operation = decode_operation(original.kind, original.metadata)
        one.apply(operation, location, record.epoch, record.seq)
        outdated = {
            key for key in one.changes if key[0] in ROW_TABLES and self._is_later(key, record.seq)
        }
        for key, value in one.changes.items():
            if key not in outdated and key[9:] not in outdated:  # Behind `h` and the hash.
                self.changes[key] = value
        kept = record.kind >= FIRST_LOCAL_KIND and original.kind in KEPT_KINDS
        row = row_key_of(original)
        return kept and (row is None or row in outdated)

    def _is_later(self, key: bytes, seq: Seq) -> bool:
        value = self.changes[key] if key in self.changes else self._stored(key)
        if value is None:
            return False
        return decode_ordered(value).seq > seq
