"""The leader's writes about placement: plans for shards, one replica of a shard at a time.

It compares what is (configurations) with what is wanted (the operation's targets, and full strength
everywhere) and lets a few shards at a time take their next step. Everything that must outlive a
leader is in the store; in memory are only pauses before something is tried again. So a leader may
die between any two transactions and the next one goes on.

It never touches a configuration: the shard's primary does, step by step (`plan_steps.py`). Every
transaction compares the leader's fencing token, and those for an operation compare that it is still
wanted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from octad.coordinator.placement.first_map import Transaction
from octad.coordinator.placement.placement_goals import (
    Blocked,
    depth_wish,
    move_wish,
    reached,
    repair_wish,
    surplus_wish,
)
from octad.coordinator.placement.placement_view import PlacementView, Stored, is_live
from octad.coordinator.placement.plan_steps import Finished, Refuse, next_step
from octad.coordinator.placement.spares import loads
from octad.coordinator.schema.placement_records import (
    MOVES_MAX_DEFAULT,
    MOVES_PER_NODE_MAX_DEFAULT,
    PlacementKeys,
    PlacementOperation,
    ShardPlan,
    encode_record,
)
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.interface import Compare, Delete, ModRevisionIs, Put, Revision
from octad.coordinator.store.interface import StoreOperation as Change
from octad.sharding.ids import NodeId, PoolId, ShardId, node_name, pool_of, shard_id, shard_name
from octad.sharding.limits import STORE_TRANSACTION_OPERATIONS_MAX
from octad.sharding.map.shard_map import ShardConfiguration

RETRY_S = 30.0  # Pause after a refusal, before the same goal is tried again.
REPAIR_AFTER_S = 10.0  # A primary recruits by itself within seconds; a plan is for when it cannot.
GARBAGE_S = 60.0
PLANS_PER_WORK = 4  # Ratio of plans under way (waiting for leases included) to those at work.
STALL_S = 600.0  # A plan without any progress for so long makes room for another one.
_PLANS_PER_TRANSACTION = STORE_TRANSACTION_OPERATIONS_MAX // 3


@dataclass(frozen=True, slots=True)
class _Sign:
    """The last observed progress of a plan, and since when."""

    plan: Revision
    progress: Revision
    epoch: int
    since_s: float


class PlacementDriver:
    """`decide` again whenever something changed, and every few seconds."""

    def __init__(self, keys: StoreKeys) -> None:
        self.problems: list[str] = []  # Why what is wanted does not go on, for people.
        self._store_keys = keys
        self._keys = PlacementKeys(keys)
        self._not_before: dict[tuple[ShardId, NodeId | None], float] = {}
        self._signs: dict[ShardId, _Sign] = {}
        self._garbage_since_s: dict[str, float] = {}
        self._short_since_s: dict[ShardId, float] = {}  # With fewer members than copies.
        self._reasons: Counter[str] = Counter()

    def decide(
        self, view: PlacementView, leadership: ModRevisionIs, now_s: float
    ) -> list[Transaction]:
        """Returns the next transactions, in order; a refused one makes the rest obsolete."""
        if not view.is_whole:
            return []
        self._not_before = {k: at for k, at in self._not_before.items() if at > now_s}
        self._reasons = Counter()
        plans = [*self._new_plans(view, now_s)]
        transactions = [
            *self._withdrawals(view, leadership, now_s),
            *self._end_of_operation(view, leadership),
            *self._orders(view, leadership, plans),
            *self._obsolete_targets(view, leadership, now_s),
        ]
        self.problems = [
            reason if count == 1 else f"{reason} (and {count - 1} more like it)"
            for reason, count in sorted(self._reasons.items())
        ]
        return transactions

    # -- plans that are over -------------------------------------------------------------------

    def _withdrawals(
        self, view: PlacementView, leadership: ModRevisionIs, now_s: float
    ) -> Iterator[Transaction]:
        over = [shard for shard in view.plans if self._is_over(view, shard, now_s)]
        self._signs = {s: sign for s, sign in self._signs.items() if s in view.plans}
        for start in range(0, len(over), _PLANS_PER_TRANSACTION):
            batch = over[start : start + _PLANS_PER_TRANSACTION]
            compares: list[Compare] = [leadership]
            changes: list[Change] = []
            for shard in batch:
                key = self._keys.plan(shard)
                compares.append(ModRevisionIs(key, view.plans[shard].revision))
                changes += [Delete(key), Delete(self._keys.plan_progress(shard))]
            yield Transaction(compares, changes)

    def _is_over(self, view: PlacementView, shard: ShardId, now_s: float) -> bool:
        """Whether the plan is done, hopeless, or not wanted any more."""
        plan, configuration = view.plans[shard].record, view.cluster.configurations.get(shard)
        if configuration is None:
            return True
        step = next_step(configuration, plan)
        if isinstance(step, Finished):
            return True
        if (
            isinstance(step, Refuse)
            or self._was_refused(view, shard)
            or self._stalls(view, shard, configuration, now_s)
        ):
            self._not_before[shard, plan.add.node if plan.add else None] = now_s + RETRY_S
            return True
        return not self._is_wanted(view, shard, configuration, plan)

    def _was_refused(self, view: PlacementView, shard: ShardId) -> bool:
        stored = view.progress.get(shard)
        if stored is None or stored.record.plan != view.plans[shard].revision:
            return False
        progress = stored.record
        if progress.state == "refused":
            who = node_name(progress.node)
            self._reasons[f"shard {shard_name(shard)}: {who} refuses: {progress.reason}"] += 1
        return progress.state == "refused"

    def _stalls(
        self, view: PlacementView, shard: ShardId, configuration: ShardConfiguration, now_s: float
    ) -> bool:
        progress = view.progress.get(shard)
        seen = (view.plans[shard].revision, progress.revision if progress else Revision(0))
        sign = self._signs.get(shard)
        if sign is None or (sign.plan, sign.progress, sign.epoch) != (*seen, configuration.epoch):
            self._signs[shard] = _Sign(*seen, configuration.epoch, now_s)
            return False
        return now_s - sign.since_s >= STALL_S

    def _is_wanted(
        self,
        view: PlacementView,
        shard: ShardId,
        configuration: ShardConfiguration,
        plan: ShardPlan,
    ) -> bool:
        arrived = plan.add is not None and configuration.member(plan.add.node) is not None
        if plan.add is not None and not arrived:
            alive = is_live(view, plan.add.node, plan.add.incarnation)
            if not alive or view.settings_of(plan.add.node).removed:
                return False
        if plan.reason == "repair":
            return plan.add is None or arrived or len(configuration.members) < plan.replicas
        operation = view.operation.record if view.operation else None
        if operation is None or operation.state != "running":
            return arrived  # Do not discard data that has been copied.
        if plan.reason == "split":
            return bool(operation.depths)
        target = view.target_of(shard)
        if target is None:
            return False
        comes = plan.add is None or plan.add.node in target
        goes = plan.remove is None or plan.remove.node not in target
        leads = plan.reason != "primary" or plan.primary == target[0]
        return comes and goes and leads

    # -- plans to begin ------------------------------------------------------------------------

    def _new_plans(self, view: PlacementView, now_s: float) -> Iterator[tuple[ShardId, ShardPlan]]:
        """Repairs first, the most degraded shards before others; then the operation's goals."""
        operation = view.operation.record if view.operation else None
        room = _Room(view, operation)
        for shard, plan in self._repairs(view, now_s):
            if room.take(shard, plan):
                yield shard, plan
        if operation is None or operation.state != "running":
            return
        for shard, configuration in sorted(view.cluster.configurations.items()):
            if shard in view.plans or not self._needs_work(view, operation, shard, configuration):
                continue
            if room.is_full:
                return
            wish = self._wish(view, operation, shard, configuration)
            if isinstance(wish, Blocked):
                self._note_blocked(wish)
            elif wish is not None and self._may_try(shard, wish) and room.take(shard, wish):
                yield shard, wish

    def _note_blocked(self, wish: Blocked) -> None:
        self._reasons[f"shards wait: {wish.reason}"] += 1

    def _needs_work(
        self,
        view: PlacementView,
        operation: PlacementOperation,
        shard: ShardId,
        configuration: ShardConfiguration,
    ) -> bool:
        depth = operation.depths.get(str(pool_of(shard)))
        if depth is not None and configuration.depth < depth:
            return True
        target = view.target_of(shard)
        return target is not None and not reached(configuration, target)

    def _wish(
        self,
        view: PlacementView,
        operation: PlacementOperation,
        shard: ShardId,
        configuration: ShardConfiguration,
    ) -> ShardPlan | Blocked | None:
        pool = view.cluster.pools.get(pool_of(shard))
        if pool is None or len(configuration.members) != pool.replicas:
            return None  # Repaired first.
        depth = operation.depths.get(str(pool.id))
        if depth is not None:
            return depth_wish(view, configuration, pool.replicas, depth)
        target = view.target_of(shard)
        return move_wish(view, configuration, target, pool.replicas) if target is not None else None

    def _may_try(self, shard: ShardId, plan: ShardPlan) -> bool:
        return (shard, plan.add.node if plan.add else None) not in self._not_before

    def _stays_short(self, view: PlacementView, now_s: float) -> set[ShardId]:
        """Configurations that their primaries have had time to fill up, and did not."""
        pools, known = view.cluster.pools, self._short_since_s
        self._short_since_s = {
            shard: known.get(shard, now_s)
            for shard, configuration in view.cluster.configurations.items()
            if (pool := pools.get(pool_of(shard))) is not None
            and len(configuration.members) < pool.replicas
        }
        return {s for s, at in self._short_since_s.items() if now_s - at >= REPAIR_AFTER_S}

    def _repairs(self, view: PlacementView, now_s: float) -> list[tuple[ShardId, ShardPlan]]:
        stays_short = self._stays_short(view, now_s)
        wishes: list[tuple[int, ShardId, ShardPlan]] = []
        held: Counter[NodeId] | None = None
        for shard, configuration in view.cluster.configurations.items():
            pool = view.cluster.pools.get(pool_of(shard))
            if pool is None or shard in view.plans or len(configuration.members) == pool.replicas:
                continue
            if len(configuration.members) < pool.replicas and shard not in stays_short:
                continue
            held = loads(view) if held is None else held
            if len(configuration.members) > pool.replicas:
                wish = surplus_wish(view, shard, configuration, pool.replicas, held)
            else:
                refused = {
                    node for at, node in self._not_before if at == shard and node is not None
                }
                wish = repair_wish(view, shard, configuration, pool.replicas, held, refused)
            if isinstance(wish, Blocked):
                self._note_blocked(wish)
            elif wish is not None and self._may_try(shard, wish):
                alive = sum(
                    1 for m in configuration.members if is_live(view, m.node, m.incarnation)
                )
                wishes.append((alive, shard, wish))
                if wish.add is not None:
                    held[wish.add.node] += 1
        wishes.sort(key=lambda wish: wish[:2])
        return [(shard, plan) for _, shard, plan in wishes]

    def _orders(
        self,
        view: PlacementView,
        leadership: ModRevisionIs,
        plans: Sequence[tuple[ShardId, ShardPlan]],
    ) -> Iterator[Transaction]:
        wanted = self._operation_stands(view)
        for start in range(0, len(plans), _PLANS_PER_TRANSACTION):
            batch = plans[start : start + _PLANS_PER_TRANSACTION]
            absent = [ModRevisionIs(self._keys.plan(shard), Revision(0)) for shard, _ in batch]
            puts = [Put(self._keys.plan(shard), encode_record(plan)) for shard, plan in batch]
            yield Transaction([leadership, wanted, *absent], puts)

    def _operation_stands(self, view: PlacementView) -> ModRevisionIs:
        stored = view.operation
        return ModRevisionIs(self._keys.operation, stored.revision if stored else Revision(0))

    # -- the operation's end -------------------------------------------------------------------

    def _end_of_operation(
        self, view: PlacementView, leadership: ModRevisionIs
    ) -> Iterator[Transaction]:
        stored = view.operation
        if stored is None or stored.record.state != "running" or not _is_complete(view, stored):
            return
        compares: list[Compare] = [leadership, self._operation_stands(view)]
        ended = msgspec.structs.replace(stored.record, state="done")
        changes: list[Change] = [Put(self._keys.operation, encode_record(ended, stored.value))]
        for number, depth in stored.record.depths.items():
            pool = view.pools[PoolId(int(number))]
            key = self._store_keys.pool(pool.record.id)
            deeper = msgspec.structs.replace(pool.record, depth=depth)
            compares.append(ModRevisionIs(key, pool.revision))
            changes.append(Put(key, encode_record(deeper, pool.value)))
        yield Transaction(compares, changes)

    def _obsolete_targets(
        self, view: PlacementView, leadership: ModRevisionIs, now_s: float
    ) -> Iterator[Transaction]:
        """Deletes targets of operations that were replaced, or never begun.

        Those of one that is just being written look the same, hence the grace period.
        """
        since = {key: self._garbage_since_s.get(key, now_s) for key in view.other_targets}
        self._garbage_since_s = since
        keys = [key for key, at in since.items() if now_s - at >= GARBAGE_S]
        keys = keys[: STORE_TRANSACTION_OPERATIONS_MAX - 1]
        if keys:
            compares = [leadership, self._operation_stands(view)]
            yield Transaction(compares, [Delete(key) for key in keys])


