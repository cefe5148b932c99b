"""A node has as many requests at a time as it keeps up with."""

from __future__ import annotations

from octad.client.resilience.concurrency_limit import LIMIT_FIRST, LIMIT_MIN, ConcurrencyLimit


def fill(limit: ConcurrencyLimit) -> None:
    while not limit.is_reached:
        limit.on_start()


def test_it_grows_by_one_a_round_while_it_is_used() -> None:
    limit = ConcurrencyLimit()
    fill(limit)
    for _ in range(limit.limit + 1):
        limit.on_success()
        limit.on_start()
    assert limit.limit == LIMIT_FIRST + 1


def test_it_does_not_grow_unused() -> None:
    limit = ConcurrencyLimit()
    for _ in range(1000):
        limit.on_start()
        limit.on_success()
    assert limit.limit == LIMIT_FIRST


def test_a_round_of_overloads_lowers_it_once_and_a_lasting_one_to_its_least() -> None:
    limit = ConcurrencyLimit()
    fill(limit)
    under_way = limit.in_flight
    for _ in range(under_way):
        limit.on_overload()
    assert LIMIT_FIRST * 0.5 < limit.limit < LIMIT_FIRST
    for _ in range(5000):
        limit.on_start()
        limit.on_overload()
    assert limit.limit == LIMIT_MIN
    assert limit.in_flight == 0
