"""The rows of a shard as they are prepared: what the index will show once the log is applied.

Every operation sets its rows whatever they were. So a row's value is set by the newest unapplied
entry that touches it, or by the index if there is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from octad.sharding.ids import ShardId
from octad.storage_node.index.key_ranges import past
from octad.storage_node.journal.record_format import Location, SegmentId
from octad.storage_node.operations.index_changes import IndexChanges
from octad.storage_node.replication.shard_log import Entry, ShardLog

_NOT_WRITTEN_YET = Location(SegmentId(0), 0, 0)


class StoredRows(Protocol):
    """The committed rows: the index."""

    def get(self, key: bytes, /) -> bytes | None: ...

    def scan(self, start: bytes, end: bytes | None, /) -> Iterable[tuple[bytes, bytes]]: ...


class PreparedRows:
    """See the module. `looked_at`: the log's keys for the rows that were read."""

    __slots__ = ("_log", "_shard", "_stored", "looked_at")

    def __init__(self, shard: ShardId, log: ShardLog, stored: StoredRows) -> None:
        self._shard = shard
        self._log = log
        self._stored = stored
        self.looked_at: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        """The row at `key`."""
        self.looked_at.append(key)
        newest = self._log.newest(key)
        return self._stored.get(key) if newest is None else self._made_by(newest).get(key)

    def under(self, prefix: bytes, mark: bytes) -> dict[bytes, bytes]:
        """The rows under `prefix`; every entry that makes one of them touches `mark`, too.

        Rows that belong to another one, as parts to their upload, mean nothing without it.
        """
        self.looked_at.append(mark)
        rows: dict[bytes, bytes | None] = dict(self._stored.scan(prefix, past(prefix)))
        for entry in self._log.touching(mark):
            made = self._made_by(entry).items()
            rows.update((key, value) for key, value in made if key.startswith(prefix))
        return {key: value for key, value in rows.items() if value is not None}

    def _made_by(self, entry: Entry) -> dict[bytes, bytes | None]:
        alone = IndexChanges(lambda _key: None)
        location = entry.location or _NOT_WRITTEN_YET
        alone.apply(entry.operation, location, self._shard, entry.epoch, entry.seq)
        return alone.changes
