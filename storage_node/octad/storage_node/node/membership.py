"""This node in the configuration store: registered under a lease for as long as it lives.

The lease is a hint for people and for planning; nothing's safety hangs on it. While the store is
away the node goes on serving and registers again as soon as it can.

A registration is only ever put where there is none, or over one that this disk made at this very
address, which a single process can have. So of two processes on copies of one data directory only
one gets in; the other learns that it must stop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import msgspec

from octad.client.runtime.background_task import start_background, stop_background
from octad.coordinator.schema.records import NodeRecord, StoreKeys
from octad.coordinator.store.interface import (
    ConfigStore,
    KeyValue,
    LeaseExpired,
    LeaseId,
    ModRevisionIs,
    Put,
    Revision,
    StoreUnavailable,
)
from octad.sharding.ids import node_name

NODE_LEASE_S = 10.0  # A hint of liveness, not a promise; renewed three times as often.

_ATTEMPTS = 5

log = logging.getLogger(__name__)


class RegisteredElsewhere(Exception):
    """Another process is live as this node: data directories were copied, or a disk was cloned."""

    def __init__(self, own: NodeRecord, other: NodeRecord) -> None:
        name = node_name(own.id)
        if other.incarnation == own.incarnation:
            what = "two processes run on copies of one data directory"
        else:
            what = f"with another disk (incarnation {other.incarnation})"
        super().__init__(f"{name} is live at {other.rpc_address} already: {what}")


class Membership:
    """`await start()` registers; `await stop()` withdraws at once.

    `on_failure` is called when the node may not go on; it is then not registered.
    """

    def __init__(
        self,
        store: ConfigStore,
        keys: StoreKeys,
        record: NodeRecord,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._key = keys.node(record.id)
        self._record = record
        self._value = msgspec.json.encode(record)
        self._on_failure = on_failure
        self._lease: LeaseId | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns once the node is registered; raises StoreUnavailable, RegisteredElsewhere."""
        await self._register()
        self._task = start_background(self._keep_alive(), "membership")

    async def stop(self) -> None:
        """Watchers see the node leave now, not when its lease ends."""
        try:
            if self._task is not None:
                await stop_background(self._task)
        finally:
            if self._lease is not None:
                with suppress(StoreUnavailable):  # It expires then.
                    await self._store.revoke_lease(self._lease)

    async def _register(self) -> None:
        lease = await self._store.grant_lease(NODE_LEASE_S)
        self._lease = lease
        for _ in range(_ATTEMPTS):
            known = await self._store.get(self._key)
            self._check_own(known)
            revision = known.mod_revision if known is not None else Revision(0)
            outcome = await self._store.transact(
                [ModRevisionIs(self._key, revision)], [Put(self._key, self._value, lease)]
            )
            if outcome.succeeded:
                return
        raise StoreUnavailable(f"{self._key} keeps being changed by someone else")

    def _check_own(self, known: KeyValue | None) -> None:
        """Raises RegisteredElsewhere unless this disk wrote it, from this address."""
        if known is None:
            return
        other = msgspec.json.decode(known.value, type=NodeRecord)
        own = self._record
        if (other.incarnation, other.rpc_address) != (own.incarnation, own.rpc_address):
            raise RegisteredElsewhere(own, other)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(NODE_LEASE_S / 3)
            try:
                await self._renew()
            except StoreUnavailable as error:
                log.warning("the configuration store: %s", error)
            except RegisteredElsewhere as error:
                log.error("%s", error)
                self._on_failure(error)
                return

    async def _renew(self) -> None:
        try:
            assert self._lease is not None
            await self._store.keep_alive(self._lease)
        except LeaseExpired:
            log.warning("the node's lease ended: registering again")
            with suppress(LeaseExpired):  # The store was away for longer than the new one lives.
                await self._register()
