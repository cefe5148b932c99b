"""A cluster without data or clocks: a store in memory, primaries that obey plans, and faults.

Every change of a configuration is checked as it happens: one replica of a shard at a time, never
fewer copies than there were because of a plan, never two on one node. `tick` lets time pass.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from tests.unit.coordinator.cluster_records import CLUSTER

from octad.coordinator.placement.first_map import Transaction, first_map
from octad.coordinator.placement.placement_commit import (
    PlanChange,
    operation_changes,
    target_chunks,
)
from octad.coordinator.placement.placement_driver import PlacementDriver
from octad.coordinator.placement.placement_proposal import Proposal, propose
from octad.coordinator.placement.placement_view import PlacementView, placement_view
from octad.coordinator.placement.plan_steps import (
    ChangeConfiguration,
    DropLearner,
    SplitShard,
    full_members,
    next_step,
)
from octad.coordinator.schema.cluster_view import cluster_view
from octad.coordinator.schema.placement_messages import PlanRequest
from octad.coordinator.schema.placement_records import PlacementKeys, PlanProgress, encode_record
from octad.coordinator.schema.records import IdentityRecord, NodeRecord, PoolRecord, StoreKeys
from octad.coordinator.store.interface import (
    Compare,
    Delete,
    KeyValue,
    LeaseId,
    ModRevisionIs,
    Outcome,
    Put,
    Revision,
    StoreOperation,
)
from octad.coordinator.store.keyspace import Keyspace
from octad.coordinator.store.transaction_rules import check_transaction
from octad.sharding.assignment.move_plan import Step
from octad.sharding.ids import Epoch, NodeId, PoolId, ShardId, number_of, pool_of, shard_id
from octad.sharding.map.shard_map import (
    Learner,
    Member,
    ShardConfiguration,
    decode_configuration,
    encode_configuration,
)
from octad.sharding.map.splitting import split_configuration

KEYS = StoreKeys(CLUSTER)
PLACEMENT = PlacementKeys(KEYS)
POOL = PoolId(0)
SHARD_BYTES = 4096
COPY_TICKS = 3


def incarnation(node: int) -> str:
    return f"incarnation-{node}"


@dataclass
class Faults:
    """How often things go wrong; a rate is of one primary's or leader's turn."""

    refuses: float = 0.0
    lags: float = 0.0
    leader_dies: float = 0.0
    stale_view: float = 0.0


class PlacementCluster:
    """`nodes` is {id: zone}; all of them hold data unless they are named in `later`."""

    def __init__(
        self,
        nodes: dict[int, str],
        *,
        replicas: int = 3,
        depth: int = 5,
        seed: int = 0,
        later: Sequence[int] = (),
        faults: Faults | None = None,
    ) -> None:
        self.random = random.Random(seed)
        self.faults = faults or Faults()
        self.keyspace = Keyspace()
        self.zones = nodes
        self.driver = PlacementDriver(KEYS)
        self.now_s = 0.0
        self.moves: Counter[NodeId] = Counter()  # Copies received.
        self.splits = 0
        self.zones_min = 1  # Every configuration at strength must span as many.
        self.configurations_changed = 0
        self.copying_max = 0
        self.plans_max = 0
        self.grace_ticks = 0  # What a primary waits for before a member may leave.
        self._waited: Counter[ShardId] = Counter()
        self.elections = 0
        self._copied: Counter[ShardId] = Counter()
        self._views: list[PlacementView] = []
        self.elect()
        self.put(KEYS.pool(POOL), msgspec.json.encode(PoolRecord(POOL, replicas, depth)))
        for node in nodes:
            self.join(node)
        for node in nodes:
            if node not in later:
                self.start(node)
        self.make_map()
        for node in later:
            self.start(node)

    # -- the store -----------------------------------------------------------------------------

    def transact(
        self, compares: Sequence[Compare], operations: Sequence[StoreOperation]
    ) -> Outcome:
        check_transaction(compares, operations)
        staging = self.keyspace.stage(lambda _: True)
        outcome = staging.transact(compares, operations)
        self.keyspace.publish(staging.changes)
        return outcome

    def put(self, key: str, value: bytes) -> Revision:
        return self.transact([], [Put(key, value, LeaseId(0))]).revision

    def entry(self, key: str) -> KeyValue:
        entry = self.keyspace.get(key)
        assert entry is not None, key
        return entry

    def view(self) -> PlacementView:
        listing = self.keyspace.range(KEYS.prefix)
        cluster = cluster_view(KEYS, listing.revision, listing.entries)
        return placement_view(PLACEMENT, cluster, listing.entries)

    def configuration(self, number: int, pool: PoolId = POOL) -> ShardConfiguration:
        return decode_configuration(self.entry(KEYS.shard(shard_id(pool, number))).value)

    # -- nodes ---------------------------------------------------------------------------------

    def join(self, node: int) -> None:
        identity = IdentityRecord(NodeId(node), incarnation(node))
        self.put(KEYS.identity(NodeId(node)), msgspec.json.encode(identity))

    def start(self, node: int, weight: float = 1.0) -> None:
        record = NodeRecord(
            NodeId(node),
            incarnation(node),
            f"127.0.0.1:{7000 + node}",
            f"127.0.0.1:{9000 + node}",
            self.zones[node],
            weight,
            "0.1.0",
            "boot",
        )
        self.put(KEYS.node(record.id), msgspec.json.encode(record))

    def kill(self, node: int) -> None:
        """Its lease ends; those who share shards with it go on without it, as they would."""
        self.transact([], [Delete(KEYS.node(NodeId(node)))])
        for shard, configuration in self.view().cluster.configurations.items():
            if configuration.member(NodeId(node)) is None and not any(
                x.node == node for x in configuration.learners
            ):
                continue
            members = tuple(member for member in configuration.members if member.node != node)
            learners = tuple(each for each in configuration.learners if each.node != node)
            assert members, "a test that kills the last copy proves nothing"
            primary = configuration.primary if configuration.primary != node else members[0].node
            self._write_configuration(
                shard, configuration, members=members, learners=learners, primary=primary
            )

    def make_map(self) -> None:
        view = self.view()
        for pool in view.cluster.pools.values():
            nodes = list(view.cluster.nodes.values())
            for transaction in first_map(
                KEYS, pool, nodes, view.cluster.configurations, self.leadership
            ):
                assert self.transact(transaction.compares, transaction.operations).succeeded

    # -- operators -----------------------------------------------------------------------------

    def ask(self, action: str, *nodes: str, **fields: object) -> Proposal:
        """What an operator's request comes to, begun; raises PlanRefused."""
        request = msgspec.convert({"nodes": list(nodes), **fields}, PlanRequest)
        view = self.view()
        proposal = propose(action, request, view)
        operation = f"op{self.keyspace.revision}"
        for key, value in target_chunks(PLACEMENT, operation, proposal.targets):
            self.put(key, value)
        change = operation_changes(KEYS, view, proposal, request, operation)
        assert self.transact(change.compares, change.operations).succeeded
        return proposal

    def tell(self, change: PlanChange) -> None:
        assert self.transact(change.compares, change.operations).succeeded

    # -- leaders -------------------------------------------------------------------------------

    def elect(self) -> None:
        """Another leader, who knows nothing but what the store says."""
        self.elections += 1
        revision = self.put(KEYS.leader, str(self.elections).encode())
        self.leadership = ModRevisionIs(KEYS.leader, revision)
        self.driver = PlacementDriver(KEYS)

    def lead(self) -> None:
        """The leader's turn; it may have an old view, and may die half-way."""
        self._views = [*self._views[-3:], self.view()]
        stale = self.random.random() < self.faults.stale_view
        view = self.random.choice(self._views) if stale else self._views[-1]
        late: list[Transaction] = []
        for transaction in self.driver.decide(view, self.leadership, self.now_s):
            if self.random.random() < self.faults.leader_dies:
                late = [transaction]
                self.elect()
                break
            if not self.transact(transaction.compares, transaction.operations).succeeded:
                break
        for transaction in late:  # Sent by the dead one, arriving under its successor.
            assert not self.transact(transaction.compares, transaction.operations).succeeded
        self.copying_max = max(self.copying_max, self.copying())
        self.plans_max = max(self.plans_max, len(self.view().plans))

    def copying(self) -> int:
        """How many plans have a copy that has not arrived."""
        view = self.view()
        return sum(
            1
            for shard, stored in view.plans.items()
            if stored.record.add is not None
            and view.cluster.configurations[shard].member(stored.record.add.node) is None
        )

    # -- primaries -----------------------------------------------------------------------------

    def carry_out(self) -> None:
        """Every primary's turn."""
        view = self.view()
        for shard, configuration in view.cluster.configurations.items():
            if configuration.primary not in view.cluster.nodes:
                continue
            if self.random.random() < self.faults.lags:
                continue
            stored = view.plans.get(shard)
            if stored is not None and self.random.random() < self.faults.refuses:
                self._report(shard, configuration, stored.revision, "refused", "its disk is full")
                continue
            step = next_step(configuration, stored.record if stored else None)
            match step:
                case ChangeConfiguration(step=Step.PROMOTE) if self._copied[shard] < COPY_TICKS:
                    self._copied[shard] += 1
                    assert stored is not None
                    self._report(shard, configuration, stored.revision, "copying", "")
                case ChangeConfiguration(step=Step.REMOVE) if (
                    self._waited[shard] < self.grace_ticks
                ):
                    self._waited[shard] += 1
                case ChangeConfiguration():
                    self._waited[shard] = 0
                    self._change(shard, configuration, step)
                case DropLearner(node=node):
                    learners = tuple(each for each in configuration.learners if each.node != node)
                    self._write_configuration(shard, configuration, learners=learners)
                case SplitShard():
                    self._split(shard, configuration)

    def _report(
        self,
        shard: ShardId,
        configuration: ShardConfiguration,
        plan: Revision,
        state: str,
        reason: str,
    ) -> None:
        done = SHARD_BYTES * self._copied[shard] // COPY_TICKS
        progress = msgspec.convert(
            {
                "plan": plan,
                "node": configuration.primary,
                "state": state,
                "bytes_done": done,
                "bytes_total": SHARD_BYTES,
                "reason": reason,
            },
            PlanProgress,
        )
        key = PLACEMENT.plan_progress(shard)
        current = ModRevisionIs(PLACEMENT.plan(shard), plan)
        self.transact([current], [Put(key, encode_record(progress))])

    def _change(
        self, shard: ShardId, configuration: ShardConfiguration, step: ChangeConfiguration
    ) -> None:
        match step.step:
            case Step.ADD_LEARNER:
                self._copied[shard] = 0
                learners = (*configuration.learners, Learner(step.node, step.incarnation))
                self._write_configuration(shard, configuration, learners=learners)
            case Step.PROMOTE:
                self.moves[step.node] += 1
                learners = tuple(each for each in configuration.learners if each.node != step.node)
                members = (*configuration.members, Member(step.node, step.incarnation))
                self._write_configuration(shard, configuration, learners=learners, members=members)
            case Step.HAND_OVER:
                self._write_configuration(shard, configuration, primary=step.node)
            case Step.REMOVE:
                members = tuple(each for each in configuration.members if each.node != step.node)
                replicas = self.view().cluster.pools[pool_of(shard)].replicas
                assert len(members) >= replicas, "a plan took a copy that was needed"
                self._write_configuration(shard, configuration, members=members)

    def _split(self, shard: ShardId, configuration: ShardConfiguration) -> None:
        low, high = split_configuration(configuration)
        upper = shard_id(pool_of(shard), number_of(shard) + (1 << configuration.depth))
        self.splits += 1
        entry = self.entry(KEYS.shard(shard))
        unchanged = ModRevisionIs(entry.key, entry.mod_revision)
        absent = ModRevisionIs(KEYS.shard(upper), Revision(0))
        puts = [
            Put(entry.key, encode_configuration(low)),
            Put(absent.key, encode_configuration(high)),
        ]
        assert self.transact([unchanged, absent], puts).succeeded

    def _write_configuration(
        self, shard: ShardId, configuration: ShardConfiguration, **changed: object
    ) -> None:
        after = msgspec.structs.replace(
            configuration, epoch=Epoch(configuration.epoch + 1), **changed
        )
        replicas = self.view().cluster.pools[pool_of(shard)].replicas
        nodes = [m.node for m in after.members] + [x.node for x in after.learners]
        assert len(set(nodes)) == len(nodes), "two replicas on one node"
        assert len(nodes) <= max(replicas + 1, len(configuration.members)), "two replicas at once"
        assert after.member(after.primary) is not None, "who leads is a member"
        assert full_members(after), "a shard without a complete copy"
        if len(after.members) >= replicas:
            assert len(self.zones_of(after)) >= self.zones_min, "a zone was given up on the way"
        self.configurations_changed += 1
        self.put(KEYS.shard(shard), encode_configuration(after))

    # -- time ----------------------------------------------------------------------------------

    def tick(self) -> None:
        self.now_s += 1.0
        self.lead()
        self.carry_out()

    def run(self, ticks_max: int = 2000) -> int:
        """Until nothing is left to do; gives the ticks that took."""
        for ticks in range(ticks_max):
            if self.is_settled():
                return ticks
            self.tick()
        raise AssertionError(f"not settled after {ticks_max} ticks: {self.driver.problems}")

    def is_settled(self) -> bool:
        view = self.view()
        pools = view.cluster.pools
        whole = all(
            len(configuration.members) == pools[pool_of(shard)].replicas
            and not configuration.learners
            for shard, configuration in view.cluster.configurations.items()
        )
        over = view.operation is None or view.operation.record.state != "running"
        return whole and over and not view.plans

    def held(self) -> Counter[int]:
        configurations = self.view().cluster.configurations.values()
        return Counter(
            int(member.node) for configuration in configurations for member in configuration.members
        )

    def led(self) -> Counter[int]:
        return Counter(
            int(configuration.primary)
            for configuration in self.view().cluster.configurations.values()
        )

    def zones_of(self, configuration: ShardConfiguration) -> set[str]:
        return {self.zones[member.node] or f"n{member.node}" for member in configuration.members}
