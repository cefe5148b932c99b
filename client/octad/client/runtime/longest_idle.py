"""Chooses the connection to close when there is no room: the longest idle.

Nothing is stored per request. Only when one must go are all of them looked at, and the order
that was found serves until it is used up: one that has had a request since then is passed over, and
no one can have become idle earlier than those it holds.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final, Generic, Protocol, TypeVar

IDLE_S_MIN: Final = 0.5  # Before that, the request of a new connection may be on its way.
LOOK_AGAIN_S: Final = 0.05  # A look at all of them is not every newcomer's to spend.
FOUND_AT_ONCE: Final = 64


class Idling(Protocol):
    """A candidate."""

    @property
    def idle_since(self) -> float | None:
        """By the clock of `take`; None while a request is under way, and once it is closed."""


Each = TypeVar("Each", bound=Idling)


class LongestIdle(Generic[Each]):
    """See the module."""

    def __init__(self) -> None:
        self._found: list[tuple[float, Each]] = []  # The longest idle last.
        self._nobody_before = float("-inf")

    def take(self, connections: Iterable[Each], now: float) -> Each | None:
        """The one that has been idle for longest, to be closed; None where all are busy."""
        if chosen := self._next():
            return chosen
        if now < self._nobody_before:
            return None
        self._look(connections, now)
        chosen = self._next()
        if chosen is None:
            self._nobody_before = now + LOOK_AGAIN_S
        return chosen

    def _next(self) -> Each | None:
        while self._found:
            since, connection = self._found.pop()
            if connection.idle_since == since:
                return connection
        return None

    def _look(self, connections: Iterable[Each], now: float) -> None:
        idle = [
            (since, connection)
            for connection in connections
            if (since := connection.idle_since) is not None and now - since >= IDLE_S_MIN
        ]
        self._found = heapq.nsmallest(FOUND_AT_ONCE, idle, key=_since)
        self._found.reverse()


def _since(found: tuple[float, object]) -> float:
    return found[0]
