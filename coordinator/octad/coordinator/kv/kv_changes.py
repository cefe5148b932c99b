"""A change of a setting, as one transaction that keeps the bounds; and what changed lately.

`octad/kv-usage/<cluster>` counts keys and bytes. Every change compares and writes it along with the
key, so the bounds hold exactly, whichever coordinators write at the same time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from octad.client.kv.kv_records import KV_BYTES_MAX, KV_KEYS_MAX
from octad.coordinator.schema.cluster_view import decode_record
from octad.coordinator.schema.records import KvUsageRecord
from octad.coordinator.store.interface import (
    Compare,
    Delete,
    KeyValue,
    ModRevisionIs,
    Put,
    Revision,
    StoreOperation,
)

CHANGES_KEPT_MAX = 10_000


class OtherRevision(Exception):
    """The key is at another revision than the change is for."""


class KvFull(Exception):
    """There is no room for this; what is there stays."""


@dataclass(frozen=True, slots=True)
class KvSeen:
    """A key and the count of all, as the store has them; None: there is none."""

    key: str  # In the store.
    name: str
    entry: KeyValue | None
    usage_key: str
    usage: KeyValue | None

    def change(
        self, value: bytes | None, if_revision: int | None
    ) -> tuple[Sequence[Compare], Sequence[StoreOperation]]:
        """To `value`, None to none; raises OtherRevision, KvFull, BadRecord."""
        there = _revision(self.entry)
        if if_revision is not None and if_revision != there:
            at = f"is at revision {there}" if there else "is not there"
            raise OtherRevision(f"{self.name} {at}, the change is for {if_revision}")
        counted = (
            KvUsageRecord() if self.usage is None else decode_record(self.usage, KvUsageRecord)
        )
        usage = KvUsageRecord(
            counted.keys - (self.entry is not None) + (value is not None),
            counted.bytes
            - (0 if self.entry is None else len(self.name) + len(self.entry.value))
            + (0 if value is None else len(self.name) + len(value)),
        )
        _check_room(counted, usage)
        operation = Delete(self.key) if value is None else Put(self.key, value)
        return (
            (ModRevisionIs(self.key, there), ModRevisionIs(self.usage_key, _revision(self.usage))),
            (operation, Put(self.usage_key, msgspec.json.encode(usage))),
        )


def usage_of(prefix: str, entries: Mapping[str, bytes]) -> KvUsageRecord:
    """The count of the settings among `entries`, which begin with `prefix`."""
    settings = {key: value for key, value in entries.items() if key.startswith(prefix)}
    size = sum(len(key) - len(prefix) + len(value) for key, value in settings.items())
    return KvUsageRecord(len(settings), size)


def _check_room(before: KvUsageRecord, after: KvUsageRecord) -> None:
    """What makes it smaller is always allowed."""
    if after.keys > max(KV_KEYS_MAX, before.keys):
        raise KvFull(f"there are {before.keys} keys: at most {KV_KEYS_MAX}")
    if after.bytes > max(KV_BYTES_MAX, before.bytes):
        raise KvFull(f"all keys would have {after.bytes} bytes: at most {KV_BYTES_MAX}")


class KvChanges:
    """Which keys changed at which revision: what is known of it, since `floor`."""

    def __init__(self) -> None:
        self._floor = Revision(0)
        self._changes: deque[tuple[Revision, str]] = deque()

    def begin(self, revision: Revision) -> None:
        """Nothing is known of what happened up to `revision`."""
        self._floor = revision
        self._changes.clear()

    def add(self, revision: Revision, name: str) -> None:
        """`name` has changed, at `revision` or shortly before; in the order of revisions."""
        self._changes.append((revision, name))
        while len(self._changes) > CHANGES_KEPT_MAX:
            self._floor = self._changes.popleft()[0]

    def may_have(self, which: Callable[[str], bool], after: int) -> bool:
        """Whether such a key changed past `after`, as far as is known."""
        if after < self._floor:
            return True
        for revision, name in reversed(self._changes):
            if revision <= after:
                return False
            if which(name):
                return True
        return False


def _revision(entry: KeyValue | None) -> Revision:
    return Revision(0) if entry is None else entry.mod_revision
