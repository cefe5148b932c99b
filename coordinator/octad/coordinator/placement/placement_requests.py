"""Whether an operator's request about placement makes sense; every refusal names the way out."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable

import msgspec

from octad.client.cli.format_units import shown_copies
from octad.coordinator.placement.placement_view import PlacementView, is_live, shards_of
from octad.coordinator.placement.plan_steps import full_members
from octad.coordinator.schema.placement_messages import PlanRequest
from octad.coordinator.schema.placement_records import NodeSettings
from octad.coordinator.schema.records import PoolRecord
from octad.sharding.ids import NodeId, PoolId, ShardId, node_name, parse_node_name, shard_name
from octad.sharding.limits import (
    NODE_WEIGHT_MAX,
    REPLICAS_ALLOWED,
    SHARD_DEPTH_DEFAULT,
    SHARD_DEPTH_MAX,
)
from octad.sharding.map.shard_map import ShardConfiguration

SHARD_DEPTH_MIN = 0

_ZONE = re.compile(r"[A-Za-z0-9._-]{0,64}")
POOL_ID_MAX = 255
MOVES_LIMIT = 1024

_USES = {
    "add": {"nodes", "zone", "weight"},
    "drain": {"nodes", "zone", "fewer_zones"},
    "remove": {"nodes"},
    "rebalance": {"fewer_zones"},
    "split": {"pool"},
    "create-pool": {"replicas", "depth"},
}
_OF_ALL = {"dry_run", "moves_max", "moves_per_node_max"}


class PlanRefused(Exception):
    """`reason` says why, `way_out` what to do about it."""

    def __init__(self, code: str, reason: str, way_out: str) -> None:
        super().__init__(f"{reason}; {way_out}")
        self.code = code
        self.reason = reason
        self.way_out = way_out


def check_fields(action: str, request: PlanRequest) -> None:
    """A field that the action has no use for was meant for something else."""
    given = {
        name
        for name, default in zip(
            request.__struct_fields__, request.__struct_defaults__, strict=True
        )
        if getattr(request, name) != default
    }
    useless = given - _USES.get(action, set()) - _OF_ALL
    if useless:
        raise PlanRefused(
            "bad-request", f"{action} has no use for {', '.join(sorted(useless))}", "leave it out"
        )
    for name in ("moves_max", "moves_per_node_max"):
        value = getattr(request, name)
        if value is not None and not 1 <= value <= MOVES_LIMIT:
            raise PlanRefused("bad-request", f"{name} {value}", f"choose from 1 to {MOVES_LIMIT}")


def checked_nodes(names: Iterable[str], view: PlacementView) -> list[NodeId]:
    """The nodes of these names: each known, none twice."""
    nodes: list[NodeId] = []
    for name in names:
        try:
            node = parse_node_name(name)
        except ValueError as error:
            raise PlanRefused("bad-node", str(error), "octad node ls names them") from error
        if node in nodes:
            raise PlanRefused("duplicate", f"{name} is named twice", "name each node once")
        if node not in view.cluster.identities:
            raise PlanRefused(
                "no-such-node", f"no node {name} ever joined", "octad node ls names those that did"
            )
        if view.settings_of(node).removed:
            raise PlanRefused(
                "removed",
                f"{name} was removed",
                "to use its disk again, empty it and start it without an id",
            )
        nodes.append(node)
    return nodes


def checked_addition(
    request: PlanRequest, view: PlacementView
) -> tuple[dict[NodeId, NodeSettings], tuple[str, ...]]:
    """Returns the new settings of nodes that shall hold data, and warnings about them."""
    nodes = checked_nodes(request.nodes, view)
    if not nodes:
        raise PlanRefused("bad-request", "no node is named", "octad node add n4")
    weight, zone = request.weight, request.zone
    if weight is not None and not (math.isfinite(weight) and 0 < weight <= NODE_WEIGHT_MAX):
        raise PlanRefused(
            "bad-weight",
            f"a weight of {weight}",
            f"choose one above 0 and at most {NODE_WEIGHT_MAX:.0f} (to empty a node, drain it)",
        )
    if zone is not None and not _ZONE.fullmatch(zone):
        raise PlanRefused(
            "bad-zone", f"zone {zone[:80]!r}", "use up to 64 letters, digits, dots, dashes, _"
        )
    settings = {}
    for node in nodes:
        if node not in view.cluster.nodes:
            raise PlanRefused(
                "not-live", f"{node_name(node)} is not live", "start it first: octad node --data …"
            )
        before = view.settings_of(node)
        settings[node] = msgspec.structs.replace(
            before,
            draining=False,
            weight=before.weight if weight is None else weight,
            zone=before.zone if zone is None else zone,
        )
    return settings, _odd_zone(zone, view, nodes)


def _odd_zone(zone: str | None, view: PlacementView, nodes: list[NodeId]) -> tuple[str, ...]:
    others = {view.zone_of(node) for node in view.cluster.nodes if node not in nodes}
    if not zone or zone in others:
        return ()
    close = difflib.get_close_matches(zone, sorted(z for z in others if z), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return (f"zone {zone} is new: no other node is in it{hint}",)


def checked_drain(
    request: PlanRequest, view: PlacementView
) -> tuple[dict[NodeId, NodeSettings], tuple[str, ...]]:
    """The new settings of nodes that shall be emptied."""
    if (request.zone is None) == (not request.nodes):
        raise PlanRefused(
            "bad-request", "name nodes or a zone, one of the two", "octad node drain n2"
        )
    nodes = checked_nodes(request.nodes, view)
    if request.zone is not None:
        nodes = _nodes_in(request.zone, view)
    _check_only_copies(nodes, view)
    return {
        node: msgspec.structs.replace(view.settings_of(node), draining=True) for node in nodes
    }, ()


def _nodes_in(zone: str, view: PlacementView) -> list[NodeId]:
    by_zone: dict[str, list[NodeId]] = {}
    for node in sorted(view.cluster.nodes):
        by_zone.setdefault(view.zone_of(node) or "", []).append(node)
    by_zone.pop("", None)  # Nodes without a zone are not in one together.
    if zone in by_zone:
        return by_zone[zone]
    zones = ", ".join(sorted(by_zone)) or "there are none"
    close = difflib.get_close_matches(zone, by_zone, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise PlanRefused("no-such-zone", f"no node is in zone {zone!r}", f"{hint}zones: {zones}")


def _check_only_copies(nodes: list[NodeId], view: PlacementView) -> None:
    """Refuses where an absent node has the only copy."""
    lost: list[ShardId] = []
    for shard, configuration in sorted(view.cluster.configurations.items()):
        holders = full_members(configuration)
        live = [m for m in holders if is_live(view, m.node, m.incarnation)]
        if not live and any(m.node in nodes for m in holders):
            lost.append(shard)
    if lost:
        names = " ".join(node_name(node) for node in nodes)
        raise PlanRefused(
            "last-copy",
            f"{names} holds the only copy of shard {_some(lost)} and is not live",
            "start it; its data cannot be had from anywhere else",
        )


def checked_removal(request: PlanRequest, view: PlacementView) -> dict[NodeId, NodeSettings]:
    """The new settings of nodes that are forgotten: empty, and stopped."""
    nodes = checked_nodes(request.nodes, view)
    if not nodes:
        raise PlanRefused("bad-request", "no node is named", "octad node remove n2")
    for node in nodes:
        name = node_name(node)
        held = [
            shard
            for shard, configuration in view.cluster.configurations.items()
            if node in _named_in(configuration)
        ]
        if held:
            raise PlanRefused(
                "holds-data",
                f"{name} holds shard {_some(sorted(held))}",
                f"drain it and wait: octad node drain {name}"
                if node in view.cluster.nodes
                else f"it is away: start it, or wait until other nodes have its copies "
                f"(octad status), or drain it: octad node drain {name}",
            )
        if _under_way(view) and any(node in (view.target_of(s) or ()) for s in view.targets):
            raise PlanRefused(
                "awaited",
                f"{name} is to get data",
                f"plan without it first: octad node drain {name}",
            )
        if node in view.cluster.nodes:
            raise PlanRefused("live", f"{name} still runs", f"stop {name}, then remove it")
    return {
        node: msgspec.structs.replace(view.settings_of(node), draining=True, removed=True)
        for node in nodes
    }


def _named_in(configuration: ShardConfiguration) -> set[NodeId]:
    """Every node that the configuration names in any role."""
    former = {each.node for each in configuration.last_full}
    return (
        former
        | {each.node for each in configuration.members}
        | {each.node for each in configuration.learners}
    )


def _under_way(view: PlacementView) -> bool:
    return view.operation is not None and view.operation.record.state != "done"


def checked_split(request: PlanRequest, view: PlacementView) -> PoolRecord:
    """The pool to split."""
    pool = _pool(request.pool, view)
    if pool.depth >= SHARD_DEPTH_MAX:
        raise PlanRefused(
            "too-deep", f"pool {pool.id} has {1 << pool.depth} shards", "that is the most there are"
        )
    if len(shards_of(pool, view.cluster.configurations)) < 1 << pool.depth:
        raise PlanRefused(
            "forming", f"pool {pool.id} has no shard map yet", "wait until it has nodes enough"
        )
    return pool


def _pool(number: int | None, view: PlacementView) -> PoolRecord:
    pools = view.cluster.pools
    known = ", ".join(str(pool) for pool in sorted(pools))
    if number is None and len(pools) == 1:
        return next(iter(pools.values()))
    if number is None:
        raise PlanRefused("bad-request", f"there are pools {known}", "say which with --pool")
    if PoolId(number) not in pools:
        raise PlanRefused("no-such-pool", f"there is no pool {number}", f"choose from {known}")
    return pools[PoolId(number)]


def checked_new_pool(request: PlanRequest, view: PlacementView) -> PoolRecord:
    """The record of a pool to make."""
    if request.replicas not in REPLICAS_ALLOWED:
        raise PlanRefused(
            "bad-request",
            f"a pool of {request.replicas} copies",
            f"choose from {', '.join(map(str, REPLICAS_ALLOWED))}",
        )
    depth = SHARD_DEPTH_DEFAULT if request.depth is None else request.depth
    if not SHARD_DEPTH_MIN <= depth <= SHARD_DEPTH_MAX:
        raise PlanRefused(
            "bad-request", f"a depth of {depth}", f"choose {SHARD_DEPTH_MIN} to {SHARD_DEPTH_MAX}"
        )
    usable = len(view.usable_nodes())
    if usable < request.replicas:
        raise PlanRefused(
            "does-not-fit",
            f"{usable} nodes can take data, a pool of {shown_copies(request.replicas)} needs"
            f" {request.replicas}",
            "add nodes first",
        )
    number = max(view.cluster.pools, default=-1) + 1
    if number > POOL_ID_MAX:
        raise PlanRefused("too-many-pools", f"there are {number} pools", "use one of them")
    return PoolRecord(PoolId(number), request.replicas, depth)


def _some(shards: list[ShardId]) -> str:
    more = f" and {len(shards) - 1} more" if len(shards) > 1 else ""
    return f"{shard_name(shards[0])}{more}"
