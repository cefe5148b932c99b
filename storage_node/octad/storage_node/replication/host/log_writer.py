"""The shards' logs in the node's one journal: entries, and where a log begins anew or is split.

Records of a shard are journaled in the order in which its replica asked for them; nothing here
waits. Synced entries are returned in that order. The first entry that is neither applied nor cut
off says where a replay must begin.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.record_format import Position, RecordKind, start_of
from octad.storage_node.journal.several_records import Several
from octad.storage_node.operations.index_changes import LogSplit, LogStart, encode_operation
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import Append, SplitLog, StartLog
from octad.storage_node.replication.shard_log import NO_REQUEST, Entry


class LogWriter:
    """See the module. Raises JournalFull where room was not asked for before."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._syncing: deque[tuple[Position, ShardReplica, Entry]] = deque()  # lsn, …
        self._unsettled: deque[Entry] = deque()

    def append(self, replica: ShardReplica, action: Append) -> None:
        """The entry has its place from now on; `durable` returns it when it is synced."""
        entry, operation = action.entry, action.entry.operation
        appended = self._journal.append(
            entry.kind,
            replica.shard,
            entry.epoch,
            entry.seq,
            action.commit,
            entry.request_id,
            entry.metadata,
            self.data_of(entry),
            operation if isinstance(operation, Several) else None,
        )
        entry.location = appended.location
        self._syncing.append((appended.lsn, replica, entry))
        self._unsettled.append(entry)
        if entry.kind is RecordKind.BARRIER:
            self._journal.upkeep_appended += 1

    def start_anew(self, replica: ShardReplica, action: StartLog) -> None:
        """The record comes before those of the entries that follow, and is synced with them."""
        self._journal.append(
            RecordKind.LOG_START,
            replica.shard,
            action.start_epoch,
            action.start,
            action.commit,
            NO_REQUEST,
            encode_operation(LogStart(action.complete_to, action.depth)),
            b"",
        )
        self._journal.upkeep_appended += 1

    def split(self, replica: ShardReplica, action: SplitLog) -> None:
        """The record comes before any later one of either half (rule R18)."""
        self._journal.append(
            RecordKind.LOG_SPLIT,
            replica.shard,
            action.epoch,
            action.seq,
            action.seq,
            NO_REQUEST,
            encode_operation(LogSplit(action.depth)),
            b"",
        )
        self._journal.upkeep_appended += 1

    def durable(self, lsn: Position) -> Iterator[tuple[ShardReplica, Entry]]:
        """The entries that a sync up to `lsn` has made durable."""
        syncing = self._syncing
        while syncing and syncing[0][0] <= lsn:
            _, replica, entry = syncing.popleft()
            yield replica, entry

    def recovered(self, entries: list[Entry]) -> None:
        """A replay has ended; it did not settle these."""
        self._unsettled.extend(sorted(entries, key=_place))

    def replay_from(self) -> Position:
        """The lowest journal position that is not settled yet: where a replay has to begin."""
        unsettled = self._unsettled
        while unsettled and unsettled[0].settled:
            unsettled.popleft()
        return _place(unsettled[0]) if unsettled else self._journal.position()

    def data_of(self, entry: Entry) -> bytes | memoryview:
        """The entry's bytes, which stay in the journal alone when it was replayed."""
        if entry.data is not None:
            return entry.data
        assert entry.location is not None
        return self._journal.read(entry.location).data


def _place(entry: Entry) -> Position:
    assert entry.location is not None
    return start_of(entry.location)
