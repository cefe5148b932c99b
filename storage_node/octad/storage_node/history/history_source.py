"""Answers nodes that copy a shard's history from this one: pages of rows, and records.

It reads a few rows at a time and lets others run in between. A page need not be of one moment: how
recent it is at least is asked before its first row is read, and how recent at most after the last.
What has changed in between reaches the copying node through its own log of the shard.

It does not know who copies, and why. Rules: `docs/reference/history-copy.md`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from octad.sharding.ids import BucketId, PoolId, Seq, ShardId, pool_of, shard_name
from octad.sharding.limits import (
    HISTORY_MESSAGE_BYTES,
    HISTORY_MESSAGE_RECORDS,
    HISTORY_PAGE_ROWS,
    HISTORY_STEP_ROWS,
    INLINE_BYTES_MAX,
    KIB,
)
from octad.storage_node.history.history_messages import (
    DAMAGED,
    NO_HISTORY,
    HistoryRead,
    HistoryRecord,
    HistoryRow,
    ReadHistory,
    ReadRecords,
    RecordsRead,
)
from octad.storage_node.index.index import Index
from octad.storage_node.index.index_format import (
    ROW_TABLES,
    Ordered,
    bucket_of_row,
    decode_ordered,
    decode_shard_order_key,
)
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import CorruptRecord
from octad.storage_node.journal.record_format import Location, Record
from octad.storage_node.operations.copy_format import original_of
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.rpc.peer import Answer
from octad.storage_node.rpc.rpc_errors import RpcRefusal

_STEP_BYTES = 256 * KIB  # Read and verified between two requests of clients: 0.2 ms.
_PASSED_MAX = 16 * HISTORY_PAGE_ROWS  # Rows of other pools that a page may pass over.


class HistorySource:
    """See the module. `pool_of_bucket` returns None for a bucket that is not known here."""

    def __init__(
        self,
        journal: Journal,
        index: Index,
        replica_of: Callable[[ShardId], ShardReplica | None],
        pool_of_bucket: Callable[[BucketId], PoolId | None],
    ) -> None:
        self._journal = journal
        self._index = index
        self._replica_of = replica_of
        self._pool_of_bucket = pool_of_bucket
        self.repair: Callable[[bytes], Awaitable[bool]] = _stays_damaged  # The record of a row.

    async def answer(self, asked: ReadHistory | ReadRecords) -> Answer:
        """Answers either request for history."""
        if isinstance(asked, ReadHistory):
            return await self.read_history(asked), b""
        return await self.read_records(asked)

    async def read_history(self, asked: ReadHistory) -> HistoryRead:
        """One page. Raises RpcRefusal(NO_HISTORY)."""
        replica, as_of = self._recent(asked.shard, asked.start)
        pool = pool_of(asked.shard)
        rows: list[HistoryRow] = []
        rows_max = min(asked.rows_max, HISTORY_PAGE_ROWS)
        end, newest = asked.end, as_of
        for number, (order_key, _) in enumerate(self._index.scan(asked.begin, asked.end)):
            if len(rows) >= rows_max or number >= _PASSED_MAX:
                end = order_key
                break
            if number % HISTORY_STEP_ROWS == HISTORY_STEP_ROWS - 1:
                await asyncio.sleep(0)
            row = await self._row(order_key, pool)
            if row is not None:
                rows.append(row)
                newest = max(newest, row.seq)
        newest = max(newest, replica.log.applied)
        request_ids = replica.log.requests.pairs() if end == asked.end else []
        return HistoryRead(as_of, newest, end, rows, request_ids)

    async def read_records(self, asked: ReadRecords) -> tuple[RecordsRead, list[memoryview]]:
        """As many of the requested records as fit into a message. Raises RpcRefusal."""
        replica, newest = self._recent(asked.shard, asked.start)
        pool = pool_of(asked.shard)
        records: list[HistoryRecord] = []
        body: list[memoryview] = []
        size = step = looked_at = 0
        for index_key, epoch, seq in asked.rows[:HISTORY_MESSAGE_RECORDS]:
            row = self._stored(index_key)
            if row is not None and (row.epoch, row.seq) == (epoch, seq):
                length = row.location.length
                if size and size + length > HISTORY_MESSAGE_BYTES:
                    break
                row, record = await self._read(index_key, row)
                size, step = size + length, step + length
                if pool_of(record.shard) == pool:
                    records.append(_without_data(looked_at, row.location, record))
                    if record.data:  # One body alone is sent as it is.
                        body.append(record.data)
            elif row is not None:
                newest = max(newest, row.seq)
            looked_at += 1
            if step >= _STEP_BYTES or looked_at % HISTORY_STEP_ROWS == 0:
                step = 0
                await asyncio.sleep(0)
        return RecordsRead(looked_at, max(newest, replica.log.applied), records), body

    def _recent(self, shard: ShardId, start: Seq) -> tuple[ShardReplica, Seq]:
        replica = self._replica_of(shard)
        as_of = None if replica is None else replica.source_as_of(start)
        if replica is None or as_of is None:
            raise RpcRefusal(NO_HISTORY, f"shard {shard_name(shard)} up to seq {start}")
        return replica, as_of

    async def _row(self, order_key: bytes, pool: PoolId) -> HistoryRow | None:
        """None for a row of another pool's shard, and for one that is gone meanwhile.

        Of a bucket that is gone only the records know the pool; seqs of others mean nothing here.
        """
        index_key = decode_shard_order_key(order_key)
        value = self._index.get(index_key) if index_key[0] in ROW_TABLES else None
        if value is None:
            return None
        known = self._pool_of_bucket(bucket_of_row(index_key, value))
        if known is not None and known != pool:
            return None
        row = decode_ordered(value)
        if known is None and pool_of((await self._read(index_key, row))[1].shard) != pool:
            return None
        return HistoryRow(order_key, row.epoch, row.seq, row.location.length)

    def _stored(self, index_key: bytes) -> Ordered | None:
        value = self._index.get(index_key) if index_key[0] in ROW_TABLES else None
        return None if value is None else decode_ordered(value)

    async def _read(self, index_key: bytes, row: Ordered) -> tuple[Ordered, Record]:
        """The record, and the row if that had to be repaired. Raises RpcRefusal(DAMAGED).

        This may be the only complete copy: damage here must not block copies by others.
        """
        try:
            return row, await self._read_at(row.location)
        except CorruptRecord as damage:
            repaired = self._stored(index_key) if await self.repair(index_key) else None
            if repaired is None or (repaired.epoch, repaired.seq) != (row.epoch, row.seq):
                raise RpcRefusal(DAMAGED, str(damage)) from damage
        try:
            return repaired, await self._read_at(repaired.location)
        except CorruptRecord as damage:
            raise RpcRefusal(DAMAGED, str(damage)) from damage

    async def _read_at(self, location: Location) -> Record:
        bulk = location.length > INLINE_BYTES_MAX  # Nor was it written to stay in memory.
        record = None if bulk else self._journal.read_if_cached(location)
        if record is None:
            record = await asyncio.to_thread(self._journal.read, location, cached=not bulk)
        return record


async def _stays_damaged(_index_key: bytes) -> bool:
    """For a node that is alone."""
    return False


def _without_data(number: int, location: Location, record: Record) -> HistoryRecord:
    original = original_of(location, record)
    return HistoryRecord(
        number, original.kind, record.request_id, original.metadata, len(record.data)
    )
