"""The assignment keeps its promises, in their order, for any cluster and any change of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.sharding.exact_assignment import fewest_moves

from octad.sharding.assignment.assignment import (
    ImpossibleAssignment,
    InvalidNode,
    InvalidPin,
    InvalidRequest,
    PlacementNode,
    Rows,
    TooFewNodes,
    TooFewZones,
    assign,
    first_assignment,
)
from octad.sharding.assignment.quotas import fair_shares
from octad.sharding.ids import NodeId

WEIGHTS = st.sampled_from([1.0, 1.0, 1.0, 2.0, 0.5, 3.7, 40.0])


def cluster(count: int, zones: int = 0) -> list[PlacementNode]:
    """Equal nodes, numbered from 1, in so many zones (or each its own)."""
    return [
        PlacementNode(NodeId(i), zone=f"z{i % zones}" if zones else "") for i in range(1, count + 1)
    ]


@st.composite
def clusters(draw: st.DrawFn, ids: Sequence[int] = range(1, 15)) -> list[PlacementNode]:
    chosen = draw(st.lists(st.sampled_from(ids), min_size=3, max_size=12, unique=True))
    zones = draw(st.sampled_from([[""], ["a", "b", "c"], ["a", "b"], ["a", "b", "c", "d", ""]]))
    return [
        PlacementNode(NodeId(i), draw(WEIGHTS), draw(st.sampled_from(zones)), draining=False)
        for i in chosen
    ]


def zone_numbers(nodes: Sequence[PlacementNode]) -> list[int]:
    keys = [node.zone or f"own {node.id}" for node in nodes]
    return [sorted(set(keys)).index(key) for key in keys]


def per_zone(nodes: Sequence[PlacementNode], replicas: int) -> int:
    return replicas - min(replicas, len(set(zone_numbers(nodes)))) + 1


def shares_of(nodes: Sequence[PlacementNode], replicas: int, depth: int) -> list[Fraction]:
    return fair_shares(
        [Fraction(node.weight) for node in nodes],
        zone_numbers(nodes),
        shards=1 << depth,
        replicas=replicas,
        per_zone=per_zone(nodes, replicas),
    )


def moved(old: Rows, new: Rows) -> int:
    """Replicas that must be copied; old shards split in place first."""
    return sum(len(set(row) - set(old[shard % len(old)])) for shard, row in enumerate(new))


def assert_promises(rows: Rows, nodes: Sequence[PlacementNode], replicas: int, depth: int) -> None:
    zone_of = dict(zip([node.id for node in nodes], zone_numbers(nodes), strict=True))
    zone_count = len(set(zone_of.values()))
    assert len(rows) == 1 << depth
    for row in rows:
        assert len(set(row)) == len(row) == replicas, "distinct nodes"
        assert len({zone_of[node] for node in row}) == min(replicas, zone_count), "zones spread"
    loads = Counter(node for row in rows for node in row)
    duties = Counter(row[0] for row in rows)
    for node, share in zip(nodes, shares_of(nodes, replicas, depth), strict=True):
        load = loads[node.id]
        assert math.floor(share) <= load <= math.ceil(share), "balanced within one shard"
        assert load // replicas <= duties[node.id] <= -(-load // replicas), "primaries balanced"


@given(nodes=clusters(), replicas=st.integers(1, 3), depth=st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_a_first_assignment_is_distinct_spread_and_balanced(
    nodes: list[PlacementNode], replicas: int, depth: int
) -> None:
    rows = first_assignment(nodes, replicas, depth, zones_min=1)
    assert_promises(rows, nodes, replicas, depth)


@given(
    steps=st.lists(clusters(), min_size=2, max_size=4),
    replicas=st.integers(1, 3),
    depth=st.integers(0, 6),
)
@settings(max_examples=150, deadline=None)
def test_after_any_change_of_nodes_weights_and_zones_the_promises_hold(
    steps: list[list[PlacementNode]], replicas: int, depth: int
) -> None:
    rows: Rows = []
    for nodes in steps:
        rows = assign(rows, nodes, replicas, depth, zones_min=1)
        assert_promises(rows, nodes, replicas, depth)


@given(before=clusters(), after=clusters(), replicas=st.integers(1, 3), depth=st.integers(0, 5))
@settings(max_examples=120, deadline=None)
def test_moves_are_the_fewest_possible_and_at_most_one_more_a_node(
    before: list[PlacementNode], after: list[PlacementNode], replicas: int, depth: int
) -> None:
    old = first_assignment(before, replicas, depth, zones_min=1)
    new = assign(old, after, replicas, depth, zones_min=1)
    index = {node.id: i for i, node in enumerate(after)}
    fewest = fewest_moves(
        [{index[node] for node in row if node in index} for row in old],
        zone_numbers(after),
        shares_of(after, replicas, depth),
        replicas,
        per_zone(after, replicas),
    )
    assert fewest <= moved(old, new) <= fewest + len(after)


@pytest.mark.parametrize(("before", "after"), [(4, 5), (8, 9), (8, 16), (64, 65), (9, 8), (65, 64)])
@pytest.mark.parametrize("depth", [8, 12])
def test_equal_nodes_move_exactly_the_minimum(before: int, after: int, depth: int) -> None:
    old = first_assignment(cluster(before), 3, depth)
    new = assign(old, cluster(after), 3, depth)
    loads = Counter(node for row in old for node in row)
    total = 3 << depth
    if after > before:
        newcomers = after - before
        assert total // after * newcomers <= moved(old, new) <= -(-total // after) * newcomers
    else:
        assert moved(old, new) == sum(loads[NodeId(i)] for i in range(after + 1, before + 1))


def test_an_unchanged_cluster_moves_nothing_and_keeps_its_primaries() -> None:
    nodes = [replace(node, weight=1 + node.id % 3) for node in cluster(13, zones=4)]
    rows = first_assignment(nodes, 3, 8)
    assert assign(rows, nodes, 3, 8) == rows


def test_the_order_in_which_nodes_are_named_makes_no_difference() -> None:
    nodes = cluster(11, zones=4)
    rows = first_assignment(nodes, 3, 8)
    assert first_assignment(nodes[::-1], 3, 8) == rows
    assert assign(rows, cluster(12, zones=4)[::-1], 3, 8) == assign(
        rows, cluster(12, zones=4), 3, 8
    )


def test_a_split_moves_nothing() -> None:
    rows = first_assignment(cluster(12, zones=3), 3, 6)
    split = assign(rows, cluster(12, zones=3), 3, 7)
    assert moved(rows, split) == 0
    assert len(split) == 2 * len(rows)


def test_a_draining_node_ends_up_with_nothing_and_moves_only_what_it_held() -> None:
    nodes = cluster(9)
    rows = first_assignment(nodes, 3, 8)
    held = sum(NodeId(4) in row for row in rows)
    drained = assign(rows, [replace(n, draining=n.id == 4) for n in nodes], 3, 8)
    assert not any(NodeId(4) in row for row in drained)
    assert moved(rows, drained) == held


def test_growing_by_one_changes_no_more_primaries_than_the_newcomer_needs() -> None:
    old = first_assignment(cluster(8), 3, 12)
    new = assign(old, cluster(9), 3, 12)
    changed = sum(a[0] != b[0] for a, b in zip(old, new, strict=True))
    assert changed <= 1.05 * 4096 / 9


def test_two_zones_for_three_replicas_are_refused_unless_allowed_and_then_both_are_used() -> None:
    with pytest.raises(TooFewZones, match=r"3 zones, there are 2 .*z0, z1"):
        first_assignment(cluster(6, zones=2), 3, 4)
    rows = first_assignment(cluster(6, zones=2), 3, 4, zones_min=2)
    assert_promises(rows, cluster(6, zones=2), 3, 4)


def test_a_heavy_zone_gives_way_to_the_spread_over_zones() -> None:
    nodes = [PlacementNode(NodeId(i), 10.0 if i < 3 else 1.0, "abcde"[i % 5]) for i in range(10)]
    assert_promises(first_assignment(nodes, 3, 8), nodes, 3, 8)


def test_few_sets_exist_and_the_scatter_width_sets_how_many() -> None:
    def sets(width: int) -> int:
        rows = assign((), cluster(60), 3, 12, scatter_width=width)
        return len({frozenset(row) for row in rows})

    # Copysets (Cidon et al. 2013): N * S / (R * (R - 1)) sets give a scatter width of S. A set
    # may come twice by chance.
    for width in (2, 4, 12, 24):
        assert 0.98 * 60 * width / 6 <= sets(width) <= 60 * width / 6


def test_a_repair_gives_the_lost_replicas_to_several_nodes() -> None:
    rows = first_assignment(cluster(20), 3, 10)
    repaired = assign(rows, cluster(19), 3, 10)
    takers = {node for a, b in zip(rows, repaired, strict=True) for node in set(b) - set(a)}
    assert len(takers) == 19


def test_pinned_nodes_hold_their_shards_and_the_rest_stays_balanced() -> None:
    nodes = cluster(9, zones=3)
    pins = {0: [NodeId(1)], 5: [NodeId(1), NodeId(2)], 7: [NodeId(9), NodeId(1), NodeId(2)]}
    for old in ((), first_assignment(nodes, 3, 6)):
        rows = assign(old, nodes, 3, 6, pins=pins)
        assert_promises(rows, nodes, 3, 6)
        assert all(set(pinned) <= set(rows[shard]) for shard, pinned in pins.items())


def test_pins_beyond_a_nodes_share_go_before_balance() -> None:
    pins = {shard: [NodeId(1)] for shard in range(40)}
    rows = assign((), cluster(9), 3, 6, pins=pins)
    loads = Counter(node for row in rows for node in row)
    assert loads[NodeId(1)] == 40
    assert max(loads.values()) == 40
    others = [loads[NodeId(i)] for i in range(2, 10)]
    assert max(others) - min(others) <= 1


@pytest.mark.parametrize(
    ("pins", "message"),
    [
        ({64: [NodeId(1)]}, "shard 64 is pinned, there are 64"),
        ({1: [NodeId(99)]}, "n99, which is gone or drains"),
        ({1: [NodeId(1), NodeId(1)]}, "distinct"),
        ({1: [NodeId(1), NodeId(4)]}, "2 nodes of one zone"),
    ],
)
def test_pins_that_cannot_be_kept_are_refused(pins: dict[int, list[NodeId]], message: str) -> None:
    with pytest.raises(InvalidPin, match=message):
        assign((), cluster(9, zones=3), 3, 6, pins=pins)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf, 1e7])
def test_a_weight_that_is_no_weight_is_refused(weight: float) -> None:
    with pytest.raises(InvalidNode, match=r"n2 weighs .*drain it"):
        first_assignment([PlacementNode(NodeId(1)), PlacementNode(NodeId(2), weight)], 1, 4)


def test_what_makes_no_sense_is_refused_with_its_own_error() -> None:
    with pytest.raises(TooFewNodes, match="no nodes"):
        first_assignment([], 3, 4)
    with pytest.raises(TooFewNodes, match="3 replicas need 3 nodes, there are 2"):
        first_assignment(cluster(2), 3, 4)
    with pytest.raises(TooFewNodes, match="not counting 1 that drain"):
        first_assignment([*cluster(2), PlacementNode(NodeId(3), draining=True)], 3, 4)
    with pytest.raises(InvalidNode, match="two nodes have the id n1"):
        first_assignment([*cluster(3), PlacementNode(NodeId(1))], 3, 4)
    with pytest.raises(InvalidNode, match="70000"):
        first_assignment([PlacementNode(NodeId(70_000))], 1, 4)
    with pytest.raises(InvalidRequest, match="3 old rows"):
        assign([(NodeId(1),)] * 3, cluster(3), 1, 4)
    with pytest.raises(InvalidRequest, match="depth of 19"):
        first_assignment(cluster(3), 3, 19)
    with pytest.raises(InvalidRequest, match="0 replicas"):
        first_assignment(cluster(3), 0, 4)
    assert issubclass(ImpossibleAssignment, ValueError)
