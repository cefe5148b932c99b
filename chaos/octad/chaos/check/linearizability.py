"""Is the history of one key linearizable? Wing and Gong's search, with memory (Lowe's WGL).

A register with conditional writes, or a log with appends: an operation takes effect at one moment
between its call and its return, reads see all effects before, a refusal means that the condition
was false at that moment. A write of unknown outcome may take effect at any later time, or never.

Keys are searched one by one (linearizability is local). Within a key the search branches only where
it has to:

- An operation that is possible now and changes nothing (a read, a refusal) is taken at once: any
  order in which it comes later is also valid with it now.
- A write of unknown outcome is tried only when it changes the result of a possible next operation:
  else it could as well come later, or never.
- Of several unknown writes that do the same, the first called is tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from octad.chaos.load.history import ANY as ANY

INFINITE = float("inf")
STATES_MAX = 100_000  # A history that is harder is not decided; sound ones take hundreds.


@dataclass(slots=True)
class Done:
    """One operation on a key. Values are unique per write; None: absent."""

    called: float
    returned: float  # INFINITE: unknown outcome.
    is_write: bool
    value: str | None  # Written, appended, or read.
    if_match: str | None = ANY  # The write's condition: the value that must stand (None: absent).
    refused: bool = False
    appends: bool = False  # `value` is appended, at the offset of the answer.
    expected: int | None = None  # The append's condition: the offset that must be next.
    offset: int | None = None  # Its answer.
    or_absent: bool = False  # The condition holds where nothing stands, too.


class Verdict(Enum):
    """The result of the search."""

    LINEARIZABLE = "linearizable"
    VIOLATED = "violated"
    UNDECIDED = "undecided"  # Too hard: neither proved nor refuted.


def items(log: str | None) -> int:
    """How many items a log has: the next offset."""
    return 0 if log is None else log.count(",") + 1


def appended(log: str | None, item: str) -> str:
    """The log with one more item."""
    return item if log is None else f"{log},{item}"


def check(
    history: Sequence[Done], at_first: str | None = None, states_max: int = STATES_MAX
) -> Verdict:
    """See the module. `at_first` is the initial value."""
    return _Search(history, states_max).run(at_first)


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


# A place in the search: operations that must take effect are finished up to `base` and, by the bits
# of `mask`, here and there behind it; `maybe` are the bits of the unknown ones that took effect.
_Place = tuple[int, int, int, str | None]


class _Search:
    """One history."""

    def __init__(self, history: Sequence[Done], states_max: int) -> None:
        self.states_max = states_max
        ordered = sorted(history, key=lambda done: done.called)
        self.must = [done for done in ordered if done.returned != INFINITE]
        self.may = [done for done in ordered if done.returned == INFINITE and done.is_write]

    def run(self, at_first: str | None) -> Verdict:
        seen: set[_Place] = set()
        stack: list[_Place] = [(0, 0, 0, at_first)]
        while stack:
            place = self._settled(stack.pop())
            if place[0] == len(self.must):
                return Verdict.LINEARIZABLE
            if place in seen:
                continue
            seen.add(place)
            if len(seen) > self.states_max:
                return Verdict.UNDECIDED
            stack.extend(self._next(place))
        return Verdict.VIOLATED

    def _window(self, base: int, mask: int) -> tuple[list[int], float]:
        """The unfinished that may come next, and the first return among them."""
        must, first_return, found = self.must, INFINITE, []
        for index in range(base, len(must)):
            done = must[index]
            if done.called > first_return:
                break
            if not mask >> (index - base) & 1:
                found.append(index)
                first_return = min(first_return, done.returned)
        return [index for index in found if must[index].called <= first_return], first_return

    def _settled(self, place: _Place) -> _Place:
        """After everything that is possible now and changes nothing."""
        base, mask, maybe, state = place
        while True:
            taken = False
            for index in self._window(base, mask)[0]:
                done = self.must[index]
                if (not done.is_write or done.refused) and _effect(done, state) is not _IMPOSSIBLE:
                    mask |= 1 << (index - base)
                    taken = True
            while mask & 1:
                base, mask = base + 1, mask >> 1
            if not taken:
                return base, mask, maybe, state

    def _next(self, place: _Place) -> Iterator[_Place]:
        """Last the one to try first: what must take effect, by its return."""
        base, mask, maybe, state = place
        window, first_return = self._window(base, mask)
        open_may = [
            index
            for index, done in enumerate(self.may)
            if not maybe >> index & 1 and done.called <= first_return
        ]
        coming = [self.must[index] for index in window] + [self.may[index] for index in open_may]
        tried: set[tuple[str | None, str | None, bool, int | None, bool]] = set()
        for index in open_may:
            done = self.may[index]
            kind = (done.value, done.if_match, done.or_absent, done.expected, done.appends)
            after = _effect(done, state)
            if kind in tried or after is _IMPOSSIBLE or after == state:
                continue
            tried.add(kind)
            if any(_goes_otherwise(other, state, after) for other in coming if other is not done):
                yield base, mask, maybe | 1 << index, after  # type: ignore[misc]
        for index in sorted(window, key=lambda index: -self.must[index].returned):
            done = self.must[index]
            if done.is_write and not done.refused:
                after = _effect(done, state)
                if after is not _IMPOSSIBLE:
                    yield base, mask | 1 << (index - base), maybe, after  # type: ignore[misc]


_IMPOSSIBLE = object()


def _goes_otherwise(done: Done, before: object, after: object) -> bool:
    """Whether `done` would have another effect on `after` than on `before`."""
    then = _effect(done, after)
    if then is _IMPOSSIBLE:
        return False
    now = _effect(done, before)
    return now is _IMPOSSIBLE or (done.is_write and not done.refused and now != then)


def _effect(done: Done, state: object) -> object:
    """The state after `done` took effect on `state`."""
    assert state is None or isinstance(state, str)
    if not done.is_write:
        return state if done.value == state else _IMPOSSIBLE
    if done.appends:
        return _appended(done, state)
    absent_does = done.or_absent and state is None
    holds = done.if_match == ANY or done.if_match == state or absent_does
    if done.refused:
        return _IMPOSSIBLE if holds else state
    return done.value if holds else _IMPOSSIBLE


def _appended(done: Done, state: str | None) -> object:
    end = items(state)
    holds = done.expected is None or done.expected == end
    if done.refused:
        return _IMPOSSIBLE if holds else state
    if not holds or (done.offset is not None and done.offset != end):
        return _IMPOSSIBLE
    assert done.value is not None
    return appended(state, done.value)
