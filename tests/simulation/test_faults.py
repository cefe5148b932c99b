"""The faults ask nothing impossible, and hold nothing back that is possible."""

from __future__ import annotations

from tests.simulation.faults import Faults
from tests.simulation.simulated_disk import FLIPPED
from tests.simulation.stage import KEY, A, B, C, Stage

from octad.sharding.ids import Seq


def test_damage_in_a_copy_that_nobody_needs_does_not_keep_a_node_from_being_emptied() -> None:
    stage = Stage(nodes=3, replicas=2)
    stage.written(A, "v1")
    faults = Faults(stage.world)
    stage.world.store.late = 0.0
    stage.world.disks[C].rows[KEY] = Seq(1), "old" + FLIPPED
    assert faults._others_are_whole(B), "A has all of it"
    stage.world.disks[A].flip(KEY)
    assert not faults._others_are_whole(B), "only B can mend A's"


def test_the_last_copy_that_a_crash_would_leave_is_not_damaged() -> None:
    stage = Stage(nodes=3, replicas=2)
    stage.written(A, "v1")
    stage.run(0.5)
    disk = stage.world.disks[B]
    sound = disk.rows[KEY]
    disk.flush()
    disk.flip(KEY)
    disk.rows[KEY] = sound  # As a repair does.
    faults, stage.world.nodes = Faults(stage.world), [A]
    for _ in range(100):
        faults.flip()
    assert not stage.world.disks[A].is_flipped(KEY)
    disk.flush()
    for _ in range(100):
        faults.flip()
    assert stage.world.disks[A].is_flipped(KEY)
