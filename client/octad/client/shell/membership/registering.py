"""A process and its services, registered for as long as the process lives.

A session keeps itself alive: it renews twice in its time to live, at whichever coordinator answers,
so that half of it is left for trying again; and it registers everything again when the cluster has
lost it (the configuration store came back without it, or was away for longer than that).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import msgspec

from octad.client.core.service_records import (
    SERVICES_PATH,
    SESSIONS_PATH,
    RegisterAnswer,
    RegisterRequest,
    ServiceInstance,
    WithdrawRequest,
    check_instance,
    check_ttl,
)
from octad.client.core.service_token import ServiceToken, decode_service_token
from octad.client.shell.coordinator_calls import (
    CallRefused,
    Coordinators,
    CoordinatorsUnreachable,
)

TTL_S_DEFAULT = 30.0
RENEWALS_PER_TTL = 2
RETRY_S = 0.5
LEAVE_S_MAX = 2.0

log = logging.getLogger(__name__)


class Session:
    """Made by `open_session`: instances that live and end together."""

    def __init__(self, coordinators: Coordinators, ttl_s: float) -> None:
        self.ttl_s = ttl_s
        self._coordinators = coordinators
        self._id: str | None = None
        self._instances: dict[tuple[str, str], ServiceInstance] = {}
        self._changing = asyncio.Lock()

    async def register(self, record: ServiceInstance) -> int:
        """Register, or change what an instance says of itself; the revision that shows it.

        Raises BadRegistration, CallRefused (another process has the name), CoordinatorsUnreachable.
        """
        check_instance(record)
        async with self._changing:
            try:
                revision = await self._put(record)
            except CallRefused as error:
                if error.code != "session-gone":
                    raise
                await self._register_all_again()
                revision = await self._put(record)
            self._instances[record.service, record.instance] = record
            return revision

    async def withdraw(self, service: str, instance: str) -> None:
        """Take one instance away; the others stay."""
        async with self._changing:
            if self._instances.pop((service, instance), None) is None or self._id is None:
                return
            body = msgspec.json.encode(WithdrawRequest(session=self._id))
            with suppress(CallRefused):  # Gone with its session.
                await self._coordinators.write(
                    "DELETE", f"{SERVICES_PATH}/{service}/{instance}", body
                )

    async def keep_alive(self) -> None:
        """Until cancelled."""
        interval_s = self.ttl_s / RENEWALS_PER_TTL
        wait_s = interval_s * random.uniform(0.3, 1.0)  # Not all at once after a common start.
        while True:
            await asyncio.sleep(wait_s * random.uniform(0.9, 1.0))
            try:
                async with self._changing:
                    await self._renew(interval_s)
                wait_s = interval_s
            except (CoordinatorsUnreachable, CallRefused) as error:
                log.warning("the registration is not renewed: %s", error)
                wait_s = min(RETRY_S, interval_s)

    async def leave(self) -> None:
        """Watchers see it now, not when the time to live is over."""
        if self._id is None:
            return
        try:
            async with asyncio.timeout(LEAVE_S_MAX):
                await self._coordinators.write("DELETE", f"{SESSIONS_PATH}/{self._id}")
        except (CoordinatorsUnreachable, CallRefused, TimeoutError) as error:
            log.info("the registration ends by itself: %s", error)

    async def _renew(self, timeout_s: float) -> None:
        if self._id is not None:
            try:
                await self._coordinators.write(
                    "POST",
                    f"{SESSIONS_PATH}/{self._id}/renew",
                    timeout_s=max(1.0, timeout_s / self._coordinators.count),
                )
                return
            except CallRefused as error:
                if error.code != "session-gone":
                    raise
        await self._register_all_again()

    async def _register_all_again(self) -> None:
        log.warning("the cluster has lost this registration: registering again")
        self._id = None
        refused: CallRefused | None = None
        for record in list(self._instances.values()):
            try:
                await self._put(record)
            except CallRefused as error:
                refused = error
        if refused is not None:
            raise refused

    async def _put(self, record: ServiceInstance) -> int:
        request = RegisterRequest(
            record=msgspec.Raw(msgspec.json.encode(record)),
            session=self._id,
            ttl_s=self.ttl_s if self._id is None else None,
        )
        path = f"{SERVICES_PATH}/{record.service}/{record.instance}"
        body = await self._coordinators.write("PUT", path, msgspec.json.encode(request))
        answer = msgspec.json.decode(body, type=RegisterAnswer)
        self._id = answer.session
        return answer.revision


class Registration:
    """One registered instance, as `register` gives it."""

    def __init__(self, session: Session, record: ServiceInstance) -> None:
        self.record = record
        self._session = session

    async def update(
        self,
        *,
        health: str | None = None,
        drain: bool | None = None,
        weight: float | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Say something else of the instance; None: as before."""
        changes = {"health": health, "drain": drain, "weight": weight, "labels": labels}
        told = {name: value for name, value in changes.items() if value is not None}
        record = msgspec.structs.replace(self.record, **told)
        await self._session.register(record)
        self.record = record


@asynccontextmanager
async def open_session(
    coordinator: str, token: str | ServiceToken, *, ttl_s: float = TTL_S_DEFAULT
) -> AsyncIterator[Session]:
    """A session that keeps itself alive for the time of the block; leaving it withdraws all.

    `coordinator`: URLs separated by commas. Raises ValueError for what makes no sense.
    """
    check_ttl(ttl_s)
    decoded = decode_service_token(token) if isinstance(token, str) else token
    coordinators = Coordinators(coordinator, decoded)
    session = Session(coordinators, ttl_s)
    renewing = asyncio.create_task(session.keep_alive(), name="registration")
    try:
        yield session
    finally:
        renewing.cancel()
        await asyncio.wait([renewing])
        await session.leave()
        await coordinators.close()
        if not renewing.cancelled():
            renewing.result()  # It died of a bug: do not hide it.


@asynccontextmanager
async def register(
    service: str,
    address: str,
    *,
    coordinator: str,
    token: str | ServiceToken,
    instance: str | None = None,
    ttl_s: float = TTL_S_DEFAULT,
    zone: str = "",
    weight: float = 1.0,
    version: str = "",
    labels: Mapping[str, str] | None = None,
) -> AsyncIterator[Registration]:
    """Be there as an instance of `service` for the time of the block.

    `instance` is the address unless named. Raises BadRegistration, CallRefused (another process has
    the name), CoordinatorsUnreachable.
    """
    record = ServiceInstance(
        service=service,
        instance=instance or address.strip("[").replace("]", ""),
        address=address,
        zone=zone,
        weight=weight,
        version=version,
        labels=dict(labels or {}),
    )
    check_instance(record)
    async with open_session(coordinator, token, ttl_s=ttl_s) as session:
        await session.register(record)
        yield Registration(session, record)
