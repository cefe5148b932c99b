"""Puts what was copied from another node into this node's journal and index.

    record appended as a COPY ─ durable ─ row, where it is still newer ─ … ─ HISTORY_COPIED durable,
    what is gone over there appended as HISTORY_DELETED ─ durable ─ rows away     ─ index flushed

All of it may be done again from the beginning after a crash: what is here by then is not copied
twice. It does not know where pages and records come from. Rules: `docs/reference/history-copy.md`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from octad.sharding.ids import BucketId, Epoch, PoolId, Seq, ShardId, pool_of
from octad.sharding.limits import HISTORY_STEP_ROWS
from octad.storage_node.history.history_messages import HistoryRead, HistoryRecord, HistoryRow
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.history_format import (
    HistoryCopied,
    HistoryDeleted,
    InstalledCopy,
    copied_to_key,
    decode_copied_to,
    decode_installed_copy,
    decode_mark,
    encode,
    encode_copied_to,
    installed_copy_key,
    marks_range,
)
from octad.storage_node.index.index import Index
from octad.storage_node.index.index_format import (
    ROW_TABLES,
    SHARD_STATES,
    bucket_of_row,
    decode_located,
    decode_shard_order_key,
    decode_shard_state,
    decode_shard_state_key,
)
from octad.storage_node.index.key_ranges import past
from octad.storage_node.journal.journal import Appended, Journal
from octad.storage_node.journal.record_format import (
    RECORD_KINDS,
    REQUEST_ID_BYTES,
    Position,
    RecordKind,
    SegmentId,
    segment_of,
)
from octad.storage_node.operations.copy_format import FROM_ANOTHER_NODE, Copied, encode_copied
from octad.storage_node.operations.index_behind_copy import is_newer, row_seq, take_away
from octad.storage_node.operations.index_changes import IndexChanges, decode_operation
from octad.storage_node.operations.registry import declared

HISTORY_FLUSH_S = 0.1  # From one flush of the index for complete copies to the next.

_NOBODY = bytes(REQUEST_ID_BYTES)
_DELETED_BYTES = 256 * 1024  # Bytes of keys in one record.


class BadHistory(Exception):
    """The source sent a record that is not the row's."""


