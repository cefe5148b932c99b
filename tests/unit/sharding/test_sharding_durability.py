"""Closed forms, Monte-Carlo runs and published numbers agree on how likely data is to be lost."""

from __future__ import annotations

import math

import numpy as np
import pytest

from octad.sharding.assignment.assignment import PlacementNode, assign
from octad.sharding.ids import NodeId
from octad.sharding.study.model.durability import (
    HOURS_A_YEAR,
    STEPS_EXACT_MAX,
    copyset_count,
    failure_rate,
    loss_probability,
    loss_when_killed,
    loss_without_repair,
    nines,
    repair_hours_for,
    yearly_loss_for,
)
from octad.sharding.study.model.failure_simulation import simulated_kill, simulated_loss


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("replicas", "afr", "hours", "years"),
    [(2, 0.9, 200, 1), (2, 0.5, 50, 2), (3, 0.9, 400, 1), (3, 0.5, 1500, 3), (1, 0.3, 10, 1)],
)
def test_the_chain_and_its_simulation_agree_within_four_standard_errors(
    replicas: int, afr: float, hours: float, years: float, seed: int
) -> None:
    found, error = simulated_loss(replicas, afr, hours, years, 40_000, seed)
    assert abs(found - loss_probability(replicas, afr, hours, years)) < 4 * error


def test_a_wrong_formula_would_be_noticed() -> None:
    found, error = simulated_loss(3, 0.9, 400, 1, 40_000, 1)
    assert abs(found - loss_probability(3, 0.9, 500, 1)) > 4 * error


def test_a_single_copy_is_lost_as_often_as_its_node() -> None:
    assert loss_probability(1, 0.04, 1) == pytest.approx(0.04)
    assert failure_rate(0.04) * 8760 == pytest.approx(-math.log(0.96))


@pytest.mark.parametrize(
    ("afr", "hours", "two", "three"),
    [
        (0.04, 0.25, 7.0, 12.8),
        (0.04, 1, 6.4, 11.6),
        (0.04, 6, 5.6, 10.0),
        (0.04, 24, 5.0, 8.8),
        (0.02, 6, 6.3, 10.9),
        (0.08, 1, 5.8, 10.6),
    ],
)
def test_the_founding_models_nines_come_out(
    afr: float, hours: float, two: float, three: float
) -> None:
    assert nines(loss_probability(2, afr, hours)) == pytest.approx(two, abs=0.06)
    assert nines(loss_probability(3, afr, hours)) == pytest.approx(three, abs=0.06)
    for replicas in (2, 3):
        failures, repairs = failure_rate(afr) * HOURS_A_YEAR, HOURS_A_YEAR / hours
        rule_of_thumb = replicas * failures**replicas / repairs ** (replicas - 1)
        assert loss_probability(replicas, afr, hours) == pytest.approx(rule_of_thumb, rel=0.02)


@pytest.mark.parametrize(("afr", "minutes"), [(0.02, 334), (0.04, 116), (0.08, 40)])
def test_eleven_nines_at_three_copies_need_this_repair_time(afr: float, minutes: float) -> None:
    assert repair_hours_for(11, 3, afr) * 60 == pytest.approx(minutes, rel=0.02)
    assert repair_hours_for(11, 2, afr) * 3600 < 1, "two copies never reach it"


def test_the_exact_and_the_exponential_form_meet() -> None:
    # Around the number of steps where one takes over from the other.
    assert 2 / 0.1755 * 8760 < STEPS_EXACT_MAX < 2 / 0.1745 * 8760
    short, long = loss_probability(3, 0.5, 0.1745), loss_probability(3, 0.5, 0.1755)
    assert long / short == pytest.approx((0.1755 / 0.1745) ** 2, rel=1e-3)


def test_the_talks_figures_are_those_without_repair() -> None:
    assert loss_without_repair(2, 0.01) == pytest.approx(1e-4)
    assert loss_without_repair(3, 0.01) == pytest.approx(1e-6)
    assert yearly_loss_for(1e-5, 3) == pytest.approx(0.0215, abs=1e-4)
    assert loss_without_repair(3, 0.01, common_cause=0.0009) == pytest.approx(1e-5)


def test_copysets_lose_as_rarely_as_published() -> None:
    # Cidon et al., ATC 2013: 5,000 nodes of which 1 % die; RAMCloud 99.99 % -> 0.15 %, and
    # Facebook's HDFS at a scatter width of 10 -> 0.78 %.
    assert loss_when_killed(5000, 50, 3, 5000 * 8000 / 3) > 0.9999
    assert loss_when_killed(5000, 50, 3, copyset_count(5000, 3, 2)) == pytest.approx(
        0.0015, abs=1e-4
    )
    assert loss_when_killed(5000, 50, 3, copyset_count(5000, 3, 10)) == pytest.approx(
        0.0078, abs=1e-4
    )


@pytest.mark.parametrize(
    ("nodes", "killed", "sets", "chance"),
    [(64, 3, 65_536, 0.79), (64, 3, 4_096, 0.10), (64, 5, 4_096, 0.64), (64, 3, 256, 0.006)],
)
def test_the_founding_copyset_table_comes_out(
    nodes: int, killed: int, sets: int, chance: float
) -> None:
    assert loss_when_killed(nodes, killed, 3, sets) == pytest.approx(chance, rel=0.07)


def test_random_sets_are_lost_as_the_closed_form_says() -> None:
    random = np.random.default_rng(5)
    rows = [random.choice(np.arange(1, 31), 3, replace=False).tolist() for _ in range(100)]
    found, error = simulated_kill(rows, 30, 5, 20_000, 7)
    # The rows are drawn once: their own spread about the form is of the order of 1 / sqrt(100).
    assert found == pytest.approx(loss_when_killed(30, 5, 3, 100), rel=0.12)
    assert error < 0.005


def test_few_sets_make_a_power_cut_less_dangerous_and_fewer_dead_than_copies_harmless() -> None:
    nodes = [PlacementNode(NodeId(i)) for i in range(1, 61)]
    narrow = assign((), nodes, 3, 10, scatter_width=2)
    wide = assign((), nodes, 3, 10, scatter_width=59)
    few, _ = simulated_kill(narrow, 60, 5, 5_000, 1)
    many, _ = simulated_kill(wide, 60, 5, 5_000, 1)
    assert few < many / 5
    assert few == pytest.approx(20 * math.comb(5, 3) / math.comb(60, 3), abs=0.005)
    assert simulated_kill(narrow, 60, 2, 100, 1) == (0, 0)
