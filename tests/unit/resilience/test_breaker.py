"""An application's own calls behind a breaker: functions, coroutines, blocks."""

from __future__ import annotations

import asyncio

import pytest

from octad import Breaker, BreakerOpen
from octad.client.resilience.breaker_state import FAILURES_IN_A_ROW, OPEN_S_MIN


class Dependency:
    def __init__(self) -> None:
        self.time = 0.0
        self.calls = 0
        self.error: BaseException | None = None

    def call(self, number: int) -> int:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return number

    async def call_async(self, number: int) -> int:
        await asyncio.sleep(0)
        return self.call(number)

    def breaker(self, **named: object) -> Breaker[object]:
        return Breaker(  # type: ignore[call-overload, no-any-return]
            "prices", clock=lambda: self.time, chance=lambda: 0.5, **named
        )


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_a_dead_dependency_is_called_five_times_and_then_the_fallback_is_returned_at_once(
    kind: str,
) -> None:
    dependency = Dependency()
    dependency.error = ConnectionError()
    breaker = dependency.breaker(fallback=-1)
    function, coroutine = breaker(dependency.call), breaker(dependency.call_async)
    for _ in range(50):
        result = function(7) if kind == "function" else asyncio.run(coroutine(7))
        assert result == -1
    assert dependency.calls == FAILURES_IN_A_ROW
    assert (breaker.state, breaker.opened) == ("open", 1)
    dependency.error, dependency.time = None, OPEN_S_MIN
    states = [breaker.state]
    assert (function(7) if kind == "function" else asyncio.run(coroutine(7))) == 7
    states.append(breaker.state)
    assert states == ["half-open", "closed"]


def test_without_a_fallback_it_raises_what_happened_and_then_that_it_is_open() -> None:
    dependency = Dependency()
    dependency.error = ConnectionError("down")
    function = dependency.breaker()(dependency.call)
    for _ in range(FAILURES_IN_A_ROW):
        with pytest.raises(ConnectionError, match="down"):
            function(1)
    with pytest.raises(BreakerOpen, match=r"prices .* not asked for another 1.0 s") as refused:
        function(1)
    assert refused.value.retry_in_s == OPEN_S_MIN


def test_blocks_are_guarded_too() -> None:
    breaker = Dependency().breaker()

    async def fail() -> None:
        async with breaker:
            raise ConnectionError

    for _ in range(FAILURES_IN_A_ROW - 1):
        with pytest.raises(ConnectionError), breaker:
            raise ConnectionError
    with pytest.raises(ConnectionError):
        asyncio.run(fail())
    with pytest.raises(BreakerOpen), breaker:
        raise AssertionError


def test_what_is_no_failure_is_an_answer() -> None:
    dependency = Dependency()
    dependency.error = KeyError("no such item")
    breaker = dependency.breaker(fallback=-1, failures=(OSError,))
    for _ in range(50):
        with pytest.raises(KeyError):
            breaker(dependency.call)(1)
    assert breaker.state == "closed"


def test_a_probe_that_was_cancelled_lets_the_next_one_go() -> None:
    dependency = Dependency()
    dependency.error = ConnectionError()
    breaker = dependency.breaker(fallback=-1)
    function = breaker(dependency.call)
    for _ in range(FAILURES_IN_A_ROW):
        function(1)
    dependency.time = OPEN_S_MIN
    dependency.error = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        function(1)
    dependency.error = None
    assert function(1) == 1
