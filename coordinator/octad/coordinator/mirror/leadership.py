"""Leader election in the configuration store: who creates the key `leader`, under a lease, leads.

The key's mod revision is the leader's fencing token: it is compared in every write the leader
makes, so one that was replaced without knowing it (a pause, a cut network) writes nothing. The
lease only decides when someone else may try; nothing relies on its timing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress

import msgspec

from octad.client.runtime.background_task import start_background, stop_background
from octad.coordinator.schema.records import LeaderRecord
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
from octad.coordinator.store.mirror import Mirror

LEASE_S = 3.0
_RENEW_S = LEASE_S / 5
_RETRY_S = 0.5

log = logging.getLogger(__name__)


class Leadership:
    """Campaigns for as long as it runs. `token` is set while this one leads, as far as it knows."""

    def __init__(
        self,
        store: ConfigStore,
        mirror: Mirror,
        key: str,
        address: str,
        version: str,
        on_change: Callable[[], None],
    ) -> None:
        self.token: ModRevisionIs | None = None
        self.elections_won = 0
        self._store = store
        self._mirror = mirror
        self._key = key
        self._address = address
        self._version = version
        self._on_change = on_change
        self._lost = asyncio.Event()
        self._vacant = asyncio.Event()  # As far as the mirror knows.
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Campaign from now on; the mirror has started."""
        self._mirror.subscribe(self._on_key, self._key)
        self._task = start_background(self._run(), "leader election")

    async def stop(self) -> None:
        """Stop, and let go of the key at once so that another can lead."""
        if self._task is not None:
            await stop_background(self._task)
            self._task = None

    async def confirm(self) -> bool:
        """Asks the store whether this one still leads; gives up the token if not."""
        token = self.token
        if token is None:
            return False
        entry = await self._store.get(self._key)
        if entry is not None and entry.mod_revision == token.revision:
            return True
        self._lost.set()
        return False

    async def _run(self) -> None:
        while True:
            try:
                await self._until_vacant()
                await self._campaign()
            except (StoreUnavailable, LeaseExpired) as error:
                log.info("retrying the leader election: %s", error)
            self._set_token(None)
            await asyncio.sleep(_RETRY_S)

    def _on_key(self, _key: str, entry: KeyValue | None) -> None:
        (self._vacant.set if entry is None else self._vacant.clear)()

    async def _until_vacant(self) -> None:
        """Returns once no one holds the key."""
        if await self._store.get(self._key) is None:
            return
        await self._mirror.refresh()  # It knows of the holder now, or that it is gone.
        if self._key in self._mirror.entries:
            self._vacant.clear()
            await self._vacant.wait()

    async def _campaign(self) -> None:
        """Try to take the key; hold it for as long as it lasts."""
        lease = await self._store.grant_lease(LEASE_S)
        try:
            record = LeaderRecord(secrets.token_hex(8), self._address, self._version)
            value = msgspec.json.encode(record)
            with suppress(StoreUnavailable):  # Unknown outcome: the read below settles it.
                await self._store.transact(
                    [ModRevisionIs(self._key, Revision(0))], [Put(self._key, value, lease)]
                )
            entry = await self._store.get(self._key)
            if entry is not None and entry.value == value:
                self.elections_won += 1
                self._set_token(ModRevisionIs(self._key, entry.mod_revision))
                await self._hold(lease)
        finally:
            self._set_token(None)
            with suppress(StoreUnavailable):  # It ends by itself then.
                await self._store.revoke_lease(lease)

    async def _hold(self, lease: LeaseId) -> None:
        """Renew the lease until it is lost, or could not be renewed for as long as it lasts."""
        loop = asyncio.get_running_loop()
        self._lost.clear()
        valid_until = loop.time() + LEASE_S
        while loop.time() < valid_until:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), _RENEW_S)
                return
            sent_at = loop.time()
            with suppress(StoreUnavailable):
                await self._store.keep_alive(lease)
                valid_until = sent_at + LEASE_S

    def _set_token(self, token: ModRevisionIs | None) -> None:
        if token != self.token:
            self.token = token
            self._on_change()
