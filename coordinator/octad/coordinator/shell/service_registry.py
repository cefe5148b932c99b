"""Registrations of services, as keys under leases of the configuration store.

A session is a lease: whoever renews it keeps all instances alive that were registered with it, and
any coordinator can renew it, since nothing of it is kept here. An instance's name belongs to one
session at a time; a process that starts again at the same address takes its own name back at once.
"""

from __future__ import annotations

import hmac
import logging
from contextlib import suppress

import msgspec

from octad.client.core.join_token import JoinToken
from octad.client.core.service_records import (
    BadRegistration,
    RegisterAnswer,
    RegisterRequest,
    ServiceInstance,
    check_instance,
    check_ttl,
    kept_record,
)
from octad.coordinator.core.records import StoreKeys
from octad.coordinator.store.interface import (
    ConfigStore,
    Delete,
    KeyValue,
    LeaseExpired,
    LeaseId,
    ModRevisionIs,
    Put,
    Revision,
    StoreUnavailable,
)

TTL_S_DEFAULT = 30.0
_ATTEMPTS = 5
_MAC_DIGITS = 32

log = logging.getLogger(__name__)


class SessionGone(Exception):
    """The session ended, or never was one: register again."""


class InstanceTaken(Exception):
    """Another live process has this name. It passes when that one ends."""


class ServiceRegistry:
    """Writes `services/<service>/<instance>`. All methods raise StoreUnavailable."""

    def __init__(self, store: ConfigStore, keys: StoreKeys, token: JoinToken) -> None:
        self._store = store
        self._keys = keys
        self._session_key = token.key_for("service-sessions")

    async def register(
        self, service: str, instance: str, request: RegisterRequest
    ) -> RegisterAnswer:
        """Returns once it is there; raises BadRegistration, InstanceTaken, SessionGone."""
        record, value = self._checked(service, instance, request)
        if request.session is not None:
            lease = self._lease_of(request.session)
            return await self._put(record, value, lease)
        ttl_s = TTL_S_DEFAULT if request.ttl_s is None else request.ttl_s
        check_ttl(ttl_s)
        lease = await self._store.grant_lease(ttl_s)
        try:
            return await self._put(record, value, lease)
        except (InstanceTaken, SessionGone):
            with suppress(StoreUnavailable):  # It ends by itself then.
                await self._store.revoke_lease(lease)
            raise

    async def renew(self, session: str) -> None:
        """Raises SessionGone."""
        try:
            await self._store.keep_alive(self._lease_of(session))
        except LeaseExpired as error:
            raise SessionGone(f"session {session} has ended: register again") from error

    async def end(self, session: str) -> None:
        """All its instances leave now; one that has ended is fine."""
        await self._store.revoke_lease(self._lease_of(session))

    async def withdraw(self, service: str, instance: str, session: str) -> None:
        """One instance leaves now, if it is this session's."""
        lease = self._lease_of(session)
        key = self._keys.service(service, instance)
        for _ in range(_ATTEMPTS):
            entry = await self._store.get(key)
            if entry is None or entry.lease != lease:
                return
            outcome = await self._store.transact(
                [ModRevisionIs(key, entry.mod_revision)], [Delete(key)]
            )
            if outcome.succeeded:
                return
        raise StoreUnavailable(f"{key} keeps being changed by somebody else")

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

    async def _put(self, record: ServiceInstance, value: bytes, lease: LeaseId) -> RegisterAnswer:
        key = self._keys.service(record.service, record.instance)
        known: KeyValue | None = None
        for _ in range(_ATTEMPTS):
            revision = known.mod_revision if known else Revision(0)
            try:
                outcome = await self._store.transact(
                    [ModRevisionIs(key, revision)], [Put(key, value, lease)]
                )
            except LeaseExpired as error:
                raise SessionGone("the session has ended: register again") from error
            if outcome.succeeded:
                return RegisterAnswer(session=self._session_of(lease), revision=outcome.revision)
            known = await self._store.get(key)
            if known is not None and known.lease != lease:
                _check_same_process(record, known)
        raise StoreUnavailable(f"{key} keeps being changed by somebody else")

    def _session_of(self, lease: LeaseId) -> str:
        return f"{lease:x}-{self._mac(f'{lease:x}')}"

    def _lease_of(self, session: str) -> LeaseId:
        """Only leases that were granted here: nobody ends a node's or the leader's by mistake."""
        lease, _, mac = session.partition("-")
        if not hmac.compare_digest(mac.encode(), self._mac(lease).encode()):
            raise SessionGone("this is no session of this cluster: register again")
        return LeaseId(int(lease, 16))

    def _mac(self, lease: str) -> str:
        return hmac.digest(self._session_key, lease.encode(), "sha256").hex()[:_MAC_DIGITS]


def _check_same_process(record: ServiceInstance, known: KeyValue) -> None:
    """An address has one process: whoever has it now may take over what it had before."""
    try:
        other = msgspec.json.decode(known.value, type=ServiceInstance)
    except msgspec.DecodeError:
        return  # Nobody can be using what nobody can read.
    if other.address != record.address:
        raise InstanceTaken(
            f"instance {record.instance} of {record.service} is live at {other.address}, this one "
            f"is {record.address}: give each process a name of its own, "
            "or wait until the other's time to live is over"
        )
