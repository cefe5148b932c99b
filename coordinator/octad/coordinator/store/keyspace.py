"""The revisioned keys of the embedded store, in memory: a state machine without I/O.

    stage()  -> Staging --transact…--> changes --(the shell makes them durable)--> publish(changes)

Readers see published changes only. Between `stage` and `publish` nothing else may be published: the
shell has one batch of transactions under way at a time, and each sees what those before it in its
batch did. Every revision past `compacted` is in `history`; `base` is the state at `compacted`, so
any revision since can be rebuilt by playing history over it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from octad.coordinator.store.interface import (
    Compacted,
    Compare,
    Delete,
    Event,
    EventBatch,
    KeyValue,
    LeaseExpired,
    LeaseId,
    Listing,
    ModRevisionIs,
    NoneNewer,
    Outcome,
    Put,
    Revision,
    StoreOperation,
)

STORE_WATCH_EVENTS_MAX = 1000  # Per batch; the rest of its last revision is added.

FIRST_REVISION = Revision(1)  # An empty store's revision, as in etcd.


@dataclass(frozen=True, slots=True)
class Change:
    """Everything that one revision did."""

    revision: Revision
    events: tuple[Event, ...]

    @property
    def size_bytes(self) -> int:
        """Roughly what keeping it costs."""
        return sum(len(e.key) + (len(e.entry.value) if e.entry else 0) for e in self.events)


class Keyspace:
    """All keys now, and the changes since `compacted`."""

    def __init__(self, compacted: Revision = FIRST_REVISION, base: Iterable[KeyValue] = ()) -> None:
        self.compacted = compacted
        self.revision = compacted
        self._base = {entry.key: entry for entry in base}
        self._entries = dict(self._base)
        self._keys = sorted(self._entries)
        self._history: list[Change] = []
        self._history_bytes = 0

    def get(self, key: str) -> KeyValue | None:
        return self._entries.get(key)

    def range(self, prefix: str, revision: Revision | None = None) -> Listing:
        """Raises Compacted for a revision that was compacted or is not reached yet."""
        if revision is None or revision == self.revision:
            return Listing(self.revision, self._under(prefix))
        then = {key: entry for key, entry in self._base.items() if key.startswith(prefix)}
        for change in self._history[: self._offset(revision)]:
            for event in change.events:
                if event.entry is None:
                    then.pop(event.key, None)
                elif event.key.startswith(prefix):
                    then[event.key] = event.entry
        return Listing(revision, [then[key] for key in sorted(then)])

    def events_after(self, prefix: str, after: Revision) -> EventBatch:
        """Complete revisions past `after`: some of them if there are many. Raises Compacted."""
        events: list[Event] = []
        for change in self._history[self._offset(after) :]:
            if len(events) >= STORE_WATCH_EVENTS_MAX:
                return EventBatch(Revision(change.revision - 1), events)
            events.extend(event for event in change.events if event.key.startswith(prefix))
        return EventBatch(self.revision, events)

    def stage(self, lease_lives: Callable[[LeaseId], bool]) -> Staging:
        return Staging(self.revision, self._entries, lease_lives)

    def publish(self, changes: Sequence[Change]) -> None:
        """Make durable changes visible."""
        for change in changes:
            assert change.revision == self.revision + 1, "a revision is missing or doubled"
            self.revision = change.revision
            for event in change.events:
                self._apply(event)
            self._history_bytes += change.size_bytes
        self._history.extend(changes)

    def compaction_due(self, revisions_max: int, bytes_max: int) -> Revision | None:
        """Up to where to compact; None while both bounds are held, give or take an eighth."""
        kept, kept_bytes = len(self._history), self._history_bytes
        if kept <= revisions_max + revisions_max // 8 and kept_bytes <= bytes_max + bytes_max // 8:
            return None
        until = self.compacted
        for change in self._history:
            if kept <= revisions_max and kept_bytes <= bytes_max:
                break
            kept, kept_bytes = kept - 1, kept_bytes - change.size_bytes
            until = change.revision
        return until

    def obsolete_at(self, compacted: Revision) -> list[tuple[Revision, str]]:
        """The versions, as (revision, key), that a compaction there makes unreachable."""
        newest = {key: entry.mod_revision for key, entry in self._base.items()}
        obsolete = []
        for change in self._history[: self._offset(compacted)]:
            for event in change.events:
                if event.key in newest:
                    obsolete.append((newest.pop(event.key), event.key))
                if event.entry is None:
                    obsolete.append((event.revision, event.key))
                else:
                    newest[event.key] = event.revision
        return obsolete

    def compact(self, compacted: Revision) -> None:
        """Forget how it was before `compacted`."""
        offset = self._offset(compacted)
        for change in self._history[:offset]:
            self._history_bytes -= change.size_bytes
            for event in change.events:
                if event.entry is None:
                    self._base.pop(event.key, None)
                else:
                    self._base[event.key] = event.entry
        del self._history[:offset]
        self.compacted = compacted

    def _under(self, prefix: str) -> list[KeyValue]:
        entries = []
        position = bisect_left(self._keys, prefix)
        while position < len(self._keys) and self._keys[position].startswith(prefix):
            entries.append(self._entries[self._keys[position]])
            position += 1
        return entries

    def _offset(self, revision: Revision) -> int:
        """How many changes of the history `revision` includes.

        A revision ahead of ours was seen in a store that this one replaced: its reader must list
        again too.
        """
        if not self.compacted <= revision <= self.revision:
            raise Compacted(f"revision {revision} is not in {self.compacted}..{self.revision}")
        return revision - self.compacted

    def _apply(self, event: Event) -> None:
        if event.entry is None:
            del self._entries[event.key]
            del self._keys[bisect_left(self._keys, event.key)]
            return
        if event.key not in self._entries:
            insort(self._keys, event.key)
        self._entries[event.key] = event.entry


@dataclass(slots=True)
class Staging:
    """A batch of transactions being evaluated; `changes` is their result."""

    revision: Revision
    published: Mapping[str, KeyValue]
    lease_lives: Callable[[LeaseId], bool]
    changes: list[Change] = field(default_factory=list)
    _staged: dict[str, KeyValue | None] = field(default_factory=dict)

    def transact(
        self, compares: Sequence[Compare], operations: Sequence[StoreOperation]
    ) -> Outcome:
        """Evaluate one transaction; on LeaseExpired it changed nothing."""
        if not all(self._holds(compare) for compare in compares):
            return Outcome(False, self.revision)
        for operation in operations:
            lease = operation.lease if isinstance(operation, Put) else 0
            if lease and not self.lease_lives(LeaseId(lease)):
                raise LeaseExpired(f"{operation.key}: lease {lease} is gone")
        self._change(operations)
        return Outcome(True, self.revision)

    def delete_keys_of(self, lease: LeaseId) -> None:
        """Delete an expired lease's keys, as one revision."""
        candidates = {**self.published, **self._staged}
        self._change(
            [
                Delete(key)
                for key, entry in sorted(candidates.items())
                if entry is not None and entry.lease == lease
            ]
        )

    def _get(self, key: str) -> KeyValue | None:
        return self._staged[key] if key in self._staged else self.published.get(key)

    def _holds(self, compare: Compare) -> bool:
        if isinstance(compare, NoneNewer):
            keys = (k for k in (*self.published, *self._staged) if k.startswith(compare.key))
            entries = map(self._get, keys)
            return all(e is None or e.mod_revision <= compare.revision for e in entries)
        entry = self._get(compare.key)
        if isinstance(compare, ModRevisionIs):
            return (entry.mod_revision if entry else 0) == compare.revision
        return entry is not None and entry.value == compare.value

    def _change(self, operations: Sequence[StoreOperation]) -> None:
        revision = Revision(self.revision + 1)
        events = []
        for operation in operations:
            before = self._get(operation.key)
            if isinstance(operation, Put):
                entry = KeyValue(
                    operation.key,
                    operation.value,
                    before.create_revision if before else revision,
                    revision,
                    operation.lease,
                )
                events.append(Event(operation.key, entry, revision))
            elif before is not None:
                events.append(Event(operation.key, None, revision))
        if not events:
            return
        self.revision = revision
        self.changes.append(Change(revision, tuple(events)))
        self._staged.update((event.key, event.entry) for event in events)
