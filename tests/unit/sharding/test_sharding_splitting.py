"""Splitting and merging keep every key on the nodes where it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.sharding.hashing import bit_reversed, bit_reversed_range, shard_number
from octad.sharding.ids import Epoch, NodeId, PoolId, number_of, shard_id
from octad.sharding.map.pool_lookup import PoolLookup
from octad.sharding.map.shard_map import Member, Pool, ShardConfiguration, ShardMap
from octad.sharding.map.splitting import (
    CannotSplit,
    split_configuration,
)

HASHES = st.integers(0, 2**64 - 1)
CONFIGURATION = ShardConfiguration(
    Epoch(7), 4, NodeId(1), tuple(Member(NodeId(i), "disk") for i in (1, 2, 3))
)


@given(hash_=HASHES, depth=st.integers(0, 17))
def test_a_split_sends_each_key_to_its_shard_or_the_new_sibling_by_one_bit(
    hash_: int, depth: int
) -> None:
    before, after = shard_number(hash_, depth), shard_number(hash_, depth + 1)
    assert after in (before, before + (1 << depth))
    assert (after != before) == bool(hash_ >> depth & 1)


@given(hash_=HASHES, depth=st.integers(0, 18))
def test_a_shard_is_one_range_of_the_bit_reversed_order_and_its_halves_are_neighbours(
    hash_: int, depth: int
) -> None:
    start, end = bit_reversed_range(shard_number(hash_, depth), depth)
    assert start <= bit_reversed(hash_)
    assert end is None or bit_reversed(hash_) < end
    if depth < 18:
        low, high = (
            bit_reversed_range(number, depth + 1)
            for number in (shard_number(hash_, depth), shard_number(hash_, depth) + (1 << depth))
        )
        assert (low[0], low[1], high[1]) == (start, high[0], end)


def test_no_shard_splits_beyond_the_largest_depth() -> None:
    with pytest.raises(CannotSplit):
        split_configuration(ShardConfiguration(Epoch(1), 18, NodeId(1), CONFIGURATION.members))


def test_both_halves_start_where_their_origin_is_one_epoch_on() -> None:
    low, high = split_configuration(CONFIGURATION)
    assert low == high
    assert (low.epoch, low.depth, low.members, low.primary) == (
        8,
        5,
        CONFIGURATION.members,
        CONFIGURATION.primary,
    )


POOL = PoolId(3)


@st.composite
def half_split(draw: st.DrawFn) -> ShardMap:
    """A pool some of whose shards have been split, once or twice; all configurations are there."""
    depth = draw(st.integers(0, 4))
    leaves = [(number, depth) for number in range(1 << depth)]
    for _ in range(draw(st.integers(0, 12))):
        number, own = leaves.pop(draw(st.integers(0, len(leaves) - 1)))
        leaves += [(number, own + 1), (number + (1 << own), own + 1)]
    configurations = {
        shard_id(POOL, number): ShardConfiguration(Epoch(1), own, NodeId(1), CONFIGURATION.members)
        for number, own in leaves
    }
    return ShardMap({POOL: Pool(POOL, 3, depth)}, configurations)


@given(half_split(), HASHES)
def test_while_a_pool_is_split_a_hash_belongs_to_the_one_shard_that_covers_it(
    shard_map: ShardMap, hash_: int
) -> None:
    covering = [
        shard
        for shard, configuration in shard_map.configurations.items()
        if shard_number(hash_, configuration.depth) == number_of(shard)
    ]
    assert [shard_map.shard_of_hash(POOL, hash_)] == covering
    assert PoolLookup(shard_map, POOL).configuration(hash_) is shard_map.configurations[covering[0]]


@given(half_split())
def test_while_a_pool_is_split_its_shards_are_those_that_are_configured(
    shard_map: ShardMap,
) -> None:
    shards = list(shard_map.shards_of(POOL))
    assert sorted(shards) == sorted(shard_map.configurations)


@given(HASHES, st.integers(0, 12))
def test_a_pool_without_configurations_is_looked_up_by_its_own_depth(
    hash_: int, depth: int
) -> None:
    shard_map = ShardMap({POOL: Pool(POOL, 3, depth)}, {})
    assert shard_map.shard_of_hash(POOL, hash_) == shard_id(POOL, shard_number(hash_, depth))
    assert PoolLookup(shard_map, POOL).configuration(hash_) is None
