"""This node in the configuration store: registered under a lease for as long as it lives.

The lease is a hint for people and for planning; nothing's safety hangs on it. While the store is
away the node goes on serving and registers again as soon as it can.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import msgspec

from octad.coordinator.core.records import NodeRecord, StoreKeys
from octad.coordinator.store.interface import (
    ConfigStore,
    LeaseExpired,
    LeaseId,
    Put,
    StoreUnavailable,
)
from octad.sharding import limits

log = logging.getLogger(__name__)


class Membership:
    """`await start()` registers; `await stop()` withdraws at once."""

    def __init__(self, store: ConfigStore, keys: StoreKeys, record: NodeRecord) -> None:
        self._store = store
        self._put_key = keys.node(record.id)
        self._value = msgspec.json.encode(record)
        self._lease: LeaseId | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns once the node is registered; raises StoreUnavailable."""
        await self._register()
        self._task = asyncio.create_task(self._keep_alive(), name="membership")

    async def stop(self) -> None:
        """Watchers see the node leave now, not when its lease ends."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._lease is not None:
            with suppress(StoreUnavailable):  # It ends by itself then.
                await self._store.revoke_lease(self._lease)

    async def _register(self) -> None:
        lease = await self._store.grant_lease(limits.NODE_LEASE_S)
        await self._store.transact([], [Put(self._put_key, self._value, lease)])
        self._lease = lease

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(limits.NODE_LEASE_S / 3)
            try:
                assert self._lease is not None
                await self._store.keep_alive(self._lease)
            except LeaseExpired:
                log.warning("the node's lease ended: registering again")
                with suppress(StoreUnavailable, LeaseExpired):
                    await self._register()
            except StoreUnavailable as error:
                log.warning("the configuration store: %s", error)
