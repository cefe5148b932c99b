"""After a restart: every replica as the index and the journal know it (rule R14).

The index says how far its rows go; the journal's records behind that are read again, in order.
Nothing is decided here: who is primary, the configuration store says later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from octad.sharding.ids import ShardId, shard_name
from octad.storage_node.history.history_writer import installed_copy
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index_format import (
    SHARD_STATES,
    decode_shard_state,
    decode_shard_state_key,
)
from octad.storage_node.index.key_ranges import past
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal_errors import IndexBehind
from octad.storage_node.journal.record_format import (
    Location,
    NewerRecord,
    Position,
    Record,
    RecordKind,
)
from octad.storage_node.journal.retired_segments import read_retired
from octad.storage_node.journal.segment_file import written_by_newer
from octad.storage_node.operations.index_changes import (
    decode_log_split,
    decode_log_start,
    decode_operation,
    touched,
)
from octad.storage_node.replication.host.index_applier import state_entry
from octad.storage_node.replication.host.replica_table import ReplicaTable
from octad.storage_node.replication.host.request_ids import RequestIds
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import Actions
from octad.storage_node.replication.shard_log import Entry, ShardLog

Perform = Callable[[ShardReplica, Actions], None]


class Replayed(Protocol):
    """The journal, or as much of it as is durable."""

    @property
    def directory(self) -> Path: ...

    @property
    def disk(self) -> Disk: ...

    def replay(self, start: Position) -> Iterator[tuple[Location, Record]]: ...


def recover_states(
    table: ReplicaTable, index: CountedIndex, request_ids: RequestIds, now: float
) -> list[ShardId]:
    """The replicas that the index knows; returns those whose copy of history was just complete."""
    complete: list[ShardId] = []
    copied: list[ShardReplica] = []
    for key, value in index.scan(SHARD_STATES, past(SHARD_STATES)):
        shard, state = decode_shard_state_key(key), decode_shard_state(value)
        replica = table.make(shard, ShardLog(state.applied, state.applied_epoch))
        replica.restore(
            state.start,
            state.start_epoch,
            state.complete_to,
            state.copied_as_of,
            state.depth,
            state.view_epoch,
        )
        copy = installed_copy(index, shard, state.start)
        if copy is not None and replica.wants_copy(copy.start):
            request_ids.note_copied(shard, copy.request_ids)
            replica.on_copied(copy.start, copy.as_of, list(copy.request_ids), now)
            copied.append(replica)
            complete += [shard] if replica.complete_to is None else []
    if copied:  # No entry may follow to say so, and the journal is not kept for ever.
        index.write([state_entry(replica, index.digests) for replica in copied])
    return complete


def replay(
    table: ReplicaTable,
    journal: Replayed,
    index: CountedIndex,
    request_ids: RequestIds,
    perform: Perform,
    now: float,
) -> None:
    """Every record that the rows may not show yet, in the journal's order.

    Raises IndexBehind, and what reading the journal does.
    """
    begin, saved_at = index.position(), request_ids.load()
    for location, record in journal.replay(min(begin, saved_at or begin)):
        replica = table.replica(record.shard)
        if record.kind is RecordKind.LOG_START:
            started = decode_log_start(record.metadata)
            actions = replica.recover_start(
                record.seq, record.epoch, record.commit, started.complete_to, started.depth
            )
            perform(replica, actions)
            # Before a position behind the record is written for what another shard has applied.
            index.write([state_entry(replica, index.digests)])
        elif record.kind is RecordKind.LOG_SPLIT:
            depth = decode_log_split(record.metadata).depth
            perform(replica, replica.recover_split(depth, record.seq))
        else:
            try:
                entry = entry_of(location, record)
            except NewerRecord as error:
                raise written_by_newer(journal.directory, location, error) from error
            replica.recover(entry, record.commit)
        request_ids.replayed(record, replica.log.applied)
    _check_nothing_is_missing(table, journal)
    for shard, pairs in request_ids.take_found().items():
        table.replica(shard).log.requests.restore(pairs, now)


def _check_nothing_is_missing(table: ReplicaTable, journal: Replayed) -> None:
    """Raises IndexBehind if entries are in neither the index nor the journal.

    Compaction drops only what the rows show, so an older index was put back, or the index was lost.
    """
    data = journal.directory.parent
    lacking = [
        shard for shard, each in table.replicas.items() if each.replay.missing_before is not None
    ]
    lacking += [
        shard
        for shard, state in read_retired(journal.disk, journal.directory).states.items()
        if table.replica(shard).log.end < state.applied
    ]
    if lacking:
        raise IndexBehind(data, f"entries of shard {shard_name(lacking[0])}")


def entry_of(location: Location, record: Record) -> Entry:
    """The log entry that `record` is."""
    metadata = bytes(record.metadata)  # The entry must not hold on to all that was read with it.
    operation = decode_operation(record.kind, metadata)
    return Entry(
        record.epoch,
        record.seq,
        record.kind,
        record.request_id,
        metadata,
        None,
        operation,
        touched(operation),
        location,
    )
