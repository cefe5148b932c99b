"""Longer runs, with every kind of fault: whatever happens, nothing that must not be is seen."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from tests.cluster.faults.chaos_runs import chaos

from octad.chaos.faults.faults import NEED_ROOT, SCENARIOS, Fault, FaultKind

pytestmark = pytest.mark.cluster

SECONDS_LONG = 60.0
OF_ROOT = {"fill-disk", "slow-disk"}


@pytest.mark.long
async def test_a_frozen_node_and_a_cut_off_one_change_nothing_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    schedule = [
        Fault(FaultKind.FREEZE, 1.0, 2.5, node=1),
        Fault(FaultKind.KILL_COORDINATOR, 2.0, 3.0),
        Fault(FaultKind.ISOLATE, 6.0, 2.5, node=2),
        Fault(FaultKind.FREEZE_STORE, 10.0, 1.0),
    ]
    await chaos(tmp_path, schedule, seconds=12)


@pytest.mark.long
@pytest.mark.parametrize("scenario", sorted(SCENARIOS.keys() - OF_ROOT))
@pytest.mark.parametrize("seed", range(3))
async def test_nothing_that_must_not_be_is_seen(tmp_path: Path, scenario: str, seed: int) -> None:
    schedule = SCENARIOS[scenario](random.Random(seed).random, 4, SECONDS_LONG)
    await chaos(tmp_path, schedule, seconds=SECONDS_LONG, nodes=4, seed=str(seed))


@pytest.mark.long
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to limit a disk")
@pytest.mark.parametrize("scenario", sorted(OF_ROOT))
async def test_a_full_or_slow_disk_loses_nothing(tmp_path: Path, scenario: str) -> None:
    schedule = SCENARIOS[scenario](random.Random(1).random, 3, SECONDS_LONG / 2)
    assert {fault.kind for fault in schedule} <= NEED_ROOT
    await chaos(tmp_path, schedule, seconds=SECONDS_LONG / 2)
