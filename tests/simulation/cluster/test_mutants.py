"""The mutation gate of the shells: each planted bug is found, where the run is known to begin."""

from __future__ import annotations

import pytest
from tests.simulation.cluster.faults.faults import LOSES
from tests.simulation.cluster.mutants import FOUND_BY, MUTANTS, planted
from tests.simulation.cluster.run import (
    FAULTS_S,
    FAULTS_WITH_LOSS_S,
    Failed,
    Shape,
    attempt,
)
from tests.simulation.cluster.traces import TRACES, play

SEEDS_MAX = 40


def shape(kinds: tuple[str, ...]) -> Shape:
    faults_s = FAULTS_WITH_LOSS_S if LOSES in kinds else FAULTS_S
    return Shape(nodes=4, replicas=3, clients=3, kinds=kinds, faults_s=faults_s)


@pytest.mark.parametrize("name", FOUND_BY)
def test_the_simulation_finds_the_planted_bug(name: str) -> None:
    """In one of a few runs, which finds nothing without the bug. What a seed does changes with the
    product, so the one that finds a bug today may not be the one of tomorrow."""
    first, kinds = FOUND_BY[name]
    for seed in range(first, first + SEEDS_MAX):
        with planted(name):
            failure = attempt(seed, shape(kinds))
        if failure is not None:
            assert attempt(seed, shape(kinds)) is None
            return
    pytest.fail(f"no seed of {first}…{first + SEEDS_MAX - 1} finds it")


@pytest.mark.parametrize("name", TRACES, ids=lambda name: TRACES[name].__name__)
def test_the_trace_ends_well_and_finds_the_planted_bug(name: str) -> None:
    play(TRACES[name])
    with planted(name), pytest.raises(Failed):
        play(TRACES[name])


def test_every_planted_bug_is_found_by_seeds_or_by_a_trace() -> None:
    assert FOUND_BY.keys() | TRACES.keys() == MUTANTS.keys()
    assert not FOUND_BY.keys() & TRACES.keys()
