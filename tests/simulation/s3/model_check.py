"""Is a history linearizable against a model? For short histories of things with few states.

Keys have `chaos/check/linearizability.py`, which knows registers and logs and is fast; uploads and
buckets are other things, and each has few requests.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

INFINITE = float("inf")
STATES_MAX = 50_000


@dataclass(slots=True, eq=False)
class Step:
    """One request. `effect` gives the states that it may leave a state in; none: impossible there.

    One of unknown outcome has `returned` INFINITE: it may take effect at any later time, or never.
    """

    called: float
    effect: Callable[[Any], Iterable[Any]]
    what: str
    returned: float = INFINITE


def is_linearizable(history: Sequence[Step], at_first: Hashable) -> bool:
    """Whether there is an order; True also where that would take too long to find out."""
    steps = sorted(history, key=lambda step: step.called)
    all_that_must = sum(1 << n for n, step in enumerate(steps) if step.returned != INFINITE)
    seen: set[tuple[int, Hashable]] = set()
    stack: list[tuple[int, Hashable]] = [(0, at_first)]
    while stack:
        place = done, state = stack.pop()
        if done & all_that_must == all_that_must:
            return True
        if place in seen:
            continue
        seen.add(place)
        if len(seen) > STATES_MAX:
            return True
        undone = [(n, step) for n, step in enumerate(steps) if not done >> n & 1]
        first_return = min(step.returned for _, step in undone)
        for n, step in undone:
            if step.called > first_return:
                break
            stack.extend((done | 1 << n, after) for after in step.effect(state))
    return False
