"""Who holds a service's name: decided from the store's records, as one compare-and-swap.

`services/<service>/<instance>` is what everyone sees, under the lease of the session that holds
the name. Who held it before and still lives is *superseded*: `claims/<service>/<instance>/…` keeps
what it would show, under its own lease. The rules:

- A name has one address: that of all the sessions that hold or claim it. Another address is refused
  until each of them has ended or let go.
- Of the sessions at that address the newest is listed, at once, and the one before is superseded. A
  session in the place of one that was lost is as old as that, so two processes never take a name
  from each other in turns.
- As soon as no session is listed, the newest superseded one is, unless an older one registers just
  then. The newest takes the name from that one at its next renewal.

Every write compares the name, and that there is no newer claim, so that none is overlooked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from octad.client.cluster.service_records import ServiceInstance
from octad.coordinator.membership.session_writes import OLDEST, Change, SessionSeen
from octad.coordinator.schema.cluster_view import decode_record
from octad.coordinator.schema.records import SessionRecord, StoreKeys
from octad.coordinator.store.interface import (
    Delete,
    KeyValue,
    LeaseId,
    Listing,
    ModRevisionIs,
    NoneNewer,
    Put,
    Revision,
    StoreOperation,
)

SERVICE_CLAIMS_MAX = 1_000  # Processes that had one name and may still live.


class InstanceTaken(Exception):
    """Another live process has this name. It passes when that one ends."""


@dataclass(frozen=True, slots=True)
class Place:
    """The key under which a session holds or claims a name."""

    lease: LeaseId
    name: str
    claims: str  # A prefix.

    @classmethod
    def of(cls, keys: StoreKeys, lease: LeaseId, service: str, instance: str) -> Place:
        claims = keys.claims_of(f"{service}/{instance}")
        return cls(lease, keys.service(service, instance), claims)

    def claim(self, lease: LeaseId) -> str:
        return f"{self.claims}{lease:x}"


@dataclass(frozen=True, slots=True)
class Seen:
    """The store's records of a session that writes, and of the name that it writes."""

    place: Place
    session: SessionSeen
    name: KeyValue | None
    holder: KeyValue | None  # The session of the lease that `name` hangs on.
    claims: Listing

    @property
    def is_listed(self) -> bool:
        """Whether this session holds the name."""
        return self.name is not None and self.name.lease == self.place.lease

    @property
    def has_claim(self) -> bool:
        """Whether this session is superseded."""
        own = self.place.claim(self.place.lease)
        return any(entry.key == own for entry in self.claims.entries)

    def change(self, operations: Sequence[StoreOperation], number: int | None) -> Change:
        """`operations` as the session's write `number` (None: one of an older SDK, uncounted)."""
        note = self.session.note(number)
        return Change(
            (
                note.compare,
                ModRevisionIs(self.place.name, _revision(self.name)),
                NoneNewer(self.place.claims, self.claims.revision),
            ),
            (*operations, note.operation),
        )


def born(session: KeyValue | None) -> Revision:
    """A session's age: the revision it began at, or the one began at that it replaces."""
    if session is None:
        return OLDEST
    return age(decode_record(session, SessionRecord), session.create_revision)


def age(record: SessionRecord, began: Revision) -> Revision:
    """The same of a session that began at the revision `began`."""
    return min(record.born or began, began)


def registering(seen: Seen, record: ServiceInstance, value: bytes, number: int | None) -> Change:
    """Lists the instance as `value`, or claims its name. Raises InstanceTaken."""
    place, holder = seen.place, None if seen.is_listed else seen.name
    own_claim = place.claim(place.lease)
    others = [entry for entry in seen.claims.entries if entry.key != own_claim]
    held_at = None if holder is None else _address(holder)
    _check_address(record, [held_at, *map(_address, others)])
    if holder is not None and born(seen.holder) > born(seen.session.entry):
        return seen.change([Put(own_claim, value, place.lease)], number)
    if len(others) >= SERVICE_CLAIMS_MAX:
        raise InstanceTaken(
            f"{len(others)} processes had instance {record.instance} of {record.service} before: "
            "wait until the time to live of some is over, and choose a shorter one"
        )
    operations: list[StoreOperation] = [Put(place.name, value, place.lease), Delete(own_claim)]
    if holder is not None and holder.lease and held_at is not None:
        operations.append(Put(place.claim(holder.lease), holder.value, holder.lease))
    return seen.change(operations, number)


def withdrawing(seen: Seen, number: int | None) -> Change:
    """The session lets go of the name; where it has no part in it, only the number is noted."""
    operations: list[StoreOperation] = [Delete(seen.place.claim(seen.place.lease))]
    if seen.is_listed:
        operations.append(Delete(seen.place.name))
    return seen.change(operations, number)


def relisting(
    name: str, claims: Listing, sessions: Mapping[LeaseId, KeyValue | None]
) -> Change | None:
    """Lists the newest of those who claim the key `name`, should no one be listed; None: no one."""
    newest = max(claims.entries, key=lambda entry: born(sessions[entry.lease]), default=None)
    if newest is None:
        return None
    prefix = newest.key[: newest.key.rindex("/") + 1]
    return Change(
        (
            ModRevisionIs(name, Revision(0)),
            ModRevisionIs(newest.key, newest.mod_revision),
            NoneNewer(prefix, claims.revision),
        ),
        (Put(name, newest.value, newest.lease), Delete(newest.key)),
    )


def renewed(
    lease: LeaseId,
    session: KeyValue | None,
    names: Mapping[str, KeyValue | None],
    claims: Mapping[str, KeyValue | None],
    holders: Mapping[LeaseId, KeyValue | None],
) -> tuple[list[str], list[str]]:
    """Returns which of the names that a session renews it has lost, and where it is superseded.

    `claims` are its own, by name, and `holders` the sessions of the leases that `names` hang on. A
    name is lost where the session has neither it nor a claim, or where someone has it from whom it
    takes it when it registers again.
    """
    lost, superseded = list[str](), list[str]()
    for name, entry in names.items():
        if entry is not None and entry.lease == lease:
            continue
        is_older = entry is None or born(holders.get(entry.lease)) <= born(session)
        (lost if is_older or claims[name] is None else superseded).append(name)
    return lost, superseded


def _check_address(record: ServiceInstance, addresses: Sequence[str | None]) -> None:
    for address in addresses:
        if address not in (None, record.address):
            raise InstanceTaken(
                f"instance {record.instance} of {record.service} is live at {address}, this one "
                f"is {record.address}: give each process a name of its own, "
                "or wait until the other's time to live is over"
            )


def _address(entry: KeyValue) -> str | None:
    """The address of an instance; None if its record is unreadable, and so of no use."""
    try:
        return msgspec.json.decode(entry.value, type=ServiceInstance).address
    except msgspec.DecodeError:
        return None


def _revision(entry: KeyValue | None) -> Revision:
    return Revision(0) if entry is None else entry.mod_revision
