"""Rule R18 of `docs/reference/replication.md`, on single replicas."""

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
    acknowledge,
    beat_each_other,
    configuration,
    durable,
    follower,
    leader,
    prepare,
    proposed,
    put,
    replica,
    sibling_of,
)

from octad.sharding.ids import Epoch, PoolId, Seq, ShardId, shard_id
from octad.sharding.map.shard_map import (
    FormerMember,
    ShardConfiguration,
    SplitPoint,
    decode_configuration,
    encode_configuration,
)
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.index_changes import Barrier
from octad.storage_node.replication.reconfiguration import Plan, check_succession, split
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica.shard_splitter import ancestors
from octad.storage_node.replication.replica_actions import (
    Actions,
    AlreadyOrdered,
    Append,
    Apply,
    NotServing,
    SplitLog,
    SubmitSwap,
)
from octad.storage_node.replication.replica_state import Strength
from octad.storage_node.replication.shard_log import Entry, ShardLog

SPLIT = Plan((A, B), A, 1)
SIBLING = ShardId(1)


def ready_to_split() -> ShardReplica:
    """A with B's promise and the plan, everything applied."""
    primary = leader((A, B))
    beat_each_other(primary, follower(B, primary), 1.0)
    primary.on_plan(SPLIT)
    return primary


def split_of(actions: Actions) -> SplitLog:
    return next(action for action in actions if isinstance(action, SplitLog))


def deeper(epoch: int, *points: tuple[int, int]) -> ShardConfiguration:
    splits = tuple(SplitPoint(Seq(seq), Epoch(of)) for seq, of in points)
    return msgspec.structs.replace(configuration(epoch), depth=len(points), splits=splits)


def with_two_entries(commit: int) -> ShardReplica:
    """B after Prepares of epoch 3 for the entries 1 and 2."""
    backup = replica(B)
    backup.on_configuration(configuration(3), 0.0)
    prepare(backup, 3, 3, 1, 0)
    for action in prepare(backup, 3, 3, 2, 3, commit):
        if isinstance(action, Apply):
            backup.on_applied(action.entries[-1].seq, 0.0)
    return backup


def test_a_primary_drains_and_stops_before_it_splits() -> None:
    primary = ready_to_split()
    _, actions = put(primary)
    assert not any(isinstance(action, SubmitSwap) for action in primary.on_timer(1.0))
    with pytest.raises(NotServing):
        put(primary, 2)
    durable(primary, actions)
    acknowledge(primary, B)
    primary.on_applied(primary.log.commit, 1.0)
    swap = proposed(primary.on_timer(1.1))
    assert swap.sibling == SIBLING
    assert (swap.proposed.depth, swap.proposed.epoch) == (1, swap.expected.epoch + 1)
    assert swap.proposed.split_points() == (SplitPoint(primary.log.commit, Epoch(2)),)
    assert primary.begin_read(KEY, 1.1) is None
    primary.on_swap_outcome(swap, swap.expected, 1.2)
    assert not primary.leading, "stopped for good, though the swap failed"


def test_a_shard_is_not_split_when_somebody_is_missed_or_silent() -> None:
    silent = leader((A, B))
    silent.on_plan(SPLIT)
    assert silent.on_timer(0.2) == []
    missed = ready_to_split()
    assert missed.configuration is not None
    missed.place.configuration = msgspec.structs.replace(
        missed.configuration, last_full=(FormerMember(C, "disk3", Seq(1)),)
    )
    missed.on_strength(Strength(3, 2))
    assert missed.on_timer(1.0) == []
    missed.on_strength(Strength(2, 1))
    assert proposed(missed.on_timer(1.0)).proposed.last_full == ()
    assert missed.swaps.pending is not None
    assert missed.swaps.pending.sibling is None, "first of all no one is missed any more"


def test_the_primary_of_the_split_leads_both_halves_behind_the_same_entry() -> None:
    primary = ready_to_split()
    end = primary.log.end
    swap = proposed(primary.on_timer(1.0))
    actions = primary.on_swap_outcome(swap, swap.proposed, 1.1)
    assert [type(action) for action in actions[:2]] == [SplitLog, Append]
    half = sibling_of(primary, split_of(actions))
    assert half.on_configuration(swap.proposed, 1.1)
    for replica_ in (primary, half):
        assert replica_.leading
        assert not replica_.serves(), "its barrier is not committed"
        assert (replica_.log.commit, replica_.log.end) == (end, end + 1)
        assert not replica_.has_lease(1.1), "what was promised for the shard counts for no half"


def test_a_request_that_was_ordered_before_the_split_is_known_in_both_halves() -> None:
    primary = leader((A, B))
    _, actions = put(primary, 7)
    durable(primary, actions)
    acknowledge(primary, B)
    primary.on_applied(primary.log.commit, 1.0)
    beat_each_other(primary, follower(B, primary), 1.0)
    primary.on_plan(SPLIT)
    swap = proposed(primary.on_timer(1.0))
    actions = primary.on_swap_outcome(swap, swap.proposed, 1.1)
    half = sibling_of(primary, split_of(actions))
    actions += half.on_configuration(swap.proposed, 1.1)
    for here in (primary, half):
        here.on_durable(here.log.entries[-1])
        acknowledge(here, B)
        with pytest.raises(AlreadyOrdered):
            put(here, 7)


