"""How likely data is to be lost: closed forms.

One replica set is a Markov chain over its number of lost replicas: one fails at rate lambda, a lost
one is copied again at rate mu (all lost ones at once, from the rest), and when all are lost so
is the data. Failures are independent here; what kills several nodes at once is treated
apart, by `loss_when_killed`. The formulas are checked against Monte-Carlo runs in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable

HOURS_A_YEAR = 8760
STEPS_EXACT_MAX = 100_000  # Beyond, the exponential form is exact to less than 1e-4 of itself.


def failure_rate(afr: float) -> float:
    """Failures an hour of a node of which the share `afr` is lost in a year."""
    return -math.log1p(-afr) / HOURS_A_YEAR


def mean_hours_to_loss(replicas: int, afr: float, repair_hours: float) -> float:
    """The mean time until all replicas of a set are gone at once.

    From "i gone" to "i + 1 gone" takes 1/l + m/l * (the time for the step before), with l the rate
    of a further loss and m the rate of a repair: the birth-death chain's recurrence.
    """
    rate, repair = failure_rate(afr), 1 / repair_hours
    step = total = 0.0
    for gone in range(replicas):
        further = (replicas - gone) * rate
        step = 1 / further + gone * repair / further * step
        total += step
    return total


def loss_probability(replicas: int, afr: float, repair_hours: float, years: float = 1) -> float:
    """The chance that a set is lost within `years`."""
    hours = years * HOURS_A_YEAR
    rate, repair = failure_rate(afr), 1 / repair_hours
    fastest = max((replicas - gone) * rate + gone * repair for gone in range(replicas))
    if fastest * hours > STEPS_EXACT_MAX:
        return -math.expm1(-hours / mean_hours_to_loss(replicas, afr, repair_hours))
    return _uniformized(replicas, rate, repair, fastest, hours)


def _uniformized(replicas: int, rate: float, repair: float, clock: float, hours: float) -> float:
    """The chain's state after `hours`, summed over the ticks of a clock faster than all rates."""
    state = [1.0] + [0.0] * replicas
    mean = clock * hours
    lost = 0.0
    log_weight = -mean  # The chance of no event, in a Poisson distribution.
    ticks_max = int(mean + 12 * math.sqrt(mean) + 30)
    for tick in range(1, ticks_max + 1):
        following = [0.0] * replicas + [state[replicas]]
        for gone in range(replicas):
            up, down = (replicas - gone) * rate / clock, gone * repair / clock
            following[gone + 1] += state[gone] * up
            following[gone - 1 if gone else 0] += state[gone] * down
            following[gone] += state[gone] * (1 - up - down)
        state = following
        log_weight += math.log(mean / tick)
        lost += math.exp(log_weight) * state[replicas]
    return lost


def loss_without_repair(replicas: int, yearly_loss: float, common_cause: float = 0.0) -> float:
    """All replicas lost within the year and none copied again; `common_cause` takes all at once."""
    return yearly_loss**replicas + common_cause * yearly_loss


def nines(probability: float) -> float:
    """0.0001 is 4 nines."""
    return -math.log10(probability)


def repair_hours_for(target_nines: float, replicas: int, afr: float) -> float:
    """The slowest repair that still reaches `nines` a year."""

    def reached(hours: float) -> bool:
        return nines(loss_probability(replicas, afr, hours)) >= target_nines

    return _largest(reached, 1e-6, HOURS_A_YEAR)


def yearly_loss_for(probability: float, replicas: int) -> float:
    """The yearly loss of one node at which all replicas, never repaired, reach `probability`."""
    return float(probability ** (1 / replicas))


def _largest(reached: Callable[[float], bool], low: float, high: float) -> float:
    """The largest number between `low` and `high` that is still reached, to six digits."""
    while high / low > 1 + 1e-6:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if reached(middle) else (low, middle)
    return low


def loss_when_killed(nodes: int, killed: int, replicas: int, sets: float) -> float:
    """The chance that some of `sets` random replica sets is within `killed` random nodes."""
    if killed < replicas:
        return 0.0
    within = math.comb(killed, replicas) / math.comb(nodes, replicas)
    return -math.expm1(sets * math.log1p(-within)) if within < 1 else 1.0


def copyset_count(nodes: int, replicas: int, scatter_width: int) -> float:
    """The number of sets in which each node has `partners`, if no two sets share two nodes."""
    return nodes * scatter_width / (replicas * (replicas - 1))
