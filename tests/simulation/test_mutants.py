"""The mutation gate: each planted bug is found by a seed that is known to find it, or its trace."""

from __future__ import annotations

import pytest
from tests.simulation.mutants import KNOWN_SEEDS, MUTANTS, planted
from tests.simulation.run import run_seed
from tests.simulation.traces import TRACES


@pytest.mark.parametrize("name", KNOWN_SEEDS)
def test_the_simulation_finds_the_planted_bug(name: str) -> None:
    run_seed(KNOWN_SEEDS[name])
    with planted(name), pytest.raises(AssertionError):
        run_seed(KNOWN_SEEDS[name])


def test_every_planted_bug_is_found_by_a_seed_or_a_trace() -> None:
    assert KNOWN_SEEDS.keys() | TRACES.keys() == MUTANTS.keys()
    assert not KNOWN_SEEDS.keys() & TRACES.keys()
