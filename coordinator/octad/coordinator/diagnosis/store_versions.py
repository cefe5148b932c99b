"""The etcd version of each of the configuration store's members, polled."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from octad.client.runtime.background_task import start_background, stop_background
from octad.coordinator.store.interface import ConfigStore

_EVERY_S = 60.0  # An upgrade is seen a minute later.


class StoreVersions:
    """Use: `start()`, `by_endpoint` at any time, `await stop()`."""

    def __init__(self, store: ConfigStore) -> None:
        self.by_endpoint: Mapping[str, str] = {}
        self._store = store
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = start_background(self._run(), "the store's versions")

    async def stop(self) -> None:
        if self._task is not None:
            await stop_background(self._task)

    async def _run(self) -> None:
        while True:
            # A member that does not answer now has the version it had.
            self.by_endpoint = {**self.by_endpoint, **await self._store.versions()}
            await asyncio.sleep(_EVERY_S)
