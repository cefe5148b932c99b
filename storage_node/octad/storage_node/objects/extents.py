"""Large bodies: written as extents while they arrive, read back piece by piece.

An extent's pieces go to the shard of the extent's own id and are replicated like any other record,
but nothing shows them until an object's row names the extent. A few pieces are under way at a
time, so that a body of any size takes a few MiB of memory: of the budget of all bodies, a piece at
a time, until the piece is durable.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import TypeAlias
from weakref import WeakValueDictionary

from octad.sharding import limits
from octad.sharding.ids import ShardId
from octad.storage_node.index.index_format import extent_hash
from octad.storage_node.index.rows import ExtentRef
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.memory.unwritten_memory import unwritten
from octad.storage_node.operations.index_changes import DropExtent, PutPiece
from octad.storage_node.replication.writes import write_of
from octad.storage_node.shards.object_messages import ReadPiece
from octad.storage_node.shards.object_store import Bucket, Damaged, Degraded, StoreError
from octad.storage_node.shards.shard_client import ShardClient
from octad.storage_node.shards.shard_service import AskPrimary, ShardService

GIVE_BACK_S_MAX = 1.0  # A failed request waits no longer than this to give its extents back.

WRITES_AHEAD = 4
READS_AHEAD = 2
EXTENT_ID_BYTES = 16

# The extents that requests of this node write and have not committed, by id. A request holds the
# references to its extents until it is over, however it ends, so no one has to remove them.
ExtentsUnderWay: TypeAlias = WeakValueDictionary[bytes, ExtentRef]

# The pieces that are being written; of bodies that broke off, too.
_under_way: set[asyncio.Task[int]] = set()


def _ended(writing: asyncio.Task[int]) -> None:
    """The waiting caller sees it; an error that no one waits for is dropped."""
    _under_way.discard(writing)
    if not writing.cancelled():
        writing.exception()


class ExtentWriter:
    """Implements `BodyWriter` for one body."""

    def __init__(
        self,
        client: ShardClient,
        bucket: Bucket,
        key: bytes,
        size: int,
        upload: bytes,
        next_request_id: Callable[[], bytes],
        under_way: ExtentsUnderWay,
        budget: BodyBudget,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._upload = upload
        self._next_request_id = next_request_id
        self._under_way = under_way
        self._gate = budget.gate(size)  # It takes the body's memory from the budget.
        self._left = size  # Bytes for which there was no space yet.
        self._piece: memoryview | None = None  # What arrives is put here,
        self._filled = 0  # and this much of it is there.
        self._short_pieces = 0  # Pieces ended early because others waited for memory.
        self._done: list[ExtentRef] = []
        self._begin_extent()
        self._writing: deque[asyncio.Task[int]] = deque()
        self._copies = 0  # The fewest that a piece has; 0: as many as the pool keeps.

    async def space(self) -> memoryview:
        """Where the next bytes go; waits for memory, and while enough pieces are under way."""
        if self._piece is None:
            if len(self._writing) > WRITES_AHEAD:
                await self._wait_for_oldest()
            size = min(self._left, limits.PIECE_BYTES_MAX)
            await self._gate.take(size)
            self._left -= size
            self._piece, self._filled = memoryview(unwritten(size)), 0
        return self._piece[self._filled :]

    def filled(self, count: int) -> None:
        """The first bytes of the last `space`, this many, are the next of the body."""
        assert self._piece is not None
        self._filled += count
        if self._filled == len(self._piece):
            self._write_piece(self._piece)

    @property
    def is_wanted(self) -> bool:
        """Whether others wait for memory."""
        return self._gate.is_wanted

    def make_way(self) -> bool:
        """Give up the part of the piece that is not filled, and write it as it is.

        That ends its extent, so it works only `SHORT_PIECES_MAX` times; then it returns False.
        """
        piece, filled = self._piece, self._filled
        if piece is None:
            return True
        if filled and self._short_pieces >= limits.SHORT_PIECES_MAX:
            return False
        self._gate.give_back(len(piece) - filled)
        self._left += len(piece) - filled
        self._piece = None
        if filled:
            self._short_pieces += 1
            self._write_piece(piece[:filled])
            self._end_extent()
        return True

    async def finish(self) -> tuple[ExtentRef, ...]:
        """All of it is durable on every member, also where it is less than was announced."""
        if (piece := self._piece) is not None:
            self._gate.give_back(len(piece) - self._filled)
            self._piece = None
            if self._filled:
                self._write_piece(piece[: self._filled])
        while self._writing:
            await self._wait_for_oldest()
        self._end_extent()
        return tuple(self._done)

    def degraded(self) -> Degraded | None:
        """For the piece with the fewest copies, once all are finished."""
        return self._client.degraded(self._bucket.pool, self._copies)

    async def abandon(self) -> None:
        """Stop writing, and give back what is stored: nothing will ever name it.

        What is under way keeps its memory until it is there, or has failed.
        """
        if self._piece is not None:
            self._gate.give_back(len(self._piece))
            self._piece = None
        written = [*self._done, ExtentRef(self._extent.id, self._extent_length)]
        for extent in written:  # Even if something else still refers to them.
            self._under_way.pop(extent.id, None)
        with suppress(StoreError, TimeoutError):  # The sweep finds what is left.
            async with asyncio.timeout(GIVE_BACK_S_MAX):
                if self._writing:
                    await asyncio.wait(self._writing)
                for first in range(0, len(written), limits.EXTENTS_DROPPED_AT_ONCE):
                    some = written[first : first + limits.EXTENTS_DROPPED_AT_ONCE]
                    await asyncio.gather(*[self._drop(extent) for extent in some])

    async def _drop(self, extent: ExtentRef) -> None:
        if extent.length:
            drop = DropExtent(extent.id, -(-extent.length // limits.PIECE_BYTES_MAX))
            write = write_of(drop, self._next_request_id())
            await self._client.propose(self._bucket.pool, write)

    def _write_piece(self, piece: memoryview) -> None:
        self._piece = None
        if self._extent_length == limits.EXTENT_BYTES_MAX:
            self._end_extent()
        number = self._extent_length // limits.PIECE_BYTES_MAX
        self._extent_length += len(piece)
        operation = PutPiece(
            self._extent.id,
            number,
            self._bucket.id,
            self._key,
            self._upload,
            self._created_ms,
            self._client.node,
        )
        writing = asyncio.create_task(self._propose(operation, piece))
        self._writing.append(writing)
        _under_way.add(writing)
        writing.add_done_callback(_ended)

    async def _propose(self, operation: PutPiece, piece: memoryview) -> int:
        write = write_of(operation, self._next_request_id(), piece.toreadonly())
        try:
            return (await self._client.propose(self._bucket.pool, write)).copies
        finally:
            self._gate.give_back(len(piece))

    async def _wait_for_oldest(self) -> None:
        copies = await self._writing[0]
        self._writing.popleft()
        if copies:
            self._copies = min(copies, self._copies or copies)

    def _begin_extent(self) -> None:
        self._extent = ExtentRef(os.urandom(EXTENT_ID_BYTES), 0)
        self._extent_length = 0
        self._created_ms = int(time.time() * 1000)
        self._under_way[self._extent.id] = self._extent

    def _end_extent(self) -> None:
        if self._extent_length:
            done = ExtentRef(self._extent.id, self._extent_length)
            self._under_way[done.id] = done
            self._done.append(done)
            self._begin_extent()


class ExtentReader:
    """Reads pieces here when this node has them, else from a member that is reachable."""

    def __init__(self, client: ShardClient, service: ShardService) -> None:
        self._client = client
        self._service = service

    async def read(
        self, bucket: Bucket, extents: Sequence[ExtentRef], start: int, end: int
    ) -> AsyncIterator[bytes | memoryview]:
        """Bytes [start, end) of the concatenated extents, in order, a little read ahead."""
        wanted = deque(_pieces_between(extents, start, end))
        reading: deque[tuple[asyncio.Task[bytes | memoryview], int, int]] = deque()
        try:
            while wanted or reading:
                while wanted and len(reading) < READS_AHEAD:
                    extent, number, first, last = wanted.popleft()
                    shard = self._client.map.shard_of_hash(bucket.pool, extent_hash(extent))
                    task = asyncio.create_task(self._read_piece(shard, extent, number))
                    reading.append((task, first, last))
                task, first, last = reading.popleft()
                piece = await task
                if last > len(piece):
                    raise Damaged(f"a piece has {len(piece)} bytes, {last} were expected")
                yield memoryview(piece)[first:last]
        finally:
            for task, _, _ in reading:
                task.cancel()
            await asyncio.gather(*(task for task, _, _ in reading), return_exceptions=True)

    async def _read_piece(self, shard: ShardId, extent: bytes, number: int) -> bytes | memoryview:
        configuration = self._client.map.configurations.get(shard)
        if configuration is not None and configuration.member(self._client.node) is not None:
            try:
                return await self._service.read_piece(shard, extent, number)
            except Damaged:
                _, body = await self._client.ask_all(shard, ReadPiece(shard, extent, number))
                return body if isinstance(body, bytes) else memoryview(body)
            except AskPrimary:
                pass  # Not applied here yet: another member has it.
        _, body = await self._client.ask_members(shard, ReadPiece(shard, extent, number))
        return body if isinstance(body, bytes) else memoryview(body)


def _pieces_between(
    extents: Sequence[ExtentRef], start: int, end: int
) -> list[tuple[bytes, int, int, int]]:
    """(extent id, piece number, first byte, past the last byte) for each piece."""
    pieces: list[tuple[bytes, int, int, int]] = []
    extent_start = 0
    for extent in extents:
        first = max(start - extent_start, 0)
        last = min(end - extent_start, extent.length)
        while first < last:
            number, within = divmod(first, limits.PIECE_BYTES_MAX)
            piece_end = min(last - number * limits.PIECE_BYTES_MAX, limits.PIECE_BYTES_MAX)
            pieces.append((extent.id, number, within, piece_end))
            first += piece_end - within
        extent_start += extent.length
    return pieces
