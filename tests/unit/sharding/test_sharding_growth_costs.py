"""The price of doubling against the price of growing by one, and the rule for the depth."""

from __future__ import annotations

import pytest

from octad.sharding.map.splitting import recommended_depth
from octad.sharding.study.model.growth_costs import grown, growth_costs


def test_doubling_moves_half_at_once_and_leaves_nodes_idle() -> None:
    double, by_one = (
        growth_costs(policy, nodes=8, growth=1.0, years=1, node_tb=10)
        for policy in ("double", "by one")
    )
    assert (double.nodes[-1], by_one.nodes[-1]) == (16, 16)
    assert double.largest_copy == 0.5
    assert by_one.largest_copy == pytest.approx(1 / 9)
    assert double.idle_node_months[-1] > 5 * by_one.idle_node_months[-1]


def test_step_by_step_growth_moves_more_in_all_as_the_harmonic_sum_says() -> None:
    # From 8 to 16 one by one moves H(16) - H(8) = 0.663 of the data, doubling 0.5 of it.
    harmonic = sum(1 / n for n in range(9, 17))
    assert harmonic == pytest.approx(0.663, abs=1e-3)
    steps = [1 - n / grown(n, n + 1, "by one") for n in range(8, 16)]
    assert sum(steps) == pytest.approx(harmonic)
    assert 1 - 8 / grown(8, 9, "double") == 0.5


@pytest.mark.parametrize(("nodes", "depth"), [(3, 8), (24, 8), (100, 10), (400, 12), (10_000, 17)])
def test_the_depth_gives_every_node_about_thirty_replicas(nodes: int, depth: int) -> None:
    assert recommended_depth(nodes, 3) == depth
