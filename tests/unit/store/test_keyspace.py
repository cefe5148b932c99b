"""The embedded store's keys and their file against the naive model: a dictionary per revision."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octad.coordinator.store.interface import (
    Compacted,
    Compare,
    Delete,
    KeyValue,
    LeaseId,
    ModRevisionIs,
    NoneNewer,
    Put,
    Revision,
    StoreOperation,
    ValueIs,
)
from octad.coordinator.store.keyspace import FIRST_REVISION, Keyspace
from octad.coordinator.store.sqlite_log import LogEntry, SqliteLog

PREFIXES = ("", "a/", "a/x", "b", "\0")
KEPT_REVISIONS = 6

keys = st.sampled_from(["a", "a/", "a/x", "a/xy", "a/é", "b\0", "b/\U0010ffff"])
values = st.binary(max_size=3)
operations = st.one_of(
    st.builds(Put, keys, values, st.sampled_from([LeaseId(0), LeaseId(7)])), st.builds(Delete, keys)
)
compares = st.one_of(
    st.builds(ModRevisionIs, keys, st.integers(0, 5).map(Revision)),
    st.builds(ValueIs, keys, values),
    st.builds(NoneNewer, st.sampled_from(PREFIXES), st.integers(0, 5).map(Revision)),
)
transactions = st.tuples(
    st.lists(compares, max_size=1),
    st.lists(operations, max_size=3, unique_by=lambda operation: operation.key),
)
batches = st.lists(st.lists(transactions, max_size=4), max_size=12)

State = dict[str, KeyValue]


class Model:
    """`states[i]` is everything at revision FIRST_REVISION + i."""

    def __init__(self) -> None:
        self.states: list[State] = [{}]

    def transact(self, compares: list[Compare], operations: list[StoreOperation]) -> bool:
        before = self.states[-1]
        for compare in compares:
            entry = before.get(compare.key)
            if isinstance(compare, NoneNewer):
                below = [e for key, e in before.items() if key.startswith(compare.key)]
                if any(e.mod_revision > compare.revision for e in below):
                    return False
            elif isinstance(compare, ModRevisionIs):
                if (entry.mod_revision if entry else 0) != compare.revision:
                    return False
            elif entry is None or entry.value != compare.value:
                return False
        revision = Revision(FIRST_REVISION + len(self.states))
        after = dict(before)
        for operation in operations:
            old = after.pop(operation.key, None)
            if isinstance(operation, Put):
                created = old.create_revision if old else revision
                after[operation.key] = KeyValue(
                    operation.key, operation.value, created, revision, operation.lease
                )
        if after != before:
            self.states.append(after)
        return True

    def events_after(self, prefix: str, after: Revision) -> list[tuple[str, KeyValue | None, int]]:
        events: list[tuple[str, KeyValue | None, int]] = []
        for offset in range(after - FIRST_REVISION + 1, len(self.states)):
            old, new = self.states[offset - 1], self.states[offset]
            events.extend(
                (key, new.get(key), FIRST_REVISION + offset)
                for key in sorted(old.keys() | new.keys())
                if key.startswith(prefix) and old.get(key) != new.get(key)
            )
        return events


def check(keyspace: Keyspace, model: Model) -> None:
    """Every range and every watch, at every revision."""
    assert keyspace.revision == FIRST_REVISION + len(model.states) - 1
    for prefix in PREFIXES:
        for offset, state in enumerate(model.states):
            revision = Revision(FIRST_REVISION + offset)
            if revision < keyspace.compacted:
                with pytest.raises(Compacted):
                    keyspace.range(prefix, revision)
                with pytest.raises(Compacted):
                    keyspace.events_after(prefix, revision)
                continue
            expected = [state[key] for key in sorted(state) if key.startswith(prefix)]
            assert keyspace.range(prefix, revision).entries == expected
            told = keyspace.events_after(prefix, revision).events
            assert sorted((e.key, e.revision) for e in told) == sorted(
                (key, at) for key, _, at in model.events_after(prefix, revision)
            )
            assert {(e.key, e.entry, e.revision) for e in told} == set(
                model.events_after(prefix, revision)
            )
            assert [e.revision for e in told] == sorted(e.revision for e in told)


@settings(max_examples=30, deadline=None)
@given(batches)
def test_every_revision_that_is_kept_reads_as_it_was_also_after_a_restart(
    batches: list[list[tuple[list[Compare], list[StoreOperation]]]],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.db"
        log, model = SqliteLog(path), Model()
        keyspace, _ = log.load()
        for batch in batches:
            staging = keyspace.stage(lambda lease: True)
            for transaction in batch:
                assert staging.transact(*transaction).succeeded == model.transact(*transaction)
            entry = LogEntry(staging.changes)
            due = keyspace.compaction_due(KEPT_REVISIONS, 1 << 20)
            if due is not None:
                entry.compacted, entry.obsolete = due, keyspace.obsolete_at(due)
            log.commit(entry)
            keyspace.publish(staging.changes)
            if due is not None:
                keyspace.compact(due)
        check(keyspace, model)
        log.close()
        log = SqliteLog(path)
        reopened, _ = log.load()
        log.close()
        check(reopened, model)
        assert reopened.compacted == keyspace.compacted


def test_history_is_bounded_by_its_bytes_too() -> None:
    keyspace = Keyspace()
    for _ in range(20):
        staging = keyspace.stage(lambda lease: True)
        staging.transact([], [Put("k", bytes(1000))])
        keyspace.publish(staging.changes)
    due = keyspace.compaction_due(revisions_max=1000, bytes_max=5100)
    assert due == keyspace.revision - 5
    assert due is not None
    keyspace.compact(due)
    assert keyspace.compaction_due(revisions_max=1000, bytes_max=5100) is None


def test_a_reader_from_the_future_of_a_replaced_store_must_list_again() -> None:
    with pytest.raises(Compacted):
        Keyspace().events_after("", Revision(FIRST_REVISION + 1))
