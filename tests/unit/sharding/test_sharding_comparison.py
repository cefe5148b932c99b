"""The comparison counts what it says it counts, on an example small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest

from octad.sharding.assignment.assignment import PlacementNode
from octad.sharding.ids import NodeId
from octad.sharding.study.model.cluster_spec import ClusterSpec, parse_steps
from octad.sharding.study.model.comparison import Change, Comparison, Prices
from octad.sharding.study.model.trace import synthetic
from octad.sharding.study.rivals.all_schemes import chosen_schemes

NODES = [PlacementNode(NodeId(i), zone=zone) for i, zone in ((1, "a"), (2, "b"), (3, "a"))]


def change() -> Change:
    """Three keys of 1, 2 and 5 bytes, two copies; node 3 joins and takes one copy of the third."""
    before = np.array([[1, 2], [2, 1], [1, 2]])
    after = np.array([[1, 2], [1, 2], [3, 2]])
    return Change(NODES[:2], NODES, before, after, np.array([1.0, 2.0, 5.0]), 2)


def test_what_is_received_sent_and_moved_is_counted_in_bytes() -> None:
    found = change()
    assert found.moved == pytest.approx(5 / 16)
    assert found.received.tolist() == pytest.approx([0, 0, 0, 5 / 16])
    assert found.sent.tolist() == pytest.approx([0, 5 / 16, 0, 0])
    assert found.loads.tolist() == pytest.approx([0, 3 / 16, 8 / 16, 5 / 16])


def test_primaries_sets_zones_and_the_minimum() -> None:
    found = change()
    assert found.primaries_changed() == pytest.approx(2 / 3)
    assert found.replica_sets() == 2
    assert found.zones_broken() == 0
    # Zone b's only node holds every key once; nodes 1 and 3 share the other copies.
    assert found.minimum() == pytest.approx(1 / 4)
    together = Change(NODES, NODES, found.after, np.array([[1, 3]] * 3), np.ones(3), 2)
    assert together.zones_broken() == 1


def test_time_money_and_disk_follow_from_what_moves() -> None:
    prices = Prices(node_tb=1.0, bandwidth_mb_s=1000 / 3.6, price_per_gb=0.5)
    comparison = Comparison(ClusterSpec(), synthetic(3_000), 3, prices, lambda done, all_: None)
    grown, lost = comparison.run(chosen_schemes("map"), [8], parse_steps("+1,-1"))
    assert grown.moved_tb == pytest.approx(8 * grown.moved)
    assert grown.price == pytest.approx(grown.moved_tb * 1000 * 0.5)
    assert grown.moving_hours == pytest.approx(grown.moved_tb)  # One TB an hour, to one node.
    assert grown.peak_extra_disk == pytest.approx(grown.moved * 8)
    assert grown.degraded_hours == 0
    assert lost.degraded_hours == lost.moving_hours > 0
