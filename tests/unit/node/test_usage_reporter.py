"""What a node reports of its shards' sizes, on a real index and a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from octad.coordinator.schema.placement_records import PlacementKeys, UsageRecord
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import KeyValue
from octad.sharding.hashing import object_hash, shard_number
from octad.sharding.ids import BucketId, Epoch, NodeId, PoolId, Seq, ShardId, shard_id, shard_name
from octad.sharding.map.shard_map import Member, Pool, ShardConfiguration, ShardMap
from octad.storage_node.index.index import Index
from octad.storage_node.index.index_format import POSITION_KEY, encode_position, extent_hash
from octad.storage_node.index.rows import ObjectRow, PartRow, UploadRow
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.record_format import Location, Position, SegmentId
from octad.storage_node.node.reports.usage_reporter import UsageReporter
from octad.storage_node.operations.index_changes import (
    DeleteObject,
    IndexChanges,
    Operation,
    PutObject,
    PutPart,
    PutPiece,
    complete_upload,
    create_upload,
    put_object,
)

NODE, OTHER = NodeId(1), NodeId(2)
KEYS = StoreKeys("cafe0123")
TRIPLE, PAIR = BucketId(1), BucketId(2)
POOLS = {PoolId(0): Pool(PoolId(0), 3, 2), PoolId(1): Pool(PoolId(1), 2, 1)}
POOL_OF = {TRIPLE: PoolId(0), PAIR: PoolId(1)}
UPLOAD = b"u" * 16


class FilledDisk(Disk):
    """A disk of a thousand bytes."""

    free = 400

    def capacity_bytes(self, path: Path) -> int:
        return 1000

    def free_bytes(self, path: Path) -> int:
        return self.free


class Reporting:
    """A node with an index, and what it has put into the store."""

    def __init__(self, directory: Path, store: EmbeddedStore) -> None:
        self.index = Index(directory / "index")
        self.store = store
        self.disk = FilledDisk()
        members = (Member(NODE, "one"), Member(OTHER, "two"))
        configurations = {
            shard: ShardConfiguration(Epoch(1), pool.depth, NODE, members)
            for pool in POOLS.values()
            for shard in ShardMap(POOLS, {}).shards_of(pool.id)
        }
        self.configurations: dict[ShardId, ShardConfiguration] = configurations
        self._end = 0
        self.reporter = UsageReporter(
            NODE,
            store,
            KEYS,
            self.disk,
            directory,
            self.index,
            ShardMap(POOLS, configurations),
            POOL_OF.get,
        )

    def apply(self, operation: Operation, length: int) -> None:
        changes = IndexChanges(self.index.get)
        self._end += length
        location = Location(SegmentId(1), self._end, length)
        changes.apply(operation, location, ShardId(0), Epoch(1), Seq(1))
        puts, deletes = changes.split()
        self.index.write([*puts, (POSITION_KEY, encode_position(Position(self._end)))], deletes)

    async def stored(self) -> KeyValue | None:
        return await self.store.get(PlacementKeys(KEYS).node_usage(NODE))

    async def reported(self) -> UsageRecord:
        await self.reporter.report()
        stored = await self.stored()
        assert stored is not None
        return msgspec.json.decode(stored.value, type=UsageRecord)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Reporting]:
    store = await EmbeddedStore.open(tmp_path / "store.sqlite")
    reporting = Reporting(tmp_path, store)
    yield reporting
    reporting.index.close()
    await store.close()


def put(bucket: BucketId, key: bytes) -> PutObject:
    return put_object(bucket, key, ObjectRow(1, "etag", 0))


def shard_of(bucket: BucketId, hash_: int) -> str:
    pool = POOLS[POOL_OF[bucket]]
    return shard_name(shard_id(pool.id, shard_number(hash_, pool.depth)))


async def test_every_row_counts_once_in_the_shard_that_holds_it(node: Reporting) -> None:
    expected = dict.fromkeys(map(shard_name, node.configurations), 0)
    for bucket in (TRIPLE, PAIR):
        for number in range(300):
            key, length = b"key-%d" % number, 100 + number
            node.apply(put(bucket, key), length)
            expected[shard_of(bucket, object_hash(bucket, key))] += length
        extent = bytes([bucket]) * 16
        node.apply(PutPiece(extent, 0, bucket, b"large"), 5000)
        expected[shard_of(bucket, extent_hash(extent))] += 5000
        node.apply(create_upload(bucket, b"a\x00b", UPLOAD, UploadRow(0, "me")), 70)
        node.apply(PutPart(bucket, b"a\x00b", UPLOAD, 1, PartRow(1, "etag", 0)), 80)
        expected[shard_of(bucket, object_hash(bucket, b"a\x00b"))] += 150
    assert (await node.reported()).shards == expected


async def test_what_is_overwritten_deleted_or_ended_counts_no_more(node: Reporting) -> None:
    node.apply(put(TRIPLE, b"key"), 100)
    node.apply(put(TRIPLE, b"key"), 30)
    node.apply(put(TRIPLE, b"gone"), 100)
    node.apply(create_upload(TRIPLE, b"up", UPLOAD, UploadRow(0, "me")), 50)
    node.apply(PutPart(TRIPLE, b"up", UPLOAD, 1, PartRow(1, "etag", 0)), 60)
    assert sum((await node.reported()).shards.values()) == 240
    node.apply(DeleteObject(TRIPLE, b"gone"), 10)
    row = ObjectRow(1, "etag", 0)
    node.apply(complete_upload(TRIPLE, b"up", UPLOAD, row, (1,)), 7)
    assert sum((await node.reported()).shards.values()) == 37


async def test_only_shards_that_the_node_is_a_member_of_are_reported(node: Reporting) -> None:
    node.apply(put(TRIPLE, b"key"), 100)
    shard = shard_id(PoolId(0), shard_number(object_hash(TRIPLE, b"key"), 2))
    node.configurations[shard] = ShardConfiguration(Epoch(2), 2, OTHER, (Member(OTHER, "two"),))
    shards = (await node.reported()).shards
    assert shard_name(shard) not in shards
    assert len(shards) == len(node.configurations) - 1


async def test_rows_of_a_bucket_that_is_gone_count_nowhere(node: Reporting) -> None:
    node.apply(put(BucketId(9), b"key"), 100)
    assert sum((await node.reported()).shards.values()) == 0


async def test_nothing_is_written_until_something_has_changed(node: Reporting) -> None:
    await node.reported()
    first = await node.stored()
    node.disk.free -= 10  # Within a hundredth of the disk.
    await node.reported()
    assert await node.stored() == first
    node.disk.free -= 1
    assert (await node.reported()).free_bytes == 389
    node.apply(put(TRIPLE, b"key"), 100)
    assert sum((await node.reported()).shards.values()) == 100
