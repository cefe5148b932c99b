"""The coordinator: lets nodes join, makes the first shard map, reports the cluster's status.

Any number of them run on one configuration store and all answer; one leads, and only that one
creates shard configurations. It holds nothing that the store does not, so it may be killed at any
time. Configurations that stand are never its business: they change by their own members' hand, but
for those that an operator recovers by force (`shard_recovery.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial

from octad.client.cluster.doctor_document import Finding
from octad.client.cluster.status_document import (
    ClusterStatus,
    CoordinatorStatus,
    ShardStatus,
    StoreStatus,
)
from octad.client.membership.event_document import PUBLIC_KINDS
from octad.client.runtime.change_signal import ChangeSignal
from octad.coordinator.checks.check_rules import refusal_of
from octad.coordinator.checks.checker import Checker
from octad.coordinator.diagnosis.diagnosis import Known, findings
from octad.coordinator.diagnosis.store_versions import StoreVersions
from octad.coordinator.discovery.services_by_name import ServicesByName
from octad.coordinator.kv.kv_store import KvStore
from octad.coordinator.locks.lock_queues import LockQueues
from octad.coordinator.membership.relisting import Relisting
from octad.coordinator.membership.service_registry import ServiceRegistry
from octad.coordinator.membership.sessions import Sessions
from octad.coordinator.mirror.cluster_feed import (
    REACH_S_MAX,
    ClusterFeed,
    FutureRevision,
    NotAsNew,
)
from octad.coordinator.mirror.cluster_mirror import ClusterMirror
from octad.coordinator.mirror.leadership import Leadership
from octad.coordinator.placement.placement import Placement
from octad.coordinator.recovery.shard_recovery import ShardRecovery
from octad.coordinator.schema.cluster_view import decode_record
from octad.coordinator.schema.placement_records import PlacementKeys
from octad.coordinator.schema.records import LeaderRecord, StoreKeys
from octad.coordinator.server.coordinator_config import CoordinatorConfig
from octad.coordinator.server.joining import Joining
from octad.coordinator.server.leader_duties import LeaderDuties
from octad.coordinator.status.cluster_health import may_not_go_down, not_serving
from octad.coordinator.status.cluster_status import (
    NO_FAILURES,
    NodeFailure,
    cluster_status,
    shard_statuses,
    shown_endpoint,
)
from octad.coordinator.status.copy_reports import CopyReports
from octad.coordinator.store.interface import ConfigStore, Revision
from octad.coordinator.store.mirror import Mirror
from octad.sharding.ids import NodeId

# A mirror that could not be confirmed for longer shows the past.
STALE_S = 10.0


class Coordinator:
    """One of a cluster's coordinators. The store stays the caller's, who closes it afterwards.

    `failures` returns the present failures of nodes that the caller starts.
    """

    def __init__(
        self,
        store: ConfigStore,
        config: CoordinatorConfig,
        failures: Mapping[NodeId, NodeFailure] = NO_FAILURES,
    ) -> None:
        self.config = config
        self._failures = failures
        self.store = store
        self.keys = StoreKeys(config.token.cluster)
        self.changed = ChangeSignal()  # Set when anything changes that `status` or the map shows.
        self._mirror = Mirror(store, self.keys.prefix, mirrored(self.keys))
        self.feed = ClusterFeed(store, self.keys, self._mirror)
        self._mirror.follow(self.feed)
        self.services = ServicesByName(self.feed.history)
        self.sessions = Sessions(store, self.keys, config.token)
        self.registry = ServiceRegistry(
            store, self.keys, self.sessions, partial(refusal_of, config.check_networks)
        )
        self.kv = KvStore(store, self.keys)
        self.locks = LockQueues(store, self.keys, self.sessions, self._mirror)
        self._relisting = Relisting(
            self._mirror, self.keys, self.registry, lambda: self.feed.history.entries
        )
        self._cluster = ClusterMirror(self._mirror, self.keys, self._on_change)
        self._leadership = Leadership(
            store,
            self._mirror,
            self.keys.leader,
            config.address,
            config.version,
            self._on_change,
        )
        self._checker = Checker(
            store,
            lambda: self.feed.history.entries,
            lambda: self._leadership.token,
            config.check_networks,
        )
        self.placement = Placement(store, self.keys, self._mirror, self._cluster, self._leadership)
        self._duties = LeaderDuties(
            store,
            self.keys,
            config,
            self._mirror,
            self._cluster,
            self._leadership,
            self.placement,
        )
        self.levels = self._duties.levels
        self.join = Joining(
            store, self.keys, config, self._cluster, self.placement, self.levels
        ).join
        self.reports = CopyReports(self._mirror, self.keys, self.placement.view)
        self.recovery = ShardRecovery(store, self.keys, self._cluster)
        self._store_versions = StoreVersions(store)
        self.has_started = False  # Whether there is anything to show.

    async def start(self) -> None:
        """Returns once the store has been read and the campaign to lead has begun."""
        await self._mirror.start()
        await self.kv.start()
        self._cluster.start()
        self.placement.start()
        self.reports.start()
        self._relisting.start()
        self._checker.start()
        self._leadership.start()
        self._store_versions.start()
        self._duties.start()
        self.has_started = True

    async def stop(self) -> None:
        """Let go of the lead, so that another takes over at once."""
        await self._duties.stop()
        await self._store_versions.stop()
        await self.placement.stop()
        await self._checker.stop()
        await self._relisting.stop()
        await self._leadership.stop()
        await self.kv.stop()
        await self._mirror.stop()
        self.feed.stop()

    async def reach(self, revision: Revision) -> None:
        """Returns once status, shards, map and placement show `revision` or a later one.

        Raises NotAsNew, FutureRevision, StoreUnavailable. The feed has a `reach` of its own.
        """
        try:
            async with asyncio.timeout(REACH_S_MAX):
                reached = await self._mirror.reach(revision)
        except TimeoutError as error:
            raise NotAsNew(revision) from error
        if reached < revision:
            raise FutureRevision(revision, reached)

    def status(self) -> ClusterStatus:
        """The status document; raises BadRecord."""
        placement = self.placement.view()
        view = placement.cluster
        copies = self.reports.copies()
        leader = self._mirror.entries.get(self.keys.leader)
        endpoints = tuple(shown_endpoint(url) for url in self.config.store_address.endpoints)
        return cluster_status(
            self.config.token.cluster,
            view,
            self._cluster.departures(),
            StoreStatus(
                self.config.store_kind,
                endpoints,
                self._mirror.revision,
                round(min(self.age_s, 1e9), 1),
            ),
            CoordinatorStatus(
                self.config.address,
                self.config.version,
                self.is_leading,
                decode_record(leader, LeaderRecord).address if leader else None,
            ),
            nodes_expected=self.config.nodes_expected,
            removed=[n for n in placement.settings if placement.settings_of(n).removed],
            problems=(*self._problem(), *self._staleness()),
            copies=copies,
            time_left_s=self.reports.time_left_s(copies),
            failures=self._failures,
        )

    def shards(self) -> list[ShardStatus]:
        """Every shard's state; raises BadRecord."""
        return shard_statuses(self._cluster.view(), self.reports.copies())

    def findings(self) -> list[Finding]:
        """The doctor's findings; raises BadRecord. The leader knows most."""
        copies = self.reports.copies()
        problems = self.placement.problems
        return findings(
            Known(
                self.placement.view(),
                self._cluster.departures(),
                copies,
                self.reports.time_left_s(copies),
                self.keys.leader in self._mirror.entries,
                min(self.age_s, 1e9),
                self._store_versions.by_endpoint,
                (*self._problem(), *problems),
                self._failures,
            )
        )

    def map_tag(self) -> str:
        return self._cluster.map_tag

    def map_document(self) -> bytes:
        """The shard map in JSON, with its age."""
        document = self._cluster.map_document()
        return b'%s,"age_s":%.1f}' % (document[:-1], min(self.age_s, 1e9))

    def map_binary(self) -> bytes:
        """The shard map in compact form; raises BadRecord."""
        return self._cluster.map_binary()

    @property
    def age_s(self) -> float:
        """Seconds since the store last confirmed this view."""
        return max(0.0, time.monotonic() - self._mirror.last_confirmed)

    @property
    def is_leading(self) -> bool:
        return self._leadership.token is not None

    @property
    def elections_won(self) -> int:
        return self._leadership.elections_won

    def not_serving(self) -> list[str]:
        """Why not all data can be read and written; raises BadRecord."""
        return self._staleness() or not_serving(self._cluster.view())

    def may_not_go_down(self, node: NodeId | None) -> list[str]:
        """Why `node` (None: any one of them) may not be stopped now; raises BadRecord."""
        view = self._cluster.view()
        nodes = sorted(view.nodes) if node is None else [node]
        reasons = [reason for each in nodes for reason in may_not_go_down(view, each)]
        return self._staleness() or not_serving(view)[:1] or reasons

    def not_ready(self) -> str | None:
        """Why this coordinator cannot answer at present; None if it can."""
        return next(iter(self._staleness()), None)

    def _problem(self) -> tuple[str, ...]:
        """Why the leader cannot do its duties, if this one leads."""
        problem = self._duties.problem
        return () if problem is None else (problem,)

    def _staleness(self) -> list[str]:
        age_s = self.age_s
        if age_s <= STALE_S:
            return []
        return [f"the configuration store has not answered for {age_s:.0f} s"]

    def _on_change(self) -> None:
        self._duties.wake()
        self.placement.wake()
        self.changed.notify()


def mirrored(keys: StoreKeys) -> list[str]:
    """The prefixes that coordinators read and publish; not buckets, access keys and sessions."""
    told = (keys.prefix + kind for kind in PUBLIC_KINDS)
    decided = (keys.identities, keys.life, keys.reports, keys.claims, keys.format_level)
    return list(dict.fromkeys((*told, *decided, *PlacementKeys(keys).prefixes)))
