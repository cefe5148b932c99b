"""Finds batches of a partition by what grows with the offsets, and records by their time.

A row has the greatest time of all batches up to its own, and their bytes. So the first batch that
reaches a time, or so many bytes, is found by halves, in whatever order the times are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Final

from octad.storage_node.index.index import Index
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.partition_rows import (
    IndexedBatch,
    PartitionId,
    base_of,
    batch_key,
    decode_batch,
)
from octad.storage_node.log.log_messages import (
    FindOffset,
    OffsetFound,
    PartitionRead,
    ReadPartition,
)
from octad.storage_node.log.partition_reader import PartitionReader
from octad.storage_node.log.record_batch import APPEND_TIME, UnknownCodec, read_header
from octad.storage_node.log.records import decode_records
from octad.storage_node.rpc.peer import Answer

_ROWS_AT_ONCE: Final = 1_024  # A node looks at so many between other requests.


def first_batch(
    index: Index, partition: PartitionId, end: int, reached: Callable[[IndexedBatch], bool]
) -> tuple[int, IndexedBatch] | None:
    """The first batch that `reached` is true of, with its base; `end`: the log's.

    What is true of a batch must be true of all that follow it.
    """
    low, high, keys_end = 0, end, past(partition.mark)
    while low < high:
        middle = (low + high) // 2
        found = next(index.scan(batch_key(partition, middle), keys_end), None)
        if found is None or reached(batch := decode_batch(found[1])):
            high = middle
        else:
            low = batch.row.last + 1
    found = next(index.scan(batch_key(partition, low), keys_end), None)
    return None if found is None else (base_of(found[0]), decode_batch(found[1]))


async def first_of_time(
    index: Index, partition: PartitionId, offset: int, end: int, time_ms: int
) -> tuple[int, IndexedBatch] | None:
    """The first batch from `offset` on that has a time of `time_ms` or later."""
    found = first_batch(index, partition, end, lambda each: each.row.peak >= time_ms)
    if found is None:
        return None
    # Where a batch that is gone had a later time than those that are left: one after the other.
    place = max(offset, found[0])
    while True:
        keys = batch_key(partition, place), past(partition.mark)
        rows = [(base_of(key), decode_batch(row)) for key, row in _some(index, *keys)]
        for base, batch in rows:
            if batch.row.max_timestamp >= time_ms:
                return base, batch
        if len(rows) < _ROWS_AT_ONCE:
            return None
        place = rows[-1][1].row.last + 1
        await asyncio.sleep(0)


def _some(index: Index, start: bytes, end: bytes | None) -> list[tuple[bytes, bytes]]:
    return list(islice(index.scan(start, end), _ROWS_AT_ONCE))


class OffsetSearch:
    """Answers which is the first record of a time."""

    def __init__(self, index: Index, reader: PartitionReader) -> None:
        self._index = index
        self._reader = reader

    async def find(self, message: FindOffset) -> Answer:
        """The first record at `time_ms` or later, of those that are committed now.

        Raises AskPrimary, Unavailable, Damaged.
        """
        partition, time_ms = PartitionId(message.topic, message.partition), message.time_ms
        asked = ReadPartition(message.shard, *partition)
        bounds, _ = await self._reader.read_partition(asked)
        assert isinstance(bounds, PartitionRead)
        place = bounds.start
        while True:
            found = await first_of_time(self._index, partition, place, bounds.next, time_ms)
            if found is None or found[0] >= bounds.next:
                return OffsetFound(bounds.next), b""
            base, batch = found
            offset = await self._within(partition, base, batch, max(place, base), time_ms)
            if offset is not None:
                return OffsetFound(offset), b""
            place = batch.row.last + 1

    async def _within(
        self, partition: PartitionId, base: int, batch: IndexedBatch, offset: int, time_ms: int
    ) -> int | None:
        """The first record of the batch from `offset` on with such a time.

        The first of all where the records cannot be uncompressed here: never too late a one.
        """
        if batch.row.attributes & APPEND_TIME:
            return offset
        data = await self._reader.batch_at(partition, base)
        try:
            for at, record in decode_records(read_header(data), data):
                if at >= offset and record.timestamp >= time_ms:
                    return at
        except UnknownCodec:
            return offset
        return None
