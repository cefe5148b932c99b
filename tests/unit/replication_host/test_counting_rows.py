"""The rows of every shard are counted anew and compared with what was kept, whatever happens."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from tests.unit.replication_host.test_restart_of_a_host import (
    FIRST,
    SECOND,
    append,
    disk,
    host_on,
    start,
)

from octad.sharding.hashing import bit_reversed, object_hash
from octad.sharding.ids import BucketId, PoolId, Seq, ShardId, number_of, shard_id
from octad.storage_node.index.bucket_usage import total
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index import IndexDamage
from octad.storage_node.index.index_format import (
    BUCKET_USAGES,
    decode_object_key,
    decode_shard_state,
    encode_value,
    object_key,
    objects_range,
    shard_order_key,
    shard_state_key,
)
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.index_changes import LogSplit, encode_operation, put_object
from octad.storage_node.replication.digest_messages import DigestsRead, ReadDigests
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.upkeep.shard_counter import ShardCounter

OTHER_POOL = shard_id(PoolId(2), 1)  # Its rows lie in the same range of the index.
BUCKET, OTHER_BUCKET, GONE_BUCKET = BucketId(1), BucketId(2), BucketId(3)
PUT = RecordKind.PUT_OBJECT
OBJECTS = 200


def pool_of_bucket(bucket: BucketId) -> PoolId | None:
    return {BUCKET: PoolId(1), OTHER_BUCKET: PoolId(2)}.get(bucket)


def keys_of(bucket: BucketId, count: int) -> list[bytes]:
    """That fall into shard 1 of 8."""
    names = (b"%d" % number for number in range(100_000))
    mine = (name for name in names if object_hash(bucket, name) & 7 == 1)
    return [next(mine) for _ in range(count)]


async def written(directory: Path, *, split: bool) -> None:
    """A journal with objects of one shard, which is split or not, and some of another pool's."""
    async with disk(directory) as (journal, _):
        start(journal)
        seq = 0
        for bucket, shard in ((BUCKET, FIRST), (OTHER_BUCKET, OTHER_POOL), (GONE_BUCKET, FIRST)):
            for number, key in enumerate(keys_of(bucket, OBJECTS if bucket == BUCKET else 9), 1):
                at = number if shard == OTHER_POOL else (seq := seq + 1)
                metadata = encode_operation(put_object(bucket, key, ObjectRow(at, "", 0)))
                append(journal, shard, at, at, PUT, metadata)
        if split:
            halves = encode_operation(LogSplit(4))
            append(journal, FIRST, seq, seq, RecordKind.LOG_SPLIT, halves)


def counter_of(
    journal: Journal, index: CountedIndex, host: ShardHost, period_s: float = 3600.0
) -> ShardCounter:
    for replica in host.replicas.values():  # As the first row of each says.
        replica.splitter.restore(replica.depth or 3)
    return ShardCounter(journal, index, host.replicas, pool_of_bucket, period_s)


async def until_known(index: CountedIndex, counter: ShardCounter, *shards: ShardId) -> None:
    running = asyncio.create_task(counter.run())
    try:
        async with asyncio.timeout(20):
            while any(index.digests.now(shard) is None for shard in shards):
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def rows_of(index: CountedIndex, shard: ShardId) -> int:
    digest = index.digests.now(shard)
    assert digest is not None
    return digest.rows


def usage_of(index: CountedIndex, *shards: ShardId) -> tuple[int, int]:
    return total(index.digests.usages.of(shard) for shard in shards)[BUCKET]


def objects_in(index: CountedIndex, shard: ShardId) -> int:
    """The naive count, of one half at depth 4."""
    keys = (decode_object_key(key) for key, _ in index.scan(*objects_range(BUCKET)))
    return sum(object_hash(*key) & 15 == number_of(shard) for key in keys)


