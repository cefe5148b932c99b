"""Schedules of faults: from a seed, always the same, and within what a cluster must bear."""

from __future__ import annotations

import itertools
import random

import pytest

from octad.chaos.faults.faults import ON_NODES, SCENARIOS, FaultKind


@pytest.mark.parametrize("name", sorted(SCENARIOS))
@pytest.mark.parametrize("seed", range(20))
def test_a_seed_gives_the_same_schedule_again(name: str, seed: int) -> None:
    first, second = (SCENARIOS[name](random.Random(seed).random, 3, 60.0) for _ in range(2))
    assert first == second
    assert first, "nothing happens"


@pytest.mark.parametrize("name", sorted(SCENARIOS))
@pytest.mark.parametrize("seed", range(20))
def test_no_two_nodes_are_under_a_fault_at_a_time(name: str, seed: int) -> None:
    faults = SCENARIOS[name](random.Random(seed).random, 4, 60.0)
    on_nodes = [fault for fault in faults if fault.kind in ON_NODES]
    for before, after in itertools.pairwise(on_nodes):
        assert before.for_s is not None
        assert before.at_s + before.for_s < after.at_s
    for fault in faults:
        assert (fault.node in range(1, 5)) == (fault.kind in ON_NODES)
        assert fault.other != fault.node or not fault.node


def test_over_many_seeds_every_fault_strikes_every_node() -> None:
    faults = [
        fault
        for scenario in SCENARIOS.values()
        for seed in range(60)
        for fault in scenario(random.Random(seed).random, 3, 60.0)
    ]
    assert {fault.kind for fault in faults} == set(FaultKind)
    assert {fault.node for fault in faults if fault.kind is FaultKind.KILL} == {1, 2, 3}
    pairs = {(fault.node, fault.other) for fault in faults if fault.other}
    assert pairs == {(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b}
