"""Who holds a lock: decided from the store's records, as one compare-and-swap.

`locks/<lock>/<session>` stands under the session's lease while the session wants the lock. It is
written once and never changed, so the revision that made it is its place in the queue. The one with
the lowest holds the lock: no two can, whatever reads it and when, and the next one holds it as soon
as that one is gone, without a further write. What is written late or twice is the matter of
`membership/session_writes.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from octad.client.membership.lock_records import LockEntry, LockRecord, LockStatus, queue_of
from octad.coordinator.membership.session_writes import Change, SessionSeen
from octad.coordinator.schema.cluster_view import decode_record
from octad.coordinator.store.interface import Delete, KeyValue, ModRevisionIs, Put, Revision


def entering(session: SessionSeen, key: str, record: LockRecord, number: int) -> Change:
    """The session puts itself at the end of the queue, as its write `number`."""
    note = session.note(number)
    entry = Put(key, msgspec.json.encode(record), session.lease)
    return Change((note.compare, ModRevisionIs(key, Revision(0))), (entry, note.operation))


def leaving(session: SessionSeen, key: str, number: int) -> Change:
    """The session wants the lock no more, or never did: then the number alone is noted."""
    note = session.note(number)
    return Change((note.compare,), (Delete(key), note.operation))


def queue_in(entries: Iterable[KeyValue]) -> list[LockEntry]:
    """The queue whose entries the store holds; raises BadRecord."""
    return queue_of(
        LockEntry(e.key.rpartition("/")[2], e.create_revision, decode_record(e, LockRecord))
        for e in entries
    )


def lock_statuses(entries: Iterable[KeyValue]) -> Sequence[LockStatus]:
    """All locks of which the store holds entries, by name; raises BadRecord."""
    queues: dict[str, list[KeyValue]] = {}
    for entry in entries:
        queues.setdefault(entry.key.split("/")[-2], []).append(entry)
    return [
        LockStatus(name, queue_in(queue)[0].holder, len(queue) - 1)
        for name, queue in sorted(queues.items())
    ]
