"""A circuit breaker opens, lets one probe through when its time is over, and closes again."""

from __future__ import annotations

from octad.client.resilience.breaker_state import (
    FAILURES_IN_A_ROW,
    OPEN_S_MAX,
    OPEN_S_MIN,
    OUTCOMES_LOOKED_AT,
    PROBE_S_MAX,
    BreakerState,
)

EVEN = 0.5  # Chance that neither lengthens nor shortens.


def opened(now: float = 0.0) -> BreakerState:
    breaker = BreakerState()
    for _ in range(FAILURES_IN_A_ROW):
        assert breaker.admits(now)
        breaker.on_failure(now, EVEN)
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not_let_them() -> None:
    breaker = BreakerState()
    for _ in range(FAILURES_IN_A_ROW - 1):
        breaker.on_failure(0.0, EVEN)
    breaker.on_success()
    breaker.on_failure(0.0, EVEN)
    assert breaker.state(0.0) == "closed"
    assert opened().state(0.0) == "open"


def test_half_of_the_last_calls_open_it_though_successes_lie_between() -> None:
    breaker = BreakerState()
    failures = 0
    while breaker.state(0.0) == "closed":
        breaker.on_success()
        breaker.on_failure(0.0, EVEN)
        failures += 1
    assert failures == OUTCOMES_LOOKED_AT // 2


def test_while_it_is_open_nothing_is_admitted() -> None:
    breaker = opened()
    assert not breaker.admits(OPEN_S_MIN - 0.01)
    assert breaker.admits_in(0.25) == OPEN_S_MIN - 0.25


def test_half_open_admits_one_probe_at_a_time() -> None:
    breaker = opened()
    assert breaker.state(OPEN_S_MIN) == "half-open"
    assert breaker.admits(OPEN_S_MIN)
    assert not breaker.admits(OPEN_S_MIN)
    breaker.on_nothing()
    assert breaker.admits(OPEN_S_MIN)


def test_a_probe_of_which_nothing_is_heard_does_not_keep_it_shut_for_ever() -> None:
    breaker = opened()
    assert breaker.admits(OPEN_S_MIN)
    assert breaker.admits(OPEN_S_MIN + PROBE_S_MAX)


def test_a_probe_that_succeeds_closes_it_and_forgets_what_was() -> None:
    breaker = opened()
    assert breaker.admits(OPEN_S_MIN)
    breaker.on_success()
    assert breaker.state(OPEN_S_MIN) == "closed"
    for _ in range(FAILURES_IN_A_ROW - 1):
        breaker.on_failure(2.0, EVEN)
    assert breaker.state(2.0) == "closed"


def test_each_probe_that_fails_doubles_the_time_up_to_a_limit() -> None:
    breaker = opened()
    now, times = 0.0, []
    for _ in range(8):
        times.append(breaker.admits_in(now))
        now += times[-1]
        assert breaker.admits(now)
        breaker.on_failure(now, EVEN)
    assert times[:4] == [OPEN_S_MIN, 2 * OPEN_S_MIN, 4 * OPEN_S_MIN, 8 * OPEN_S_MIN]
    assert times[-1] == OPEN_S_MAX


def test_what_fails_late_does_not_lengthen_it() -> None:
    breaker = opened()
    breaker.on_failure(0.5, EVEN)
    assert breaker.admits_in(0.5) == OPEN_S_MIN - 0.5
    assert breaker.opened == 1


def test_clients_come_back_at_different_times() -> None:
    early, late = BreakerState(), BreakerState()
    for breaker, chance in ((early, 0.0), (late, 1.0)):
        for _ in range(FAILURES_IN_A_ROW):
            breaker.on_failure(0.0, chance)
    assert early.admits_in(0.0) == 0.75 * OPEN_S_MIN
    assert late.admits_in(0.0) == 1.25 * OPEN_S_MIN
