"""The mutation gate of the shells: each planted bug is found by a run that is known to find it."""

from __future__ import annotations

import pytest
from tests.simulation.cluster.mutants import FOUND_BY, MUTANTS, planted
from tests.simulation.cluster.run import Shape, attempt


def shape(kinds: tuple[str, ...]) -> Shape:
    return Shape(nodes=4, replicas=3, clients=3, kinds=kinds)


@pytest.mark.parametrize("name", FOUND_BY)
def test_the_simulation_finds_the_planted_bug(name: str) -> None:
    seed, kinds = FOUND_BY[name]
    with planted(name):
        assert attempt(seed, shape(kinds)) is not None


@pytest.mark.parametrize("run", dict.fromkeys(FOUND_BY.values()), ids=str)
def test_the_same_run_without_the_bug_finds_nothing(run: tuple[int, tuple[str, ...]]) -> None:
    assert attempt(run[0], shape(run[1])) is None


def test_every_planted_bug_is_found() -> None:
    assert FOUND_BY.keys() == MUTANTS.keys()
