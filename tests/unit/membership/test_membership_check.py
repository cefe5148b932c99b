"""The checker of the membership trials finds each fault that it is there to find, and no other."""

from __future__ import annotations

import pytest
from tests.cluster.coordinator.membership_check import (
    Acknowledged,
    Death,
    Poll,
    Seen,
    Span,
    Stored,
    invisible,
    lingering,
    told_wrong,
)

TTL_S = 5.0
HISTORY = [
    Stored(1, "a", b"1"),
    Stored(2, "b", b"1"),
    Stored(3, "a", b"2"),
    Stored(4, "b", None),
    Stored(5, "a", b"2"),  # Registered again: no one is told.
    Stored(6, "b", None),  # Not there any more.
    Stored(7, "a", None),
    Stored(8, "a", b"2"),
]
SEEN = [
    Seen("reset", 2, names=frozenset("ab")),
    Seen("change", 3, "a"),
    Seen("leave", 4, "b"),
    Seen("leave", 7, "a"),
    Seen("join", 8, "a"),
]


def test_a_watcher_that_saw_everything_once_and_in_order_saw_it_right() -> None:
    assert told_wrong(SEEN, HISTORY) == []
    assert told_wrong([Seen("reset", 8, names=frozenset("a"))], HISTORY) == []


@pytest.mark.parametrize(
    "seen",
    [
        [],
        SEEN[1:],
        SEEN[:2] + SEEN[3:],
        [*SEEN[:2], SEEN[1], *SEEN[2:]],
        [SEEN[0], SEEN[2], SEEN[1], *SEEN[3:]],
        SEEN[:-1],
        [Seen("reset", 2, names=frozenset("a")), *SEEN[1:]],
        [*SEEN[:3], Seen("reset", 4, names=frozenset("a")), *SEEN[3:]],
    ],
    ids=["none", "no reset", "lost", "doubled", "out of order", "too few", "reset", "reset again"],
)
def test_a_watcher_that_did_not_is_found(seen: list[Seen]) -> None:
    assert told_wrong(seen, HISTORY)


def poll(at: float, *names: str) -> Poll:
    return Poll(at, at + 0.1, frozenset(names))


def test_who_renews_must_be_listed_two_seconds_later_until_the_time_to_live_is_over() -> None:
    told = [Acknowledged("a", 10.0, 10.1)]
    fine = [poll(9.0), poll(11.0), poll(13.0, "a"), poll(15.0)]
    assert invisible(fine, told, TTL_S, ()) == []
    assert invisible([poll(13.0)], told, TTL_S, ()) == [
        "a is not listed at 13.00, though it was told at 10.10 that it is"
    ]
    assert invisible([poll(13.0)], told, TTL_S, [Span(12.0, 14.0)]) == []


def test_who_renews_for_ever_and_is_never_listed_is_found() -> None:
    told = [Acknowledged("a", float(at), at + 0.1) for at in range(0, 100, 2)]
    assert len(invisible([poll(float(at)) for at in range(90, 100)], told, TTL_S, ())) == 10


def test_who_died_must_be_gone_after_its_time_to_live_and_a_second() -> None:
    death = Death(frozenset("ab"), 10.0)
    assert lingering([poll(15.9, "a", "b"), poll(16.1)], [death], TTL_S, ()) == []
    assert len(lingering([poll(16.1, "b")], [death], TTL_S, ())) == 1
    again = Death(frozenset("ab"), 10.0, replaced_at=16.0)
    assert lingering([poll(16.1, "b")], [again], TTL_S, ()) == []


def test_a_fault_of_etcd_begins_the_time_to_live_anew() -> None:
    death, fault = Death(frozenset("a"), 10.0), Span(12.0, 14.0)
    assert lingering([poll(19.9, "a")], [death], TTL_S, [fault]) == []
    assert len(lingering([poll(20.1, "a")], [death], TTL_S, [fault])) == 1
    assert len(lingering([poll(16.1, "a")], [death], TTL_S, [Span(1.0, 9.0)])) == 1
