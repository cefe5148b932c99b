"""Locks: who stands in the queue of each, the first of whom holds it, and the messages for that.

A session that wants a lock puts itself at the end of its queue; the entry hangs on the session, so
whoever ends makes way. The order of a queue is that of the store's revisions at which its entries
came, and so is the order of the holders' fencing tokens: what a lock protects remembers the highest
token that it has seen, and refuses a lower one. Examples: `docs/reference/coordinator-http.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from octad.client.cluster.service_records import WriteNumber
from octad.client.membership.event_document import EventsDocument

LOCKS_PATH = "/cluster/v1/locks"
LOCK_KIND = "locks/"
LOCK_VALUE_BYTES_MAX = 1024  # An address or a name, for whoever asks who it is.
# Above the revisions of one life of the store stands how often it was made anew, which begins them
# again: a thousand changes a second last 34 years, and a token fits a JavaScript number.
_GENERATION_SHIFT = 40

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class BadLock(ValueError):
    """No lock can be called so, or say that; the message says what is allowed."""


class LockRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Stand in the queue; `value` is shown to whoever asks. `number` as in registering."""

    session: str
    number: WriteNumber
    value: str = ""


class UnlockRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Leave the queue, as its first or anywhere in it. `number` as in registering."""

    session: str
    number: WriteNumber


class LockAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`token` is the fencing token of whoever holds it now; None: so many are `ahead`.

    `revision`: watchers past it have seen the entry.
    """

    token: int | None
    ahead: int
    revision: int


class LockRecord(msgspec.Struct, frozen=True):
    """An entry of a queue, as the store keeps it and watchers are told."""

    value: str
    generation: int  # How often the store was made anew.


class LockHolder(msgspec.Struct, frozen=True):
    """`session` is the part of a session's name that is no secret."""

    session: str
    token: int
    value: str


class LockStatus(msgspec.Struct, frozen=True):
    """`waiting`: how many stand in the queue behind the holder."""

    lock: str
    holder: LockHolder
    waiting: int


class LocksDocument(msgspec.Struct, frozen=True):
    """The locks that someone holds. Watching from `revision` on misses nothing."""

    revision: int
    locks: tuple[LockStatus, ...]
    age_s: float


def check_lock(name: str, value: str = "") -> None:
    """Raises BadLock."""
    if not _NAME.fullmatch(name):
        raise BadLock(f"lock {name[:80]!r}: 1 to 64 letters, digits, dots, dashes, underscores")
    if len(value.encode(errors="replace")) > LOCK_VALUE_BYTES_MAX:
        raise BadLock(f"the value of {name} has more than {LOCK_VALUE_BYTES_MAX} bytes")


def session_label(session: str) -> str:
    """What others may know a session by."""
    return session.partition("-")[0]


@dataclass(frozen=True, slots=True)
class LockEntry:
    """One entry of a queue, and the revision at which it came."""

    session: str
    revision: int
    record: LockRecord

    @property
    def holder(self) -> LockHolder:
        """Its session, should it be the first."""
        token = (self.record.generation << _GENERATION_SHIFT) + self.revision
        return LockHolder(self.session, token, self.record.value)


def queue_of(entries: Iterable[LockEntry]) -> list[LockEntry]:
    """In order: the first holds the lock."""
    return sorted(entries, key=lambda entry: entry.revision)


class WatchedQueue:
    """The queue of one lock, as documents about `locks/<lock>/` tell it."""

    def __init__(self) -> None:
        self._entries: dict[str, LockEntry] = {}

    def __contains__(self, session: str) -> bool:
        return session in self._entries

    @property
    def holder(self) -> LockHolder | None:
        """Whose turn it is; None: no one's."""
        entries = queue_of(self._entries.values())
        return entries[0].holder if entries else None

    def take(self, document: EventsDocument) -> None:
        """The next document. An entry never changes, so it came at its event's revision."""
        if document.reset:
            self._entries.clear()
        for event in document.events:
            session = event.key.rpartition("/")[2]
            if event.type == "leave":
                self._entries.pop(session, None)
            else:
                record = msgspec.json.decode(event.value, type=LockRecord)
                self._entries[session] = LockEntry(session, event.revision, record)
