"""The configuration store, as everything above it sees it: small, revisioned, linearizable.

Four things, modelled on etcd's own: read a range at a revision, change keys in one transaction that
compares first, hold keys alive by a lease, watch a prefix from a revision. `etcd.py` and
`embedded.py` implement it (`http_client.py` reaches an embedded one in another process), and one
conformance suite runs against all of them.

Keys are text, values bytes. A revision counts the store's transactions that changed something; all
changes of one transaction carry the same revision.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

Revision = NewType("Revision", int)
LeaseId = NewType("LeaseId", int)


class StoreUnavailable(Exception):
    """The store did not answer in time. A transaction's outcome is unknown: read, then retry."""


class Compacted(Exception):
    """The requested revision was compacted: list again and go on from there."""


class LeaseExpired(Exception):
    """The lease is gone, and with it every key that hung on it: register again."""


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key as of some revision."""

    key: str
    value: bytes
    create_revision: Revision
    mod_revision: Revision
    lease: LeaseId = LeaseId(0)  # 0: none.


@dataclass(frozen=True, slots=True)
class Listing:
    """All keys of a prefix, in key order, as of `revision`."""

    revision: Revision
    entries: Sequence[KeyValue]


@dataclass(frozen=True, slots=True)
class ModRevisionIs:
    """Compare: `key` was last changed at `revision`; 0 means that it does not exist."""

    key: str
    revision: Revision


@dataclass(frozen=True, slots=True)
class ValueIs:
    """Compare: `key` exists and holds `value`."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class NoneNewer:
    """Compare: no key that begins with `key` was put after `revision`; deletions do not count."""

    key: str
    revision: Revision


@dataclass(frozen=True, slots=True)
class Put:
    """Operation: set `key`, alive for as long as `lease` is (0: until deleted)."""

    key: str
    value: bytes
    lease: LeaseId = LeaseId(0)


@dataclass(frozen=True, slots=True)
class Delete:
    """Operation: remove `key`; absent is fine."""

    key: str


Compare = ModRevisionIs | ValueIs | NoneNewer
StoreOperation = Put | Delete


@dataclass(frozen=True, slots=True)
class Outcome:
    """A transaction's result: if all compares held, its operations took effect at `revision`."""

    succeeded: bool
    revision: Revision


@dataclass(frozen=True, slots=True)
class Event:
    """One change: `entry` is the new state, None when the key was deleted (by its lease, too)."""

    key: str
    entry: KeyValue | None
    revision: Revision


@dataclass(frozen=True, slots=True)
class EventBatch:
    """All events of one or more complete revisions, in order; `revision` is the last one covered.

    An empty batch is progress: nothing under the prefix changed up to `revision`.
    """

    revision: Revision
    events: Sequence[Event]


class ConfigStore(Protocol):
    """Every method raises StoreUnavailable when the store cannot be reached in time."""

    async def range(self, prefix: str, revision: Revision | None = None) -> Listing:
        """Linearizable when `revision` is None; raises Compacted for one that is gone."""

    async def get(self, key: str) -> KeyValue | None:
        """One key, linearizable."""

    async def transact(
        self, compares: Sequence[Compare], operations: Sequence[StoreOperation]
    ) -> Outcome:
        """Do all `operations` if all `compares` hold, else nothing; up to 128 of each.

        Raises LeaseExpired when a Put names a lease that is gone; nothing happened then.
        """

    async def grant_lease(self, ttl_s: float) -> LeaseId:
        """A lease that ends `ttl_s` after its last renewal."""

    async def keep_alive(self, lease: LeaseId) -> None:
        """Renew; raises LeaseExpired."""

    async def revoke_lease(self, lease: LeaseId) -> None:
        """End the lease now and delete its keys; a lease that is gone already is fine."""

    def watch(self, prefix: str, after: Revision) -> AsyncIterator[EventBatch]:
        """Every change under `prefix` past `after`, in order, none lost or doubled.

        Raises Compacted, or StoreUnavailable when the connection ended or fell silent; the caller
        lists again or watches again from the last revision it saw.
        """

    async def versions(self) -> Mapping[str, str]:
        """Versions of the servers that answer, by endpoint; none for octad's own store."""

    async def close(self) -> None: ...
