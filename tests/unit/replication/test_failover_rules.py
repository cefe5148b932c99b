"""One test for each rule of `docs/reference/replication.md`, on single replicas."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.replication.single_replicas import (
    BARRIER,
    KEY,
    SHARD,
    A,
    B,
    C,
    D,
    acknowledge,
    barrier,
    beat_each_other,
    configuration,
    durable,
    follower,
    keep_beating,
    leader,
    prepare,
    proposed,
    put,
    replica,
)

from octad.sharding.ids import Epoch, Seq
from octad.sharding.limits import (
    BOOT_PATIENCE_S,
    GRACE_S,
    LEASE_S,
    MEMBER_STUCK_S,
    RPC_TRANSIT_S_MAX,
)
from octad.sharding.map.shard_map import FormerMember, Learner, Member, ShardConfiguration
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.index_changes import Barrier
from octad.storage_node.replication.reconfiguration import Plan, handed_over
from octad.storage_node.replication.replica_actions import (
    Abandon,
    AlreadyOrdered,
    Append,
    Apply,
    NotServing,
    OutcomeUnknown,
    SendAck,
    SendJoin,
    SendNack,
    SendPrepare,
    SendSession,
    StartLog,
    SubmitSwap,
    Swap,
    TooFewCopies,
)
from octad.storage_node.replication.replica_state import Strength
from octad.storage_node.replication.request_window import REQUEST_IDS_MAX
from octad.storage_node.replication.shard_log import Entry, ShardLog


def test_r1_a_prepare_of_an_older_epoch_is_not_taken() -> None:
    backup = replica(B)
    backup.on_configuration(configuration(3), 0.0)
    assert prepare(backup, 2, 2, 1, 0) == []
    assert backup.log.end == 0


def test_r1_a_gap_is_refused_with_what_is_verified() -> None:
    backup = replica(B)
    backup.on_configuration(configuration(3), 0.0)
    assert prepare(backup, 3, 3, 2, 3) == [SendNack(A, Seq(0))]


def test_r1_another_entry_in_its_place_is_truncated_with_all_that_follow() -> None:
    backup = replica(B)
    backup.on_configuration(configuration(3), 0.0)
    for seq in (1, 2, 3):
        prepare(backup, 3, 3, seq, 3 if seq > 1 else 0)
    backup.on_configuration(configuration(4), 1.0)
    prepare(backup, 4, 4, 1, 0)
    assert (backup.log.end, backup.log.at(Seq(1)).epoch) == (1, 4)


def test_r2_an_ack_names_what_is_verified_in_this_epoch_and_durable() -> None:
    backup = replica(B)
    backup.on_configuration(configuration(3), 0.0)
    actions = prepare(backup, 3, 3, 1, 0) + prepare(backup, 3, 3, 2, 3)
    assert durable(backup, actions)[-1] == SendAck(A, Seq(2), 0, True)
    backup.on_configuration(configuration(4), 1.0)
    again = prepare(backup, 4, 3, 1, 0)
    assert again == [SendAck(A, Seq(1), 0, True)], "the tail is not the new epoch's yet"


def test_r2_only_what_every_member_has_is_committed() -> None:
    primary = leader()
    _, actions = put(primary)
    assert durable(primary, actions) + acknowledge(primary, B) == []
    assert any(isinstance(action, Apply) for action in acknowledge(primary, C))


def test_r3_a_primary_does_not_read_behind_its_own_commit_point() -> None:
    primary = leader((A, B))
    beat_each_other(primary, follower(B, primary), 1.0)
    _, actions = put(primary)
    assert primary.begin_read(KEY, 1.0) is not None, "prepared only: the old state is right"
    durable(primary, actions)
    acknowledge(primary, B)
    assert primary.begin_read(KEY, 1.0) is None, "committed, and the index does not show it yet"


def test_r4_a_primary_reads_only_while_every_member_promises() -> None:
    primary = leader((A, B))
    assert not primary.has_lease(0.5)
    beat_each_other(primary, follower(B, primary), 1.0)
    assert primary.has_lease(1.0 + LEASE_S - 0.01)
    assert not primary.has_lease(1.0 + LEASE_S)


def test_r4_under_a_swap_the_lease_comes_from_the_proposed_members_too() -> None:
    primary = leader((A,), Learner(D, "disk4"))
    assert primary.has_lease(1.0)
    primary.on_strength(Strength(2, 1))
    proposed(primary.on_timer(1.0))
    assert not primary.has_lease(1.0)


def test_r5_a_beat_of_another_epoch_gets_no_promise() -> None:
    primary = leader((A, B))
    backup = follower(B, primary)
    backup.on_configuration(configuration(3, members=(A, B)), 0.5)
    beat_each_other(primary, backup, 1.0)
    assert not primary.has_lease(1.0)


def test_r6_a_read_lease_ends_with_the_promises_to_the_primary() -> None:
    primary = leader()
    b, c = follower(B, primary), follower(C, primary)
    beat_each_other(primary, c, 1.0)
    beat_each_other(primary, b, 1.25)
    assert b.backup.has_read_lease(1.3)
    assert not b.backup.has_read_lease(1.0 + LEASE_S), "C's promise to A is over"


def test_r7_a_takeover_waits_for_the_grace_after_the_last_promise() -> None:
    primary = leader((A, B))
    backup = follower(B, primary)
    beat_each_other(primary, backup, 2.0)
    keep_beating(backup, 2.0 + GRACE_S - 0.01)
    assert backup.on_timer(2.0 + GRACE_S - 0.01) == []
    assert proposed(backup.on_timer(2.0 + GRACE_S)).proposed.primary == B


def test_r7_a_node_that_was_paused_listens_before_it_removes_anybody() -> None:
    primary = leader((A, B))
    beat_each_other(primary, follower(B, primary), 1.0)
    assert primary.on_timer(60.0) == []
    primary.leases.pairs.beats(60.0)
    assert not any(isinstance(action, SubmitSwap) for action in primary.on_timer(60.25))


def test_r7_after_a_boot_nodes_not_heard_yet_may_be_starting_and_are_not_removed() -> None:
    primary, backup = leader((A, B)), replica(B)
    backup.on_configuration(configuration(2, members=(A, B)), 0.0)
    for here in (primary, backup):
        keep_beating(here, BOOT_PATIENCE_S - 0.01)
        assert not any(isinstance(a, SubmitSwap) for a in here.on_timer(BOOT_PATIENCE_S - 0.01))
        assert proposed(here.on_timer(BOOT_PATIENCE_S)).proposed.members == (
            Member(here.node, f"disk{here.node}"),
        )


def test_r7_a_node_that_was_heard_since_the_boot_is_removed_after_the_grace_alone() -> None:
    primary = leader((A, B))
    beat_each_other(primary, follower(B, primary), 1.0)
    keep_beating(primary, 4.0)
    assert proposed(primary.on_timer(4.0)).proposed.members == (Member(A, "disk1"),)


def test_r7_a_node_that_is_heard_for_the_first_time_has_a_grace_to_learn_its_configurations() -> (
    None
):
    primary, other = leader((A, B)), replica(B)
    keep_beating(primary, 8.0)
    other.leases.pairs.lead(SHARD, Epoch(9), [A])  # It speaks, and knows nothing of ours yet.
    primary.leases.pairs.on_beat(B, other.leases.pairs.beat(A, 8.0), 8.0)
    for moment in (8.25, 8.0 + GRACE_S):
        keep_beating(primary, moment)
        actions = primary.on_timer(moment)
        assert any(isinstance(a, SubmitSwap) for a in actions) == (moment > 9.0)


def test_r7_a_client_who_waits_ends_the_patience_with_nodes_that_may_be_starting() -> None:
    primary = leader((A, B))
    put(primary)
    stuck_at = 0.75 + MEMBER_STUCK_S
    for moment in (0.5, stuck_at, stuck_at + GRACE_S):
        keep_beating(primary, moment)
        actions = primary.on_timer(moment)
        assert any(isinstance(a, SubmitSwap) for a in actions) == (moment > stuck_at)
    assert moment < BOOT_PATIENCE_S


def test_r8_a_swap_that_lost_changes_nothing_but_the_commit_point_moves_again() -> None:
    primary = leader((A, B))
    keep_beating(primary, 12.0)
    swap = proposed(primary.on_timer(12.0))
    _, actions = put(primary)
    durable(primary, actions)
    assert acknowledge(primary, B) == [], "R9: frozen"
    assert any(
        isinstance(action, Apply) for action in primary.on_swap_outcome(swap, swap.expected, 12.5)
    )


def test_r9_a_challenger_promises_nothing() -> None:
    primary = leader((A, B))
    backup = follower(B, primary)
    keep_beating(backup, 12.0)
    proposed(backup.on_timer(12.0))
    beat_each_other(primary, backup, 12.0)
    assert not primary.has_lease(12.0)
    assert prepare(backup, 2, 2, 1, 0) == []


def test_r10_a_silent_member_leaves_and_a_spare_begins_behind_the_commit_point() -> None:
    primary = leader((A, B), Learner(D, "disk4"))
    keep_beating(primary, 12.0)
    after = proposed(primary.on_timer(12.0)).proposed
    assert after.members == (Member(A, "disk1"), Member(D, "disk4", Seq(2), Epoch(2)))
    assert after.last_full == (FormerMember(B, "disk2", Seq(1)),)


def test_r10_a_recruit_begins_its_log_below_its_base_and_is_not_complete() -> None:
    recruit = replica(D)
    members = (Member(A, "disk1"), Member(D, "disk4", Seq(6), Epoch(2)))
    actions = recruit.on_configuration(ShardConfiguration(Epoch(3), 0, A, members), 0.0)
    assert StartLog(Seq(5), Epoch(2), Seq(0), Seq(0), 0) in actions
    assert not recruit.history.is_complete()
    recruit.on_copied(Seq(5), Seq(5), [], 1.0)
    assert recruit.history.is_complete()


def test_r11_a_takeover_takes_nobody_in_and_serves_after_its_barrier() -> None:
    backup = replica(B, 2, Learner(D, "disk4"))
    backup.on_configuration(configuration(1, members=(A, B)), 0.0)
    keep_beating(backup, 12.0)
    swap = proposed(backup.on_timer(12.0))
    assert [member.node for member in swap.proposed.members] == [B]
    actions = backup.on_swap_outcome(swap, swap.proposed, 9.1)
    assert not backup.serves()
    durable(backup, actions)
    assert backup.serves()


def test_r11_with_too_few_copies_nothing_is_ordered() -> None:
    primary = leader((A, B))
    primary.on_strength(Strength(3, 3))
    with pytest.raises(TooFewCopies):
        put(primary)


def test_r12_an_ack_of_an_earlier_session_counts_for_nothing() -> None:
    primary = leader((A,))
    assert primary.configuration is not None
    learner_configuration = ShardConfiguration(
        Epoch(3), 0, A, primary.configuration.members, (Learner(D, "disk4"),)
    )
    primary.swaps.pending = Swap(primary.configuration, learner_configuration)
    durable(primary, primary.on_configuration(learner_configuration, 1.0))
    sessions = [
        action.session
        for nonce in (1, 2)
        for action in primary.on_join(D, Epoch(3), nonce)
        if isinstance(action, SendSession)
    ]
    (answer,) = primary.on_ack(D, Epoch(3), primary.log.commit, sessions[0], True)
    assert isinstance(answer, SendSession)
    assert (answer.nonce, answer.session) == (0, sessions[1])
    assert primary.on_timer(1.0) == []
    primary.on_ack(D, Epoch(3), primary.log.commit, sessions[1], True)
    assert proposed(primary.on_timer(1.0)).proposed.member(D) is not None


def test_r12_a_join_that_comes_before_the_swap_is_known_is_answered_after_it() -> None:
    primary = leader((A,))
    assert primary.configuration is not None
    learner_configuration = ShardConfiguration(
        Epoch(3), 0, A, primary.configuration.members, (Learner(D, "disk4"),)
    )
    primary.swaps.pending = Swap(primary.configuration, learner_configuration)
    assert primary.on_join(D, Epoch(3), 7) == []
    assert primary.on_timer(1.0) == []
    durable(primary, primary.on_configuration(learner_configuration, 1.0))
    (session,) = [a for a in primary.on_timer(1.1) if isinstance(a, SendSession)]
    assert (session.node, session.nonce) == (D, 7)
    assert not any(isinstance(a, SendSession) for a in primary.on_timer(1.2)), "once"


def test_r12_a_learner_that_is_not_in_the_primarys_session_asks_again() -> None:
    learner = replica(D)
    learner_configuration = ShardConfiguration(
        Epoch(3), 0, A, configuration(3).members, (Learner(D, "disk4"),)
    )
    (asked,) = learner.on_configuration(learner_configuration, 1.0)
    assert isinstance(asked, SendJoin)
    learner.on_session(A, Epoch(3), asked.nonce, 1, Seq(5), Epoch(2))
    assert learner.on_timer(3.0) == []
    learner.on_session(A, Epoch(3), asked.nonce, 2, Seq(5), Epoch(2))  # To the same, doubled.
    assert [type(action) for action in learner.on_timer(3.0)] == [SendJoin]


def test_r13_a_former_member_knows_that_what_it_had_is_committed() -> None:
    former = replica(B)
    former.on_configuration(configuration(3), 0.0)
    durable(former, prepare(former, 3, 3, 1, 0))
    without = ShardConfiguration(
        Epoch(4), 0, A, (Member(A, "disk1"),), (), (FormerMember(B, "disk2", Seq(1)),)
    )
    assert any(isinstance(action, Apply) for action in former.on_configuration(without, 1.0))


def test_r13_who_leaves_a_shard_that_is_full_without_it_is_not_remembered() -> None:
    primary = leader((A, B, C, D))
    primary.on_strength(Strength(3, 2))
    primary.on_plan(Plan((A, B, C), A, 0))
    others = [follower(node, primary) for node in (B, C)]
    for now in (18.0, 18.5, 19.0, 19.5):
        for other in others:
            beat_each_other(primary, other, now)
        actions = primary.on_timer(now)
    after = proposed(actions).proposed
    assert [member.node for member in after.members] == [A, B, C]
    assert after.last_full == ()


def test_r13_what_a_takeover_remembered_is_forgotten_when_the_shard_is_full() -> None:
    primary = leader((A, B))
    assert primary.configuration is not None
    primary.place.configuration = msgspec.structs.replace(
        primary.configuration, last_full=(FormerMember(C, "disk3", Seq(1)),)
    )
    beat_each_other(primary, follower(B, primary), 1.0)
    swap = proposed(primary.on_timer(1.0))
    assert swap.proposed == msgspec.structs.replace(
        swap.expected, epoch=Epoch(swap.expected.epoch + 1), last_full=()
    )
    primary = leader((A, B))
    assert primary.configuration is not None
    primary.on_strength(Strength(3, 2))
    primary.place.configuration = swap.expected
    beat_each_other(primary, follower(B, primary), 1.0)
    assert primary.on_timer(1.0) == [], "one is still missed"


def test_r13_a_former_member_with_a_copy_that_it_had_not_caught_up_with_becomes_complete() -> None:
    here = replica(B)
    here.restore(Seq(0), Epoch(0), Seq(0), Seq(2))
    for seq in (1, 2, 3):
        here.recover(Entry(*barrier(2, seq), Barrier(), ()), Seq(0))
    here.recovered()
    assert here.source_as_of(Seq(2)) is None
    left = msgspec.structs.replace(
        configuration(5, members=(A, D)), last_full=(FormerMember(B, "disk2", Seq(3)),)
    )
    actions = here.on_configuration(left, 1.0)
    assert any(isinstance(action, Apply) for action in actions)
    here.on_applied(Seq(3), 1.0)
    assert here.complete_to is None
    assert here.source_as_of(Seq(2)) == 3


def test_r14_a_replay_applies_nothing_above_the_commit_point() -> None:
    here = replica(B)
    for seq in (1, 2):
        entry = Entry(
            Epoch(1), Seq(seq), RecordKind.BARRIER, bytes(16), BARRIER, None, Barrier(), ()
        )
        here.recover(entry, Seq(seq - 1))
    applied = [action for action in here.recovered() if isinstance(action, Apply)]
    assert [entry.seq for action in applied for entry in action.entries] == [1]


def test_r14_a_replica_that_was_complete_is_so_after_a_restart_without_another_entry() -> None:
    here = replica(B, log=ShardLog(Seq(5), Epoch(2)))
    here.restore(Seq(5), Epoch(2), Seq(0), Seq(5), 0)
    assert here.recovered() == []
    assert here.complete_to is None


def test_r14_another_incarnation_is_no_member() -> None:
    wiped = replica(B, disk="another disk")
    assert wiped.on_configuration(configuration(3), 0.0) == []
    assert prepare(wiped, 3, 3, 1, 0) == []


def test_r15_the_primary_of_the_configuration_leads_only_after_a_swap_of_its_own() -> None:
    primary = replica(A)
    swap = proposed(primary.on_configuration(configuration(5), 0.0))
    assert not primary.leading
    assert swap.proposed.epoch == 6
    actions = primary.on_swap_outcome(swap, swap.proposed, 0.1)
    assert [type(action) for action in actions[:2]] == [Append, SendPrepare]


def test_r16_a_request_that_was_ordered_is_not_ordered_again() -> None:
    primary = leader((A, B))
    entry, _ = put(primary, 7)
    with pytest.raises(AlreadyOrdered) as known:
        put(primary, 7)
    assert known.value.entry is entry


def test_r16_a_retry_from_before_the_window_has_an_unknown_outcome() -> None:
    primary = leader((A, B))
    primary.log.requests.complete_since = 100.0
    now = 102.0 + RPC_TRANSIT_S_MAX
    primary.check_retry(b"x" * 16, 1.0, now)
    with pytest.raises(OutcomeUnknown):
        primary.check_retry(b"x" * 16, 3.0, now)


def test_r16_a_retry_that_was_long_on_its_way_does_not_look_younger_than_the_window() -> None:
    """Its id was dropped for the number of later ones: it would act twice, or be refused for its
    own effect. By what it says of its age, it was made after that."""
    primary = leader((A, B))
    window = primary.log.requests
    first, dropped = 4.337, b"d" * 16
    later = [number.to_bytes(16, "big") for number in range(1, REQUEST_IDS_MAX + 1)]
    for request_id, applied_at in [(dropped, first + 0.008), *((each, 5.0) for each in later)]:
        window.add(request_id, Seq(1))
        window.applied([request_id], applied_at)
    assert window.find(dropped) is None
    sent_at = 5.82
    for on_its_way_s in (0.009, 1.0, RPC_TRANSIT_S_MAX):
        with pytest.raises(OutcomeUnknown):
            primary.check_retry(dropped, sent_at - first, sent_at + on_its_way_s)


def test_r17_a_primary_stops_before_it_hands_over_and_again_when_that_fails() -> None:
    primary = leader((A, B))
    backup = follower(B, primary)
    beat_each_other(primary, backup, 1.0)
    primary.on_plan(Plan((A, B), B, 0))
    swap = proposed(primary.on_timer(1.0))
    assert swap.proposed == handed_over(swap.expected, B)
    with pytest.raises(NotServing):
        put(primary)
    primary.on_swap_outcome(swap, swap.expected, 1.1)
    assert not primary.leading
    assert proposed(primary.on_timer(1.2)).proposed.epoch == swap.proposed.epoch


def test_r17_a_primary_whose_successor_falls_silent_meanwhile_takes_writes_again() -> None:
    primary = leader((A, B))
    backup = follower(B, primary)
    _, actions = put(primary, 1)
    durable(primary, actions)  # The successor has not acknowledged it.
    beat_each_other(primary, backup, 1.0)
    primary.on_plan(Plan((A, B), B, 0))
    primary.on_timer(1.0)
    with pytest.raises(NotServing, match="is moving"):
        put(primary, 2)
    primary.on_timer(1.0 + LEASE_S)
    put(primary, 2)


def test_a_primary_that_learns_of_another_epoch_abandons_what_it_had_not_committed() -> None:
    primary = leader((A, B))
    entry, _ = put(primary)
    assert Abandon((entry,)) in primary.on_configuration(configuration(9, B, (B,)), 1.0)


def test_r16_a_request_that_was_applied_before_a_new_start_is_known_after_the_next_restart() -> (
    None
):
    here = replica(B)
    put_entry, _ = put(leader((A, B)), 7)
    before = Entry(Epoch(1), Seq(1), RecordKind.BARRIER, bytes(16), BARRIER, None, Barrier(), ())
    here.recover(before, Seq(0))
    here.recover(put_entry, Seq(1))
    (apply,) = here.recover_start(Seq(9), Epoch(4), Seq(2), Seq(2), 0)
    assert isinstance(apply, Apply)
    here.on_applied(Seq(2), 0.0)
    assert here.log.requests.pairs() == [((7).to_bytes(16, "big"), Seq(2))]
