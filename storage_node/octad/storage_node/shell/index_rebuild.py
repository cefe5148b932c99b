"""Makes a node's index anew from its journal alone, in two readings (`core/rebuilding.py`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from octad.storage_node.core.index_format import (
    POSITION_KEY,
    encode_position,
    encode_value,
    shard_state_key,
)
from octad.storage_node.core.rebuilding import Rebuilder, Survey
from octad.storage_node.core.record_format import Identity, Position
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
    survey = Survey(read_retired(disk, journal).states)
    reading = JournalRecovery(disk, journal, identity, Position(0))
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
    states = [
        (shard_state_key(shard), encode_value(survey.state(shard)))
        for shard, commit in survey.commits.items()
        if commit
    ]
    index.write([*states, (POSITION_KEY, encode_position(replay_from))])
    index.flush()
    return Rebuilt(records, len(states), index.ledger.live_bytes(), replay_from)


def _write(index: CountedIndex, rebuilder: Rebuilder) -> None:
    changes = rebuilder.changes
    puts = [(key, value) for key, value in changes.items() if value is not None]
    index.write(puts, [key for key, value in changes.items() if value is None])
    changes.clear()