class HistoryWriter:
    """See the module. Notify it when the journal is replayed, with the states of shards written."""

    def __init__(
        self,
        journal: Journal,
        index: CountedIndex,
        pool_of_bucket: Callable[[BucketId], PoolId | None],
    ) -> None:
        self._journal = journal
        self._index = index
        self._pool_of_bucket = pool_of_bucket
        self._copied_to: dict[ShardId, SegmentId] = {}
        self._flushing = asyncio.Lock()
        self._flushes_begun = self._flushes_done = 0
        self._flushed_at = float("-inf")

    def recovered(self) -> None:
        """Keep what copies of before have written, until they are finished."""
        for key, value in self._index.scan(SHARD_STATES, past(SHARD_STATES)):
            if decode_shard_state(value).complete_to is not None:
                self._protect(decode_shard_state_key(key))

    # -- comparing -----------------------------------------------------------------------------

    async def compare(
        self, shard: ShardId, begin: bytes, page: HistoryRead
    ) -> tuple[list[HistoryRow], list[bytes]]:
        """The rows of a page newer than ours, and our `h` entries missing in it."""
        here: set[bytes] = set()
        for number, (order_key, _) in enumerate(self._index.scan(begin, page.end)):
            if decode_shard_order_key(order_key)[0] in ROW_TABLES:
                here.add(order_key)
            if number % HISTORY_STEP_ROWS == HISTORY_STEP_ROWS - 1:
                await asyncio.sleep(0)
        marked = next(iter(self._index.scan(*marks_range(shard))), None) is not None
        if not here and not marked:
            return page.rows, []
        lacking: list[HistoryRow] = []
        for number, row in enumerate(page.rows):
            here.discard(row.order_key)
            if self._is_newer(shard, row):
                lacking.append(row)
            if number % HISTORY_STEP_ROWS == HISTORY_STEP_ROWS - 1:
                await asyncio.sleep(0)
        gone = [key for key in here if await self._goes(shard, key, page.as_of)]
        return lacking, gone

    def _is_newer(self, shard: ShardId, row: HistoryRow) -> bool:
        return is_newer(shard, decode_shard_order_key(row.order_key), row.seq, {}, self._index.get)

    async def _goes(self, shard: ShardId, order_key: bytes, as_of: Seq) -> bool:
        """Whether a row that the source lacks is of this shard, and not newer than the page."""
        index_key = decode_shard_order_key(order_key)
        value = self._index.get(index_key)
        if value is None or row_seq(index_key, {}, self._index.get) > as_of:
            return False
        pool = self._pool_of_bucket(bucket_of_row(index_key, value))
        if pool is None:  # The bucket is deleted: the pool is in the row's record.
            location = decode_located(value).location
            record = await asyncio.to_thread(self._journal.read, location)
            pool = pool_of(record.shard)
        return pool == pool_of(shard)

    # -- writing -------------------------------------------------------------------------------

    def append(
        self, shard: ShardId, row: HistoryRow, record: HistoryRecord, data: bytes | memoryview
    ) -> tuple[Position, HistoryRow, bytes]:
        """Journal a row's record; returns what `put` needs. Raises JournalFull, BadHistory."""
        index_key = decode_shard_order_key(row.order_key)
        try:
            operation = decode_operation(record.kind, record.metadata)
        except ValueError as error:
            raise BadHistory(str(error)) from error
        row_key = declared(operation).row_key
        if row_key is None or row_key(operation) != index_key:
            name = RECORD_KINDS[record.kind].name
            raise BadHistory(f"{name} is not the record of {index_key.hex()}")
        origin = segment_of(self._journal.position())
        copied = Copied(FROM_ANOTHER_NODE, origin, record.kind, record.metadata)
        appended = self._append(
            RecordKind.COPY,
            shard,
            row.epoch,
            row.seq,
            record.request_id,
            encode_copied(copied),
            data,
        )
        one = IndexChanges(_nothing)  # The former value does not affect the row.
        one.apply(operation, appended.location, shard, row.epoch, row.seq)
        value = one.changes[index_key]
        assert value is not None
        return appended.lsn, row, value

    async def put(
        self,
        shard: ShardId,
        copied: list[tuple[Position, HistoryRow, bytes]],
        wanted: Callable[[], bool],
    ) -> None:
        """Once the records are durable: point rows at them, unless something newer came.

        Other work gets its turn in between only while the copy is `wanted`. A replica that an
        operator's recovery puts in charge serves what it has once its barrier is durable, which
        lies behind these records: no row may appear later (rule R19).
        """
        if not copied:
            return
        await self._journal.durable(max(lsn for lsn, _, _ in copied))
        get = self._index.get
        for first in range(0, len(copied), HISTORY_STEP_ROWS):
            puts: list[tuple[bytes, bytes]] = []
            before: dict[bytes, bytes | None] = {}
            for _, row, value in copied[first : first + HISTORY_STEP_ROWS]:
                key = decode_shard_order_key(row.order_key)
                before[key] = get(key)
                if is_newer(shard, key, row.seq, before, get):
                    self._index.digests.change(shard, key, before[key], value)
                    puts.append((key, value))
                    puts.append((row.order_key, b""))
            self._index.write(puts, (), before)
            if wanted():
                await asyncio.sleep(0)

    async def delete(
        self, shard: ShardId, as_of: Seq, order_keys: list[bytes], wanted: Callable[[], bool]
    ) -> None:
        """Rows that were absent at the source as of `as_of` go, unless newer, while it is `wanted`.

        Raises JournalFull.
        """
        while order_keys and wanted():
            size = count = 0
            while count < min(len(order_keys), HISTORY_STEP_ROWS) and size < _DELETED_BYTES:
                size += len(order_keys[count])
                count += 1
            some, order_keys = order_keys[:count], order_keys[count:]
            metadata = encode(HistoryDeleted(tuple(some)))
            kind = RecordKind.HISTORY_DELETED
            appended = self._append(kind, shard, Epoch(0), as_of, _NOBODY, metadata, b"")
            await self._journal.durable(appended.lsn)
            changes = IndexChanges(self._index.get, self._index.digests)
            take_away(changes, shard, some, as_of, self._index.get)
            self._index.write(*changes.split())

    async def install(
        self, shard: ShardId, start: Seq, as_of: Seq, request_ids: list[tuple[bytes, Seq]]
    ) -> None:
        """Every row is in the index: note it, and make it all durable."""
        copy = InstalledCopy(start, as_of, tuple(request_ids))
        self._index.write([(installed_copy_key(shard), encode(copy))])
        kind, metadata = RecordKind.HISTORY_COPIED, encode(HistoryCopied(as_of))
        appended = self._append(kind, shard, Epoch(0), start, _NOBODY, metadata, b"")
        await self._journal.durable(appended.lsn)
        await self._flush_index()

    async def forget_marks(self, shard: ShardId, upto: Seq) -> None:
        """The replica is complete and has applied `upto`: nothing older can come back."""
        keys: list[bytes] = []
        for number, (key, value) in enumerate(self._index.scan(*marks_range(shard))):
            if decode_mark(value).seq <= upto:
                keys.append(key)
            if number % HISTORY_STEP_ROWS == HISTORY_STEP_ROWS - 1:
                self._index.write([], keys)
                keys = []
                await asyncio.sleep(0)
        if keys:
            self._index.write([], keys)

    async def _flush_index(self) -> None:
        """Return when the index as of now is durable; concurrent callers share the next flush."""
        wanted = self._flushes_begun + 1
        loop = asyncio.get_running_loop()
        async with self._flushing:
            if self._flushes_done < wanted:
                await asyncio.sleep(self._flushed_at + HISTORY_FLUSH_S - loop.time())
                self._flushed_at = loop.time()
                self._flushes_begun += 1
                await self._index.flush_in_thread()
                self._flushes_done = self._flushes_begun

    def _append(
        self,
        kind: RecordKind,
        shard: ShardId,
        epoch: Epoch,
        seq: Seq,
        request_id: bytes,
        metadata: bytes,
        data: bytes | memoryview,
    ) -> Appended:
        """Not from a full disk's reserve, unlike what compaction copies."""
        self._protect(shard)
        self._journal.make_room(len(metadata), len(data))
        self._journal.upkeep_appended += 1
        return self._journal.append(kind, shard, epoch, seq, Seq(0), request_id, metadata, data)

    def _protect(self, shard: ShardId) -> None:
        """Tell compaction up to where records lie that older deletions may make void."""
        copied_to = SegmentId(segment_of(self._journal.position()) + 2)  # This may be the next one.
        known = self._copied_to.get(shard)
        if known is None:
            known = decode_copied_to(self._index.get(copied_to_key(shard)))
        if known < copied_to:
            self._index.write([(copied_to_key(shard), encode_copied_to(copied_to))])
        self._copied_to[shard] = max(known, copied_to)


def _nothing(_key: bytes) -> None:
    return None


def installed_copy(index: Index, shard: ShardId, start: Seq) -> InstalledCopy | None:
    """The completed copy with this `start`, as found after a restart, if any."""
    value = index.get(installed_copy_key(shard))
    copy = None if value is None else decode_installed_copy(value)
    return copy if copy is not None and copy.start == start else None
