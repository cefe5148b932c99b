"""Large bodies: written as extents while they arrive, read back piece by piece.

An extent's pieces go to the shard of the extent's own id and are replicated like any other record,
but nothing shows them until an object's row names the extent. A few pieces are under way at a
time, so that a body of any size takes a few MiB of memory.
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
from octad.storage_node.core.index_format import extent_hash
from octad.storage_node.core.object_messages import ReadPiece
from octad.storage_node.core.object_store import Bucket, Damaged, Degraded, StoreError
from octad.storage_node.core.operations import DropExtent, PutPiece, encode_operation
from octad.storage_node.core.record_format import RecordKind
from octad.storage_node.core.rows import ExtentRef
from octad.storage_node.shell.routing import ShardClient
from octad.storage_node.shell.shard_service import AskPrimary, ShardService

WRITES_AHEAD = 4
READS_AHEAD = 2
EXTENT_ID_BYTES = 16

# The extents that requests of this node write and have not committed, by id. A request holds the
# references to its extents until it is over, however it ends, so there is nothing to sign off.
ExtentsUnderWay: TypeAlias = WeakValueDictionary[bytes, ExtentRef]


class ExtentWriter:
    """Implements `BodyWriter` for one body."""

    def __init__(
        self,
        client: ShardClient,
        bucket: Bucket,
        key: bytes,
        upload: bytes,
        next_request_id: Callable[[], bytes],
        under_way: ExtentsUnderWay,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._upload = upload
        self._next_request_id = next_request_id
        self._under_way = under_way
        self._piece = bytearray()
        self._done: list[ExtentRef] = []
        self._begin_extent()
        self._writing: deque[asyncio.Task[int]] = deque()
        self._copies = 0  # Of the piece that has the fewest; 0: as many as the pool keeps.

    async def write(self, data: bytes | memoryview) -> None:
        """Take some bytes; waits while enough pieces are under way."""
        view = memoryview(data)
        while view:
            room = limits.PIECE_BYTES_MAX - len(self._piece)
            if not self._piece and len(view) >= limits.PIECE_BYTES_MAX:
                await self._write_piece(bytes(view[:room]))
            else:
                self._piece += view[:room]
                if len(self._piece) == limits.PIECE_BYTES_MAX:
                    piece, self._piece = bytes(self._piece), bytearray()
                    await self._write_piece(piece)
            view = view[room:]

    async def finish(self) -> tuple[ExtentRef, ...]:
        """All of it is durable on every member."""
        if self._piece:
            piece, self._piece = bytes(self._piece), bytearray()
            await self._write_piece(piece)
        while self._writing:
            await self._wait_for_oldest()
        self._end_extent()
        return tuple(self._done)

    def degraded(self) -> Degraded | None:
        """Of the piece that has the fewest copies, once they are finished."""
        return self._client.degraded(self._bucket.pool, self._copies)

    async def abandon(self) -> None:
        """Stop writing, and give back what is stored: nothing will ever name it."""
        writing, self._writing = list(self._writing), deque()
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
        written = [*self._done, ExtentRef(self._extent.id, self._extent_length)]
        for extent in written:  # Whatever else still refers to them.
            self._under_way.pop(extent.id, None)
        with suppress(StoreError, TimeoutError):  # The sweep finds what is left.
            async with asyncio.timeout(limits.GIVE_BACK_S_MAX):
                for first in range(0, len(written), limits.EXTENTS_DROPPED_AT_ONCE):
                    some = written[first : first + limits.EXTENTS_DROPPED_AT_ONCE]
                    await asyncio.gather(*[self._drop(extent) for extent in some])

    async def _drop(self, extent: ExtentRef) -> None:
        if extent.length:
            drop = DropExtent(extent.id, -(-extent.length // limits.PIECE_BYTES_MAX))
            shard = self._client.map.shard_of_hash(self._bucket.pool, extent_hash(extent.id))
            kind, metadata = RecordKind.DROP_EXTENT, encode_operation(drop)
            await self._client.propose(shard, kind, self._next_request_id(), metadata, b"")

    async def _write_piece(self, piece: bytes) -> None:
        if self._extent_length == limits.EXTENT_BYTES_MAX:
            self._end_extent()
        number = self._extent_length // limits.PIECE_BYTES_MAX
        self._extent_length += len(piece)
        extent = self._extent.id
        operation = PutPiece(
            extent,
            number,
            self._bucket.id,
            self._key,
            self._upload,
            self._created_ms,
            self._client.node,
        )
        shard = self._client.map.shard_of_hash(self._bucket.pool, extent_hash(extent))
        if len(self._writing) >= WRITES_AHEAD:
            await self._wait_for_oldest()
        proposal = self._client.propose(
            shard, RecordKind.PUT_PIECE, self._next_request_id(), encode_operation(operation), piece
        )
        self._writing.append(asyncio.create_task(proposal))

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
            whole = ExtentRef(self._extent.id, self._extent_length)
            self._under_way[whole.id] = whole
            self._done.append(whole)
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
        row = self._client.map.rows.get(shard)
        if row is not None and row.member(self._client.node) is not None:
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
