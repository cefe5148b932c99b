"""A circuit breaker's decisions: when calls are let through to a dependency, and when not.

    closed ──(FAILURES_IN_A_ROW, or half of the last calls)──> open
    open ──(its time is over)──> half-open
    half-open ──(a probe succeeded)──> closed
    half-open ──(it failed)──> open, for twice as long

Half-open lets one call through at a time. How long it stays open is spread at random by a quarter,
so that the clients of a node that comes back do not all come back at once.

Time and chance are passed in. It may be called by several threads: each step is one assignment, and
at worst one call more is let through.
"""

from __future__ import annotations

from typing import Final, Literal

FAILURES_IN_A_ROW: Final = 5
OUTCOMES_LOOKED_AT: Final = 20  # Of which half must have failed, where successes lie between.
OPEN_S_MIN: Final = 1.0
OPEN_S_MAX: Final = 30.0
PROBE_S_MAX: Final = 10.0  # A probe of which nothing was heard for so long is taken for lost.
_SPREAD: Final = 0.25

State = Literal["closed", "open", "half-open"]


class BreakerState:
    """One dependency's. `opened`: how often it has opened so far."""

    __slots__ = ("_failures", "_open_s", "_open_until", "_outcomes", "_probe_until", "opened")

    def __init__(self) -> None:
        self.opened = 0
        self._failures = 0  # In a row.
        self._outcomes = 0  # Of the last calls, one bit each: 1 is a failure.
        self._open_s = OPEN_S_MIN
        self._open_until = 0.0  # 0: it is closed.
        self._probe_until = 0.0

    def state(self, now: float) -> State:
        if not self._open_until:
            return "closed"
        return "open" if now < self._open_until else "half-open"

    def admits(self, now: float) -> bool:
        """Whether a call may go; one that does must be followed by its outcome."""
        if not self._open_until:
            return True
        if now < self._open_until or now < self._probe_until:
            return False
        self._probe_until = now + PROBE_S_MAX
        return True

    def admits_in(self, now: float) -> float:
        """Seconds until a call may be let through; 0 where one may be now."""
        return max(0.0, self._open_until - now, self._probe_until - now)

    def on_success(self) -> None:
        if not self._failures and not self._outcomes and not self._open_until:
            return
        self._outcomes = 0 if self._open_until else self._outcomes << 1 & _OUTCOMES
        self._failures = 0
        self._open_until = self._probe_until = 0.0
        self._open_s = OPEN_S_MIN

    def on_failure(self, now: float, chance: float) -> None:
        """`chance`: a number from 0 to 1."""
        self._failures += 1
        self._outcomes = (self._outcomes << 1 | 1) & _OUTCOMES
        if self._open_until:
            if now < self._open_until:
                return  # It was under way when others had it opened.
            self._open_s = min(self._open_s * 2, OPEN_S_MAX)
        elif (
            self._failures < FAILURES_IN_A_ROW
            and self._outcomes.bit_count() < OUTCOMES_LOOKED_AT // 2
        ):
            return
        self.opened += 1
        self._probe_until = 0.0
        self._open_until = now + self._open_s * (1 - _SPREAD + 2 * _SPREAD * chance)

    def on_nothing(self) -> None:
        """The call ended without an outcome, as when it was cancelled."""
        self._probe_until = 0.0


_OUTCOMES: Final = (1 << OUTCOMES_LOOKED_AT) - 1
