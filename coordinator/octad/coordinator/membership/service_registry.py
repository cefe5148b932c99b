"""Registrations of services, as keys under leases of the configuration store.

A session is a lease: renewing it keeps all instances alive that were registered with it, and
any coordinator can renew it, since nothing of it is kept here. What it is called is its secret: who
can name it may write for it. What a write comes to is decided in `membership/registrations.py`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TypeVar

import msgspec

from octad.client.cluster.join_token import JoinToken
from octad.client.cluster.service_records import (
    BadRegistration,
    RegisterAnswer,
    RegisterRequest,
    RenewAnswer,
    RenewRequest,
    ServiceInstance,
    SessionAnswer,
    SessionRequest,
    WithdrawRequest,
    check_instance,
    check_ttl,
    kept_record,
)
from octad.coordinator.membership.registrations import (
    Change,
    InstanceTaken,
    Place,
    Seen,
    age,
    registering,
    relisting,
    renewed,
    withdrawing,
)
from octad.coordinator.schema.records import SessionRecord, StoreKeys
from octad.coordinator.store.interface import (
    ConfigStore,
    KeyValue,
    LeaseExpired,
    LeaseId,
    Put,
    Revision,
    StoreUnavailable,
)
from octad.sharding.limits import SERVICE_INSTANCES_MAX

TTL_S_DEFAULT = 30.0
_ATTEMPTS = 5
_MAC_DIGITS = 32

_Which = TypeVar("_Which")

log = logging.getLogger(__name__)


class SessionGone(Exception):
    """The session ended, or never was one: register again."""


class InstancesLost(Exception):
    """The session lives, but these instances (`service/instance`) are not there: register them."""

    def __init__(self, instances: Iterable[str]) -> None:
        self.instances = tuple(instances)
        super().__init__(f"no longer registered: {', '.join(self.instances)}")


class OtherSession(Exception):
    """The instance is another session's: only that one may take it away."""


class ServiceRegistry:
    """Writes `services/`, `sessions/`, `claims/`. All methods raise StoreUnavailable."""

    def __init__(self, store: ConfigStore, keys: StoreKeys, token: JoinToken) -> None:
        self._store = store
        self._keys = keys
        self._session_key = token.key_for("service-sessions")

    async def open_session(self, request: SessionRequest) -> SessionAnswer:
        """Opens one without instances; raises BadRegistration. If the answer is lost it expires."""
        lease, since = await self._new_session(request.ttl_s, request.born)
        return SessionAnswer(session=self._session_of(lease), born=since)

    async def register(
        self, service: str, instance: str, request: RegisterRequest
    ) -> RegisterAnswer:
        """Returns once the instance is listed or superseded.

        Raises BadRegistration, InstanceTaken, LateWrite, SessionGone.
        """
        record, value = self._checked(service, instance, request)
        if request.session is not None:
            lease = self._lease_of(request.session)
            return await self._register(record, value, lease, request.number)
        ttl_s = TTL_S_DEFAULT if request.ttl_s is None else request.ttl_s
        lease, _ = await self._new_session(ttl_s, 0)
        try:
            return await self._register(record, value, lease, request.number)
        except InstanceTaken:
            with suppress(StoreUnavailable):  # It expires then.
                await self._store.revoke_lease(lease)
            raise

    async def renew(self, session: str, request: RenewRequest) -> RenewAnswer:
        """Compares, too, whether the instances are there; raises SessionGone, InstancesLost."""
        lease = self._lease_of(session)
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

    async def end(self, session: str) -> None:
        """Withdraws all instances of the session; no error if it has ended."""
        await self._store.revoke_lease(self._lease_of(session))

    async def withdraw(self, service: str, instance: str, request: WithdrawRequest) -> None:
        """The session lets go of one instance; raises LateWrite, OtherSession, SessionGone."""
        place = self._place(self._lease_of(request.session), service, instance)
        for _ in range(_ATTEMPTS):
            seen = await self._see(place)
            if seen.is_done(request.number):
                return
            if not await self._carry_out(seen, withdrawing(seen, request.number)):
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

    async def _new_session(self, ttl_s: float, told_born: int) -> tuple[LeaseId, Revision]:
        """Its lease and age."""
        check_ttl(ttl_s)
        lease = await self._store.grant_lease(ttl_s)
        record = SessionRecord(born=Revision(told_born))
        key = self._keys.session(lease)
        try:
            outcome = await self._store.transact([], [Put(key, msgspec.json.encode(record), lease)])
        except LeaseExpired as error:
            raise StoreUnavailable(f"it took longer than {ttl_s:g} s") from error
        return lease, age(record, outcome.revision)

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
        return record, kept_record(sent, record)

    async def _register(
        self, record: ServiceInstance, value: bytes, lease: LeaseId, number: int | None
    ) -> RegisterAnswer:
        place = self._place(lease, record.service, record.instance)
        for _ in range(_ATTEMPTS):
            seen = await self._see(place)
            if seen.is_done(number):
                assert seen.session is not None, "it holds the number"
                return self._answer(lease, seen.session.mod_revision, listed=seen.is_listed)
            change = registering(seen, record, value, number)
            revision = await self._carry_out(seen, change)
            if revision is not None:
                listed = any(operation.key == place.name for operation in change.operations)
                return self._answer(lease, revision, listed=listed)
        raise StoreUnavailable(f"{place.name} keeps being changed by someone else")

    async def _see(self, place: Place) -> Seen:
        session, name, claims = await asyncio.gather(
            self._store.get(place.session),
            self._store.get(place.name),
            self._store.range(place.claims),
        )
        holder = session
        if name is not None and name.lease != place.lease:
            holder = await self._store.get(self._keys.session(name.lease))
        return Seen(place, session, name, holder, claims)

    async def _carry_out(self, seen: Seen, change: Change) -> Revision | None:
        """The revision; None when someone was faster: look again. Raises SessionGone."""
        try:
            outcome = await self._store.transact(change.compares, change.operations)
        except LeaseExpired as error:
            if seen.session is None:
                raise SessionGone("the session has ended: register again") from error
            return None  # Its own, or the one of who had the name.
        return outcome.revision if outcome.succeeded else None

    async def _read(self, keys: Mapping[_Which, str]) -> dict[_Which, KeyValue | None]:
        entries = await asyncio.gather(*map(self._store.get, keys.values()))
        return dict(zip(keys, entries, strict=True))

    def _place(self, lease: LeaseId, service: str, instance: str) -> Place:
        return Place.of(self._keys, lease, service, instance)

    def _answer(self, lease: LeaseId, revision: Revision, *, listed: bool) -> RegisterAnswer:
        session = self._session_of(lease)
        return RegisterAnswer(session=session, revision=revision, superseded=not listed)

    def _session_of(self, lease: LeaseId) -> str:
        return f"{lease:x}-{self._mac(f'{lease:x}')}"

    def _lease_of(self, session: str) -> LeaseId:
        """Only leases that were granted here: no one ends a node's or the leader's by mistake."""
        lease, _, mac = session.partition("-")
        if not hmac.compare_digest(mac.encode(), self._mac(lease).encode()):
            raise SessionGone("this is no session of this cluster: register again")
        return LeaseId(int(lease, 16))

    def _mac(self, lease: str) -> str:
        return hmac.digest(self._session_key, lease.encode(), "sha256").hex()[:_MAC_DIGITS]
