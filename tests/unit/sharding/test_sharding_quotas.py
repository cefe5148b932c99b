"""Fair shares, and how they become whole numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.sharding.assignment.quotas import fair_shares, fill, rounded

WEIGHTS = st.lists(st.sampled_from([1, 1, 2, 5, 50]).map(Fraction), min_size=3, max_size=12)


@given(weights=WEIGHTS, zone_count=st.integers(3, 6), data=st.data())
def test_shares_use_up_everything_and_keep_every_cap(
    weights: list[Fraction], zone_count: int, data: st.DataObject
) -> None:
    drawn = [data.draw(st.integers(0, zone_count - 1)) for _ in weights]
    zones = [sorted(set(drawn)).index(zone) for zone in drawn]
    per_zone = 3 - min(3, len(set(zones))) + 1
    shares = fair_shares(weights, zones, shards=64, replicas=3, per_zone=per_zone)
    assert sum(shares) == 3 * 64
    assert all(0 <= share <= 64 for share in shares)
    for zone in set(zones):
        held = sum(share for share, z in zip(shares, zones, strict=True) if z == zone)
        assert held <= per_zone * 64
    whole = rounded(shares, zones, [0] * len(weights), range(len(weights)))
    assert sum(whole) == 3 * 64
    for share, quota in zip(shares, whole, strict=True):
        assert math.floor(share) <= quota <= math.ceil(share)


def test_weights_decide_until_a_cap_is_reached() -> None:
    assert fill([Fraction(1), Fraction(3)], [Fraction(100), Fraction(100)], 40) == [10, 30]
    assert fill([Fraction(1), Fraction(9)], [Fraction(100), Fraction(20)], 40) == [20, 20]
    with pytest.raises(AssertionError):
        fill([Fraction(1)], [Fraction(1)], 2)


def test_who_holds_more_already_is_rounded_up_so_that_it_need_not_move() -> None:
    shares = [Fraction(4, 3)] * 3
    assert rounded(shares, [0, 1, 2], [1, 1, 2], range(3)) == [1, 1, 2]
    assert rounded(shares, [0, 1, 2], [1, 2, 1], range(3)) == [1, 2, 1]
    assert rounded(shares, [0, 0, 0], [1, 2, 1], range(3)) == [1, 2, 1]
    assert rounded(shares, [0, 1, 2], [0, 0, 0], [5, 4, 3]) == [1, 1, 2]
