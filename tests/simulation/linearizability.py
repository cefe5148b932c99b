"""Is the history of one key linearizable? Wing and Gong's search, with memory (Lowe's WGL).

A register with conditional writes: an operation takes effect at one moment between its call and
its return, reads see the newest effect, a refusal means that the condition was false at that
moment. What has an unknown outcome may take effect at any later time, or never.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

INFINITE = float("inf")
STATES_MAX = 30_000  # A history that is harder than this is not decided; sound ones take hundreds.
ANY = "*"  # As `if_match`: unconditional.


@dataclass(slots=True)
class Done:
    """One operation on a key. Values are unique per write; None: absent."""

    called: float
    returned: float  # INFINITE: unknown outcome.
    is_write: bool
    value: str | None  # Written, or read.
    if_match: str | None = ANY  # The write's condition: the value that must stand (None: absent).
    refused: bool = False


def is_linearizable(history: Sequence[Done]) -> bool:
    """See the module."""
    operations = [done for done in history if done.is_write or done.returned != INFINITE]
    operations.sort(key=lambda done: done.called)
    must = 0
    for index, done in enumerate(operations):
        if done.returned != INFINITE:
            must |= 1 << index
    seen: set[tuple[int, str | None]] = set()
    stack: list[tuple[int, str | None]] = [(0, None)]
    while stack:
        finished, state = stack.pop()
        if finished & must == must:
            return True
        if (finished, state) in seen:
            continue
        seen.add((finished, state))
        if len(seen) > STATES_MAX:
            return True
        first_return = min(
            done.returned for index, done in enumerate(operations) if not finished >> index & 1
        )
        for index, done in enumerate(operations):
            if done.called > first_return:
                break
            if not finished >> index & 1:
                after = _effect(done, state)
                if after is not _IMPOSSIBLE:
                    stack.append((finished | 1 << index, after))  # type: ignore[arg-type]
    return False


_IMPOSSIBLE = object()


def _effect(done: Done, state: str | None) -> object:
    """The state after `done` took effect on `state`."""
    if not done.is_write:
        return state if done.value == state else _IMPOSSIBLE
    holds = done.if_match == ANY or done.if_match == state
    if done.refused:
        return _IMPOSSIBLE if holds else state
    return done.value if holds else _IMPOSSIBLE
