"""The log under everything that goes wrong at once, from a seed; planted bugs are found."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.simulation.cluster.run import Failed
from tests.simulation.log.log_runs import KILLS, PLANTED, replaced, run_log

SEEDS_MAX = 10
ACTS = ("appended", "read", "expected, done", "fenced", "fenced out", "pinned", "trimmed")


def test_nothing_acknowledged_is_lost_or_doubled_and_fences_and_pins_hold() -> None:
    counts: Counter[str] = Counter()
    for seed in range(2, 5):
        counts.update(run_log(seed))
    for act in ACTS:
        assert counts[act] >= 10, act


@pytest.mark.parametrize("name", PLANTED)
def test_the_simulation_finds_the_planted_bug(name: str) -> None:
    """In one of a few runs, which finds nothing without the bug."""
    for seed in range(SEEDS_MAX):
        try:
            with replaced(PLANTED[name]):
                run_log(seed, KILLS)
        except Failed:
            run_log(seed, KILLS)
            return
    pytest.fail(f"none of {SEEDS_MAX} seeds finds it")
