"""Makes a node's index anew from its journal alone, in two readings (`core/rebuilding.py`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from octad.storage_node.core.history_format import copied_to_key, encode_copied_to, marks_range
from octad.storage_node.core.index_format import (
    POSITION_KEY,
    encode_position,
    encode_value,
    shard_state_key,
)
from octad.storage_node.core.rebuilding import Rebuilder, Survey
from octad.storage_node.core.record_format import Identity, Position
from octad.storage_node.core.shard_digest import ShardDigests
from octad.storage_node.shell.counted_index import CountedIndex
from octad.storage_node.shell.disk import Disk
from octad.storage_node.shell.journal_recovery import JournalRecovery
from octad.storage_node.shell.retired_segments import read_retired

_BATCH_CHANGES = 2000


class Rebuilt(msgspec.Struct):
    """What a rebuild has done."""

    records: int
    shards: int
    live_bytes: int
    replay_from: Position


def rebuild(
    disk: Disk,
    journal: Path,
    identity: Identity | None,
    index: CountedIndex,
    on_progress: Callable[[int], None] = lambda _records: None,
) -> Rebuilt:
    """Fill the empty `index`; it is flushed in the end. Raises JournalDamage, OSError."""
    reading = JournalRecovery(disk, journal, identity, Position(0))
    survey = Survey(read_retired(disk, journal).states, reading.oldest)
    for location, record in reading.records(local=True):
        survey.see(location, record)
    rebuilder = Rebuilder(survey, index.get)
    records = 0
    for location, record in JournalRecovery(disk, journal, identity, Position(0)).records(
        local=True
    ):
        if rebuilder.apply(location, record):
            index.ledger.keep(location, location.segment)
        records += 1
        if len(rebuilder.changes) >= _BATCH_CHANGES:
            _write(index, rebuilder)
            on_progress(records)
    for segment, end in reading.ends:
        index.ledger.seal(segment, end)
    _write(index, rebuilder)
    replay_from = survey.replay_from(reading.end)
    states = {shard: survey.state(shard) for shard, commit in survey.commits.items() if commit}
    copied_to = [
        (copied_to_key(shard), encode_copied_to(segment))
        for shard, segment in survey.copied_to.items()
    ]
    _forget_marks(index, survey)
    entries = [(shard_state_key(shard), encode_value(state)) for shard, state in states.items()]
    index.write([*entries, *copied_to, (POSITION_KEY, encode_position(replay_from))])
    index.digests = ShardDigests(states.items())  # Not known: the rows are to be counted.
    index.flush()
    return Rebuilt(records, len(states), index.ledger.live_bytes(), replay_from)


def _forget_marks(index: CountedIndex, survey: Survey) -> None:
    """They said what is void until all records were read; now only missing history needs them."""
    for shard in survey.late:
        if survey.state(shard).whole is None:
            marks = [key for key, _ in index.scan(*marks_range(shard))]
            for first in range(0, len(marks), _BATCH_CHANGES):
                index.write([], marks[first : first + _BATCH_CHANGES])


def _write(index: CountedIndex, rebuilder: Rebuilder) -> None:
    changes = rebuilder.changes
    puts = [(key, value) for key, value in changes.items() if value is not None]
    index.write(puts, [key for key, value in changes.items() if value is None])
    changes.clear()
