"""Makes a node's index anew from its journal alone, in two readings (`rebuild/journal_survey.py`).

Beside a journal that is being written, in rounds: each reads what has become durable since the last
one, so that little is left for the replay when the new index is taken into use.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.history_format import copied_to_key, encode_copied_to, marks_range
from octad.storage_node.index.index_format import (
    POSITION_KEY,
    encode_position,
    encode_value,
    shard_state_key,
)
from octad.storage_node.index.shard_digest import ShardDigests
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal_recovery import JournalRecovery
from octad.storage_node.journal.record_format import Identity, NewerRecord, Position, start_of
from octad.storage_node.journal.retired_segments import read_retired
from octad.storage_node.journal.segment_file import written_by_newer
from octad.storage_node.rebuild.journal_survey import Rebuilder, Survey

_BATCH_CHANGES = 2000


class Rebuilt(msgspec.Struct):
    """What a rebuild has done."""

    records: int
    shards: int
    live_bytes: int
    replay_from: Position


class IndexRebuild:
    """Fills the empty `index`: `read_on` at least once, then `finish`."""

    def __init__(
        self,
        disk: Disk,
        journal: Path,
        identity: Identity | None,
        index: CountedIndex,
        on_progress: Callable[[int], None] = lambda _records: None,
    ) -> None:
        self._disk = disk
        self._journal = journal
        self._identity = identity
        self._index = index
        self._on_progress = on_progress
        self._records = 0
        oldest = self._reading(Position(0), None).oldest
        self._survey = Survey(read_retired(disk, journal).states, oldest)
        self._rebuilder = Rebuilder(self._survey, index.get)
        self._surveyed_to = self._applied_to = self._kept_to = Position(0)

    def read_on(self, until: Position | None = None) -> int:
        """All records up to `until`, which is durable; None: of a journal that no one writes.

        Returns how many were read. What is above the commit points is left for the next round, or
        for the replay. Raises JournalDamage, OSError.
        """
        before, late = self._records, set(self._survey.late)
        reading = self._reading(self._surveyed_to, until)
        for location, record in reading.records(local=True):
            try:
                self._survey.see(location, record)
            except NewerRecord as error:
                raise written_by_newer(self._journal, location, error) from error
        self._surveyed_to = reading.end
        if self._survey.late - late:  # Rows applied without marks of deletions must be read again.
            self._applied_to = Position(0)
        self._apply(until)
        for segment, end in reading.ends[: None if until is None else -1]:
            self._index.ledger.seal(segment, end)
        return self._records - before

    def _apply(self, until: Position | None) -> None:
        index, rebuilder = self._index, self._rebuilder
        for location, record in self._reading(self._applied_to, until).records(local=True):
            try:
                kept = rebuilder.apply(location, record)
            except NewerRecord as error:
                raise written_by_newer(self._journal, location, error) from error
            if kept and start_of(location) >= self._kept_to:
                index.ledger.keep(location, location.segment)
            self._records += 1
            if len(rebuilder.changes) >= _BATCH_CHANGES:
                _write(index, rebuilder)
                self._on_progress(self._records)
        _write(index, rebuilder)
        self._kept_to = self._surveyed_to
        self._applied_to = self._survey.replay_from(self._surveyed_to)

    def finish(self) -> Rebuilt:
        """Say how far the rows go, and make all of it durable."""
        survey, index = self._survey, self._index
        # A shard whose history was copied has rows even where its own log begins at 0.
        known = [each for each, commit in survey.commits.items() if commit or each in survey.late]
        states = {shard: survey.state(shard) for shard in known}
        copied_to = [
            (copied_to_key(shard), encode_copied_to(segment))
            for shard, segment in survey.copied_to.items()
        ]
        _forget_marks(index, survey)
        entries = [(shard_state_key(shard), encode_value(state)) for shard, state in states.items()]
        index.write([*entries, *copied_to, (POSITION_KEY, encode_position(self._applied_to))])
        index.digests = ShardDigests(states.items())  # Not known: the rows are to be counted.
        index.flush()
        return Rebuilt(self._records, len(states), index.ledger.live_bytes(), self._applied_to)

    def _reading(self, start: Position, until: Position | None) -> JournalRecovery:
        return JournalRecovery(self._disk, self._journal, self._identity, start, until)


def rebuild(disk: Disk, journal: Path, identity: Identity | None, index: CountedIndex) -> Rebuilt:
    """For a stopped node. Raises JournalDamage, OSError."""
    rebuilding = IndexRebuild(disk, journal, identity, index)
    rebuilding.read_on()
    return rebuilding.finish()


def _forget_marks(index: CountedIndex, survey: Survey) -> None:
    """They marked what is void until all records were read; now only missing history needs them."""
    for shard in survey.late:
        if survey.state(shard).complete_to is None:
            marks = [key for key, _ in index.scan(*marks_range(shard))]
            for first in range(0, len(marks), _BATCH_CHANGES):
                index.write([], marks[first : first + _BATCH_CHANGES])


def _write(index: CountedIndex, rebuilder: Rebuilder) -> None:
    changes = rebuilder.changes
    puts = [(key, value) for key, value in changes.items() if value is not None]
    index.write(puts, [key for key, value in changes.items() if value is None])
    changes.clear()
