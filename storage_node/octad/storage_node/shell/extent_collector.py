"""Gives back the extents that rows named once: works through the queue of the shards served here.

    a row goes ─ entry in the queue, in the same batch ─ pin ─ no row names them, certainly
      ─ DROP_EXTENT in each extent's shard, committed ─ FORGET_EXTENTS in the key's shard

Every step may be done again: dropping what is gone and forgetting what is forgotten change nothing.
So nothing needs to be remembered over a crash or a failover, and whoever is primary goes on.

The *pin* is for readers that read the row before it went. An entry's age is not written anywhere:
this node remembers how far each shard's rows were some time ago, by its monotonic clock, and takes
entries from before. After a restart the pin begins again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from itertools import islice

from octad.sharding.ids import Seq, ShardId
from octad.sharding.limits import EXTENTS_DROPPED_AT_ONCE, PIECE_BYTES_MAX, QUEUE_STEP_ENTRIES
from octad.storage_node.core.index_format import (
    DEAD_EXTENTS,
    SHARD_STATES,
    DeadExtents,
    decode_dead_extents,
    decode_shard_state,
    decode_shard_state_key,
    extent_hash,
)
from octad.storage_node.core.listing import past
from octad.storage_node.core.object_store import StoreError
from octad.storage_node.core.operations import (
    DropExtent,
    ForgetExtents,
    encode_operation,
    kind_of,
)
from octad.storage_node.core.rows import ExtentRef
from octad.storage_node.shell.extent_names import ExtentNames
from octad.storage_node.shell.index import Index
from octad.storage_node.shell.routing import ShardClient
from octad.storage_node.shell.shard_host import ShardHost

MARKS_A_PIN = 8  # An entry waits for at most an eighth longer than the pin.

log = logging.getLogger(__name__)


class ExtentCollector:
    """`run` until cancelled; `mark` and `collect` are one round."""

    def __init__(
        self,
        host: ShardHost,
        index: Index,
        client: ShardClient,
        next_request_id: Callable[[], bytes],
        pin_s: float,
    ) -> None:
        self._host = host
        self._index = index
        self._client = client
        self._names = ExtentNames(host, index)
        self._next_request_id = next_request_id
        self._pin_s = pin_s
        self._marks: dict[ShardId, deque[tuple[float, Seq]]] = {}
        self.dropped_extents = 0

    async def run(self) -> None:
        """For ever. What cannot be done now is tried again in the next round."""
        while True:
            self.mark(asyncio.get_running_loop().time())
            await self.collect()
            await asyncio.sleep(self._pin_s / MARKS_A_PIN)

    def mark(self, now: float) -> None:
        """Note how far each shard's rows go at this moment; forget what is of no use any more."""
        for key, value in self._index.scan(SHARD_STATES, past(SHARD_STATES)):
            marks = self._marks.setdefault(decode_shard_state_key(key), deque())
            applied = decode_shard_state(value).applied
            if not marks or marks[-1][1] != applied:
                marks.append((now, applied))
            while len(marks) > 1 and marks[1][0] <= now - self._pin_s:
                marks.popleft()

    async def collect(self) -> None:
        """Go once through the queue, and do what can be done."""
        now = asyncio.get_running_loop().time()
        start = DEAD_EXTENTS
        while True:
            step = list(islice(self._index.scan(start, past(DEAD_EXTENTS)), QUEUE_STEP_ENTRIES))
            for key, value in step:
                start = key + b"\x00"
                await self._look_at(decode_dead_extents(value), now)
            if len(step) < QUEUE_STEP_ENTRIES:
                return
            await asyncio.sleep(0)

    async def _look_at(self, entry: DeadExtents, now: float) -> None:
        if entry.pool not in self._client.map.pools:
            return
        shard = self._client.map.shard_of(entry.pool, entry.bucket, entry.key)
        if not self._host.serves(shard) or not self._is_over(shard, entry.seq, now):
            return
        named = self._names.named(shard, entry.bucket, entry.key, entry.upload)
        if named is None:
            return
        dead = [extent for extent in entry.extents if extent.id not in named]
        if len(dead) < len(entry.extents):
            log.warning("an extent of %s in the queue is named: it stays", entry.key)
        try:
            for first in range(0, len(dead), EXTENTS_DROPPED_AT_ONCE):
                some = dead[first : first + EXTENTS_DROPPED_AT_ONCE]
                await asyncio.gather(*[self._drop(entry, extent) for extent in some])
            await self._propose(shard, ForgetExtents(entry.bucket, entry.key, entry.seq))
        except StoreError as error:
            log.info("dead extents wait: %s", error)

    def _is_over(self, shard: ShardId, seq: Seq, now: float) -> bool:
        """Whether the record with `seq` was applied here before the pin began."""
        marks = self._marks.get(shard)
        return marks is not None and marks[0][0] <= now - self._pin_s and seq <= marks[0][1]

    async def _drop(self, entry: DeadExtents, extent: ExtentRef) -> None:
        shard = self._client.map.shard_of_hash(entry.pool, extent_hash(extent.id))
        pieces = -(-extent.length // PIECE_BYTES_MAX)
        await self._propose(shard, DropExtent(extent.id, pieces))
        self.dropped_extents += 1

    async def _propose(self, shard: ShardId, operation: DropExtent | ForgetExtents) -> None:
        metadata = encode_operation(operation)
        await self._client.propose(
            shard, kind_of(operation), self._next_request_id(), metadata, b""
        )
