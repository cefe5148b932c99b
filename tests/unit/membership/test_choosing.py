"""Which instances are wanted, and that each is chosen as often as its weight says."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.cluster.service_records import ServiceInstance
from octad.client.membership.choosing import Wanted, choose, passes, serves


def one(name: str = "a", **fields: object) -> ServiceInstance:
    return ServiceInstance(service="web", instance=name, address="10.0.0.5:80", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("instance", "passing", "serving"),
    [
        (one(), True, True),
        (one(health="degraded"), False, True),
        (one(health="failing"), False, False),
        (one(drain=True), False, False),
        (one(health="something newer"), False, True),
    ],
)
def test_who_passes_is_well_and_wants_work(
    instance: ServiceInstance, passing: bool, serving: bool
) -> None:
    assert (passes(instance), serves(instance)) == (passing, serving)


def test_all_that_is_named_has_to_be_so() -> None:
    instance = one(zone="rack-1", labels={"tier": "front", "canary": ""})
    for wanted, matches in (
        (Wanted(), True),
        (Wanted(zone="rack-1"), True),
        (Wanted(zone=""), False),
        (Wanted(labels={"tier": "front", "canary": ""}), True),
        (Wanted(labels={"tier": "back"}), False),
        (Wanted(labels={"other": ""}), False),
        (Wanted(passing=True, zone="rack-1", labels={"tier": "front"}), True),
        (Wanted(passing=True, zone="rack-2"), False),
    ):
        assert wanted.matches(instance) == matches, wanted
    assert not Wanted(passing=True).matches(one(drain=True))


def test_each_is_chosen_as_often_as_its_weight_says() -> None:
    rng = random.Random(7)
    instances = [one("a", weight=3.0), one("b", weight=1.0), one("c", weight=0.0)]
    chosen = Counter(each.instance for _ in range(4000) if (each := choose(instances, rng.random)))
    assert chosen.keys() == {"a", "b"}
    assert 2850 < chosen["a"] < 3150


@given(st.lists(st.floats(0, 1e6), max_size=5), st.floats(0, 1, exclude_max=True))
def test_one_is_chosen_whenever_one_has_a_weight(weights: list[float], drawn: float) -> None:
    instances = [one(str(number), weight=weight) for number, weight in enumerate(weights)]
    chosen = choose(instances, lambda: drawn)
    assert (chosen is None) == (max(weights, default=0) <= 0)
    assert chosen is None or chosen.weight > 0
