"""The cluster's public keys, and what happened to them lately, for watchers: a pure value machine.

    restart(listing) -> the state as of one revision; nothing before it is known
    take(batch)      -> the state moves on, the changes are retained for watchers that reconnect

A watcher's position is the revision up to which it has seen everything. `since` returns what came
after it, or None when that was compacted: it has to start over from `state`. Changes of one
revision are never parted, so no position falls between them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import msgspec

from octad.client.membership.event_document import NO_VALUE, PUBLIC_KINDS, ClusterEvent
from octad.coordinator.store.interface import Event, EventBatch, KeyValue, Revision


def is_public(name: str) -> bool:
    """Whether watchers see changes of the key `name` (below the cluster's prefix)."""
    return name.startswith(PUBLIC_KINDS)


@dataclass(frozen=True, slots=True)
class Change:
    """Everything that one revision did to public keys."""

    revision: Revision
    events: tuple[ClusterEvent, ...]


class EventHistory:
    """The history of keys below `prefix`; retains up to about `changes_max` changes."""

    def __init__(self, prefix: str, changes_max: int) -> None:
        self.revision = Revision(0)
        self.floor = Revision(0)  # Every change past it is retained.
        self._prefix = prefix
        self._changes_max = changes_max
        self._entries: dict[str, KeyValue] = {}
        self._changes: deque[Change] = deque()

    @property
    def entries(self) -> Mapping[str, KeyValue]:
        """Entries by name, that is the key without the cluster's prefix."""
        return self._entries

    def restart(self, revision: Revision, entries: Iterable[KeyValue]) -> None:
        """Begin anew with what a listing says."""
        self._changes.clear()
        self._entries = {entry.key.removeprefix(self._prefix): entry for entry in entries}
        self.revision = self.floor = revision

    def take(self, batch: EventBatch) -> bool:
        """Move on to the batch's revision; whether a public key changed."""
        before = len(self._changes)
        revision, events = self.revision, list[ClusterEvent]()
        for event in batch.events:
            if event.revision <= self.revision:
                continue
            if event.revision != revision:
                self._keep(revision, events)
                revision, events = event.revision, []
            told = self._apply(event)
            if told is not None:
                events.append(told)
        self._keep(revision, events)
        self.revision = max(self.revision, batch.revision)
        changed = len(self._changes) > before
        while len(self._changes) > self._changes_max:
            self.floor = self._changes.popleft().revision
        return changed

    def since(self, name_prefix: str, position: Revision) -> Sequence[ClusterEvent] | None:
        """The events past `position`, in order; None: not known, start over from `state`."""
        if not self.floor <= position:
            return None
        newer = 0
        for change in reversed(self._changes):
            if change.revision <= position:
                break
            newer += 1
        return [
            event
            for change in islice(self._changes, len(self._changes) - newer, None)
            for event in change.events
            if event.key.startswith(name_prefix)
        ]

    def state(self, name_prefix: str) -> Sequence[ClusterEvent]:
        """Returns the full state as joins, in order of the keys' parts."""
        return [
            ClusterEvent("join", name, entry.mod_revision, public_value(entry.value))
            for name, entry in sorted(self._entries.items(), key=lambda item: item[0].split("/"))
            if name.startswith(name_prefix)
        ]

    def shows(self, entries: Iterable[KeyValue], kind: str = "") -> bool:
        """Whether the state, of keys of one kind or of all, is exactly `entries`."""
        wanted = {entry.key.removeprefix(self._prefix): entry.mod_revision for entry in entries}
        shown = {n: e.mod_revision for n, e in self._entries.items() if n.startswith(kind)}
        return wanted == shown

    def _keep(self, revision: Revision, events: list[ClusterEvent]) -> None:
        if events:
            self._changes.append(Change(revision, tuple(events)))

    def _apply(self, event: Event) -> ClusterEvent | None:
        name = event.key.removeprefix(self._prefix)
        if not is_public(name):
            return None
        before = self._entries.get(name)
        if event.entry is None:
            if self._entries.pop(name, None) is None:
                return None
            return ClusterEvent("leave", name, event.revision, NO_VALUE)
        self._entries[name] = event.entry
        if before is None:
            return ClusterEvent("join", name, event.revision, public_value(event.entry.value))
        if before.value == event.entry.value:  # Only its lease is another one: registered again.
            return None
        return ClusterEvent("change", name, event.revision, public_value(event.entry.value))


def public_value(value: bytes) -> msgspec.Raw:
    """`value` as one line of JSON; anything else, written by others, becomes a string."""
    try:
        msgspec.json.decode(value, type=msgspec.Raw)
    except msgspec.DecodeError:
        return msgspec.Raw(msgspec.json.encode(value.decode(errors="replace")))
    if b"\n" in value or b"\r" in value:
        return msgspec.Raw(msgspec.json.format(value, indent=-1))
    return msgspec.Raw(value)
