"""Registrations of services, as keys under leases of the configuration store.

Renewing a session keeps all instances alive that were registered with it. What a write comes to is
decided in `membership/registrations.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TypeVar

import msgspec

from octad.client.cluster.service_records import (
    BadRegistration,
    RegisterAnswer,
    RegisterRequest,
    RenewAnswer,
    RenewRequest,
    ServiceInstance,
    WithdrawRequest,
    check_instance,
    kept_record,
)
from octad.client.runtime.address import parse_address
from octad.coordinator.membership.instance_checks import carried_over
from octad.coordinator.membership.registrations import (
    InstanceTaken,
    Place,
    Seen,
    registering,
    relisting,
    renewed,
    withdrawing,
)
from octad.coordinator.membership.sessions import SessionGone, Sessions
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.interface import (
    ConfigStore,
    KeyValue,
    LeaseExpired,
    LeaseId,
    Revision,
    StoreUnavailable,
)
from octad.sharding.limits import SERVICE_INSTANCES_MAX

TTL_S_DEFAULT = 30.0
_ATTEMPTS = 5

_Which = TypeVar("_Which")

log = logging.getLogger(__name__)


class InstancesLost(Exception):
    """The session lives, but these instances (`service/instance`) are not there: register them."""

    def __init__(self, instances: Iterable[str]) -> None:
        self.instances = tuple(instances)
        super().__init__(f"no longer registered: {', '.join(self.instances)}")


class OtherSession(Exception):
    """The instance is another session's: only that one may take it away."""


class ServiceRegistry:
    """Writes `services/`, `sessions/`, `claims/`. All methods raise StoreUnavailable."""

    def __init__(
        self,
        store: ConfigStore,
        keys: StoreKeys,
        sessions: Sessions,
        may_check: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        """`may_check` returns why an instance at a host cannot be checked; None: it can."""
        self._may_check = may_check
        self._store = store
        self._keys = keys
        self._sessions = sessions

    async def register(
        self, service: str, instance: str, request: RegisterRequest
    ) -> RegisterAnswer:
        """Returns once the instance is listed or superseded.

        Raises BadRegistration, InstanceTaken, LateWrite, SessionGone.
        """
        record, value = self._checked(service, instance, request)
        if request.session is not None:
            lease = self._sessions.lease_of(request.session)
            return await self._register(record, value, lease, request.number)
        ttl_s = TTL_S_DEFAULT if request.ttl_s is None else request.ttl_s
        lease, _ = await self._sessions.begin(ttl_s, 0)
        try:
            return await self._register(record, value, lease, request.number)
        except InstanceTaken:
            with suppress(StoreUnavailable):  # It expires then.
                await self._store.revoke_lease(lease)
            raise

    async def renew(self, session: str, request: RenewRequest) -> RenewAnswer:
        """Compares, too, whether the instances are there; raises SessionGone, InstancesLost."""
        lease = self._sessions.lease_of(session)
        if len(request.instances) > SERVICE_INSTANCES_MAX:
            raise BadRegistration(f"a session has at most {SERVICE_INSTANCES_MAX} instances")
        try:
            await self._store.keep_alive(lease)
        except LeaseExpired as error:
            raise SessionGone(f"session {session} has ended: register again") from error
        names = await self._read({name: self._keys.services + name for name in request.instances})
        leases = {entry.lease for entry in names.values() if entry is not None}
        if leases <= {lease} and None not in names.values():
            return RenewAnswer()
        sessions = await self._read({each: self._keys.session(each) for each in {lease, *leases}})
        claims = await self._read({name: self._keys.claim(name, lease) for name in names})
        lost, superseded = renewed(lease, sessions[lease], names, claims, sessions)
        if lost:
            raise InstancesLost(lost)
        return RenewAnswer(superseded=tuple(superseded))

    async def withdraw(self, service: str, instance: str, request: WithdrawRequest) -> None:
        """The session lets go of one instance; raises LateWrite, OtherSession, SessionGone."""
        place = self._place(self._sessions.lease_of(request.session), service, instance)
        for _ in range(_ATTEMPTS):
            seen = await self._see(place)
            if seen.session.is_done(request.number):
                return
            if not await self._sessions.carry_out(seen.session, withdrawing(seen, request.number)):
                continue
            if seen.name is not None and not seen.is_listed and not seen.has_claim:
                raise OtherSession(f"instance {instance} of {service} is another session's")
            return
        raise StoreUnavailable(f"{place.name} keeps being changed by someone else")

    async def relist(self, name: str) -> None:
        """If no one has `service/instance`, the newest of the superseded has it from now on."""
        claims = await self._store.range(self._keys.claims_of(name))
        leases = {entry.lease for entry in claims.entries}
        sessions = await self._read({lease: self._keys.session(lease) for lease in leases})
        change = relisting(self._keys.services + name, claims, sessions)
        if change is None:
            return
        with suppress(LeaseExpired):  # Then its claim goes, too.
            outcome = await self._store.transact(change.compares, change.operations)
            if outcome.succeeded:
                log.info("%s is free: its previous instance is listed again", name)

    def _checked(
        self, service: str, instance: str, request: RegisterRequest
    ) -> tuple[ServiceInstance, bytes]:
        sent = bytes(request.record)
        try:
            record = msgspec.json.decode(sent, type=ServiceInstance)
        except msgspec.ValidationError as error:
            raise BadRegistration(f"the record: {error}") from error
        if (record.service, record.instance) != (service, instance):
            raise BadRegistration(
                f"the record names {record.service}/{record.instance}, "
                f"the path {service}/{instance}"
            )
        check_instance(record)
        if record.check is not msgspec.UNSET:
            reason = self._may_check(parse_address(record.address).host)
            if reason is not None:
                raise BadRegistration(f"check: {reason}")
        record = msgspec.structs.replace(record, check_passes=msgspec.UNSET)
        return record, kept_record(sent, record)

    async def _register(
        self, record: ServiceInstance, value: bytes, lease: LeaseId, number: int | None
    ) -> RegisterAnswer:
        place = self._place(lease, record.service, record.instance)
        for _ in range(_ATTEMPTS):
            seen = await self._see(place)
            if seen.session.is_done(number):
                return self._answer(lease, seen.session.revision, listed=seen.is_listed)
            shown = value
            if seen.is_listed and seen.name is not None:
                shown = carried_over(value, record, seen.name.value)
            change = registering(seen, record, shown, number)
            revision = await self._sessions.carry_out(seen.session, change)
            if revision is not None:
                listed = any(operation.key == place.name for operation in change.operations)
                return self._answer(lease, revision, listed=listed)
        raise StoreUnavailable(f"{place.name} keeps being changed by someone else")

    async def _see(self, place: Place) -> Seen:
        session, name, claims = await asyncio.gather(
            self._sessions.see(place.lease),
            self._store.get(place.name),
            self._store.range(place.claims),
        )
        holder = session.entry
        if name is not None and name.lease != place.lease:
            holder = await self._store.get(self._keys.session(name.lease))
        return Seen(place, session, name, holder, claims)

    async def _read(self, keys: Mapping[_Which, str]) -> dict[_Which, KeyValue | None]:
        entries = await asyncio.gather(*map(self._store.get, keys.values()))
        return dict(zip(keys, entries, strict=True))

    def _place(self, lease: LeaseId, service: str, instance: str) -> Place:
        return Place.of(self._keys, lease, service, instance)

    def _answer(self, lease: LeaseId, revision: Revision, *, listed: bool) -> RegisterAnswer:
        session = self._sessions.name_of(lease)
        return RegisterAnswer(session=session, revision=revision, superseded=not listed)
