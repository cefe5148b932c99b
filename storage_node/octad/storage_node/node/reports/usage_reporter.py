"""Tells the coordinator what this node holds: `usage/<node>`, at most once a minute, if it changed.

What each shard takes is counted by going through the rows, a few at a time beside the requests, at
a fiftieth of a core: nothing is added to a write, and nothing to a restart. So the figures lag, by
half an hour with ten million rows. Until the first count after a start has ended, those that were
reported before it stand.

Without the store it tries again later; a count is made again only when rows have changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import chain, islice, repeat
from pathlib import Path

import msgspec

from octad.coordinator.schema.placement_records import PlacementKeys, UsageRecord, encode_record
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.interface import ConfigStore, Put, StoreUnavailable
from octad.sharding.ids import BucketId, NodeId, PoolId, ShardId, shard_name
from octad.sharding.map.shard_map import ShardMap
from octad.storage_node.index.index import Index
from octad.storage_node.index.index_format import ROW_TABLES
from octad.storage_node.index.shard_sizes import ShardSizes
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.record_format import Position

# Reports of usage. A step of counting takes half a millisecond.
USAGE_FIRST_PERIOD_S = 5.0  # After a start, when shards come and go.
USAGE_FIRST_REPORTS = 12
USAGE_PERIOD_S = 60.0
USAGE_COUNT_ROWS = 128
USAGE_COUNT_PAUSE_S = 0.02
USAGE_FREE_STEP = 0.01  # Share of the disk: smaller changes of free bytes alone are not reported.

log = logging.getLogger(__name__)


class UsageReporter:
    """`run` until cancelled, once the buckets are known; `report` does it once."""

    def __init__(
        self,
        node: NodeId,
        store: ConfigStore,
        keys: StoreKeys,
        disk: Disk,
        directory: Path,
        index: Index,
        shard_map: ShardMap,
        pool_of: Callable[[BucketId], PoolId | None],
    ) -> None:
        self._node = node
        self._store = store
        self._key = PlacementKeys(keys).node_usage(node)
        self._disk = disk
        self._directory = directory
        self._index = index
        self._map = shard_map
        self._pool_of = pool_of
        self._sizes: dict[ShardId, int] = {}
        self._counted_at: Position | None = None  # How far the rows went at that time.
        self._reported: UsageRecord | None = None

    async def run(self) -> None:
        """Report whenever there is news, for ever; more often while a cluster starts."""
        pauses = chain(repeat(USAGE_FIRST_PERIOD_S, USAGE_FIRST_REPORTS), repeat(USAGE_PERIOD_S))
        for number, pause in enumerate(pauses):
            try:
                await self.report(count=number == 0 or number >= USAGE_FIRST_REPORTS)
            except StoreUnavailable as error:
                log.warning("usage is not reported: %s", error)
            await asyncio.sleep(pause)

    async def report(self, *, count: bool = True) -> None:
        """Put what changed, counted anew if anything was written. Raises StoreUnavailable."""
        position = self._index.written_position
        if count and position != self._counted_at:
            self._sizes = await self._count()
            self._counted_at = position
        usage = self._usage()
        if self._reported is None or _differs(usage, self._reported):
            await self._store.transact([], [Put(self._key, encode_record(usage))])
            self._reported = usage

    async def _count(self) -> dict[ShardId, int]:
        sizes = ShardSizes(self._map, self._pool_of)
        for table in sorted(ROW_TABLES):
            start: bytes | None = bytes([table])
            while start is not None:
                start = self._count_some(sizes, start, bytes([table + 1]))
                await asyncio.sleep(USAGE_COUNT_PAUSE_S)
        return sizes.totals

    def _count_some(self, sizes: ShardSizes, start: bytes, end: bytes) -> bytes | None:
        """Returns where to go on. Each step scans anew: a scan that lives keeps old files."""
        rows = list(islice(self._index.scan(start, end), USAGE_COUNT_ROWS + 1))
        for key, value in rows[:USAGE_COUNT_ROWS]:
            sizes.add(key, value)
        return rows[USAGE_COUNT_ROWS][0] if len(rows) > USAGE_COUNT_ROWS else None

    def _usage(self) -> UsageRecord:
        held = [
            shard
            for shard, configuration in self._map.configurations.items()
            if configuration.member(self._node)
        ]
        return UsageRecord(
            node=self._node,
            capacity_bytes=self._disk.capacity_bytes(self._directory),
            free_bytes=self._disk.free_bytes(self._directory),
            shards={shard_name(shard): self._sizes.get(shard, 0) for shard in sorted(held)},
        )


def _differs(now: UsageRecord, before: UsageRecord) -> bool:
    """Others write to the same disk, so that free bytes alone must move by something."""
    if abs(now.free_bytes - before.free_bytes) > USAGE_FREE_STEP * now.capacity_bytes:
        return True
    return now != msgspec.structs.replace(before, free_bytes=now.free_bytes)
