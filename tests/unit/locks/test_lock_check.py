"""The check of lock histories accepts what may be, and finds every lie."""

from __future__ import annotations

import msgspec
import pytest
from tests.cluster.coordination.lock_check import (
    Told,
    Written,
    held_by_two,
    holdings_of,
    not_fenced,
    taken_over_late,
)
from tests.cluster.coordinator.membership_check import Span

TTL_S = 2.0
HISTORY = [
    Told("given", "a", 10, 1.0),
    Told("held", "a", 10, 1.5),
    Told("ends", "a", 10, 2.0),
    Told("given", "b", 12, 2.1),
    Told("held", "b", 12, 3.0),  # And is killed.
    Told("given", "c", 15, 5.9),
    Told("ends", "c", 15, 6.0),
]
WRITES = [
    Written("a", 10, 1.6, True),
    Written("b", 12, 2.5, True),
    Written("a", 10, 2.6, False),
    Written("c", 15, 5.95, True),
]


def altered(number: int, **fields: object) -> list[Told]:
    changed = list(HISTORY)
    changed[number] = msgspec.structs.replace(changed[number], **fields)
    return changed


def faults_of(told: list[Told], but: tuple[Span, ...] = ()) -> list[str]:
    holdings = holdings_of(told)
    return [*held_by_two(holdings, but), *taken_over_late(holdings, but, TTL_S)]


def test_what_is_true_has_no_fault() -> None:
    assert faults_of(HISTORY) == []
    assert not_fenced(WRITES, HISTORY) == []


def test_the_order_in_which_processes_tell_it_makes_no_difference() -> None:
    assert holdings_of(reversed(HISTORY)) == holdings_of(HISTORY)


@pytest.mark.parametrize(
    ("lie", "fault"),
    [
        (altered(3, at=1.9), "a held it until 2.00"),
        (altered(4, at=6.5), "b held it until 6.50"),
        ([*HISTORY, Told("given", "d", 15, 7.0)], "both given token 15"),
        (altered(3, token=5), "before"),
        (altered(5, at=6.1, what="given"), "by 6.00 it should have been"),
        (altered(3, at=3.0), "by 3.00 it should have been"),
    ],
)
def test_a_lie_is_found(lie: list[Told], fault: str) -> None:
    if fault.startswith("by 3.00"):
        lie = [t for t in altered(3, at=3.01) if t.what != "held" or t.holder != "b"]
    assert any(fault in each for each in faults_of(lie)), faults_of(lie)


def test_what_etcd_does_by_itself_excuses_two_holders_but_no_falling_token() -> None:
    excused = (Span(6.2, 7.0),)
    assert not any("held it until" in each for each in faults_of(altered(4, at=6.5), excused))
    assert any("before" in each for each in faults_of(altered(3, token=5), (Span(0.0, 99.0),)))


def test_a_fault_begins_the_time_to_live_anew() -> None:
    late = [*altered(5, at=7.5)[:6], Told("ends", "c", 15, 8.0)]
    assert faults_of(late) != []
    assert faults_of(late, (Span(4.0, 4.6),)) == []


@pytest.mark.parametrize(
    ("writes", "fault"),
    [
        ([*WRITES[:2], Written("a", 10, 2.6, True)], "with token 10 was accepted after 12"),
        ([Written("d", 11, 1.0, True)], "d was never given token 11"),
        ([Written("b", 10, 1.0, True)], "b was never given token 10"),
    ],
)
def test_a_write_past_the_fence_is_found(writes: list[Written], fault: str) -> None:
    assert any(fault in each for each in not_fenced(writes, HISTORY))
