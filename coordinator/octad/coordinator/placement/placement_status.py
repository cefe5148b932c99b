"""The progress of placement, for operators: what is left, without false certainty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from octad.coordinator.placement.placement_view import PlacementView, is_split_half_way, shards_of
from octad.coordinator.schema.placement_messages import (
    PlacedNode,
    PlacedNodes,
    PlacedPool,
    PlacedPools,
    PlanStatus,
    PlanUnderWay,
)
from octad.coordinator.schema.placement_records import ShardPlan
from octad.sharding.ids import NodeId, ShardId, node_name, pool_of, shard_name
from octad.sharding.map.pool_names import pool_names


def plan_status(view: PlacementView, problems: Sequence[str]) -> PlanStatus:
    """The answer of `GET /cluster/v1/plan`."""
    stored = view.operation
    operation = stored.record if stored else None
    moves_left, bytes_left, primaries_left = _left(view)
    return PlanStatus(
        operation=operation.id if operation else None,
        what=operation.what if operation else None,
        state=_state(view),
        moves=operation.moves if operation else 0,
        moves_left=moves_left,
        bytes_left=bytes_left,
        splits_left=_splits_left(view),
        primaries_left=primaries_left,
        repairs_left=_repairs_left(view),
        under_way=tuple(
            _under_way(view, shard, view.plans[shard].record) for shard in sorted(view.plans)
        ),
        problems=tuple(problems),
    )


def _state(view: PlacementView) -> str:
    if view.operation is None:
        return "idle"
    operation = view.operation.record
    if operation.backwards and operation.state != "stopped":
        return "reverted" if operation.state == "done" else "reverting"
    return operation.state


def _left(view: PlacementView) -> tuple[int, int | None, int]:
    """Copies still to travel, their bytes (None: not known), and hand-overs."""
    if view.operation is None or view.operation.record.state == "done":
        return 0, 0, 0
    sizes = view.shard_bytes()
    copies = primaries = bytes_ = 0
    known = True
    for shard in view.targets:
        configuration, target = view.cluster.configurations.get(shard), view.target_of(shard)
        if configuration is None or target is None:
            continue
        joining = sum(1 for node in target if configuration.member(node) is None)
        copies += joining
        primaries += configuration.primary != target[0]
        if joining:
            known = known and shard in sizes
            bytes_ += max(0, sizes.get(shard, 0) * joining - _copied(view, shard))
    return copies, bytes_ if known else None, primaries


def _copied(view: PlacementView, shard: ShardId) -> int:
    """Bytes that the copy under way has transferred."""
    plan, progress = view.plans.get(shard), view.progress.get(shard)
    configuration = view.cluster.configurations[shard]
    if plan is None or progress is None or progress.record.plan != plan.revision:
        return 0
    add = plan.record.add
    return progress.record.bytes_done if add and configuration.member(add.node) is None else 0


def _splits_left(view: PlacementView) -> int:
    depths = view.operation.record.depths if view.operation else {}
    return sum(
        1
        for shard, configuration in view.cluster.configurations.items()
        if configuration.depth < depths.get(str(pool_of(shard)), 0)
    )


def _repairs_left(view: PlacementView) -> int:
    pools = view.cluster.pools
    return sum(
        max(0, pools[pool_of(shard)].replicas - len(configuration.members))
        for shard, configuration in view.cluster.configurations.items()
        if pool_of(shard) in pools
    )


def _under_way(view: PlacementView, shard: ShardId, plan: ShardPlan) -> PlanUnderWay:
    stored = view.progress.get(shard)
    progress = stored.record if stored else None
    if progress is not None and progress.plan != view.plans[shard].revision:
        progress = None
    return PlanUnderWay(
        shard=shard_name(shard),
        reason=plan.reason,
        add=node_name(plan.add.node) if plan.add else None,
        remove=node_name(plan.remove.node) if plan.remove else None,
        primary=node_name(plan.primary) if plan.primary is not None else None,
        state=progress.state if progress else "ordered",
        bytes_done=progress.bytes_done if progress else None,
        bytes_total=progress.bytes_total if progress else None,
        detail=progress.reason if progress else "",
    )


def placed_nodes(view: PlacementView) -> PlacedNodes:
    """Every node that joined, by what it holds."""
    held: Counter[NodeId] = Counter()
    led: Counter[NodeId] = Counter()
    for configuration in view.cluster.configurations.values():
        held.update(member.node for member in configuration.members)
        led[configuration.primary] += 1
    nodes = []
    for node in sorted(view.cluster.identities):
        record, settings, usage = (
            view.cluster.nodes.get(node),
            view.settings_of(node),
            view.usage.get(node),
        )
        weight = record.weight if record and settings.weight is None else settings.weight
        nodes.append(
            PlacedNode(
                name=node_name(node),
                state=_node_state(view, node, held[node]),
                zone=view.zone_of(node),
                weight=weight,
                replicas=held[node],
                primary_of=led[node],
                used_bytes=sum(usage.shards.values()) if usage else None,
                free_bytes=usage.free_bytes if usage else None,
            )
        )
    return PlacedNodes(tuple(nodes))


def _node_state(view: PlacementView, node: NodeId, held: int) -> str:
    settings = view.settings_of(node)
    if settings.removed:
        return "removed"
    if settings.draining:
        return "draining" if held else "drained"
    return "live" if node in view.cluster.nodes else "down"


def placed_pools(view: PlacementView) -> PlacedPools:
    """Every pool."""
    names = pool_names(view.cluster.pools.values())
    sizes = view.shard_bytes()
    pools = []
    for pool in sorted(view.cluster.pools.values(), key=lambda pool: pool.id):
        shards = shards_of(pool, view.cluster.configurations)
        known = bool(shards) and all(shard in sizes for shard in shards)
        pools.append(
            PlacedPool(
                id=pool.id,
                name=names[pool.id],
                replicas=pool.replicas,
                depth=pool.depth,
                shards=len(shards),
                splitting=is_split_half_way(pool, view.cluster.configurations),
                bytes=sum(sizes[shard] for shard in shards) if known else None,
            )
        )
    return PlacedPools(tuple(pools))
