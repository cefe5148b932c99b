"""What a member of a partition's shard has of it: whole batches, and which offsets there are.

Bytes below the high-water mark never change. So any member gives them that has all of history, and
a lease: without one it could be cut off for long, and its mark old. That an offset is past the mark
is a read (rule R3): only the primary says so, and another member sends the reader there (rule L17).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Final, TypeVar

import msgspec

from octad.client.runtime.steady_clock import now
from octad.sharding.ids import ShardId, shard_name
from octad.storage_node.index.index import Index
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.partition_rows import (
    FENCE,
    LOG_START,
    PIN,
    STATE,
    PartitionId,
    batch_key,
    decode_batch,
    decode_fence,
    decode_log_start,
    decode_pin,
    decode_state,
    job_of,
    named_pin,
    partition_key,
)
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import CorruptRecord
from octad.storage_node.journal.record_format import Location
from octad.storage_node.log.log_messages import (
    FetchLog,
    HeldRead,
    LogFetched,
    PartitionRead,
    Pin,
    ReadHeld,
    ReadPartition,
)
from octad.storage_node.log.record_batch import BATCH_BYTES_MAX
from octad.storage_node.log.tail_cache import TailCache
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.rpc.messages import Message
from octad.storage_node.rpc.peer import Answer
from octad.storage_node.shards.object_store import Damaged, OffsetOutOfRange, Unavailable
from octad.storage_node.shards.shard_service import AskPrimary

FETCH_WAIT_S_MAX: Final = 30.0
BATCHES_AT_ONCE_MAX: Final = 1_024  # A node looks at so many rows between other requests.
_SETTLE_S: Final = 0.05  # Between two looks whether the primary's rows show what is committed.
Row = TypeVar("Row")


class _View(msgspec.Struct, frozen=True):
    """A partition at one moment, and the batches that are to be given: index key and location."""

    start: int
    next: int
    batches: list[tuple[bytes, Location]]


class PartitionReader:
    """See the module."""

    def __init__(self, host: ShardHost, index: Index, journal: Journal, cache: TailCache) -> None:
        self._host = host
        self._index = index
        self._journal = journal
        self.cache = cache
        self.fetched_batches = self.fetched_bytes = 0  # Since the start.
        # Repairs a row's damaged record.
        self.repair: Callable[[bytes], Awaitable[bool]] | None = None

    def may_read(self, shard: ShardId) -> bool:
        """Whether this node has all of the shard's history, and a lease."""
        replica = self._host.replicas.get(shard)
        if replica is None:
            return False
        if replica.leading:
            return self._host.serves(shard)
        return replica.backup.has_read_lease(now())

    async def read_partition(self, message: ReadPartition) -> Answer:
        """The offsets there are; raises AskPrimary."""
        partition = PartitionId(message.topic, message.partition)
        return await self._read_rows(message.shard, partition, lambda: self._offsets(partition))

    async def read_held(self, message: ReadHeld) -> Answer:
        """Pins and fences; raises AskPrimary."""
        partition = PartitionId(message.topic, message.partition)
        return await self._read_rows(message.shard, partition, lambda: self._held(partition))

    async def _read_rows(
        self, shard: ShardId, partition: PartitionId, read: Callable[[], Message]
    ) -> Answer:
        """What `read` finds at one moment when the rows show all that is committed (rule R3)."""
        give_up = asyncio.get_running_loop().time() + 1.0
        while True:
            ticket = self._host.begin_read(shard, partition.mark)
            if ticket is not None and self._host.covers(shard, partition.hash):
                found = read()
                if self._host.read_holds(shard, ticket):
                    return found, b""
            if not self._host.serves(shard) or asyncio.get_running_loop().time() > give_up:
                raise AskPrimary(shard_name(shard))
            await self._host.applier.touched(partition.mark, _SETTLE_S)

    async def fetch(self, message: FetchLog) -> Answer:
        """Raises OffsetOutOfRange, which says what there is."""
        loop = asyncio.get_running_loop()
        shard, partition = message.shard, PartitionId(message.topic, message.partition)
        give_up = loop.time() + min(message.wait_s, FETCH_WAIT_S_MAX)
        while True:
            if not self.may_read(shard) or not self._host.covers(shard, partition.hash):
                raise AskPrimary(shard_name(shard))
            bytes_max = min(message.bytes_max, BATCH_BYTES_MAX)
            view = self._view(partition, message.offset, bytes_max)
            if message.offset < view.start:
                raise _out_of_range(message.offset, view)
            behind = max(message.offset, message.seen) > view.next
            if behind and not self._host.serves(shard):
                raise AskPrimary(shard_name(shard))
            if behind and self._is_last_word(shard, partition):
                if message.offset > view.next:
                    raise _out_of_range(message.offset, view)
                behind = False  # No one has seen that mark.
            left_s = give_up - loop.time()
            if left_s <= 0 or (view.batches and not behind):
                return LogFetched(view.start, view.next), await self._bytes(view)
            pause_s = min(left_s, _SETTLE_S) if behind else left_s
            await self._host.applier.touched(partition.mark, pause_s)

    def _is_last_word(self, shard: ShardId, partition: PartitionId) -> bool:
        """Whether this node is the primary, and its rows, just read, show all that is committed."""
        if not self._host.serves(shard):
            return False
        ticket = self._host.begin_read(shard, partition.mark)
        return ticket is not None and self._host.read_holds(shard, ticket)

    def _offsets(self, partition: PartitionId) -> PartitionRead:
        start, next_ = self._bounds(partition)
        keys = self._key_with(partition, start), past(partition.mark)
        found = next(self._index.scan(*keys), None)
        if found is None:
            return PartitionRead(start, next_)
        first = decode_batch(found[1]).row
        ((_, last),) = islice(self._index.scan(*keys, reverse=True), 1)
        size = decode_batch(last).row.total - first.total + first.size
        return PartitionRead(start, next_, size, first.max_timestamp)

    def _key_with(self, partition: PartitionId, offset: int) -> bytes:
        """The key of the batch with the offset; if there is none, where one would begin."""
        key = batch_key(partition, offset)
        before = self._index.scan(partition.mark, batch_key(partition, offset + 1), reverse=True)
        for found, value in islice(before, 1):
            if decode_batch(value).row.last >= offset:
                return found
        return key

    def _held(self, partition: PartitionId) -> HeldRead:
        pins = [
            Pin(*named_pin(key), pin.offset, pin.made_ms)
            for key, pin in self._rows(partition, PIN, decode_pin)
        ]
        fences = self._rows(partition, FENCE, decode_fence)
        return HeldRead(pins, [(job_of(key), fence.token) for key, fence in fences])

    def _rows(
        self, partition: PartitionId, letter: bytes, decode: Callable[[bytes], Row]
    ) -> Iterator[tuple[bytes, Row]]:
        prefix = partition_key(partition, letter)
        return ((key, decode(value)) for key, value in self._index.scan(prefix, past(prefix)))

    def _bounds(self, partition: PartitionId) -> tuple[int, int]:
        """The log's start, and its high-water mark: of the rows, never of the tail (rule L17)."""
        index, mark = self._index, partition.mark
        stored = index.get(partition_key(partition, LOG_START))
        start = 0 if stored is None else decode_log_start(stored).start
        last = next(index.scan(mark, past(mark), reverse=True), None)
        if last is not None:
            return start, max(start, decode_batch(last[1]).row.last + 1)
        stored = index.get(partition_key(partition, STATE))
        return start, max(start, 0 if stored is None else decode_state(stored).state.next)

    def _view(self, partition: PartitionId, offset: int, bytes_max: int) -> _View:
        """With the batch that contains `offset`, however large, and what fits behind it."""
        start, next_ = self._bounds(partition)
        view = _View(start, next_, [])
        if not start <= offset < next_:
            return view
        size, from_key = 0, self._key_with(partition, offset)
        for key, value in self._index.scan(from_key, past(partition.mark)):
            location = decode_batch(value).location
            size += location.length
            if view.batches and (size > bytes_max or len(view.batches) >= BATCHES_AT_ONCE_MAX):
                break
            view.batches.append((key, location))
        return view

    async def _bytes(self, view: _View) -> bytes:
        pieces: list[bytes | memoryview] = []
        for key, location in view.batches:
            data = self.cache.get(key)
            if data is not None:
                pieces.append(data)
                continue
            record = None
            with suppress(CorruptRecord, OSError):  # As the thread will find it.
                record = self._journal.read_if_cached(location)
            pieces.append(await self._read(key) if record is None else record.data)
        joined = b"".join(pieces)
        self.fetched_batches += len(pieces)
        self.fetched_bytes += len(joined)
        assert len(joined) <= BATCH_BYTES_MAX
        return joined

    async def batch_at(self, partition: PartitionId, base: int) -> memoryview:
        """The bytes of the batch that begins there. Raises Unavailable, Damaged."""
        key = batch_key(partition, base)
        data = self.cache.get(key)
        return await self._read(key) if data is None else memoryview(data)

    async def _read(self, key: bytes) -> memoryview:
        """From the disk, where compaction may have moved it meanwhile, or a copy may repair it."""
        moved_from: Location | None = None
        while True:
            value = self._index.get(key)
            if value is None:
                raise Unavailable("the log was trimmed meanwhile")
            location = decode_batch(value).location
            try:
                return (await asyncio.to_thread(self._journal.read, location)).data
            except OSError as error:  # Its file could not be opened now.
                raise Unavailable(str(error)) from error
            except CorruptRecord as error:
                if location == moved_from:
                    raise Damaged(str(error)) from error
                moved_from = location
                if self.repair is not None:
                    await self.repair(key)


def _out_of_range(offset: int, view: _View) -> OffsetOutOfRange:
    return OffsetOutOfRange(
        f"{offset} is not in the log: its offsets are {view.start} to {view.next}"
    )
