"""A name that is free again goes to who had it before: superseded, and alive.

Every coordinator looks, since any of them may be the only one left. The transaction compares, so it
makes no difference how many find the same name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container

from octad.client.runtime.background_task import start_background, stop_background
from octad.coordinator.membership.service_registry import ServiceRegistry
from octad.coordinator.schema.cluster_view import BadRecord
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.interface import StoreUnavailable
from octad.coordinator.store.mirror import Mirror

LOOK_S = 0.5  # While someone is superseded, which is seldom.
_AT_ONCE = 16  # A process that ends may have had many names.

log = logging.getLogger(__name__)


class Relisting:
    """Use: `start()` once the mirror has started, `await stop()`.

    `listed` returns the names (`services/…`) that are taken. They may be those of a moment ago:
    then the transaction finds that out.
    """

    def __init__(
        self,
        mirror: Mirror,
        keys: StoreKeys,
        registry: ServiceRegistry,
        listed: Callable[[], Container[str]],
    ) -> None:
        self._registry = registry
        self._listed = listed
        self._mirror = mirror
        self._kind = keys.claims
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look from now on."""
        self._task = start_background(self._run(), "relisting")

    async def stop(self) -> None:
        if self._task is not None:
            await stop_background(self._task)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            free = [n for n in self._claimed() if f"services/{n}" not in self._listed()]
            for begin in range(0, len(free), _AT_ONCE):
                await asyncio.gather(*map(self._relist, free[begin : begin + _AT_ONCE]))

    async def _relist(self, name: str) -> None:
        """Whatever is wrong with one name is no matter of the others."""
        try:
            await self._registry.relist(name)
        except (StoreUnavailable, BadRecord) as error:
            log.info("relisting the superseded instance of %s is delayed: %s", name, error)

    def _claimed(self) -> set[str]:
        """The names that someone is superseded at."""
        claims = self._mirror.of(self._kind)
        return {key.removeprefix(self._kind).rpartition("/")[0] for key in claims}
