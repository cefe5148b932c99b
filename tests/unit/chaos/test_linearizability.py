"""The checker itself: it lets pass what may be, and finds what may not, as a naive search does."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from octad.chaos.check.linearizability import (
    ANY,
    INFINITE,
    Done,
    Verdict,
    check,
    first_violation,
)


def write(value: str | None, called: float, returned: float = INFINITE) -> Done:
    return Done(called, returned, True, value)


def read(value: str | None, called: float, returned: float) -> Done:
    return Done(called, returned, False, value)


def test_a_lost_write_is_found_and_named() -> None:
    stale = read("a", 5, 6)
    history = [write("a", 0, 1), write("b", 2, 3), read("b", 3.5, 4), stale, read("a", 7, 8)]
    assert check(history) is Verdict.VIOLATED
    assert first_violation(history) is stale


def test_an_unknown_write_may_show_late_or_never_but_not_be_undone() -> None:
    unknown = write("b", 1)
    assert check([write("a", 0, 0.5), unknown, read("a", 8, 9)]) is Verdict.LINEARIZABLE
    shown = [write("a", 0, 0.5), unknown, read("a", 5, 6), read("b", 8, 9)]
    assert check(shown) is Verdict.LINEARIZABLE
    assert check([*shown, read("a", 10, 11)]) is Verdict.VIOLATED


def test_an_unknown_delete_takes_effect_at_most_once() -> None:
    history = [write(None, 0), write("a", 1, 2), read(None, 3, 4), write("b", 5, 6)]
    assert check([*history, read("b", 7, 8)]) is Verdict.LINEARIZABLE
    assert check([*history, read(None, 7, 8)]) is Verdict.VIOLATED
    assert check([*history, write(None, 0), read(None, 7, 8)]) is Verdict.LINEARIZABLE


def test_a_value_that_nobody_wrote_is_a_violation() -> None:
    assert check([write("a", 0, 1), read("x", 2, 3)]) is Verdict.VIOLATED


def test_a_long_history_of_few_overlaps_is_decided() -> None:
    history = []
    for number in range(3000):
        history += [
            write(f"v{number}", number, number + 0.6),
            read(f"v{number}", number + 0.7, number + 0.9),
        ]
        if number % 20 == 0:
            history.append(write(f"lost{number}", number))
    assert check(history) is Verdict.LINEARIZABLE
    assert check([*history, read("v1", 2990.2, 2990.3)]) is Verdict.VIOLATED


def allowed(history: list[Done]) -> bool:
    """Every order, every choice of the unknown ones that took effect."""
    known = [done for done in history if done.returned != INFINITE]
    unknown = [done for done in history if done.returned == INFINITE and done.is_write]
    for count in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, count):
            for order in itertools.permutations([*known, *chosen]):
                if keeps_real_time(order) and explains(order):
                    return True
    return False


def keeps_real_time(order: tuple[Done, ...]) -> bool:
    return all(a.called <= b.returned for a, b in itertools.combinations(order, 2))


def explains(order: tuple[Done, ...]) -> bool:
    state: str | None = None
    for done in order:
        holds = done.if_match in (ANY, state)
        if not done.is_write:
            if done.value != state:
                return False
        elif done.refused:
            if holds:
                return False
        elif not holds:
            return False
        else:
            state = done.value
    return True


@st.composite
def histories(draw: st.DrawFn) -> list[Done]:
    """Up to six operations, with unique values and now and then a condition or no answer."""
    history = []
    for number in range(draw(st.integers(1, 6))):
        called = draw(st.integers(0, 12))
        returned = draw(st.one_of(st.just(INFINITE), st.integers(called, 14).map(float)))
        values = st.sampled_from([None, *(f"v{n}" for n in range(number + 1))])
        if draw(st.booleans()):
            condition = draw(st.one_of(st.just(ANY), st.just(ANY), values))
            refused = condition != ANY and returned != INFINITE and draw(st.booleans())
            value = draw(st.sampled_from([None, f"v{number}", f"v{number}"]))
            history.append(Done(called, returned, True, value, condition, refused))
        elif returned != INFINITE:
            history.append(Done(called, returned, False, draw(values)))
    return history


@given(histories())
def test_it_agrees_with_the_search_through_every_order(history: list[Done]) -> None:
    expected = Verdict.LINEARIZABLE if allowed(history) else Verdict.VIOLATED
    assert check(history) is expected
