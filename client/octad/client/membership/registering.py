"""A process and its services, registered for as long as the process lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec

from octad.client.cluster.coordinator_calls import Coordinators
from octad.client.cluster.service_records import (
    InstanceCheck,
    ServiceInstance,
    check_instance,
    check_ttl,
)
from octad.client.cluster.service_token import ServiceToken, decode_service_token
from octad.client.membership.own_instances import InstanceState
from octad.client.membership.session import OnEvent, Session

TTL_S_DEFAULT = 30.0


class Registration:
    """One registered instance, as `register` returns it."""

    def __init__(self, session: Session, record: ServiceInstance) -> None:
        self.record = record
        self._session = session
        self._updating = asyncio.Lock()  # Each one begins with what the one before has come to.

    @property
    def state(self) -> InstanceState:
        """ "listed", "superseded" by a newer process at its address, or "lost" for the moment."""
        return self._session.state(self.record.service, self.record.instance)

    async def update(
        self,
        *,
        health: str | None = None,
        drain: bool | None = None,
        weight: float | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Say something else of the instance; None: as before.

        Where it raises, the instance is as before, or soon is again. Raises as `register` does.
        """
        changes = {"health": health, "drain": drain, "weight": weight, "labels": labels}
        told = {name: value for name, value in changes.items() if value is not None}
        async with self._updating:
            record = msgspec.structs.replace(self.record, **told)
            await self._session.register(record)
            self.record = record


@asynccontextmanager
async def open_session(
    coordinator: str,
    token: str | ServiceToken,
    *,
    ttl_s: float = TTL_S_DEFAULT,
    on_event: OnEvent | None = None,
    authority_file: str | None = None,
) -> AsyncIterator[Session]:
    """A session that keeps itself alive for the time of the block; leaving it withdraws all.

    `coordinator`: URLs separated by commas; `authority_file`: whom to trust with https
    (AWS_CA_BUNDLE). `on_event` is called when an instance is lost,
    superseded or listed again. Raises ValueError for bad arguments.
    """
    check_ttl(ttl_s)
    decoded = decode_service_token(token) if isinstance(token, str) else token
    coordinators = Coordinators(coordinator, decoded, authority_file)
    session = Session(coordinators, ttl_s, on_event)
    keeping = [
        asyncio.create_task(session.keep_alive(), name="registration"),
        asyncio.create_task(session.keep_settled(), name="registration-settling"),
    ]
    try:
        yield session
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.wait(keeping)
        await session.leave()
        await coordinators.close()
        for task in keeping:
            if not task.cancelled():
                task.result()  # It died of a bug: do not hide it.


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
    check: InstanceCheck | None = None,
    on_event: OnEvent | None = None,
    authority_file: str | None = None,
) -> AsyncIterator[Registration]:
    """Be there as an instance of `service` for the time of the block.

    `instance` is the address unless named. Of several processes at one address the newest is
    listed. With `check` a coordinator looks whether it answers, too. Raises BadRegistration,
    CallRefused (another process has the name), CoordinatorsUnreachable.
    """
    record = ServiceInstance(
        service=service,
        instance=instance or address.strip("[").replace("]", ""),
        address=address,
        zone=zone,
        weight=weight,
        version=version,
        labels=dict(labels or {}),
        check=msgspec.UNSET if check is None else check,
    )
    check_instance(record)
    opening = open_session(
        coordinator, token, ttl_s=ttl_s, on_event=on_event, authority_file=authority_file
    )
    async with opening as session:
        await session.register(record)
        yield Registration(session, record)
