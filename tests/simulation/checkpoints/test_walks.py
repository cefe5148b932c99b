"""Random walks of jobs, collectors and people hold to the rules; a rule left out is noticed."""

from __future__ import annotations

from contextlib import ExitStack
from unittest.mock import patch

import pytest
from tests.simulation.checkpoints.mutants import KNOWN_SEEDS, MUTANTS, RARE_IN_WALKS
from tests.simulation.checkpoints.world import Broken, World

SEEDS = 300
SEEDS_LONG = 40_000


def test_the_rules_hold_whatever_happens_when() -> None:
    for seed in range(SEEDS):
        World(seed).run()


@pytest.mark.long
def test_the_rules_hold_over_many_more_walks() -> None:
    for seed in range(SEEDS, SEEDS_LONG):
        World(seed).run()


def test_one_seed_is_one_story() -> None:
    one, other = World(7), World(7)
    one.run()
    other.run()
    assert one.story == other.story
    assert len(one.story) > 100


@pytest.mark.parametrize("name", KNOWN_SEEDS)
def test_a_rule_left_out_is_noticed(name: str) -> None:
    with ExitStack() as planted:
        for target, attribute, value in MUTANTS[name]:
            planted.enter_context(patch.object(target, attribute, value))
        with pytest.raises(Broken):
            World(KNOWN_SEEDS[name]).run()


def test_each_planted_fault_is_looked_for_somewhere() -> None:
    assert set(MUTANTS) == {*KNOWN_SEEDS, *RARE_IN_WALKS}
