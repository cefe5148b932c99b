"""Is the history of one key linearizable? Wing and Gong's search, with memory (Lowe's WGL).

A register with conditional writes: an operation takes effect at one moment between its call and
its return, reads see the newest effect, a refusal means that the condition was false at that
moment. What has an unknown outcome may take effect at any later time, or never.

What has returned is searched through a window, since operations far apart in time cannot change
places; so a history may be long, as long as few operations overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

INFINITE = float("inf")
STATES_MAX = 30_000  # A history that is harder than this is not decided; sound ones take hundreds.
_UNREAD = "?"  # Some value that nobody saw.
ANY = "*"  # As `if_match`: unconditional.


class Verdict(Enum):
    """What the search found."""

    LINEARIZABLE = "linearizable"
    VIOLATED = "violated"
    UNDECIDED = "undecided"  # Too hard: neither proved nor refuted.


@dataclass(slots=True)
class Done:
    """One operation on a key. Values are unique per write; None: absent."""

    called: float
    returned: float  # INFINITE: unknown outcome.
    is_write: bool
    value: str | None  # Written, or read.
    if_match: str | None = ANY  # The write's condition: the value that must stand (None: absent).
    refused: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """What has taken effect: all before `start`, those of the bits after it, and some unknowns."""

    start: int
    finished: int
    unknowns: int
    value: str | None


def is_linearizable(history: Sequence[Done]) -> bool:
    """Nothing speaks against it; what could not be decided counts as well."""
    return check(history) is not Verdict.VIOLATED


def check(history: Sequence[Done], states_max: int = STATES_MAX) -> Verdict:
    """See the module. The key is absent at first."""
    search = _Search(_bounded(history))
    seen: set[State] = set()
    stack = [State(0, 0, 0, None)]
    while stack:
        state = stack.pop()
        if search.is_over(state):
            return Verdict.LINEARIZABLE
        if state in seen:
            continue
        seen.add(state)
        if len(seen) > states_max:
            return Verdict.UNDECIDED
        stack.extend(search.following(state))
    return Verdict.VIOLATED


def first_violation(history: Sequence[Done]) -> Done | None:
    """The operation whose return cannot be explained by what came before it."""
    returns = sorted(done.returned for done in history if done.returned != INFINITE)
    low, high = 0, len(returns)
    while low < high:
        middle = (low + high) // 2
        if check(_until(history, returns[middle])) is Verdict.VIOLATED:
            high = middle
        else:
            low = middle + 1
    if low == len(returns):
        return None
    return next(done for done in history if done.returned == returns[low])


def _until(history: Sequence[Done], time: float) -> list[Done]:
    """The history as it was known at `time`."""
    return [
        done if done.returned <= time else replace(done, returned=INFINITE, refused=False)
        for done in history
        if done.called <= time
    ]


def _bounded(history: Sequence[Done]) -> list[Done]:
    """The same question with fewer unknown outcomes in it.

    A value that somebody read was written before that read returned. One that nobody ever saw may
    as well not have been written, unless a condition could have seen it; and where conditions ask
    only for absence, all of those are alike.
    """
    conditions = {done.if_match for done in history if done.is_write}
    first_read: dict[str, float] = {}
    for done in history:
        if not done.is_write and done.value is not None:
            earlier = first_read.get(done.value, INFINITE)
            first_read[done.value] = min(earlier, done.returned)
    bounded = []
    for done in history:
        if not done.is_write or done.returned != INFINITE or done.value is None:
            bounded.append(done)
        elif done.value in first_read:
            bounded.append(replace(done, returned=max(done.called, first_read[done.value])))
        elif conditions - {ANY, None}:
            bounded.append(done)
        elif conditions - {ANY}:
            bounded.append(replace(done, value=_UNREAD))
    return bounded


class _Search:
    """The steps from one state to the next."""

    def __init__(self, history: Sequence[Done]) -> None:
        in_order = sorted(history, key=lambda done: done.called)
        self._known = [done for done in in_order if done.returned != INFINITE]
        self._unknown = [d for d in in_order if d.returned == INFINITE and d.is_write]

    def is_over(self, state: State) -> bool:
        """Everything that returned has taken effect."""
        return state.start == len(self._known)

    def following(self, state: State) -> list[State]:
        """The states that one more effect leads to."""
        candidates, first_return = self._candidates(state)
        states = []
        for index in candidates:
            after = _effect(self._known[index], state.value)
            if isinstance(after, _Impossible):
                continue
            if after == state.value and not self._known[index].is_write:
                return [self._with_known(state, index, after)]  # A read is never too early.
            states.append(self._with_known(state, index, after))
        states.extend(self._with_unknown(state, first_return))
        return states

    def _candidates(self, state: State) -> tuple[list[int], float]:
        """Those that nothing unfinished must precede; and the first return among the unfinished."""
        first_return = INFINITE
        open_: list[int] = []
        index = state.start
        while index < len(self._known) and self._known[index].called <= first_return:
            if not state.finished >> (index - state.start) & 1:
                open_.append(index)
                first_return = min(first_return, self._known[index].returned)
            index += 1
        return [i for i in open_ if self._known[i].called <= first_return], first_return

    def _with_known(self, state: State, index: int, value: str | None) -> State:
        start, finished = state.start, state.finished | 1 << (index - state.start)
        while finished & 1:
            start += 1
            finished >>= 1
        return State(start, finished, state.unknowns, value)

    def _with_unknown(self, state: State, first_return: float) -> Iterator[State]:
        tried: set[tuple[str | None, str | None]] = set()
        for index, done in enumerate(self._unknown):
            if done.called > first_return:
                break
            same = (done.value, done.if_match)
            if state.unknowns >> index & 1 or same in tried:
                continue  # Of equal ones the earliest will do.
            tried.add(same)
            after = _effect(done, state.value)
            if not isinstance(after, _Impossible) and after != state.value:
                yield State(state.start, state.finished, state.unknowns | 1 << index, after)


class _Impossible(Enum):
    IMPOSSIBLE = 0


def _effect(done: Done, state: str | None) -> str | _Impossible | None:
    """The state after `done` took effect on `state`."""
    if not done.is_write:
        return state if done.value == state else _Impossible.IMPOSSIBLE
    holds = done.if_match == ANY or done.if_match == state
    if done.refused:
        return _Impossible.IMPOSSIBLE if holds else state
    return done.value if holds else _Impossible.IMPOSSIBLE
