"""What the replication promises, under everything that goes wrong at once, from a seed.

To replay a failure: python -m tests.simulation --replay SEED
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest
from tests.simulation.model.simulated_front_doors import DEPTH
from tests.simulation.model.world import World
from tests.simulation.run import run_seed, run_world, summary


@pytest.mark.parametrize("seed", range(40), ids="seed-{}".format)
def test_what_was_acknowledged_or_read_is_never_undone_and_the_cluster_heals(seed: int) -> None:
    run_seed(seed)


@pytest.mark.parametrize("seed", range(6), ids="seed-{}".format)
def test_a_pool_of_one_copy_moves_splits_and_keeps_what_it_acknowledged(seed: int) -> None:
    run_world(World(seed, nodes=2 + seed % 3, replicas=1, shards=1 << DEPTH))


def test_a_retry_is_not_taken_for_what_a_recovery_by_force_gave_up() -> None:
    """Its id had come with a copy, and stands above the end of the new primary's log."""
    run_seed(871177)


def test_no_row_of_a_copy_appears_after_a_recovery_by_force_has_put_its_receiver_in_charge() -> (
    None
):
    """The last range came when the new primary had been read without it."""
    run_seed(1002782)


def test_a_seed_gives_the_same_story_twice() -> None:
    first, second = run_seed(4), run_seed(4)
    assert first.story == second.story
    assert summary(first) == summary(second)
    assert first.clients.history == second.clients.history


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_seed_gives_the_same_story_in_another_process(hash_seed: str) -> None:
    replay = [sys.executable, "-m", "tests.simulation", "--replay", "4"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    told = subprocess.run(replay, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == run_seed(4).story


def test_the_runs_get_somewhere() -> None:
    counts: Counter[str] = Counter()
    for seed in range(40):
        counts.update(summary(run_seed(seed)))
    assert counts["operations answered"] > 4000
    assert counts["conditions refused"] > 400
    assert counts["tries through another front door"] > 50
    assert counts["refusals that are entries"] > 3
    assert counts["reads by one node alone"] > 1500
    assert counts["lists"] > 300
    assert counts["appends"] > 300
    assert counts["configurations"] > 100
    assert counts["splits"] >= 4
    assert counts["histories undecided"] == 0
