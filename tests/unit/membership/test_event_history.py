"""The shared history of changes: every position gets exactly what came after it, or is told no."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from octad.coordinator.mirror.event_history import EventHistory, public_value
from octad.coordinator.store.interface import Event, EventBatch, KeyValue, Revision

PREFIX = "octad/1a2b3c4d/"


def entry(name: str, revision: int, value: bytes = b"1") -> KeyValue:
    return KeyValue(PREFIX + name, value, Revision(revision), Revision(revision))


def put(name: str, revision: int, value: bytes = b"1") -> Event:
    return Event(PREFIX + name, entry(name, revision, value), Revision(revision))


def gone(name: str, revision: int) -> Event:
    return Event(PREFIX + name, None, Revision(revision))


def history(revision: int = 10, *entries: KeyValue, changes_max: int = 100) -> EventHistory:
    made = EventHistory(PREFIX, changes_max)
    made.restart(Revision(revision), entries)
    return made


def told(made: EventHistory, after: int, prefix: str = "") -> list[tuple[str, str, int]] | None:
    events = made.since(prefix, Revision(after))
    return None if events is None else [(e.type, e.key, e.revision) for e in events]


def test_a_key_joins_changes_and_leaves() -> None:
    made = history(10, entry("services/web/a", 5))
    made.take(
        EventBatch(
            Revision(13),
            [
                put("services/web/a", 11, b"2"),
                put("services/web/b", 12),
                gone("services/web/a", 13),
            ],
        )
    )
    assert told(made, 10) == [
        ("change", "services/web/a", 11),
        ("join", "services/web/b", 12),
        ("leave", "services/web/a", 13),
    ]
    assert [e.key for e in made.state("")] == ["services/web/b"]
    assert told(made, 12) == [("leave", "services/web/a", 13)]
    assert told(made, 13) == []
    assert told(made, 9) is None


def test_what_is_not_for_everybody_is_never_told() -> None:
    made = history()
    batch = [put("keys/root", 11), put("fence/1", 12), put("buckets/b", 13), put("nodes/1", 14)]
    made.take(EventBatch(Revision(14), batch))
    assert told(made, 10) == [("join", "nodes/1", 14)]
    assert [e.key for e in made.state("")] == ["nodes/1"]


def test_a_registration_that_is_only_renewed_under_another_lease_is_no_change() -> None:
    made = history(10, entry("services/web/a", 5))
    assert not made.take(EventBatch(Revision(11), [put("services/web/a", 11)]))
    assert told(made, 10) == []


def test_what_was_told_before_is_not_told_again() -> None:
    made = history()
    made.take(EventBatch(Revision(12), [put("nodes/1", 11), put("nodes/2", 12)]))
    made.take(EventBatch(Revision(12), [put("nodes/1", 11), put("nodes/2", 12)]))
    made.take(EventBatch(Revision(11), ()))
    assert (made.revision, told(made, 10)) == (
        12,
        [("join", "nodes/1", 11), ("join", "nodes/2", 12)],
    )


def test_the_oldest_changes_are_forgotten_and_their_positions_refused() -> None:
    made = history(changes_max=3)
    for revision in range(11, 21):
        made.take(EventBatch(Revision(revision), [put(f"nodes/{revision}", revision)]))
    assert told(made, 16) is None
    assert told(made, 17) == [("join", f"nodes/{r}", r) for r in (18, 19, 20)]


def test_a_value_that_is_no_json_does_not_break_the_document() -> None:
    for value in (b"{bad", b'{"a":\n1}', b"", b"\xff"):
        document = msgspec.json.encode({"value": public_value(value)})
        assert b"\n" not in document
        msgspec.json.decode(document)


Step = tuple[str, str, int]
steps = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "delete"]),
            st.sampled_from(["services/a/1", "services/a/2", "nodes/1", "keys/x"]),
            st.integers(0, 2),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda step: step[1],
    ),
    max_size=12,
)


@given(steps, st.integers(0, 12), st.integers(1, 5), st.sampled_from(["", "services/a/"]))
def test_state_and_what_came_after_it_make_the_newest_state(
    revisions: list[list[Step]], position: int, batch_size: int, prefix: str
) -> None:
    """Whoever has the state of any revision and applies what he is told has the newest state."""
    made, present = history(100), dict[str, bytes]()
    states: dict[int, dict[str, bytes]] = {100: {}}
    batches: list[Event] = []
    for revision, changes in enumerate(revisions, 101):
        for kind, name, value in changes:
            if kind == "put":
                present[name] = b"%d" % value
                batches.append(put(name, revision, present[name]))
            elif present.pop(name, None) is not None:
                batches.append(gone(name, revision))
        states[revision] = dict(present)
    while batches:
        end = batch_size
        while end < len(batches) and batches[end].revision == batches[end - 1].revision:
            end += 1
        batch, batches = batches[:end], batches[end:]
        made.take(EventBatch(batch[-1].revision, batch))
    start = min(100 + position, 100 + len(revisions))
    events = made.since(prefix, Revision(start))
    assert events is not None
    seen = {k: v for k, v in states[start].items() if k.startswith(prefix) and "keys/" not in k}
    for event in events:
        if event.type == "leave":
            del seen[event.key]
        else:
            assert (event.key in seen) == (event.type == "change")
            seen[event.key] = bytes(event.value)
    newest = states[100 + len(revisions)]
    assert seen == {k: v for k, v in newest.items() if k.startswith(prefix) and "keys/" not in k}
