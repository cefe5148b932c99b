"""What a bucket has in a shard is what its rows there come to, however they came to be."""

from __future__ import annotations

import pytest
from tests.unit.history.copied_work import BUCKET, DEPTH, GONE_BUCKET, SHARD
from tests.unit.index.test_shard_digest import ROWS, SIBLING, Engine

from octad.sharding.ids import BucketId, Epoch, Seq, ShardId
from octad.storage_node.index.bucket_usage import BucketUsages, Entry, total, usage_of_row
from octad.storage_node.index.index_format import (
    BucketUsage,
    bucket_in_key,
    bucket_usage_key,
    decode_bucket_usage,
    decode_bucket_usage_key,
    encode_value,
    shard_order_range,
)
from octad.storage_node.index.shard_digest import ShardDigests
from octad.storage_node.journal.shard_state import ShardState


def rows_of(engine: Engine) -> dict[int, Entry]:
    """The naive count."""
    sums: dict[int, Entry] = {BUCKET: (0, 0), GONE_BUCKET: (0, 0)}
    for key, value in engine.index.items():
        if key[:1] in (b"n", b"p"):
            bucket, (objects, size) = bucket_in_key(key), usage_of_row(key, value)
            sums[bucket] = (sums[bucket][0] + objects, sums[bucket][1] + size)
    return sums


def said(digests: ShardDigests, shard: ShardId = SHARD) -> dict[int, Entry]:
    usage = digests.usages.of(shard)
    return {bucket: usage.get(bucket, (0, 0)) for bucket in (BUCKET, GONE_BUCKET)}


@pytest.mark.parametrize("seed", range(30))
def test_usage_is_what_the_rows_come_to_and_its_entries_bring_it_back(seed: int) -> None:
    engine = Engine(seed)
    kept: dict[bytes, bytes] = {}
    for _ in range(40):
        engine.write(engine.rng.randint(1, 9))
        assert said(engine.digests) == rows_of(engine)
        puts, deletes = engine.digests.usages.take_changes()
        kept.update(puts)
        for key in deletes:
            kept.pop(key, None)
        assert said(ShardDigests([], kept.items())) == rows_of(engine)
    assert engine.digests.usages.take_changes() == ([], [])


@pytest.mark.parametrize("seed", range(15))
def test_usage_that_is_not_known_is_counted_while_rows_change(seed: int) -> None:
    engine = Engine(seed)
    engine.write(40)
    older = ShardState(Seq(engine.seq), Epoch(1), Epoch(1), digest=engine.digests.now(SHARD))
    engine.digests = ShardDigests([(SHARD, older)])
    assert not engine.digests.usage_known(SHARD)
    begin, end = shard_order_range(0, DEPTH)
    count = engine.digests.begin_count(SHARD, begin)
    while count.cursor < end:
        engine.count_some(count, end, engine.rng.randint(1, 4))
        engine.write(engine.rng.randint(0, 3))
    engine.digests.counted(count)
    assert engine.digests.usage_known(SHARD)
    assert said(engine.digests) == rows_of(engine)


def test_the_sum_of_both_halves_of_a_split_is_what_the_whole_had() -> None:
    engine = Engine(7)
    engine.write(60)
    engine.digests.split(SHARD, SIBLING)
    assert not engine.digests.usage_known(SHARD)
    assert not engine.digests.usage_known(SIBLING)
    engine.write(20)
    halves = total(engine.digests.usages.of(half) for half in (SHARD, SIBLING))
    sums = {bucket: halves.get(bucket, (0, 0)) for bucket in (BUCKET, GONE_BUCKET)}
    assert sums == rows_of(engine)
    puts, _ = engine.digests.usages.take_changes()
    assert {decode_bucket_usage_key(key)[0] for key, _ in puts} >= {SHARD, SIBLING}


def test_what_has_nothing_left_has_no_entry() -> None:
    usages = BucketUsages()
    usages.change(SHARD, b"n\x00\x00\x00\x05key", 1, 0)
    assert usages.take_changes() == (
        [(bucket_usage_key(SHARD, BucketId(5)), encode_value((1, 0)))],
        [],
    )
    usages.change(SHARD, b"n\x00\x00\x00\x05key", -1, 0)
    assert usages.take_changes() == ([], [bucket_usage_key(SHARD, BucketId(5))])


def test_parts_have_bytes_and_uploads_and_pieces_nothing() -> None:
    usages = [usage_of_row(key, encode_value(row)) for key, row in ROWS.items()]
    assert usages == [(1, 5), (0, 0), (0, 67108864), (0, 0)]


def test_the_bytes_of_an_entry_are_those_on_record() -> None:
    key = bucket_usage_key(ShardId(1 << 32 | 17), BucketId(5))
    assert key.hex() == "62" + "00000001" + "00000011" + "00000005"
    value = encode_value((3, 1 << 40))
    assert value.hex() == "9203cf0000010000000000"
    assert decode_bucket_usage(value) == BucketUsage(3, 1 << 40)
