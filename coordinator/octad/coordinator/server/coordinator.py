"""The coordinator: lets nodes join, makes the first shard map, reports the cluster's status.

Any number of them run on one configuration store and all answer; one leads, and only that one
creates shard configurations. It holds nothing that the store does not, so it may be killed at any
time. Configurations that stand are never its business: they change by their own members' hand, but
for those that an operator recovers by force (`shard_recovery.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from octad.client.cluster.doctor_document import Finding
from octad.client.cluster.join_token import JoinToken
from octad.client.cluster.status_document import (
    ClusterStatus,
    CoordinatorStatus,
    ShardStatus,
    StoreStatus,
)
from octad.client.membership.event_document import PUBLIC_KINDS
from octad.client.runtime.background_task import start_background, stop_background
from octad.client.runtime.change_signal import ChangeSignal
from octad.coordinator.diagnosis.diagnosis import Known, findings
from octad.coordinator.diagnosis.store_versions import StoreVersions
from octad.coordinator.membership.admission import ADDRESS_IN_USE, Admission, JoinRefused, admit
from octad.coordinator.membership.reachability_check import check_reach, is_there
from octad.coordinator.membership.relisting import Relisting
from octad.coordinator.membership.service_registry import ServiceRegistry
from octad.coordinator.mirror.cluster_feed import (
    REACH_S_MAX,
    ClusterFeed,
    FutureRevision,
    NotAsNew,
)
from octad.coordinator.mirror.cluster_mirror import ClusterMirror
from octad.coordinator.mirror.leadership import Leadership
from octad.coordinator.placement.first_map import first_map, nodes_missing
from octad.coordinator.placement.placement import Placement
from octad.coordinator.recovery.create_cluster import mark_first_admin
from octad.coordinator.recovery.shard_recovery import ShardRecovery
from octad.coordinator.schema.cluster_view import BadRecord, ClusterView, decode_record
from octad.coordinator.schema.join_messages import REGION, JoinRequest
from octad.coordinator.schema.placement_records import PlacementKeys
from octad.coordinator.schema.records import IdentityRecord, LeaderRecord, NodeRecord, StoreKeys
from octad.coordinator.server.format_levels import FormatLevels
from octad.coordinator.status.cluster_health import may_not_go_down, not_serving
from octad.coordinator.status.cluster_status import (
    NO_FAILURES,
    NodeFailure,
    cluster_status,
    shard_statuses,
    shown_endpoint,
)
from octad.coordinator.status.copy_reports import CopyReports
from octad.coordinator.store.interface import (
    ConfigStore,
    Delete,
    KeyValue,
    ModRevisionIs,
    Put,
    Revision,
    StoreUnavailable,
)
from octad.coordinator.store.mirror import Mirror
from octad.coordinator.store.open_store import StoreAddress
from octad.sharding.assignment.assignment import ImpossibleAssignment
from octad.sharding.ids import NodeId

_JOIN_ATTEMPTS = 10
_RETRY_S = 0.5
# A mirror that could not be confirmed for longer shows the past.
STALE_S = 10.0
# Nodes are started one after the other: the first map waits until this long no one new has come.
SETTLE_S = 3.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """`store_address` is sent to nodes; the first map waits for `nodes_expected` of them.

    With 0 nodes expected it waits until there are enough and none has come for `settle_s`.
    """

    token: JoinToken
    store_address: StoreAddress
    store_kind: str  # For people: "embedded" or "etcd".
    address: str  # host:port of this coordinator's HTTP.
    version: str
    nodes_expected: int = 0
    settle_s: float = SETTLE_S
    checks_reach: bool = False  # Turn away new nodes at addresses that no one answers at.


@dataclass(frozen=True, slots=True)
class Joined:
    """The answer to a node that was let in."""

    node: NodeId
    region: str
    store: StoreAddress


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
        self.registry = ServiceRegistry(store, self.keys, config.token)
        self._relisting = Relisting(
            self._mirror, self.keys, self.registry, lambda: self.feed.history.entries
        )
        self._wake = asyncio.Event()
        self._cluster = ClusterMirror(self._mirror, self.keys, self._on_change)
        self._leadership = Leadership(
            store,
            self._mirror,
            self.keys.leader,
            config.address,
            config.version,
            self._on_change,
        )
        self.placement = Placement(store, self.keys, self._mirror, self._cluster, self._leadership)
        self.levels = FormatLevels(store, self.keys, self._mirror, self.placement, self._wake.set)
        self.reports = CopyReports(self._mirror, self.keys, self.placement.view)
        self.recovery = ShardRecovery(store, self.keys, self._cluster)
        self._store_versions = StoreVersions(store)
        self._problem: str | None = None  # Why the leader cannot do its duty, for people.
        self._duties: asyncio.Task[None] | None = None
        self._marked_under: ModRevisionIs | None = None
        self._nodes_seen: frozenset[NodeId] = frozenset()
        self._nodes_came_at = 0.0

    async def start(self) -> None:
        """Returns once the store has been read and the campaign to lead has begun."""
        await self._mirror.start()
        self._cluster.start()
        self.placement.start()
        self.levels.start()
        self.reports.start()
        self._relisting.start()
        self._leadership.start()
        self._store_versions.start()
        self._duties = start_background(self._do_duties(), "the leader's duties")

    @property
    def has_started(self) -> bool:
        """Whether there is anything to show."""
        return self._duties is not None

    async def stop(self) -> None:
        """Let go of the lead, so that another takes over at once."""
        if self._duties is not None:
            await stop_background(self._duties)
        await self._store_versions.stop()
        await self.placement.stop()
        await self._relisting.stop()
        await self._leadership.stop()
        await self._mirror.stop()
        self.feed.stop()

    async def join(self, request: JoinRequest) -> Joined:
        """Let a node in; raises JoinRefused, StoreUnavailable, BadRecord."""
        for _ in range(_JOIN_ATTEMPTS):
            # In this order: every node with an id from before `last` was read is in the view.
            last = await self.store.get(self.keys.last_node_id)
            await self._cluster.refresh()
            last_node = NodeId(decode_record(last, int) if last else 0)
            try:
                cluster = self.config.token.cluster
                admission = admit(cluster, request, self._cluster.view(), last_node)
            except JoinRefused as refused:
                if refused.code != ADDRESS_IN_USE or not await self._withdraw_previous(request):
                    raise
                continue
            self.placement.check_join(admission.node)
            self.levels.check_join(request.format_level)
            if self.config.checks_reach and admission.is_new:
                await check_reach(request, self.config.address)
            if not admission.is_new:
                await self.levels.put_back(admission.node, request.format_level)
            if not admission.is_new or await self._record(admission, request, last, last_node):
                log.info("node n%d joined from %s", admission.node, request.rpc_address)
                return Joined(admission.node, REGION, self.config.store_address)
        raise StoreUnavailable("too many nodes join at the same time")

    async def _withdraw_previous(self, request: JoinRequest) -> bool:
        """The former process at the RPC address is gone: its lease need not end by itself."""
        nodes = self._cluster.view().nodes.values()
        before = [record for record in nodes if record.rpc_address == request.rpc_address]
        if not before or not await is_there(request):
            return False
        for record in before:
            entry = await self.store.get(self.keys.node(record.id))
            if entry is not None and decode_record(entry, NodeRecord) == record:
                unchanged = ModRevisionIs(entry.key, entry.mod_revision)
                await self.store.transact([unchanged], [Delete(entry.key)])
                log.info("node n%d is gone: a new one is at %s", record.id, record.rpc_address)
        return True

    async def _record(
        self, admission: Admission, request: JoinRequest, last: KeyValue | None, last_node: NodeId
    ) -> bool:
        """Hand out a new id, unless someone else was given one meanwhile."""
        identity = IdentityRecord(admission.node, request.incarnation)
        key = self.keys.identity(admission.node)
        outcome = await self.store.transact(
            [
                ModRevisionIs(self.keys.last_node_id, last.mod_revision if last else Revision(0)),
                ModRevisionIs(key, Revision(0)),
            ],
            [
                Put(key, msgspec.json.encode(identity)),
                Put(self.keys.last_node_id, msgspec.json.encode(max(last_node, admission.node))),
            ],
        )
        return outcome.succeeded

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
            problems=(*((self._problem,) if self._problem else ()), *self._staleness()),
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
                (*((self._problem,) if self._problem else ()), *problems),
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

    def _staleness(self) -> list[str]:
        age_s = self.age_s
        if age_s <= STALE_S:
            return []
        return [f"the configuration store has not answered for {age_s:.0f} s"]

    def _on_change(self) -> None:
        self._wake.set()
        self.placement.wake()
        self.changed.notify()

    async def _do_duties(self) -> None:
        """The leader's duties, repeated after every change."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            token = self._leadership.token
            try:
                self._problem = await self._create_maps(token) if token else None
                if token:
                    await self.levels.raise_level(token)
                    await self._mark_first_admin(token)
            except (StoreUnavailable, BadRecord) as error:
                log.warning("the leader's duties are delayed: %s", error)
                self._problem = str(error)
                await asyncio.sleep(_RETRY_S)
                self._wake.set()

    async def _mark_first_admin(self, leadership: ModRevisionIs) -> None:
        """Runs once for each term."""
        if self._marked_under != leadership:
            await mark_first_admin(self.store, self.config.token.cluster, leadership)
            self._marked_under = leadership

    async def _create_maps(self, leadership: ModRevisionIs) -> str | None:
        """Create the shard configurations that are missing; the reason if that is impossible."""
        view = self._cluster.view()
        nodes = self.placement.nodes_for_map()
        for pool in view.pools.values():
            if nodes_missing(pool, nodes, self.config.nodes_expected):
                continue
            if not self._have_settled(view):
                continue
            try:
                transactions = first_map(
                    self.keys, pool, nodes, view.configurations.keys(), leadership
                )
            except ImpossibleAssignment as error:
                return f"pool {pool.id} gets no shard map: {error}"
            for transaction in transactions:
                outcome = await self.store.transact(transaction.compares, transaction.operations)
                if not outcome.succeeded:
                    await self._look_again()
                    return None
            if transactions:
                log.info("pool %d: made its first shard map, on %d nodes", pool.id, len(nodes))
        return None

    def _have_settled(self, view: ClusterView) -> bool:
        """Whether all expected nodes are here, or none has come for a while."""
        if self.config.nodes_expected or view.configurations:
            return True
        loop = asyncio.get_running_loop()
        if view.nodes.keys() - self._nodes_seen:
            self._nodes_came_at = loop.time()
        self._nodes_seen = frozenset(view.nodes)
        remaining_s = self._nodes_came_at + self.config.settle_s - loop.time()
        if remaining_s > 0:
            loop.call_later(remaining_s, self._wake.set)
        return remaining_s <= 0

    async def _look_again(self) -> None:
        """A write was refused: another coordinator leads, or something changed unseen."""
        if await self._leadership.confirm():
            await self._cluster.refresh()
            self._wake.set()


def mirrored(keys: StoreKeys) -> list[str]:
    """The prefixes that coordinators read and publish; not buckets, access keys and sessions."""
    told = (keys.prefix + kind for kind in PUBLIC_KINDS)
    decided = (keys.identities, keys.life, keys.reports, keys.claims, keys.format_level)
    return list(dict.fromkeys((*told, *decided, *PlacementKeys(keys).prefixes)))