def test_a_member_that_missed_the_split_had_everything_and_begins_there() -> None:
    backup = with_two_entries(commit=1)
    held = backup.on_configuration(deeper(4, (2, 3)), 1.0)
    assert [type(action) for action in held] == [Apply]
    assert backup.epoch == 3, "the configuration is held until the log is split"
    split_log = split_of(backup.on_applied(Seq(2), 1.0))
    assert (split_log.seq, split_log.epoch, split_log.depth) == (2, 3, 1)
    assert backup.epoch == 4
    half = sibling_of(backup, split_log)
    assert (half.log.commit, half.log.end, half.complete_to) == (2, 2, None)


def test_who_was_no_member_of_the_split_keeps_what_is_committed_and_no_more() -> None:
    former = with_two_entries(commit=1)
    split_log = split_of(former.on_configuration(deeper(9, (2, 5)), 1.0))
    assert split_log.seq == 1
    assert former.log.end == 1


def test_two_splits_that_were_missed_are_made_up_for_one_after_the_other() -> None:
    former = with_two_entries(commit=2)
    splits = [
        action
        for action in former.on_configuration(deeper(9, (2, 3), (7, 8)), 1.0)
        if isinstance(action, SplitLog)
    ]
    assert [(action.sibling, action.depth, action.seq) for action in splits] == [
        (1, 1, 2),
        (2, 2, 2),
    ]


def test_a_new_replica_of_a_half_has_nothing_to_split() -> None:
    recruit = replica(C)
    assert not any(
        isinstance(action, SplitLog) for action in recruit.on_configuration(deeper(9, (2, 5)), 1.0)
    )
    assert recruit.depth == 1


def test_replay_applies_all_of_the_shard_before_it_is_split() -> None:
    here = replica(B)
    for seq in (1, 2):
        kind = RecordKind.BARRIER
        here.recover(
            Entry(Epoch(3), Seq(seq), kind, bytes(16), BARRIER, None, Barrier(), ()), Seq(1)
        )
    (apply,) = here.recover_split(1, Seq(2))
    assert isinstance(apply, Apply)
    assert [entry.seq for entry in apply.entries] == [1, 2]
    assert split_of(here.on_applied(Seq(2), 0.0)).seq == 2
    assert here.depth == 1


def test_replay_of_a_split_that_the_index_shows_only_drops_what_it_has_cut_off() -> None:
    here = replica(B, log=ShardLog(Seq(2), Epoch(3)))
    here.restore(Seq(0), Epoch(0), None, None, 1)
    stale = Entry(Epoch(2), Seq(3), RecordKind.BARRIER, bytes(16), BARRIER, None, Barrier(), ())
    here.recover(stale, Seq(2))
    assert here.recover_split(1, Seq(2)) == []
    assert here.log.end == 2


def test_a_half_does_not_answer_for_the_other() -> None:
    half = replica(B)
    half.on_configuration(deeper(4, (2, 3)), 0.0)
    assert half.covers(0b110)
    assert not half.covers(0b101)


def test_a_list_names_the_epoch_it_knows() -> None:
    primary = ready_to_split()
    assert primary.begin_list(primary.epoch, 1.0) is not None
    assert primary.begin_list(Epoch(1), 1.0) is None


def test_a_list_waits_for_what_was_committed_when_it_was_asked_for_and_for_nothing_later() -> None:
    primary = ready_to_split()
    committed(primary, 1)
    ticket = primary.begin_list(primary.epoch, 1.0)
    assert ticket is not None
    assert not primary.shows(ticket), "committed, and the index does not have it"
    committed(primary, 2)
    primary.on_applied(Seq(primary.log.commit - 1), 1.0)
    assert primary.shows(ticket)
    assert primary.read_holds(ticket, 1.0)


def committed(primary: ShardReplica, number: int) -> None:
    _, actions = put(primary, number)
    durable(primary, actions)
    acknowledge(primary, B)


def test_what_a_shard_was_a_part_of() -> None:
    assert list(ancestors(SHARD)) == []
    assert list(ancestors(shard_id(PoolId(3), 0b101))) == [
        (shard_id(PoolId(3), 0), 0),
        (shard_id(PoolId(3), 1), 1),
        (shard_id(PoolId(3), 1), 2),
    ]


def test_a_split_changes_nothing_else_of_a_configuration() -> None:
    before = configuration(3)
    after = split(before, SplitPoint(Seq(2), Epoch(3)))
    check_succession(before, after)
    with pytest.raises(AssertionError):
        check_succession(before, msgspec.structs.replace(after, members=after.members[:2]))
    forgotten = msgspec.structs.replace(after, epoch=Epoch(5), splits=msgspec.UNSET)
    with pytest.raises(AssertionError):
        check_succession(after, forgotten)


def test_only_shards_that_were_split_say_so() -> None:
    assert b"splits" not in encode_configuration(configuration(3))
    after = split(configuration(3), SplitPoint(Seq(2), Epoch(3)))
    assert decode_configuration(encode_configuration(after)) == after
