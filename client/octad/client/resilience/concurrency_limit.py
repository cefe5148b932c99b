"""How many requests a node may have at a time: more as long as it keeps up, fewer when it does not.

Additive increase, multiplicative decrease, as TCP does it: a success at the limit raises it by one
a round of requests, an overload (503, silence) lowers it by a quarter, once a round.
"""

from __future__ import annotations

from typing import Final

LIMIT_FIRST: Final = 64.0
LIMIT_MIN: Final = 4.0
LIMIT_MAX: Final = 1024.0
DECREASE: Final = 0.75


class ConcurrencyLimit:
    """Of one node."""

    __slots__ = ("_limit", "_round_left", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0
        self._limit = LIMIT_FIRST
        self._round_left = 0  # Requests under way when it was lowered: they tell of it only once.

    @property
    def limit(self) -> int:
        return int(self._limit)

    @property
    def is_reached(self) -> bool:
        return self.in_flight >= self._limit

    def on_start(self) -> None:
        self.in_flight += 1

    def on_success(self) -> None:
        if self.in_flight >= self._limit * 0.9 and self._limit < LIMIT_MAX:
            self._limit += 1.0 / self._limit
        self.on_other_end()

    def on_overload(self) -> None:
        if self._round_left <= 0:
            self._limit = max(LIMIT_MIN, self._limit * DECREASE)
            self._round_left = self.in_flight
        self.on_other_end()

    def on_other_end(self) -> None:
        """It ended in a way that says nothing of how busy the node is."""
        self._round_left -= 1
        self.in_flight -= 1
