"""The hard cases of the assignment: rows so full that no one may take a replica directly."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import pytest

from octad.sharding.assignment.assignment import PlacementNode, assign, first_assignment
from octad.sharding.ids import NodeId

WEIGHTS = (1.0, 2.0, 0.5)


def weighted(count: int) -> list[PlacementNode]:
    return [PlacementNode(NodeId(i), WEIGHTS[i % 3]) for i in range(1, count + 1)]


@pytest.mark.parametrize("nodes", [4, 5, 6, 7, 9])
@pytest.mark.parametrize("replicas", [2, 3])
def test_losing_any_node_of_a_small_cluster_moves_exactly_what_it_held(
    nodes: int, replicas: int
) -> None:
    everyone = [PlacementNode(NodeId(i)) for i in range(1, nodes + 1)]
    old = first_assignment(everyone, replicas, 8)
    held = Counter(node for row in old for node in row)
    for lost in everyone:
        new = assign(old, [node for node in everyone if node != lost], replicas, 8)
        moved = sum(len(set(b) - set(a)) for a, b in zip(old, new, strict=True))
        assert moved == held[lost.id]


def test_thousands_of_replicas_that_fit_nowhere_directly_are_placed_in_a_moment() -> None:
    old = first_assignment(weighted(9), 3, 12)
    started = time.process_time()
    new = assign(old, [replace(node, draining=node.id == 4) for node in weighted(9)], 3, 12)
    assert time.process_time() - started < 2
    assert not any(NodeId(4) in row for row in new)
    assert all(len(set(row)) == 3 for row in new)
