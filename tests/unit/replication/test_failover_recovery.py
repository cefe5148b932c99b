"""Rule R19: what an operator's recovery gave up never comes back, on single replicas."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.replication.single_replicas import (
    KEY,
    A,
    B,
    C,
    barrier,
    configuration,
    durable,
    prepare,
    proposed,
    replica,
    sibling_of,
)

from octad.sharding.ids import Epoch, NodeId, Seq
from octad.sharding.map.shard_map import (
    FormerMember,
    GivenUp,
    Member,
    Recovery,
    ShardConfiguration,
    SplitPoint,
)
from octad.storage_node.index.index_format import decode_shard_state
from octad.storage_node.index.shard_digest import ShardDigests
from octad.storage_node.replication.host.index_applier import state_entry
from octad.storage_node.replication.reconfiguration import check_succession, split
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import FlushIndex, SplitLog


def recovered_configuration(upto: int) -> ShardConfiguration:
    """A was alone and is gone for good; B, complete up to `upto`, takes its place."""
    gone = (GivenUp(A, "disk1"),)
    recovery = Recovery(Epoch(5), B, "disk2", Seq(upto), gone)
    former = (FormerMember(C, "disk3", Seq(upto)),)
    return ShardConfiguration(
        Epoch(5), 0, B, (Member(B, "disk2"),), last_full=former, recoveries=(recovery,)
    )


def former_member(node: NodeId, entries: int, commit: int) -> ShardReplica:
    """A member that knew `entries`, of which `commit` are committed, when A went on alone."""
    here = replica(node, 2)
    here.on_configuration(configuration(2), 0.0)
    for seq in range(1, entries + 1):
        durable(here, prepare(here, 2, 2, seq, min(seq - 1, 1) * 2, commit=min(seq, commit)))
    here.on_applied(Seq(commit), 0.0)
    return here


def test_r19_the_one_put_in_charge_commits_its_tail_in_an_epoch_of_its_own() -> None:
    b = former_member(B, entries=3, commit=2)
    swap = proposed(b.on_configuration(recovered_configuration(2), 1.0))
    assert (swap.proposed.epoch, swap.proposed.primary) == (6, B)
    actions = b.on_swap_outcome(swap, swap.proposed, 1.0)
    assert not b.serves(), "its barrier is not durable"
    durable(b, actions)
    assert b.serves()
    assert (b.log.commit, b.primary.barrier) == (4, 4)


def test_r19_an_interrupted_copy_ends_where_an_operator_puts_it_in_charge() -> None:
    b = former_member(B, entries=2, commit=2)
    b.history.complete_to, b.history.copied_as_of = Seq(2), None
    actions = b.on_configuration(recovered_configuration(2), 1.0)
    assert actions[0] == FlushIndex(), "what it has of the copy is shown from now on"
    proposed(actions)
    assert b.complete_to is None
    assert not b.void


def test_r19_a_former_member_no_further_than_the_recovery_may_come_back() -> None:
    c = former_member(C, entries=3, commit=2)
    c.on_configuration(recovered_configuration(2), 1.0)
    assert not c.void
    recruit = Member(C, "disk3", Seq(10), Epoch(6))
    after = recovered_configuration(2)
    taken = ShardConfiguration(
        Epoch(7), 0, B, (*after.members, recruit), recoveries=after.recoveries
    )
    c.on_configuration(taken, 2.0)
    assert c.place.member == recruit
    later = ShardConfiguration(
        Epoch(8), 0, B, (*after.members, recruit), recoveries=after.recoveries
    )
    c.log.commit = c.log.end = Seq(50)
    c.on_configuration(later, 3.0)
    assert not c.void, "what it learned since is of the new history"


@pytest.mark.parametrize(("commit", "complete_to"), [(3, None), (2, Seq(0))])
def test_r19_a_copy_that_may_show_what_was_given_up_takes_no_part(
    commit: int, complete_to: Seq | None
) -> None:
    c = former_member(C, entries=3, commit=commit)
    c.history.complete_to = complete_to
    after = recovered_configuration(2)
    recruit = Member(C, "disk3", Seq(3), Epoch(6))
    look = ShardConfiguration(
        Epoch(7), 0, B, (*after.members, recruit), recoveries=after.recoveries
    )
    assert c.on_configuration(look, 1.0) == []
    assert c.void
    assert (c.place.member, c.backup.backup_ticket(KEY, 1.0)) == (None, None)
    assert c.on_prepare(B, Epoch(7), 0, barrier(6, 3), Epoch(2), Seq(3)) == []
    assert c.on_timer(9.0) == []
    restarted = replica(C, 2)
    restarted.restore(Seq(0), Epoch(0), complete_to, None, acted_epoch=Epoch(2))
    restarted.log.commit = restarted.log.end = restarted.log.applied = Seq(commit)
    restarted.on_configuration(look, 1.0)
    assert restarted.void, "also after a restart"


def test_r19_a_void_copy_counts_again_once_an_operator_puts_it_in_charge() -> None:
    c = former_member(C, entries=3, commit=3)
    after = recovered_configuration(2)
    c.on_configuration(after, 1.0)
    assert c.void
    gone = (*after.recovered, Recovery(Epoch(6), C, "disk3", Seq(2), (GivenUp(B, "disk2"),)))
    look = ShardConfiguration(Epoch(6), 0, C, (Member(C, "disk3"),), recoveries=gone)
    swap = proposed(c.on_configuration(look, 2.0))
    assert not c.void
    durable(c, c.on_swap_outcome(swap, swap.proposed, 2.0))
    assert c.serves()


def test_r19_a_void_copy_has_no_part_in_a_later_split() -> None:
    c = former_member(C, entries=3, commit=3)
    after = recovered_configuration(2)
    later = msgspec.structs.replace(
        after, epoch=Epoch(7), depth=1, splits=(SplitPoint(Seq(2), Epoch(2)),)
    )
    assert c.on_configuration(later, 1.0) == []
    assert c.void
    assert c.configuration == later


def test_r19_no_change_of_a_configuration_takes_back_in_what_was_given_up() -> None:
    after = recovered_configuration(2)
    back = ShardConfiguration(
        Epoch(6), 0, B, (*after.members, Member(A, "disk1", Seq(9))), recoveries=after.recoveries
    )
    with pytest.raises(AssertionError, match="void"):
        check_succession(after, back)
    forgotten = ShardConfiguration(Epoch(6), 0, B, after.members)
    with pytest.raises(AssertionError, match="gave up"):
        check_succession(after, forgotten)


def test_r19_the_halves_of_a_split_shard_know_under_which_epoch_their_log_was_changed() -> None:
    gone = (GivenUp(A, "disk1"),)
    recovered = Recovery(Epoch(2), B, "disk2", Seq(0), gone)
    before = msgspec.structs.replace(configuration(3), primary=C, recoveries=(recovered,))
    here = replica(B)
    here.on_configuration(before, 0.0)
    durable(here, here.on_prepare(C, Epoch(3), 0, barrier(3, 1), Epoch(0), Seq(1)))
    here.on_applied(Seq(1), 0.0)
    after = split(before, SplitPoint(Seq(1), Epoch(3)))
    (split_log,) = [a for a in here.on_configuration(after, 1.0) if isinstance(a, SplitLog)]
    half = sibling_of(here, split_log)
    half.on_configuration(after, 1.0)
    assert not half.void


@pytest.mark.parametrize("void", [True, False])
def test_r19_what_is_void_is_so_after_a_restart_too(void: bool) -> None:
    c = former_member(C, entries=3, commit=3)
    c.on_configuration(recovered_configuration(2 if void else 3), 1.0)
    assert c.void == void
    assert c.source_as_of(Seq(2)) == (None if void else 3), "nor is it copied from"
    kept = decode_shard_state(state_entry(c, ShardDigests())[1])
    assert kept.view_epoch == (2 if void else 5)
