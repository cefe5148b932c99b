"""Who holds a lock, from its entries alone; and the tokens that keep late holders out."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.membership.event_document import ClusterEvent, EventsDocument
from octad.client.membership.lock_records import (
    BadLock,
    LockEntry,
    LockRecord,
    WatchedQueue,
    check_lock,
    queue_of,
)
from octad.coordinator.locks.lock_queue import lock_statuses
from octad.coordinator.store.interface import KeyValue, LeaseId, Revision

REVISIONS_MAX = (1 << 40) - 1


def entry(session: str, revision: int, generation: int = 0, value: str = "") -> LockEntry:
    return LockEntry(session, revision, LockRecord(value, generation))


def event(session: str, revision: int, *, leaves: bool = False) -> ClusterEvent:
    value = msgspec.json.encode(None if leaves else LockRecord(session, 0))
    key = f"locks/l/{session}"
    return ClusterEvent("leave" if leaves else "join", key, revision, msgspec.Raw(value))


@given(st.permutations(range(5)))
def test_who_came_first_holds_it_in_whatever_order_the_entries_are_read(order: list[int]) -> None:
    queue = queue_of(entry(f"s{number}", 10 + number) for number in order)
    assert [each.session for each in queue] == ["s0", "s1", "s2", "s3", "s4"]


@given(
    st.integers(0, 8191), st.integers(1, REVISIONS_MAX), st.integers(0, 8191),
    st.integers(1, REVISIONS_MAX),
)  # fmt: skip
def test_tokens_grow_with_the_revision_and_over_a_store_that_was_made_anew(
    generation: int, revision: int, other_generation: int, other_revision: int
) -> None:
    one, other = (generation, revision), (other_generation, other_revision)
    token = entry("s", revision, generation).holder.token
    other_token = entry("s", other_revision, other_generation).holder.token
    assert (token < other_token) == (one < other)
    assert token < 1 << 53, "JavaScript counts as far"


def test_a_watched_queue_goes_from_holder_to_holder() -> None:
    queue = WatchedQueue()
    holders = []
    for document in (
        EventsDocument(12, True, (event("b", 12), event("a", 11))),
        EventsDocument(13, False, (event("c", 13),)),
        EventsDocument(14, False, (event("a", 14, leaves=True),)),
        EventsDocument(16, False, (event("a", 15), event("b", 16, leaves=True))),
        EventsDocument(20, True, ()),
    ):
        queue.take(document)
        holders.append(queue.holder and (queue.holder.session, queue.holder.token))
    assert holders == [("a", 11), ("a", 11), ("b", 12), ("c", 13), None]
    assert "a" not in queue


def test_the_holder_and_the_length_of_every_queue_are_told() -> None:
    def stored(lock: str, session: str, revision: int) -> KeyValue:
        value = msgspec.json.encode(LockRecord(f"{session} says", 0))
        at = Revision(revision)
        return KeyValue(f"octad/1a2b3c4d/locks/{lock}/{session}", value, at, at, LeaseId(1))

    statuses = lock_statuses([stored("b", "x", 9), stored("a", "y", 8), stored("b", "z", 7)])
    told = [(s.lock, s.holder.session, s.holder.token, s.holder.value, s.waiting) for s in statuses]
    assert told == [("a", "y", 8, "y says", 0), ("b", "z", 7, "z says", 1)]


@pytest.mark.parametrize("name", ["", "a/b", "a b", "x" * 65, "ä"])
def test_a_lock_has_a_name_that_fits_a_key(name: str) -> None:
    with pytest.raises(BadLock, match="1 to 64 letters"):
        check_lock(name)
    check_lock("x" * 64)


def test_what_a_holder_says_of_itself_is_bounded() -> None:
    check_lock("a", "ä" * 512)
    with pytest.raises(BadLock, match="more than 1024 bytes"):
        check_lock("a", "ä" * 513)
