"""The checker of histories, against the definition: every order of the operations is tried."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from octad.chaos.check.linearizability import (
    ANY,
    INFINITE,
    Done,
    Verdict,
    appended,
    check,
    items,
)


def is_linearizable(history: list[Done]) -> bool:
    verdict = check(history)
    assert verdict is not Verdict.UNDECIDED
    return verdict is Verdict.LINEARIZABLE


def write(called: float, returned: float, value: str | None, if_match: str | None = ANY) -> Done:
    return Done(called, returned, True, value, if_match)


def read(called: float, returned: float, value: str | None) -> Done:
    return Done(called, returned, False, value)


def append(called: float, returned: float, item: str, offset: int | None = None) -> Done:
    return Done(called, returned, True, item, appends=True, offset=offset)


def test_a_read_of_the_past_is_not_linearizable() -> None:
    history = [write(0, 1, "a"), write(2, 3, "b"), read(4, 5, "a")]
    assert not is_linearizable(history)


def test_an_unknown_write_may_take_effect_late_or_never_but_not_be_undone() -> None:
    unknown = write(0, INFINITE, "a")
    assert is_linearizable([unknown, read(4, 5, None), read(6, 7, "a")])
    assert is_linearizable([unknown, read(4, 5, None)])
    assert not is_linearizable([unknown, read(4, 5, "a"), read(6, 7, None)])


def test_a_refusal_says_that_the_condition_was_false() -> None:
    refused = write(2, 3, "b", "a")
    refused.refused = True
    assert not is_linearizable([write(0, 1, "a"), refused])
    assert is_linearizable([write(0, 1, "c"), refused])


def test_two_appends_have_two_offsets_and_both_items_stay() -> None:
    one, two = append(0, 3, "a", 0), append(1, 2, "b", 1)
    assert is_linearizable([one, two, read(4, 5, "a,b")])
    assert not is_linearizable([one, two, read(4, 5, "b,a")])
    two.offset = 0
    assert not is_linearizable([one, two])


def test_a_history_with_many_unknown_writes_is_decided() -> None:
    history = [write(number, INFINITE, f"u{number}", "never") for number in range(30)]
    history += [write(number, INFINITE, f"v{number}") for number in range(30)]
    history += [write(number, INFINITE, None) for number in range(30)]
    history += [read(100 + number, 101 + number, None) for number in range(20)]
    assert is_linearizable(history)
    assert not is_linearizable([*history, read(200, 201, "v3"), read(202, 203, "u3")])


def _brute_force(history: list[Done]) -> bool:
    must = [done for done in history if done.returned != INFINITE]
    may = [done for done in history if done.returned == INFINITE and done.is_write]
    for chosen in range(1 << len(may)):
        some = must + [done for index, done in enumerate(may) if chosen >> index & 1]
        if any(_is_legal(order) for order in permutations(some)):
            return True
    return False


def _is_legal(order: tuple[Done, ...]) -> bool:
    state: str | None = None
    for place, done in enumerate(order):
        if any(later.returned < done.called for later in order[place + 1 :]):
            return False
        if not done.is_write:
            if done.value != state:
                return False
            continue
        if done.appends:
            holds = done.expected is None or done.expected == items(state)
            holds = holds and (done.refused or done.offset in (None, items(state)))
        else:
            holds = done.if_match in (ANY, state)
        if holds == done.refused:
            return False
        if not done.refused:
            assert not done.appends or done.value is not None
            state = appended(state, done.value or "") if done.appends else done.value
    return True


VALUES = st.sampled_from([None, "a", "b", "c"])


@st.composite
def _registers(draw: st.DrawFn) -> Done:
    called = draw(st.integers(0, 6))
    returned = draw(st.one_of(st.just(INFINITE), st.integers(called, 8)))
    if draw(st.booleans()):
        return read(called, returned, draw(VALUES))
    done = write(called, returned, draw(VALUES), draw(st.sampled_from([ANY, ANY, None, "a", "b"])))
    done.refused = done.if_match != ANY and returned != INFINITE and draw(st.booleans())
    return done


@st.composite
def _logs(draw: st.DrawFn) -> Done:
    called = draw(st.integers(0, 6))
    returned = draw(st.one_of(st.just(INFINITE), st.integers(called, 8)))
    if draw(st.booleans()):
        return read(called, returned, draw(st.sampled_from([None, "a", "b", "a,b", "b,a"])))
    offset = None if returned == INFINITE else draw(st.integers(0, 2))
    done = append(called, returned, draw(st.sampled_from(["a", "b"])), offset)
    done.expected = draw(st.sampled_from([None, 0, 1]))
    done.refused = done.expected is not None and offset is not None and draw(st.booleans())
    return done


@given(st.lists(_registers(), max_size=5))
@settings(max_examples=400, deadline=None)
def test_a_register_is_judged_as_by_trying_every_order(history: list[Done]) -> None:
    assert is_linearizable(history) == _brute_force(history)


@given(st.lists(_logs(), max_size=5))
@settings(max_examples=300, deadline=None)
def test_a_log_is_judged_as_by_trying_every_order(history: list[Done]) -> None:
    assert is_linearizable(history) == _brute_force(history)