async def test_both_halves_of_a_split_are_counted_and_kept(tmp_path: Path) -> None:
    await written(tmp_path, split=True)
    async with disk(tmp_path) as (journal, index):
        host = host_on(journal, index)
        host.recover()
        assert index.digests.now(FIRST) is index.digests.now(SECOND) is None
        assert usage_of(index, FIRST, SECOND) == (OBJECTS, OBJECTS * (OBJECTS + 1) // 2)
        await until_known(index, counter_of(journal, index, host), FIRST, SECOND)
        assert rows_of(index, FIRST) + rows_of(index, SECOND) == OBJECTS + 9
        assert rows_of(index, OTHER_POOL) == 9
        assert usage_of(index, FIRST, SECOND) == (OBJECTS, OBJECTS * (OBJECTS + 1) // 2)
        assert usage_of(index, FIRST)[0] == objects_in(index, FIRST)
        known = {shard: index.digests.now(shard) for shard in (FIRST, SECOND, OTHER_POOL)}
        host.close()
    async with disk(tmp_path) as (_, index):
        assert {shard: index.digests.now(shard) for shard in known} == known


async def test_what_an_older_octad_has_written_is_counted_and_kept(tmp_path: Path) -> None:
    await written(tmp_path, split=False)
    async with disk(tmp_path) as (journal, index):
        host = host_on(journal, index)
        host.recover()
        known = index.digests.now(FIRST)
        assert known is not None
        assert known.rows == OBJECTS + 9
        host.close()
        stored = index.get(shard_state_key(FIRST))
        assert stored is not None
        older = msgspec.structs.astuple(decode_shard_state(stored))[:8]
        usage = [key for key, _ in index.scan(BUCKET_USAGES, past(BUCKET_USAGES))]
        index.write([(shard_state_key(FIRST), encode_value(older))], usage)
    async with disk(tmp_path) as (journal, index):
        host = host_on(journal, index)
        host.recover()
        assert index.digests.now(FIRST) is None
        await until_known(index, counter_of(journal, index, host), FIRST)
        assert index.digests.now(FIRST) == known
        assert index.digests.usage_known(FIRST)
        host.close()
    async with disk(tmp_path) as (_, index):
        assert index.digests.now(FIRST) == known
        assert index.digests.usage_known(FIRST)
        assert usage_of(index, FIRST) == (OBJECTS, OBJECTS * (OBJECTS + 1) // 2)


@pytest.mark.parametrize("table", ["n", "h"])
async def test_a_row_that_has_gone_shows_that_the_index_is_damaged(
    tmp_path: Path, table: str
) -> None:
    """From the rows, or only from the order in which others copy them."""
    await written(tmp_path, split=False)
    async with disk(tmp_path) as (journal, index):
        host = host_on(journal, index)
        host.recover()
        counter = counter_of(journal, index, host)
        await counter.count(FIRST)
        key = object_key(BUCKET, keys_of(BUCKET, 50)[-1])
        order = shard_order_key(bit_reversed(object_hash(BUCKET, key[5:])), key)
        index._database.write([], [key if table == "n" else order])  # Behind the digest's back.
        with pytest.raises(IndexDamage, match=r"shard 1/1 has 208 rows"):
            await counter.count(FIRST)
        assert index.damage is not None
        host.close()


async def test_every_shard_is_counted_after_a_start_and_again_in_each_period(
    tmp_path: Path,
) -> None:
    await written(tmp_path, split=True)
    async with disk(tmp_path) as (journal, index):
        host = host_on(journal, index)
        host.recover()
        counter = counter_of(journal, index, host, period_s=0.2)
        running = asyncio.create_task(counter.run())
        async with asyncio.timeout(20):
            while min(counter.counts[shard] for shard in host.replicas) < 3:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        host.close()


async def test_what_is_split_while_it_is_counted_is_counted_again(tmp_path: Path) -> None:
    await written(tmp_path, split=False)
    async with disk(tmp_path) as (journal, index):
        host = host_on(journal, index)
        host.recover()
        counter = counter_of(journal, index, host)
        counting = asyncio.create_task(counter.count(FIRST))
        await asyncio.sleep(0)
        index.digests.split(FIRST, SECOND)
        await counting
        assert index.digests.now(FIRST) is None
        await until_known(index, counter, FIRST)
        assert rows_of(index, FIRST) == OBJECTS + 9
        host.close()


async def test_a_digest_is_answered_at_the_entry_that_was_asked_for(tmp_path: Path) -> None:
    await written(tmp_path, split=False)
    async with disk(tmp_path) as (journal, index):
        host = host_on(journal, index)
        host.recover()
        counter = counter_of(journal, index, host)
        now = index.digests.seq(FIRST)
        before = index.digests.at(FIRST, Seq(now - 3))
        asked = ReadDigests([(FIRST, Seq(now - 3)), (SECOND, Seq(1)), (FIRST, Seq(now + 1))])
        asking = asyncio.create_task(counter.answer(asked))
        await asyncio.sleep(0.05)
        assert not asking.done(), "it waits until it is that far"
        index.digests.reach(FIRST, Seq(now + 1))
        answer, _ = await asking
        assert isinstance(answer, DigestsRead)
        earlier, later = answer.digests  # The other shard is not here.
        assert (earlier.seq, earlier.digest) == (now - 3, before)
        assert (later.seq, later.digest) == (now + 1, index.digests.now(FIRST))
        host.close()
