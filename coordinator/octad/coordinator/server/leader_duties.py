"""What only the leading coordinator does beside placement: first shard maps, the format level."""

from __future__ import annotations

import asyncio
import logging

from octad.client.runtime.background_task import start_background, stop_background
from octad.coordinator.mirror.cluster_mirror import ClusterMirror
from octad.coordinator.mirror.leadership import Leadership
from octad.coordinator.placement.first_map import first_map, nodes_missing
from octad.coordinator.placement.placement import Placement
from octad.coordinator.recovery.create_cluster import mark_first_admin
from octad.coordinator.schema.cluster_view import BadRecord, ClusterView
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.server.coordinator_config import CoordinatorConfig
from octad.coordinator.server.format_levels import FormatLevels
from octad.coordinator.store.interface import ConfigStore, ModRevisionIs, StoreUnavailable
from octad.coordinator.store.mirror import Mirror
from octad.sharding.assignment.assignment import ImpossibleAssignment
from octad.sharding.ids import NodeId

_RETRY_S = 0.5

log = logging.getLogger(__name__)


class LeaderDuties:
    """`start` it, and `wake` it after every change. `problem`: why it cannot, for people."""

    def __init__(
        self,
        store: ConfigStore,
        keys: StoreKeys,
        config: CoordinatorConfig,
        mirror: Mirror,
        cluster: ClusterMirror,
        leadership: Leadership,
        placement: Placement,
    ) -> None:
        self._store = store
        self._keys = keys
        self._config = config
        self._cluster = cluster
        self._leadership = leadership
        self._placement = placement
        self.levels = FormatLevels(store, keys, mirror, placement, self.wake)
        self.problem: str | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._marked_under: ModRevisionIs | None = None
        self._nodes_seen: frozenset[NodeId] = frozenset()
        self._nodes_came_at = 0.0

    def start(self) -> None:
        """Once the mirror has started."""
        self.levels.start()
        self._task = start_background(self._run(), "the leader's duties")

    async def stop(self) -> None:
        if self._task is not None:
            await stop_background(self._task)

    def wake(self) -> None:
        """Something has changed: look again."""
        self._wake.set()

    async def _run(self) -> None:
        """The leader's duties, repeated after every change."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            token = self._leadership.token
            try:
                self.problem = await self._create_maps(token) if token else None
                if token:
                    await self.levels.raise_level(token)
                    await self._mark_first_admin(token)
            except (StoreUnavailable, BadRecord) as error:
                log.warning("the leader's duties are delayed: %s", error)
                self.problem = str(error)
                await asyncio.sleep(_RETRY_S)
                self._wake.set()

    async def _mark_first_admin(self, leadership: ModRevisionIs) -> None:
        """Runs once for each term."""
        if self._marked_under != leadership:
            await mark_first_admin(self._store, self._config.token.cluster, leadership)
            self._marked_under = leadership

    async def _create_maps(self, leadership: ModRevisionIs) -> str | None:
        """Create the shard configurations that are missing; the reason if that is impossible."""
        view = self._cluster.view()
        nodes = self._placement.nodes_for_map()
        for pool in view.pools.values():
            if nodes_missing(pool, nodes, self._config.nodes_expected):
                continue
            if not self._have_settled(view):
                continue
            try:
                transactions = first_map(
                    self._keys, pool, nodes, view.configurations.keys(), leadership
                )
            except ImpossibleAssignment as error:
                return f"pool {pool.id} gets no shard map: {error}"
            for transaction in transactions:
                outcome = await self._store.transact(transaction.compares, transaction.operations)
                if not outcome.succeeded:
                    await self._look_again()
                    return None
            if transactions:
                log.info("pool %d: made its first shard map, on %d nodes", pool.id, len(nodes))
        return None

    def _have_settled(self, view: ClusterView) -> bool:
        """Whether all expected nodes are here, or none has come for a while."""
        if self._config.nodes_expected or view.configurations:
            return True
        loop = asyncio.get_running_loop()
        if view.nodes.keys() - self._nodes_seen:
            self._nodes_came_at = loop.time()
        self._nodes_seen = frozenset(view.nodes)
        remaining_s = self._nodes_came_at + self._config.settle_s - loop.time()
        if remaining_s > 0:
            loop.call_later(remaining_s, self._wake.set)
        return remaining_s <= 0

    async def _look_again(self) -> None:
        """A write was refused: another coordinator leads, or something changed unseen."""
        if await self._leadership.confirm():
            await self._cluster.refresh()
            self._wake.set()