class _Room:
    """How many more plans may be under way: in the whole cluster, and copies at each node.

    A move whose copy has arrived waits for old leases to end, and costs next to nothing: it does
    not hold up the next copy. How many may wait is bounded, to spare the store. Hand-overs
    and splits stop a shard's writes for a moment, and many splits at once delay listings.
    """

    def __init__(self, view: PlacementView, operation: PlacementOperation | None) -> None:
        self._view = view
        self._work_max = operation.moves_max if operation else MOVES_MAX_DEFAULT
        self._per_node = operation.moves_per_node_max if operation else MOVES_PER_NODE_MAX_DEFAULT
        self._copies: Counter[NodeId] = Counter()
        self._repairing = self._working = self._waiting = 0
        for shard, stored in view.plans.items():
            self._count(stored.record, self._busy(shard, stored.record))

    @property
    def is_full(self) -> bool:
        """Whether nothing but repairs has room."""
        in_all = self._working + self._waiting
        at_work = self._repairing + self._working
        return at_work >= self._work_max or in_all >= PLANS_PER_WORK * self._work_max

    def take(self, shard: ShardId, plan: ShardPlan) -> bool:
        """Count `plan` if there is room for it; a repair does not wait for moves to end."""
        busy = self._busy(shard, plan)
        full = self._repairing >= self._work_max if plan.reason == "repair" else self.is_full
        if full or any(self._copies[node] >= self._per_node for node in busy):
            return False
        self._count(plan, busy)
        return True

    def _count(self, plan: ShardPlan, busy: list[NodeId]) -> None:
        self._copies.update(busy)
        if plan.reason == "repair":
            self._repairing += 1
        elif plan.reason == "move" and not busy:
            self._waiting += 1
        else:
            self._working += 1

    def _busy(self, shard: ShardId, plan: ShardPlan) -> list[NodeId]:
        """The nodes that send and receive a copy; empty if there is none, or it has arrived."""
        configuration = self._view.cluster.configurations.get(shard)
        if (
            plan.add is None
            or configuration is None
            or configuration.member(plan.add.node) is not None
        ):
            return []
        return [plan.add.node, configuration.primary]


def _is_complete(view: PlacementView, stored: Stored[PlacementOperation]) -> bool:
    """Whether every shard is where, and split as, the operation wants it."""
    configurations = view.cluster.configurations
    for number, depth in stored.record.depths.items():
        for index in range(1 << depth):
            configuration = configurations.get(shard_id(PoolId(int(number)), index))
            if configuration is None or configuration.depth < depth:
                return False
    for shard in view.targets:
        target, configuration = view.target_of(shard), configurations.get(shard)
        if target is None or configuration is None or not reached(configuration, target):
            return False
    return True
