"""A replica that hit a bug takes no part in anything, and costs its shard as little as can be."""

from __future__ import annotations

import pytest
from tests.unit.replication.single_replicas import (
    KEY,
    A,
    B,
    acknowledge,
    beat_each_other,
    configuration,
    durable,
    follower,
    keep_beating,
    leader,
    prepare,
    proposed,
    put,
)

from octad.sharding.limits import GRACE_S, MEMBER_STUCK_S
from octad.sharding.map.shard_map import Learner
from octad.storage_node.replication.replica.shard_spares import RECRUIT_AGAIN_S
from octad.storage_node.replication.replica_actions import Abandon, Actions, NotPrimary, SubmitSwap


def test_a_failed_primary_serves_nothing_and_lets_go_of_those_who_wait() -> None:
    primary = leader((A, B))
    beat_each_other(primary, follower(B, primary), 1.0)
    entry, _ = put(primary)
    assert primary.fail() == [Abandon((entry,))]
    assert not primary.serves()
    assert primary.begin_read(KEY, 1.0) is None
    assert acknowledge(primary, B) == []
    with pytest.raises(NotPrimary):
        put(primary, 2)
    keep_beating(primary, 60.0)
    assert primary.on_timer(60.0) == []


def test_a_failed_member_promises_acknowledges_and_challenges_nothing_at_all() -> None:
    primary = leader((A, B))
    backup = follower(B, primary)
    actions = prepare(backup, 2, 2, 1, 0)
    backup.fail()
    assert durable(backup, actions) == []
    assert prepare(backup, 2, 2, 2, 2) == []
    beat_each_other(primary, backup, 1.0)
    assert not primary.has_lease(1.0)
    assert backup.on_configuration(configuration(7, primary=B, members=(A, B)), 2.0) == []
    keep_beating(backup, 60.0)
    assert backup.on_timer(60.0) == []
    assert backup.log.end == 1, "what it has stays, for the next start"


@pytest.mark.parametrize("same_disk", [True, False], ids=["same disk", "another disk"])
def test_who_beats_and_was_removed_all_the_same_is_no_spare_for_a_while(same_disk: bool) -> None:
    disks = {B: "disk2" if same_disk else "disk5"}
    primary = leader((A, B), Learner(B, "disk2"), disks)
    backup = follower(B, primary)
    put(primary)
    moment, removal = 1.0, list[Actions]()
    while not removal:
        beat_each_other(primary, backup, moment)
        removal = [[a] for a in primary.on_timer(moment) if isinstance(a, SubmitSwap)]
        moment += 0.25
    assert moment < 1.5 + MEMBER_STUCK_S + GRACE_S + 0.5
    swap = proposed(removal[0])
    assert [member.node for member in swap.proposed.members] == [A]
    durable(primary, primary.on_swap_outcome(swap, swap.proposed, moment))
    primary.on_applied(primary.log.commit, moment)
    for later, recruits in ((1.5, not same_disk), (RECRUIT_AGAIN_S, True)):
        keep_beating(primary, moment + later)
        found = [a for a in primary.on_timer(moment + later) if isinstance(a, SubmitSwap)]
        assert bool(found) == recruits
        if recruits:
            return


def test_whose_process_has_ended_is_a_spare_again_as_soon_as_its_next_one_is_there() -> None:
    primary = leader((A, B), Learner(B, "disk2"), {B: "disk2"})
    beat_each_other(primary, follower(B, primary), 1.0)
    primary.leases.pairs.dead = {B: b"fence"}
    swap = proposed(primary.on_timer(1.1))
    assert [member.node for member in swap.proposed.members] == [A]
    durable(primary, primary.on_swap_outcome(swap, swap.proposed, 1.2))
    primary.on_applied(primary.log.commit, 1.2)
    primary.leases.pairs.dead = {}
    keep_beating(primary, 2.7)
    back = proposed(primary.on_timer(2.7)).proposed
    assert [member.node for member in back.members] == [A, B]
