"""Years of a cluster: it grows, nodes die and are repaired, and now and then the power fails.

Each year the assignment is run for the nodes of that year, with the shards split in place as the
nodes become more. What is moved, repaired and risked follows from the rows it returns.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from octad.sharding.assignment.assignment import PlacementNode, Rows, assign
from octad.sharding.ids import NodeId
from octad.sharding.map.splitting import recommended_depth
from octad.sharding.study.model.durability import loss_probability, loss_when_killed
from octad.sharding.study.model.failure_simulation import simulated_kill

NODES_MAX = 10_000
KILL_TRIALS = 2_000


@dataclass(frozen=True, slots=True)
class Life:
    """The parameters. Shares are per year; `power_cut_kills` is a share of the nodes."""

    nodes: int
    replicas: int
    years: int
    growth: float
    afr: float
    repair_hours: float
    scatter_width: int
    power_cuts: float
    power_cut_kills: float
    node_tb: float
    seed: int


@dataclass(frozen=True, slots=True)
class Year:
    """The results of one year."""

    year: int
    nodes: int
    depth: int
    moved: float  # Share of all copies, by growth.
    minimum: float
    moved_tb: float
    repaired_tb: float
    max_over_mean: float
    replica_sets: int
    scatter: float  # Partners of an average node.
    loss_independent: float
    killed: int  # Nodes that a power cut takes for good.
    loss_power_cut: float  # A year's chance, by Monte-Carlo on the rows.
    loss_power_cut_error: float
    loss_power_cut_random: float  # The same if every shard had a random set of its own.


def live(life: Life, tell: Callable[[int, int], None]) -> list[Year]:
    """Every year from the start on."""
    years: list[Year] = []
    rows: Rows = []
    for year in range(life.years + 1):
        count = min(NODES_MAX, math.floor(life.nodes * (1 + life.growth) ** year + 1e-9))
        depth = max(recommended_depth(count, life.replicas), years[-1].depth if years else 0)
        nodes = [PlacementNode(NodeId(i + 1)) for i in range(count)]
        following = assign(rows, nodes, life.replicas, depth, scatter_width=life.scatter_width)
        years.append(_year(life, year, count, depth, rows, following))
        rows = following
        tell(year + 1, life.years + 1)
    return years


def _year(life: Life, year: int, nodes: int, depth: int, old: Rows, rows: Rows) -> Year:
    copies = life.replicas << depth
    before = len({node for row in old for node in row}) or nodes
    new_copies = (
        sum(1 for i, row in enumerate(rows) for node in row if node not in old[i % len(old)])
        if old
        else 0
    )
    sets = {frozenset(row) for row in rows}
    loads = Counter(node for row in rows for node in row)
    chance = loss_probability(life.replicas, life.afr, life.repair_hours)
    killed = math.ceil(life.power_cut_kills * nodes)
    once, error = simulated_kill(rows, nodes, killed, KILL_TRIALS, life.seed + year)
    once_random = loss_when_killed(nodes, killed, life.replicas, len(rows))
    return Year(
        year=year,
        nodes=nodes,
        depth=depth,
        moved=new_copies / copies,
        minimum=1 - before / nodes,
        moved_tb=new_copies / copies * nodes * life.node_tb,
        repaired_tb=nodes * life.afr * life.node_tb,
        max_over_mean=max(loads.values()) * nodes / copies,
        replica_sets=len(sets),
        scatter=_mean_partners(sets),
        loss_independent=-math.expm1(len(sets) * math.log1p(-chance)),
        killed=killed,
        loss_power_cut=-math.expm1(-life.power_cuts * once),
        loss_power_cut_error=life.power_cuts * error,
        loss_power_cut_random=-math.expm1(-life.power_cuts * once_random),
    )


def _mean_partners(sets: set[frozenset[NodeId]]) -> float:
    partners: dict[NodeId, set[NodeId]] = {}
    for nodes in sets:
        for node in nodes:
            partners.setdefault(node, set()).update(nodes)
    return sum(len(others) - 1 for others in partners.values()) / len(partners)
