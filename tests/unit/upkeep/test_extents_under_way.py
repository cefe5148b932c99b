"""A request's extents count as under way from their first byte until the request is over."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import pytest

from octad.sharding.ids import BucketId, NodeId, PoolId
from octad.sharding.limits import EXTENT_BYTES_MAX, MIB, PIECE_BYTES_MAX
from octad.sharding.map.shard_map import Pool, ShardMap
from octad.storage_node.cli.node_command import BODY_BUDGET_BYTES
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.objects.extents import ExtentsUnderWay, ExtentWriter
from octad.storage_node.operations.index_changes import DropExtent, PutPiece
from octad.storage_node.replication.writes import Write
from octad.storage_node.shards.object_messages import Done
from octad.storage_node.shards.object_store import Bucket, Unavailable
from octad.storage_node.shards.shard_client import ShardClient

POOL = PoolId(1)
BUCKET = Bucket("bucket", BucketId(5), POOL, "owner", 0)
UPLOAD = bytes(range(16))


class Site:
    """A `ShardClient` that takes pieces, or refuses."""

    def __init__(self) -> None:
        self.node = NodeId(7)
        self.map = ShardMap({POOL: Pool(POOL, 3, 2)}, {})
        self.under_way = ExtentsUnderWay()
        self.budget = BodyBudget(BODY_BUDGET_BYTES)
        self.pieces: list[PutPiece] = []
        self.drops: list[DropExtent] = []
        self.refuses = False

    async def propose(self, _pool: PoolId, write: Write) -> Done:
        if self.refuses:
            raise Unavailable("away")
        operation = write.operation
        if isinstance(operation, DropExtent):
            self.drops.append(operation)
            return Done()
        assert isinstance(operation, PutPiece)
        self.pieces.append(operation)
        return Done()

    def writer(self, size: int) -> ExtentWriter:
        client = cast("ShardClient", self)
        return ExtentWriter(
            client, BUCKET, b"key", size, UPLOAD, lambda: bytes(16), self.under_way, self.budget
        )


async def write(writer: ExtentWriter, size: int) -> None:
    """A body of so many bytes."""
    while size:
        space = await writer.space()
        writer.filled(len(space))
        size -= len(space)


async def test_a_piece_says_for_what_it_was_written_when_and_by_whom() -> None:
    site = Site()
    writer = site.writer(MIB + 1)
    await write(writer, MIB + 1)
    await writer.finish()
    assert [piece.number for piece in site.pieces] == [0, 1]
    for piece in site.pieces:
        assert (piece.bucket, piece.key, piece.upload, piece.writer) == (5, b"key", UPLOAD, 7)
        assert abs(piece.created_ms / 1000 - time.time()) < 60


@pytest.mark.parametrize("limit", [PIECE_BYTES_MAX, EXTENT_BYTES_MAX])
@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_a_body_of_each_limit_and_beside_it_is_kept_to_the_byte(
    limit: int, more: int
) -> None:
    site = Site()
    writer = site.writer(limit + more)
    await write(writer, limit + more)
    extents = await writer.finish()
    rest = [1] if limit == EXTENT_BYTES_MAX and more == 1 else []
    assert [extent.length for extent in extents] == [limit + more - sum(rest), *rest]
    by_extent = {extent.id: extent.length for extent in extents}
    assert len(site.pieces) == sum(-(-length // PIECE_BYTES_MAX) for length in by_extent.values())


async def test_extents_are_under_way_while_the_request_holds_its_row() -> None:
    site = Site()
    writer = site.writer(EXTENT_BYTES_MAX + MIB)
    await write(writer, EXTENT_BYTES_MAX + MIB)
    await asyncio.sleep(0)
    written = {piece.extent for piece in site.pieces}
    assert len(written) == 2
    assert all(extent in site.under_way for extent in written)
    row = ObjectRow(1, "", 0, extents=await writer.finish())
    del writer
    assert all(extent in site.under_way for extent in written), "its commit may be on its way"
    del row
    assert not any(extent in site.under_way for extent in written)


async def test_a_body_that_broke_off_is_not_under_way() -> None:
    site = Site()
    writer = site.writer(MIB)
    await write(writer, MIB)
    await asyncio.sleep(0)
    site.refuses = True
    await writer.abandon()
    del writer
    assert site.pieces
    assert len(site.under_way) == 0


async def test_what_is_stored_of_a_body_that_broke_off_is_given_back_at_once() -> None:
    """A disk that becomes full refuses many at the same time."""
    site = Site()
    writer = site.writer(EXTENT_BYTES_MAX + 2 * MIB)
    await write(writer, EXTENT_BYTES_MAX + MIB)
    await asyncio.sleep(0)
    await writer.abandon()
    pieces: dict[bytes, int] = {}
    for piece in site.pieces:
        pieces[piece.extent] = piece.number + 1
    assert {drop.extent: drop.pieces for drop in site.drops} == pieces


async def test_a_body_of_which_nothing_is_stored_gives_nothing_back() -> None:
    site = Site()
    writer = site.writer(MIB)
    await writer.space()
    writer.filled(len(b"less than a piece"))
    await writer.abandon()
    assert not site.drops
