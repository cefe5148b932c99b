"""Which nodes hold which shard: a pure function of the old rows, the nodes and the replica count.

Its goals, in this order: the nodes of a row differ; they spread over zones; every node holds its
share (in proportion to its weight) rounded down or up; as few replicas as possible move; there are
few distinct replica sets. Primaries are balanced in a second pass, which moves no data.

It says what the rows should *become*. How to get there safely, one replica of a shard at a time,
is `move_plan.py`'s business. It knows nothing of liveness: the caller names the nodes to use.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from octad.sharding.assignment.layout import laid_out
from octad.sharding.assignment.primaries import primaries_first
from octad.sharding.assignment.quotas import fair_shares, rounded
from octad.sharding.assignment.rebalancing import rebalanced
from octad.sharding.ids import NodeId, node_name
from octad.sharding.limits import NODE_ID_MAX, NODE_WEIGHT_MAX, SHARD_DEPTH_MAX

# Partners per node. Wide enough for a fast repair, and far fewer sets than chance would make.
SCATTER_WIDTH_DEFAULT = 12

Rows = list[tuple[NodeId, ...]]


class ImpossibleAssignment(ValueError):
    """The request is impossible; the message says why."""


class TooFewNodes(ImpossibleAssignment):
    """There are fewer usable nodes than replicas."""


class TooFewZones(ImpossibleAssignment):
    """The nodes stand in fewer zones than the replicas must be spread over."""


class InvalidNode(ImpossibleAssignment):
    """A node's id or weight makes no sense, or two nodes have the same id."""


class InvalidPin(ImpossibleAssignment):
    """A shard is pinned to nodes that cannot hold it together."""


class InvalidRequest(ImpossibleAssignment):
    """The replica count, the depth or the old rows make no sense."""


@dataclass(frozen=True, slots=True)
class PlacementNode:
    """A node that shards can be placed on.

    A node without a zone is a failure domain of its own. A draining node keeps its replicas until
    they have moved, and receives none.
    """

    id: NodeId
    weight: float = 1.0
    zone: str = ""
    draining: bool = False


def first_assignment(
    nodes: Sequence[PlacementNode], replicas: int, depth: int, *, zones_min: int | None = None
) -> Rows:
    """The rows of an empty cluster, by shard number; a row's first node is the primary.

    Raises ImpossibleAssignment (a ValueError) with what is wrong.
    """
    return assign((), nodes, replicas, depth, zones_min=zones_min)


def assign(
    old: Sequence[Sequence[NodeId]],
    nodes: Sequence[PlacementNode],
    replicas: int,
    depth: int,
    *,
    pins: Mapping[int, Sequence[NodeId]] | None = None,
    zones_min: int | None = None,
    scatter_width: int = SCATTER_WIDTH_DEFAULT,
) -> Rows:
    """The rows that `old` should become, by shard number; a row's first node is the primary.

    `old` is empty, or has 2^d rows with d ≤ `depth`: shards that were split start where their
    origin is. A row may be short, or name nodes that are gone. `pins` names nodes that must hold a
    shard; `zones_min` the fewest zones a row may span (by default as many as there are replicas;
    more are used where there are more). Raises ImpossibleAssignment.
    """
    _check_request(old, nodes, replicas, depth, scatter_width)
    usable = sorted((node for node in nodes if not node.draining), key=lambda node: node.id)
    zones = _zone_numbers(usable)
    per_zone = _replicas_per_zone(usable, zones, replicas, zones_min)
    shards = 1 << depth
    index = {node.id: i for i, node in enumerate(usable)}
    pinned = _pinned(pins or {}, index, zones, shards, replicas, per_zone)
    weights = [Fraction(node.weight) for node in usable]
    shares = fair_shares(weights, zones, shards=shards, replicas=replicas, per_zone=per_zone)
    before, primaries = _old_rows(old, index, shards)
    ids = [node.id for node in usable]
    if not any(before):
        quotas = rounded(shares, zones, [0] * len(usable), range(len(usable)))
        before = laid_out(
            ids, zones, quotas, shards=shards, replicas=replicas, scatter_width=scatter_width
        )
    rows = rebalanced(
        before,
        primaries,
        zones,
        shares,
        pinned,
        replicas=replicas,
        per_zone=per_zone,
        scatter_width=scatter_width,
    )
    rows = primaries_first(rows, primaries, len(usable))
    return [tuple([ids[i] for i in row]) for row in rows]


