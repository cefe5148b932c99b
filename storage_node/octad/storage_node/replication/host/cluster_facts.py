"""What a node's replicas need to know of the cluster: plans, copies wanted, who could take a copy.

It is kept from the mirror's records as they change. The choice of a spare is the coordinator's own
(`coordinator/placement/spares.py`): all who ask with the same view get the same answer. Nodes that
this one does not hear are left out, because a registration outlives its process by seconds.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection

import msgspec

from octad.coordinator.placement.placement_view import PlacementView, Stored
from octad.coordinator.placement.spares import choose_spare, loads
from octad.coordinator.schema.cluster_view import ClusterView
from octad.coordinator.schema.placement_records import (
    NodeSettings,
    PlacementKeys,
    Replica,
    ShardPlan,
)
from octad.coordinator.schema.records import (
    DeathRecord,
    FenceRecord,
    NodeRecord,
    PoolRecord,
    StoreKeys,
)
from octad.coordinator.store.interface import KeyValue, Revision
from octad.sharding.ids import NodeId, PoolId, ShardId, pool_of
from octad.sharding.map.shard_map import Learner, Pool, ShardConfiguration
from octad.storage_node.replication.reconfiguration import Plan
from octad.storage_node.replication.replica_state import Strength
from octad.storage_node.replication.shard_ports import ShardEvents

LOADS_KEPT_S = 1.0  # Counting every row for each of many spares would take long.


class _IsFull(msgspec.Struct):
    """The fields of a NodeReport that are needed here."""

    read_only: bool = False


_decode_is_full = msgspec.json.Decoder(_IsFull).decode


class ClusterFacts:
    """See the module. Feed it the mirror's changes; it will `tell` the shards what is new."""

    def __init__(
        self,
        keys: StoreKeys,
        heard_boot: Callable[[NodeId], str | None],
    ) -> None:
        self.pools: dict[PoolId, Pool] = {}
        self.configurations: dict[ShardId, ShardConfiguration] = {}  # The newest known.
        self.nodes: dict[NodeId, NodeRecord] = {}  # The live ones.
        self.plans: dict[ShardId, Stored[ShardPlan]] = {}
        self.incarnations: dict[NodeId, str] = {}
        # The fence's value of each node with a valid death record.
        self.dead: dict[NodeId, bytes] = {}
        self.full: set[NodeId] = set()  # Nodes that have reported a full disk.
        self._keys = keys
        self._placement_keys = PlacementKeys(keys)
        self._records: dict[PoolId, PoolRecord] = {}
        self._settings: dict[NodeId, Stored[NodeSettings]] = {}
        self._heard_boot = heard_boot
        self._shards: ShardEvents | None = None
        self._fences: dict[NodeId, FenceRecord] = {}
        self._deaths: dict[NodeId, FenceRecord] = {}
        self._held: Counter[NodeId] = Counter()
        self._held_until = 0.0

    def tell(self, shards: ShardEvents) -> None:
        """From now on, report plans that change and processes that are known to have ended."""
        self._shards = shards

    def on_change(self, key: str, entry: KeyValue | None) -> None:
        """The mirror saw a key change; those of other kinds are passed over."""
        if key.startswith(self._keys.pools):
            if entry is not None:
                self._take_pool(msgspec.json.decode(entry.value, type=PoolRecord))
        elif key.startswith(self._keys.nodes):
            self._take_node(NodeId(int(key.removeprefix(self._keys.nodes))), entry)
        elif key.startswith((self._keys.fences, self._keys.deaths)):
            self._take_fence(key, entry)
        elif key.startswith(self._keys.reports):
            node = NodeId(int(key.removeprefix(self._keys.reports)))
            is_full = entry is not None and _decode_is_full(entry.value).read_only
            (self.full.add if is_full else self.full.discard)(node)
        elif key.startswith(self._placement_keys.settings):
            node = NodeId(int(key.removeprefix(self._placement_keys.settings)))
            self._settings.pop(node, None)
            if entry is not None:
                record = msgspec.json.decode(entry.value, type=NodeSettings)
                self._settings[node] = Stored(record, entry.mod_revision, entry.value)
        elif key.startswith(self._placement_keys.plans):
            shard = self._placement_keys.shard_of(key)
            self.plans.pop(shard, None)
            if entry is not None:
                plan = msgspec.json.decode(entry.value, type=ShardPlan)
                self.plans[shard] = Stored(plan, entry.mod_revision, entry.value)
            if self._shards is not None:
                self._shards.on_plan(shard)

    def _take_pool(self, record: PoolRecord) -> None:
        self._records[record.id] = record
        self.pools[record.id] = Pool(record.id, record.replicas, record.depth)

    def _take_node(self, node: NodeId, entry: KeyValue | None) -> None:
        self.nodes.pop(node, None)
        self.incarnations.pop(node, None)
        if entry is not None:
            record = msgspec.json.decode(entry.value, type=NodeRecord)
            self.nodes[node] = record
            self.incarnations[node] = record.incarnation

    def _take_fence(self, key: str, entry: KeyValue | None) -> None:
        is_death = key.startswith(self._keys.deaths)
        node = NodeId(int(key.rsplit("/", 1)[1]))
        known = self._deaths if is_death else self._fences
        known.pop(node, None)
        if entry is not None and is_death:
            known[node] = msgspec.json.decode(entry.value, type=DeathRecord).fence
        elif entry is not None:
            known[node] = msgspec.json.decode(entry.value, type=FenceRecord)
        died = self._deaths.get(node)
        if died is None or died != self._fences.get(node):
            self.dead.pop(node, None)
        elif node not in self.dead:
            self.dead[node] = msgspec.json.encode(died)
            if self._shards is not None:
                self._shards.look_around()

    # -- what the replicas ask -----------------------------------------------------------------

    def strength(self, shard: ShardId) -> Strength | None:
        """How many copies the shard's pool keeps; None while the pool is not known."""
        pool = self._records.get(pool_of(shard))
        return None if pool is None else Strength(pool.replicas, pool.fewest_copies())

    def plan(self, shard: ShardId, configuration: ShardConfiguration) -> Plan:
        """What the configuration should become; without a plan, what it is, and no learners."""
        members = [member.node for member in configuration.members]
        now = Plan(tuple(members), configuration.primary, configuration.depth)
        stored = self.plans.get(shard)
        if stored is None:
            return now
        plan = stored.record
        depth = configuration.depth if plan.depth is None else plan.depth
        add, remove = plan.add, plan.remove
        if add is not None and add.node not in members and self._may_join(configuration, add):
            members.append(add.node)
        if remove is not None and len(members) > plan.replicas:
            leaving = configuration.member(remove.node)
            if leaving is not None and leaving.incarnation == remove.incarnation:
                members.remove(remove.node)
        primary = plan.primary if plan.primary in members else configuration.primary
        return Plan(tuple(members), primary, depth) if primary in members else now

    def _may_join(self, configuration: ShardConfiguration, replica: Replica) -> bool:
        is_live = self.incarnations.get(replica.node) == replica.incarnation
        return is_live and not configuration.has_given_up(replica.node, replica.incarnation)

    def choose_spare(
        self, shard: ShardId, configuration: ShardConfiguration, useless: Collection[NodeId]
    ) -> Learner | None:
        """A live node that may take a missing member's place, and none of the `useless`."""
        now = time.monotonic()
        view = self._view()
        if now >= self._held_until:
            self._held, self._held_until = loads(view), now + LOADS_KEPT_S
        away = [node for node, record in self.nodes.items() if not self._is_here(record)]
        chosen = choose_spare(view, shard, configuration, self._held, [*away, *useless])
        if chosen is None:
            return None
        self._held[chosen] += 1
        return Learner(chosen, self.incarnations[chosen])

    def _is_here(self, record: NodeRecord) -> bool:
        """Whether that very process was heard a moment ago; a registration does not say so."""
        return self._heard_boot(record.id) == record.boot

    def _view(self) -> PlacementView:
        cluster = ClusterView(Revision(0), self._records, {}, self.nodes, self.configurations)
        return PlacementView(cluster, settings=self._settings, plans=self.plans)
