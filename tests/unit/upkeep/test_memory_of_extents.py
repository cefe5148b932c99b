"""A large body takes memory a piece at a time, until the piece is durable, and makes way."""

from __future__ import annotations

import asyncio
from typing import cast

from octad.sharding.ids import BucketId, NodeId, PoolId
from octad.sharding.limits import BODY_BUDGET_BYTES_MIN, MIB, PIECE_BYTES_MAX, SHORT_PIECES_MAX
from octad.sharding.map.shard_map import Pool, ShardMap
from octad.storage_node.index.rows import ExtentRef
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.objects.extents import WRITES_AHEAD, ExtentsUnderWay, ExtentWriter
from octad.storage_node.operations.index_changes import DropExtent, PutPiece
from octad.storage_node.replication.writes import Write
from octad.storage_node.shards.object_messages import Done
from octad.storage_node.shards.object_store import Bucket
from octad.storage_node.shards.shard_client import ShardClient

POOL = PoolId(1)
BUCKET = Bucket("bucket", BucketId(5), POOL, "owner", 0)


class Site:
    """A `ShardClient` that stores pieces when it is told to."""

    def __init__(self) -> None:
        self.node = NodeId(7)
        self.map = ShardMap({POOL: Pool(POOL, 3, 2)}, {})
        self.pieces: dict[tuple[bytes, int], bytes] = {}
        self.durable = asyncio.Event()
        self.budget = BodyBudget(BODY_BUDGET_BYTES_MIN)

    async def propose(self, _pool: PoolId, write: Write) -> Done:
        await self.durable.wait()
        operation = write.operation
        if isinstance(operation, DropExtent):
            return Done()
        assert isinstance(operation, PutPiece)
        self.pieces[operation.extent, operation.number] = bytes(write.data)
        return Done()

    def degraded(self, _pool: PoolId, _copies: int) -> None:
        return None

    def writer(self, size: int) -> ExtentWriter:
        client = cast("ShardClient", self)
        under_way = ExtentsUnderWay()
        return ExtentWriter(
            client, BUCKET, b"k", size, b"", lambda: bytes(16), under_way, self.budget
        )

    def stored(self, extents: tuple[ExtentRef, ...]) -> bytes:
        """As a reader finds it: every piece of an extent but its last is whole."""
        data = b""
        for extent in extents:
            for number in range(-(-extent.length // PIECE_BYTES_MAX)):
                piece = self.pieces[extent.id, number]
                wanted = min(PIECE_BYTES_MAX, extent.length - number * PIECE_BYTES_MAX)
                assert len(piece) == wanted
                data += piece
        return data


async def fill(writer: ExtentWriter, size: int) -> None:
    """Pieces of the body, whole ones but for its last."""
    while size:
        space = await writer.space()
        writer.filled(len(space))
        size -= len(space)


async def put(writer: ExtentWriter, data: bytes) -> None:
    """Less than there is space for."""
    space = await writer.space()
    space[: len(data)] = data
    writer.filled(len(data))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_memory_is_taken_before_bytes_come_and_given_back_when_they_are_durable() -> None:
    site = Site()
    writer = site.writer(3 * MIB)
    await writer.space()
    assert site.budget.used == MIB
    filling = asyncio.create_task(fill(writer, 3 * MIB))
    await settle()
    assert site.budget.used == 3 * MIB
    site.durable.set()
    await filling
    await writer.finish()
    assert site.budget.used == 0


async def test_a_body_that_ends_before_its_size_keeps_what_came_and_gives_back_the_rest() -> None:
    for came in (b"", b"x" * 5):
        site = Site()
        site.durable.set()
        writer = site.writer(3 * MIB)
        await fill(writer, MIB)
        if came:
            await put(writer, came)
        else:
            await writer.space()
        extents = await writer.finish()
        assert site.stored(extents)[MIB:] == came
        assert site.budget.used == 0


async def test_a_body_alone_has_a_few_pieces_under_way_and_no_more() -> None:
    site = Site()
    filling = asyncio.create_task(fill(site.writer(40 * MIB), 40 * MIB))
    await settle()
    assert site.budget.used == (WRITES_AHEAD + 1) * MIB
    site.durable.set()
    await filling


async def test_many_bodies_have_no_more_memory_than_one_and_all_of_them_end() -> None:
    site = Site()
    writers = [site.writer(5 * MIB) for _ in range(50)]
    filling = [asyncio.create_task(fill(writer, 5 * MIB)) for writer in writers]
    await settle()
    assert site.budget.used == site.budget.large.share.bytes_max
    assert site.budget.waiting > 0
    site.durable.set()
    await asyncio.gather(*filling)
    await asyncio.gather(*[writer.finish() for writer in writers])
    assert (site.budget.used, site.budget.waiting) == (0, 0)


async def test_small_bodies_do_not_wait_behind_large_ones() -> None:
    site = Site()
    filling = [asyncio.create_task(fill(site.writer(5 * MIB), 5 * MIB)) for _ in range(50)]
    await settle()
    assert site.budget.large.is_wanted
    await asyncio.wait_for(fill(site.writer(1000), 1000), 1)
    site.durable.set()
    await asyncio.gather(*filling)


async def test_a_body_that_makes_way_loses_no_byte_and_keeps_no_memory() -> None:
    site = Site()
    site.durable.set()
    writer = site.writer(MIB + 8)
    await fill(writer, MIB)
    await put(writer, b"slow")
    assert writer.make_way()
    assert writer.make_way(), "there is nothing left to make way with"
    await put(writer, b"")
    assert writer.make_way(), "nothing had come"
    await put(writer, b"body")
    extents = await writer.finish()
    assert [extent.length for extent in extents] == [MIB + 4, 4]
    assert site.stored(extents)[MIB:] == b"slowbody"
    assert site.budget.used == 0


async def test_a_body_is_not_cut_into_more_extents_than_a_row_can_name() -> None:
    site = Site()
    site.durable.set()
    writer = site.writer(9 * MIB)
    for _ in range(SHORT_PIECES_MAX):
        await put(writer, b"x")
        assert writer.make_way()
    await put(writer, b"x")
    assert not writer.make_way()
    await writer.abandon()


async def test_what_a_body_that_broke_off_has_under_way_keeps_its_memory_until_it_is_there() -> (
    None
):
    site = Site()
    writer = site.writer(9 * MIB)
    await fill(writer, 2 * MIB)
    await writer.space()
    await writer.abandon()
    assert site.budget.used == 2 * MIB
    site.durable.set()
    await settle()
    assert site.budget.used == 0
