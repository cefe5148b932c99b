"""The faults ask nothing impossible, and hold nothing back that is possible."""

from __future__ import annotations

from tests.simulation.faults import Faults
from tests.simulation.model.node_disk import FLIPPED
from tests.simulation.model.simulated_clients import pieces
from tests.simulation.model.stage import KEY, A, B, C, Stage

from octad.chaos.check.linearizability import Done, Verdict, check
from octad.sharding.ids import Seq


def test_damage_in_a_copy_that_nobody_needs_does_not_keep_a_node_from_being_emptied() -> None:
    stage = Stage(nodes=3, replicas=2)
    stage.written(A, "v1")
    faults = Faults(stage.world)
    stage.world.store.late = 0.0
    stage.world.disks[C].rows[KEY] = Seq(1), "old" + FLIPPED
    assert faults._others_are_whole(B), "A has all of it"
    stage.world.disks[A].flip(KEY)
    assert not faults._others_are_whole(B), "only B can repair A's"


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


def test_what_a_recovery_by_force_gave_up_may_have_been_read_and_is_refused_afterwards() -> None:
    history = [
        Done(1.0, 6.0, True, "v1", None, True),  # Tried again after the recovery, and refused.
        Done(2.0, 3.0, False, "v1"),
        Done(7.0, 8.0, False, "v0"),
    ]
    (_, before), (at_first, after) = pieces(history, [(5.0, "v0")])
    assert check(before, None) is Verdict.LINEARIZABLE
    assert check(after, at_first) is Verdict.LINEARIZABLE
    history[2] = Done(7.0, 8.0, False, "v1")
    _, (at_first, after) = pieces(history, [(5.0, "v0")])
    assert check(after, at_first) is Verdict.VIOLATED, "refused for good"
