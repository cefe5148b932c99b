"""Ten years of growth: to double each time, or to add one node each time. What does it cost?

Demand grows by x % a year from what the first nodes hold when full. Whenever it exceeds what there
is, nodes are added, and the data is spread over all of them: growing from n to m moves 1 - n/m of
it, the least that balance allows. Doubling moves more at once and lets new nodes stand idle for
longer; adding one moves a little often. Both are charged for what they move and for nodes that hold
nothing yet.
"""

from __future__ import annotations

from dataclasses import dataclass

MONTHS_A_YEAR = 12


@dataclass(frozen=True, slots=True)
class GrowthCosts:
    """One policy, month by month: nodes, copied so far, paid for idle room so far."""

    policy: str
    nodes: tuple[int, ...]
    copied_tb: tuple[float, ...]
    largest_copy: float  # The largest share of all data that one step moved.
    idle_node_months: tuple[float, ...]


def grown(nodes: int, needed: float, policy: str) -> int:
    """How many nodes there are once `needed` nodes' worth of data must fit."""
    while nodes < needed - 1e-9:
        nodes = nodes * 2 if policy == "double" else nodes + 1
    return nodes


def growth_costs(
    policy: str, *, nodes: int, growth: float, years: int, node_tb: float
) -> GrowthCosts:
    """The history of one policy; `growth` is per year, 0.3 for 30 %."""
    node_counts, copied, idle = [nodes], [0.0], [0.0]
    largest = 0.0
    for month in range(1, years * MONTHS_A_YEAR + 1):
        needed = node_counts[0] * (1 + growth) ** (month / MONTHS_A_YEAR)
        before, copied_tb = node_counts[-1], copied[-1]
        after = grown(before, needed, policy)
        stored_tb = needed * node_tb
        # Step by step even within a month: a policy that adds one node rebalances for each.
        while before < after:
            then = grown(before, before + 1, policy)
            share = 1 - before / then
            copied_tb += share * stored_tb
            largest = max(largest, share)
            before = then
        node_counts.append(after)
        copied.append(copied_tb)
        idle.append(idle[-1] + after - needed)
    return GrowthCosts(policy, tuple(node_counts), tuple(copied), largest, tuple(idle))
