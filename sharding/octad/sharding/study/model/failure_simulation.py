"""Monte-Carlo: replica sets that fail and are repaired, and nodes that die together.

Each function returns (estimate, standard error); the closed forms of `durability.py` are checked
against them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from octad.sharding.study.model.durability import HOURS_A_YEAR, failure_rate

CELLS_MAX = 1 << 22
Estimate = tuple[float, float]


def simulated_loss(
    replicas: int, afr: float, repair_hours: float, years: float, trials: int, seed: int
) -> Estimate:
    """The share of `trials` independent replica sets that are lost within `years`."""
    random = np.random.default_rng(seed)
    rate, repair = failure_rate(afr), 1 / repair_hours
    gone = np.zeros(trials, dtype=np.int64)
    clock = np.zeros(trials)
    lost = 0
    while len(gone):
        losses = (replicas - gone) * rate
        rates = losses + gone * repair
        clock = clock + random.exponential(size=len(gone)) / rates
        is_loss = random.random(len(gone)) < losses / rates
        gone = gone + np.where(is_loss, 1, -1)
        in_time = clock <= years * HOURS_A_YEAR
        lost += int((in_time & (gone == replicas)).sum())
        lives = in_time & (gone < replicas)
        gone, clock = gone[lives], clock[lives]
    return _share(lost, trials)


def simulated_kill(
    rows: Sequence[Sequence[int]], nodes: int, killed: int, trials: int, seed: int
) -> Estimate:
    """How often some row's nodes all die when `killed` of `nodes` nodes (from 1) do, at random."""
    random = np.random.default_rng(seed)
    sets = np.unique(np.sort(np.array(rows, dtype=np.int64), axis=1), axis=0)
    if killed < sets.shape[1]:
        return 0.0, 0.0
    lost = 0
    step = max(1, CELLS_MAX // max(len(sets), nodes))
    for start in range(0, trials, step):
        count = min(step, trials - start)
        order = random.random((count, nodes + 1))
        order[:, 0] = 2.0  # There is no node 0.
        limit = np.partition(order, killed - 1, axis=1)[:, killed - 1 : killed]
        dead = order <= limit
        all_dead = dead[:, sets[:, 0]]
        for column in range(1, sets.shape[1]):
            all_dead &= dead[:, sets[:, column]]
        lost += int(all_dead.any(axis=1).sum())
    return _share(lost, trials)


def _share(count: int, trials: int) -> Estimate:
    """A share and its standard error, never 0: after no event at all it is that of one."""
    share = count / trials
    seen = max(count, 1) / trials
    return share, math.sqrt(seen * (1 - seen) / trials) if seen < 1 else 1 / trials
