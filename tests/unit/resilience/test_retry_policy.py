"""Retries are spread at random, end, and have a budget that all callers share."""

from __future__ import annotations

import pytest

from octad.client.resilience.retry_policy import (
    BACK_OFF_S_FIRST,
    BACK_OFF_S_MAX,
    RETRY_AFTER_S_MAX,
    TOKENS_MAX,
    RetryBudget,
    back_off_s,
    retry_after_s,
)


def test_the_limit_of_a_pause_doubles_and_the_pause_is_anything_below_it() -> None:
    limits = [back_off_s(tries, 1.0) for tries in range(1, 10)]
    assert limits[:3] == [BACK_OFF_S_FIRST, 2 * BACK_OFF_S_FIRST, 4 * BACK_OFF_S_FIRST]
    assert limits[-1] == BACK_OFF_S_MAX
    assert back_off_s(3, 0.0) == 0.0


def test_what_the_server_asks_for_is_waited_and_spread_behind() -> None:
    assert back_off_s(1, 0.0, 2.0) == 2.0
    assert back_off_s(1, 1.0, 2.0) == 2.0 + BACK_OFF_S_FIRST
    assert back_off_s(1, 0.0, 86_400.0) == RETRY_AFTER_S_MAX


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), (" 10 ", 10.0), ("", 0.0), ("-1", 0.0), ("soon", 0.0), ("9" * 40, 0.0),
     ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0)],
)  # fmt: skip
def test_only_seconds_count_in_retry_after(header: str, seconds: float) -> None:
    assert retry_after_s(header) == seconds


def test_a_dead_cluster_sees_at_most_a_tenth_more_however_many_callers_there_are() -> None:
    budget = RetryBudget()
    calls, retries = 1000, 0
    for _ in range(calls):
        retries += sum(budget.take() for _ in range(4))
    assert retries == TOKENS_MAX
    assert calls + retries <= 1.1 * calls


def test_successes_earn_retries_again_one_for_ten() -> None:
    budget = RetryBudget()
    while budget.take():
        pass
    for _ in range(11):
        budget.on_success()
    assert budget.take()
    assert not budget.take()