def _check_request(
    old: Sequence[Sequence[NodeId]],
    nodes: Sequence[PlacementNode],
    replicas: int,
    depth: int,
    scatter_width: int,
) -> None:
    if replicas < 1:
        raise InvalidRequest(f"{replicas} replicas: at least 1 is needed")
    if not 0 <= depth <= SHARD_DEPTH_MAX:
        raise InvalidRequest(f"a depth of {depth}: it must lie between 0 and {SHARD_DEPTH_MAX}")
    if scatter_width < 1:
        raise InvalidRequest(f"a scatter width of {scatter_width}: at least 1 is needed")
    if old and (len(old) & (len(old) - 1) or len(old) > 1 << depth):
        raise InvalidRequest(
            f"{len(old)} old rows: expected none, or a power of two up to {1 << depth}"
        )
    if not nodes:
        raise TooFewNodes("there are no nodes to place shards on")
    seen: set[NodeId] = set()
    for node in nodes:
        _check_node(node)
        if node.id in seen:
            raise InvalidNode(f"two nodes have the id {node_name(node.id)}")
        seen.add(node.id)
    usable = sum(1 for node in nodes if not node.draining)
    if usable < replicas:
        draining = f", not counting {len(nodes) - usable} that drain" if usable < len(nodes) else ""
        raise TooFewNodes(
            f"{replicas} replicas need {replicas} nodes, there are {usable}{draining}"
        )


def _check_node(node: PlacementNode) -> None:
    if not 0 <= node.id <= NODE_ID_MAX:
        raise InvalidNode(f"node id {node.id}: it must lie between 0 and {NODE_ID_MAX}")
    if not (math.isfinite(node.weight) and 0 < node.weight <= NODE_WEIGHT_MAX):
        raise InvalidNode(
            f"{node_name(node.id)} weighs {node.weight}: a weight is above 0 and at most"
            f" {NODE_WEIGHT_MAX:.0f} (to empty a node, drain it)"
        )


def _zone_numbers(nodes: Sequence[PlacementNode]) -> list[int]:
    """The zone of each node, numbered by first appearance."""
    numbers: dict[tuple[str, int], int] = {}
    keys = [(node.zone, -1 if node.zone else node.id) for node in nodes]
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def _replicas_per_zone(
    nodes: Sequence[PlacementNode], zones: Sequence[int], replicas: int, zones_min: int | None
) -> int:
    """The most replicas of a shard that one zone may hold, so that enough zones are spanned."""
    needed = replicas if zones_min is None else zones_min
    if not 1 <= needed <= replicas:
        raise InvalidRequest(f"{needed} zones at least: expected between 1 and {replicas}")
    zone_count = max(zones) + 1
    if zone_count < needed:
        names = ", ".join(sorted({node.zone for node in nodes}))
        raise TooFewZones(
            f"{replicas} replicas must stand in {needed} zones, there are {zone_count} ({names}):"
            f" add nodes in another zone, or allow {zone_count}"
        )
    # With one replica in each of the other zones, the last may hold this many.
    return replicas - min(replicas, zone_count) + 1


def _pinned(
    pins: Mapping[int, Sequence[NodeId]],
    index: Mapping[NodeId, int],
    zones: Sequence[int],
    shards: int,
    replicas: int,
    per_zone: int,
) -> dict[int, list[int]]:
    pinned: dict[int, list[int]] = {}
    for shard, nodes in sorted(pins.items()):
        if not 0 <= shard < shards:
            raise InvalidPin(f"shard {shard} is pinned, there are {shards}")
        if len(set(nodes)) != len(nodes) or len(nodes) > replicas:
            raise InvalidPin(
                f"shard {shard} is pinned to {len(nodes)} nodes: at most {replicas}, distinct"
            )
        for node in nodes:
            if node not in index:
                raise InvalidPin(
                    f"shard {shard} is pinned to {node_name(node)}, which is gone or drains"
                )
        members = [index[node] for node in nodes]
        crowded = max(Counter(zones[i] for i in members).values(), default=0)
        if crowded > per_zone:
            raise InvalidPin(
                f"shard {shard} is pinned to {crowded} nodes of one zone: at most {per_zone}"
            )
        pinned[shard] = members
    return pinned


def _old_rows(
    old: Sequence[Sequence[NodeId]], index: Mapping[NodeId, int], shards: int
) -> tuple[list[list[int]], list[int]]:
    """The remaining old rows, split in place, and their primaries (-1 where gone)."""
    rows = [[index[node] for node in dict.fromkeys(row) if node in index] for row in old]
    primaries = [index.get(row[0], -1) if row else -1 for row in old]
    if not rows:
        return [[] for _ in range(shards)], [-1] * shards
    copies = shards // len(rows)
    return [list(row) for _ in range(copies) for row in rows], primaries * copies
