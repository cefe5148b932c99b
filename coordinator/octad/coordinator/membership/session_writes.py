"""A session's writes, counted, so that one which is carried out late or twice changes nothing.

`sessions/<session>` has the number of the session's newest write. Every write carries a number that
grows, and its transaction compares and advances that record. A session that has ended has no record
and no lease, so a write that comes later still fails its comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from octad.coordinator.schema.cluster_view import decode_record
from octad.coordinator.schema.records import SessionRecord
from octad.coordinator.store.interface import (
    Compare,
    KeyValue,
    LeaseId,
    ModRevisionIs,
    Put,
    Revision,
    StoreOperation,
)

OLDEST = Revision(1)  # Of a session that an octad made before sessions had records.


class LateWrite(Exception):
    """The session has written something newer since: this changes nothing."""


@dataclass(frozen=True, slots=True)
class Change:
    """A transaction."""

    compares: Sequence[Compare]
    operations: Sequence[StoreOperation]


@dataclass(frozen=True, slots=True)
class Note:
    """The part of a session's transaction that counts it."""

    compare: ModRevisionIs
    operation: Put


@dataclass(frozen=True, slots=True)
class SessionSeen:
    """A session's record, as the store has it: `entry` is None when it ended, or is an old one."""

    key: str
    lease: LeaseId
    entry: KeyValue | None

    @property
    def revision(self) -> Revision:
        """Of its newest write; 0: of none."""
        return Revision(0) if self.entry is None else self.entry.mod_revision

    def is_done(self, number: int | None) -> bool:
        """Whether the write of this number was carried out already; raises LateWrite."""
        done = self._record.number
        if number is None or number > done:
            return False
        if number < done:
            raise LateWrite(f"write {number} of the session comes after its write {done}")
        return True

    def note(self, number: int | None) -> Note:
        """For the transaction of write `number`."""
        record = msgspec.structs.replace(self._record, number=number or self._record.number)
        put = Put(self.key, msgspec.json.encode(record), self.lease)
        return Note(ModRevisionIs(self.key, self.revision), put)

    @property
    def _record(self) -> SessionRecord:
        if self.entry is None:
            return SessionRecord(born=OLDEST)
        return decode_record(self.entry, SessionRecord)
