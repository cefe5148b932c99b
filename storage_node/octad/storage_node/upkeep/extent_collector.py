"""Gives back the extents that rows named once: works through the queue of the shards served here.

    a row goes ─ entry in the queue, in the same batch ─ pin ─ no row names them, certainly
      ─ DROP_EXTENT in each extent's shard, committed ─ FORGET_EXTENTS in the key's shard

Every step may be done again: dropping what is gone and forgetting what is forgotten change nothing.
So nothing needs to be remembered over a crash or a failover, and the next primary goes on.

The *pin* is for readers that read the row before it went. An entry's age is not written anywhere:
this node remembers how far each shard's rows were some time ago, by its monotonic clock, and takes
entries from before. After a restart the pin begins again.

What a node whose disk is full has to give back waits only until the reads that run are over, as all
front doors say (`shards/reader_pin.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Set
from itertools import islice
from typing import TypeAlias

from octad.client.runtime.background_task import run_together
from octad.client.runtime.steady_clock import now
from octad.sharding.ids import NodeId, PoolId, Seq, ShardId
from octad.sharding.limits import EXTENTS_DROPPED_AT_ONCE, PIECE_BYTES_MAX
from octad.storage_node.index.index import Index
from octad.storage_node.index.index_format import (
    DEAD_EXTENTS,
    SHARD_STATES,
    DeadExtents,
    decode_dead_extents,
    decode_shard_state,
    decode_shard_state_key,
    extent_hash,
)
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.rows import NEVER_NAMED_BYTES, ExtentRef
from octad.storage_node.operations.index_changes import (
    DropExtent,
    ForgetExtents,
)
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.writes import write_of
from octad.storage_node.shards.object_store import StoreError
from octad.storage_node.shards.shard_client import ShardClient
from octad.storage_node.upkeep.door_reads import DoorReads
from octad.storage_node.upkeep.extent_names import ExtentNames

FULL_PIN_ROUND_S = 1.0  # On a full disk: no longer than its longest running read has.
QUEUE_STEP_ENTRIES = 64

MARKS_A_PIN = 8  # An entry waits for at most an eighth longer than the pin.
PAUSE_MIN = 2  # Times a round's duration, so that a long queue leaves time to others.
NOBODY_READS_S = 5 * FULL_PIN_ROUND_S  # Reads that lag less hold nothing up.

FullNodes: TypeAlias = Callable[[], Set[NodeId]]  # Nodes with full disks, now or recently.

log = logging.getLogger(__name__)


class ExtentCollector:
    """`run` until cancelled; `mark` and `collect` are one round."""

    def __init__(
        self,
        host: ShardHost,
        index: Index,
        client: ShardClient,
        next_request_id: Callable[[], bytes],
        door_reads: DoorReads,
        full: FullNodes,
    ) -> None:
        self._host = host
        self._index = index
        self._client = client
        self._names = ExtentNames(host, index)
        self._next_request_id = next_request_id
        self._door_reads = door_reads
        self._pin = door_reads.pin
        self._full = full
        self._marks: dict[ShardId, deque[tuple[float, Seq]]] = {}
        self._few_at_once = asyncio.Semaphore(EXTENTS_DROPPED_AT_ONCE)
        self.dropped_extents = 0
        self._waiting = (0, 0.0)

    async def run(self) -> None:
        """For ever. What cannot be done now is tried again in the next round."""
        while True:
            began = now()
            self.mark(began)
            await self.collect()
            hurried = max(FULL_PIN_ROUND_S, PAUSE_MIN * (now() - began))
            left = self._pin.pin_s / MARKS_A_PIN
            while left > 0:
                await asyncio.sleep(min(hurried, left))
                left = 0.0 if self._full() else left - hurried

    def mark(self, moment: float) -> None:
        """Note how far each shard's rows go at this moment; forget obsolete notes."""
        for key, value in self._index.scan(SHARD_STATES, past(SHARD_STATES)):
            marks = self._marks.setdefault(decode_shard_state_key(key), deque())
            applied = decode_shard_state(value).applied
            if not marks or marks[-1][1] != applied:
                marks.append((moment, applied))
            while len(marks) > 1 and marks[1][0] < self._pin.over(moment):
                marks.popleft()

    async def collect(self) -> None:
        """Go once through the queue, and do what can be done."""
        full = self._full()
        reads_over: float | None = None  # An empty queue needs no questions.
        start, waiting_bytes = DEAD_EXTENTS, 0
        while True:
            step = list(islice(self._index.scan(start, past(DEAD_EXTENTS)), QUEUE_STEP_ENTRIES))
            if step and full and reads_over is None:
                reads_over = await self._door_reads.over()
            entries = [decode_dead_extents(value) for _, value in step]
            await run_together(
                *[self._look_at(each, self._over_for(each, full, reads_over)) for each in entries]
            )
            waiting_bytes += sum(map(self._bytes_here, entries))
            if len(step) < QUEUE_STEP_ENTRIES:
                break
            start = step[-1][0] + b"\x00"
            await asyncio.sleep(0)
        held_up = reads_over is not None and now() - reads_over > NOBODY_READS_S
        self._waiting = waiting_bytes, self._pin.pin_s if held_up else FULL_PIN_ROUND_S

    def waiting(self) -> tuple[int, float]:
        """Bytes of this node's extents in the queue, by the last round, and their longest wait.

        On a full disk, that is: a node that is not full has not asked who reads.
        """
        return self._waiting

    def _over_for(self, entry: DeadExtents, full: Set[NodeId], reads_over: float | None) -> float:
        """The time before which dead extents have no readers, or have outlasted the pin."""
        if reads_over is None or not any(self._is_wanted(e, entry, full) for e in entry.extents):
            return self._pin.over(now())
        return reads_over

    def _is_wanted(self, extent: ExtentRef, entry: DeadExtents, full: Set[NodeId]) -> bool:
        """Whether its space is needed, and only readers hold it up."""
        if extent.length == NEVER_NAMED_BYTES or entry.pool not in self._client.map.pools:
            return False
        configuration = self._client.map.configurations.get(self._shard(entry, extent))
        return configuration is not None and any(
            member.node in full for member in configuration.members
        )

    def _bytes_here(self, entry: DeadExtents) -> int:
        """Those of its extents that this node has."""
        if entry.pool not in self._client.map.pools:
            return 0
        configurations, node = self._client.map.configurations, self._client.node
        shards = [
            (extent, configurations.get(self._shard(entry, extent))) for extent in entry.extents
        ]
        return sum(
            e.length
            for e, configuration in shards
            if configuration is not None and configuration.member(node)
        )

    async def _look_at(self, entry: DeadExtents, over: float) -> None:
        if entry.pool not in self._client.map.pools:
            return
        shard = self._client.map.shard_of(entry.pool, entry.bucket, entry.key)
        if not self._host.serves(shard) or not self._is_over(shard, entry.seq, over):
            return
        named = self._names.named(shard, entry.bucket, entry.key, entry.upload)
        if named is None:
            return
        dead = [extent for extent in entry.extents if extent.id not in named]
        if len(dead) < len(entry.extents):
            log.warning(
                "an extent of %s in the queue is still named by a row: it is kept", entry.key
            )
        try:
            for first in range(0, len(dead), EXTENTS_DROPPED_AT_ONCE):
                some = dead[first : first + EXTENTS_DROPPED_AT_ONCE]
                await run_together(*[self._drop(entry, extent) for extent in some])
            await self._propose(entry.pool, ForgetExtents(entry.bucket, entry.key, entry.seq))
        except StoreError as error:
            log.info("dead extents wait: %s", error)

    def _is_over(self, shard: ShardId, seq: Seq, over: float) -> bool:
        """Whether the record with `seq` was applied here before `over`."""
        for moment, applied in reversed(self._marks.get(shard, ())):
            if moment < over:
                return seq <= applied
        return False

    def _shard(self, entry: DeadExtents, extent: ExtentRef) -> ShardId:
        return self._client.map.shard_of_hash(entry.pool, extent_hash(extent.id))

    async def _drop(self, entry: DeadExtents, extent: ExtentRef) -> None:
        pieces = -(-extent.length // PIECE_BYTES_MAX)
        await self._propose(entry.pool, DropExtent(extent.id, pieces))
        self.dropped_extents += 1

    async def _propose(self, pool: PoolId, operation: DropExtent | ForgetExtents) -> None:
        write = write_of(operation, self._next_request_id())
        async with self._few_at_once:
            await self._client.propose(pool, write)
