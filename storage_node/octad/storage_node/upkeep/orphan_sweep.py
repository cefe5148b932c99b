"""Finds extents whose commit never came: the client broke off, or the front door died.

A primary of extents' shards goes through their pieces once in a while, slowly. An extent that is
old enough to be worth a question is asked about in this order, and a doubt anywhere lets it be:

1. the primary of its key: no row names it, and the upload that it was written for is not open;
2. the node whose front door wrote it: no request that is under way there will name it. Any boot of
   that node may say so, since no request outlives its boot. A node that the cluster has removed is
   not asked;
3. then the key's shard takes it into its queue of dead extents. The collector waits for the pin, so
   that what was on its way when 2. was answered has arrived, and asks 1. again before it drops it.

Safety does not rest on any clock: the age only says which extents are worth asking about.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from octad.sharding import limits
from octad.sharding.ids import NodeId, PoolId, ShardId
from octad.storage_node.index.index import Index
from octad.storage_node.index.index_format import (
    PIECES,
    IndexedPiece,
    decode_piece,
    decode_piece_key,
    extent_hash,
)
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.rows import NEVER_NAMED_BYTES, ExtentRef
from octad.storage_node.operations.index_changes import QueueExtents
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.writes import write_of
from octad.storage_node.shards.extent_messages import (
    ExtentOrigin,
    FindUnnamed,
    FindWritten,
)
from octad.storage_node.shards.object_store import StoreError
from octad.storage_node.shards.shard_client import ShardClient

ORPHAN_SWEEP_STEP_PIECES = 128
ORPHAN_SWEEP_PAUSE_S = 0.25  # 500 MiB of pieces a second: 10 TiB in under six hours.

log = logging.getLogger(__name__)

Candidate = tuple[bytes, IndexedPiece]  # An extent's id, and any of its pieces.


class OrphanSweep:
    """`run` until cancelled; `sweep` is one pass."""

    def __init__(
        self,
        host: ShardHost,
        index: Index,
        client: ShardClient,
        next_request_id: Callable[[], bytes],
        is_removed: Callable[[NodeId], bool],
        now_s: Callable[[], float] | None = None,
        grace_s: float = limits.ORPHAN_GRACE_S,
        period_s: float = limits.ORPHAN_SWEEP_PERIOD_S,
    ) -> None:
        self._host = host
        self._index = index
        self._client = client
        self._next_request_id = next_request_id
        self._is_removed = is_removed
        self._now_s = now_s or time.time
        self._grace_s = grace_s
        self._period_s = period_s
        self.queued_extents = 0

    async def run(self) -> None:
        """Pass after pass, for ever."""
        while True:
            await asyncio.sleep(self._period_s)
            await self.sweep(ORPHAN_SWEEP_PAUSE_S)

    async def sweep(self, pause_s: float = 0.0) -> None:
        """Go once through all pieces."""
        start = PIECES
        while True:
            step = list(islice(self._index.scan(start, past(PIECES)), ORPHAN_SWEEP_STEP_PIECES))
            if not step:
                return
            await self._look_at(step)
            # An extent's further pieces add nothing.
            start = PIECES + decode_piece_key(step[-1][0])[0] + b"\xff\xff\xff\xff\xff"
            await asyncio.sleep(pause_s)

    async def _look_at(self, pieces: Sequence[tuple[bytes, bytes]]) -> None:
        old = {decode_piece_key(key)[0]: value for key, value in pieces}
        by_shard: defaultdict[ShardId, list[Candidate]] = defaultdict(list)
        for extent, value in old.items():
            piece = decode_piece(value)
            if self._is_worth_asking(extent, piece):
                shard = self._client.map.shard_of(piece.pool, piece.bucket, piece.key)
                by_shard[shard].append((extent, piece))
        for shard, candidates in by_shard.items():
            try:
                await self._ask(shard, candidates)
            except StoreError as error:
                log.info("possible orphans among extents stay: %s", error)

    def _is_worth_asking(self, extent: bytes, piece: IndexedPiece) -> bool:
        if not piece.key or piece.pool not in self._client.map.pools:
            return False
        if self._now_s() - piece.created_ms / 1000 < self._grace_s:
            return False
        return self._host.serves(self._shard(piece.pool, extent))

    async def _ask(self, shard: ShardId, candidates: list[Candidate]) -> None:
        origins = [ExtentOrigin(e, p.bucket, p.key, p.upload) for e, p in candidates]
        answer, _ = await self._client.ask_primary(shard, FindUnnamed(shard, origins))
        unnamed = set(answer.extents)
        by_writer: defaultdict[NodeId, list[Candidate]] = defaultdict(list)
        for extent, piece in candidates:
            if extent in unnamed:
                by_writer[piece.writer].append((extent, piece))
        for writer, written in by_writer.items():
            under_way = await self._under_way(writer, [extent for extent, _ in written])
            for extent, piece in written:
                if extent not in under_way:
                    await self._queue(extent, piece)

    async def _under_way(self, writer: NodeId, extents: list[bytes]) -> Iterable[bytes]:
        if self._is_removed(writer):
            return ()
        message = FindWritten(extents)
        answer, _ = await self._client.call(writer, message, b"", limits.READ_TIMEOUT_S)
        return answer.extents

    async def _queue(self, extent: bytes, piece: IndexedPiece) -> None:
        unnamed = ExtentRef(extent, NEVER_NAMED_BYTES)  # However much of it was written.
        queued = QueueExtents(piece.bucket, piece.key, piece.upload, (unnamed,))
        await self._client.propose(piece.pool, write_of(queued, self._next_request_id()))
        self.queued_extents += 1
        log.info("extent %s was never committed: discarding it", extent.hex())

    def _shard(self, pool: PoolId, extent: bytes) -> ShardId:
        return self._client.map.shard_of_hash(pool, extent_hash(extent))
