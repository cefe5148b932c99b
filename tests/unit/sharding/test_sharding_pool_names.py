"""What pools are called."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from octad.sharding.ids import PoolId
from octad.sharding.map.pool_names import pool_names
from octad.sharding.map.shard_map import Pool

POOLS = st.lists(st.sampled_from([1, 2, 3]), max_size=12).map(
    lambda copies: [Pool(PoolId(id_), count, 8) for id_, count in enumerate(copies)]
)


def test_a_pool_is_called_by_its_copies_and_a_later_one_by_its_id_too() -> None:
    pools = [Pool(PoolId(id_), copies, 8) for id_, copies in ((3, 2), (0, 3), (1, 2), (2, 3))]
    assert pool_names(pools) == {0: "octad-3x", 1: "octad-2x", 2: "octad-3x-2", 3: "octad-2x-3"}


@given(POOLS)
def test_names_are_distinct_and_another_pool_changes_none_of_them(pools: list[Pool]) -> None:
    names = pool_names(pools)
    assert len(set(names.values())) == len(pools)
    assert all(names[id_] == name for id_, name in pool_names(pools[:-1]).items())
