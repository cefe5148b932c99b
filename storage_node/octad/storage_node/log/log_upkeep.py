"""Raises the start of logs as their topics' retention says, and removes what is below a start and
what a deleted topic leaves: at the shards' primaries.

A trim raises the start and is done; the batches go afterwards, some at a time. They are named by
their offsets, and an offset has one row for ever, as nothing replaces batches yet (rule L21). Those
that no state row covers wait for one (rule L11).
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from itertools import islice
from typing import Final

from octad.sharding.ids import ShardId, shard_name
from octad.sharding.map.shard_map import ShardMap
from octad.storage_node.index.index import Index
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.partition_rows import (
    LOG_START,
    PARTITIONS,
    PIN,
    IndexedPin,
    PartitionId,
    base_of,
    decode_batch,
    decode_log_start,
    decode_pin,
    letter_of,
    partition_key,
    partition_of,
)
from octad.storage_node.log.log_messages import EmptyPartition, PartitionEmptied
from octad.storage_node.log.offset_search import first_batch, first_of_time
from octad.storage_node.log.partition_changes import PartitionChanges
from octad.storage_node.log.partition_leader import PartitionLeader
from octad.storage_node.log.topic_settings import FOR_EVER, TopicSettings, settings_of
from octad.storage_node.operations.partitions import DropBatches
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.rpc.peer import Answer
from octad.storage_node.shards.bucket_directory import BucketDirectory
from octad.storage_node.shards.object_store import NotServed, StoreError, Topic

LOOK_S: Final = 5.0
DROPPED_AT_ONCE: Final = 1_000
_LOOKED_AT_ONCE: Final = 64  # Partitions.


class LogUpkeep:
    """See the module."""

    def __init__(
        self,
        host: ShardHost,
        index: Index,
        buckets: BucketDirectory,
        leader: PartitionLeader,
        changes: PartitionChanges,
        shard_map: ShardMap,
    ) -> None:
        self._host = host
        self._index = index
        self._buckets = buckets
        self._leader = leader
        self._changes = changes
        self._map = shard_map

    async def run(self) -> None:
        """For ever; a damaged index ends it."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self._retain()
            for partition, start in self._trimmed():
                await self._drop_below(partition, start)

    async def _retain(self) -> None:
        """Give up what topics keep no longer; some partitions between other requests."""
        now_ms = int(time.time() * 1000)
        topics = [each for each in self._buckets.by_id.values() if isinstance(each, Topic)]
        for topic in topics:
            settings = settings_of(topic)
            if settings.retention_ms == settings.retention_bytes == FOR_EVER:
                continue
            for number in range(topic.partitions):
                partition = PartitionId(topic.id, number)
                with suppress(StoreError):  # At the next look, or by the next primary.
                    await self.retain(partition, settings, now_ms)
                if number % _LOOKED_AT_ONCE == 0:
                    await asyncio.sleep(0)

    async def retain(self, partition: PartitionId, settings: TopicSettings, now_ms: int) -> None:
        """Raise the start of the log to what is to be kept, as far as the pins allow. Raises
        StoreError."""
        shard = self._shard_of(partition)
        if shard is None or not self._host.serves(shard):
            return
        found = next(self._index.scan(partition.mark, past(partition.mark), reverse=True), None)
        if found is None:
            return
        last, start = decode_batch(found[1]).row, self._start_of(partition)
        wanted, end = start, last.last + 1
        if settings.retention_bytes != FOR_EVER:
            gone = last.total - settings.retention_bytes
            kept = first_batch(self._index, partition, end, lambda each: each.row.total > gone)
            wanted = end if kept is None else max(wanted, kept[0])
        if settings.retention_ms != FOR_EVER:
            since = now_ms - settings.retention_ms
            kept = await first_of_time(self._index, partition, start, end, since)
            wanted = end if kept is None else max(wanted, kept[0])
        lowest = min((pin.offset for pin in self._pins(partition)), default=end)
        if min(wanted, lowest) > start:
            await self._changes.raise_start(shard, partition, wanted)

    def _start_of(self, partition: PartitionId) -> int:
        stored = self._index.get(partition_key(partition, LOG_START))
        return 0 if stored is None else decode_log_start(stored).start

    def _pins(self, partition: PartitionId) -> list[IndexedPin]:
        prefix = partition_key(partition, PIN)
        return [decode_pin(value) for _, value in self._index.scan(prefix, past(prefix))]

    async def empty(self, message: EmptyPartition) -> Answer:
        """Some of a partition whose topic takes no more appends."""
        shard, partition = message.shard, PartitionId(message.topic, message.partition)
        if not self._host.serves(shard) or not self._host.covers(shard, partition.hash):
            raise NotServed(f"shard {shard_name(shard)} is not served here")
        if self._buckets.is_active(message.topic):
            raise NotServed("the topic is not being deleted")
        bases = [base for base, _ in self._batches(partition, None)]
        letters: tuple[bytes, ...] = ()
        if len(bases) < DROPPED_AT_ONCE:
            rows = partition_key(partition, b"")
            found = islice(self._index.scan(rows, past(rows)), DROPPED_AT_ONCE)
            letters = tuple(letter_of(key) for key, _ in found)
        if bases or letters:
            await self._leader.order(shard, DropBatches(*partition, tuple(bases), letters))
        return PartitionEmptied(bool(bases or letters)), b""

    def _trimmed(self) -> list[tuple[PartitionId, int]]:
        """Those with a start."""
        return [
            (partition, decode_log_start(value).start)
            for key, value in self._index.scan(PARTITIONS, past(PARTITIONS))
            if key == partition_key(partition := partition_of(key), LOG_START)
        ]

    async def _drop_below(self, partition: PartitionId, start: int) -> None:
        try:
            while await self._drop_some(partition, start):
                pass
        except StoreError:
            pass  # At the next look, or by the next primary.

    async def _drop_some(self, partition: PartitionId, start: int) -> bool:
        """Whether there may be more. Raises StoreError."""
        shard = self._shard_of(partition)
        if shard is None or not self._host.serves(shard):
            return False
        batches = self._batches(partition, start)
        replica = self._host.replicas[shard]
        if not batches or not self._host.covers(shard, partition.hash):
            return False
        kept_next = self._leader.tails.get(replica, partition).kept_next
        if batches[-1][1] >= kept_next and not self._leader.keep_state(replica, partition):
            return False
        bases = tuple(base for base, _ in batches)
        await self._leader.order(shard, DropBatches(*partition, bases))
        return True

    def _batches(self, partition: PartitionId, start: int | None) -> list[tuple[int, int]]:
        """The base and last offset of the first ones, below `start` if there is one."""
        found = islice(self._index.scan(partition.mark, past(partition.mark)), DROPPED_AT_ONCE)
        batches = ((base_of(key), decode_batch(value).row.last) for key, value in found)
        return [(base, last) for base, last in batches if start is None or last < start]

    def _shard_of(self, partition: PartitionId) -> ShardId | None:
        pool = self._buckets.pool_of(partition.topic)
        if pool is None or pool not in self._map.pools:
            return None
        return self._map.shard_of_hash(pool, partition.hash)
