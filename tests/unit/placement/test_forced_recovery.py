"""An operator puts an older copy in charge only where no one complete is left to object."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.coordinator.cluster_records import CLUSTER, configuration, incarnation, node

from octad.coordinator.recovery.forced_recovery import (
    CannotRecover,
    forced_recovery,
    recovery_transaction,
)
from octad.coordinator.schema.records import FenceRecord, NodeRecord, StoreKeys
from octad.coordinator.store.interface import KeyValue, LeaseId, Put
from octad.coordinator.store.keyspace import Keyspace
from octad.sharding.ids import Epoch, NodeId, Seq, parse_shard_name, shard_name
from octad.sharding.map.shard_map import (
    FormerMember,
    GivenUp,
    Learner,
    Member,
    Recovery,
    ShardConfiguration,
    decode_configuration,
    encode_configuration,
)

KEYS = StoreKeys(CLUSTER)
SHARD = parse_shard_name("0/3")


def former(number: int, upto: int) -> FormerMember:
    return FormerMember(NodeId(number), incarnation(number), Seq(upto))


def lone(*left: FormerMember, learners: tuple[Learner, ...] = ()) -> ShardConfiguration:
    """Node 1 is alone; `left` left it."""
    return msgspec.structs.replace(
        configuration(1), epoch=Epoch(5), last_full=left, learners=learners
    )


def live(*numbers: int, disk: int = 0) -> dict[NodeId, NodeRecord]:
    return {NodeId(number): node(number, disk=disk) for number in numbers}


def test_the_most_complete_former_member_that_is_there_leads() -> None:
    before = lone(former(2, 90), former(3, 95), former(4, 99))
    recovery = forced_recovery(before, live(2, 3))
    after = recovery.configuration
    assert (after.epoch, after.primary) == (6, 3)
    assert after.members == (Member(NodeId(3), incarnation(3)),)
    assert after.last_full == (former(2, 90),), "n4 knows more than is recovered"
    assert (recovery.gone, recovery.chosen.upto) == ((1,), 95)
    given_up = tuple(GivenUp(NodeId(number), incarnation(number)) for number in (1, 4))
    assert after.recovered == (Recovery(Epoch(6), NodeId(3), incarnation(3), Seq(95), given_up),)


def test_while_a_complete_member_is_live_nobody_takes_its_place() -> None:
    with pytest.raises(CannotRecover, match="live"):
        forced_recovery(lone(former(2, 90)), live(1, 2))


def test_a_recruit_that_has_taken_over_is_complete() -> None:
    leading = Member(NodeId(4), incarnation(4), Seq(95), Epoch(4))
    before = msgspec.structs.replace(
        lone(former(1, 95), former(2, 90)), primary=NodeId(4), members=(leading,)
    )
    with pytest.raises(CannotRecover, match="live"):
        forced_recovery(before, live(2, 4))
    recovery = forced_recovery(before, live(2))
    assert (recovery.configuration.primary, recovery.gone) == (2, (4,))


def test_a_member_that_came_back_with_an_empty_disk_is_gone() -> None:
    there = {**live(2), **live(1, disk=11)}
    assert forced_recovery(lone(former(2, 90)), there).configuration.primary == 2


def test_without_a_live_former_member_it_says_who_has_to_come_back() -> None:
    with pytest.raises(CannotRecover, match="start n1, or one of n2 n3"):
        forced_recovery(lone(former(2, 90), former(3, 90)), live(4))
    with pytest.raises(CannotRecover, match="start n1"):
        forced_recovery(lone(), live(4))
    with pytest.raises(CannotRecover, match="no live node"):
        forced_recovery(lone(former(2, 90)), live(2, disk=22))


def test_a_recruit_that_can_become_complete_by_itself_is_left_to_it() -> None:
    recruit = Member(NodeId(4), incarnation(4), Seq(91), Epoch(4))
    before = msgspec.structs.replace(lone(former(2, 90)), members=(*lone().members, recruit))
    with pytest.raises(CannotRecover, match="n4 copies what it lacks from n2"):
        forced_recovery(before, live(2, 4))
    late = msgspec.structs.replace(recruit, base=Seq(92))
    before = msgspec.structs.replace(before, members=(*lone().members, late))
    assert forced_recovery(before, live(2, 4)).given_up == (1, 4)


def test_everybody_who_may_show_what_is_given_up_can_not_take_part_any_more() -> None:
    learner = Learner(NodeId(4), incarnation(4))
    before = lone(former(2, 90), former(4, 80), learners=(learner,))
    after = forced_recovery(before, live(2, 4)).configuration
    assert after.has_given_up(NodeId(1), incarnation(1))
    assert after.has_given_up(NodeId(4), incarnation(4))
    assert not after.has_given_up(NodeId(4), incarnation(44)), "another disk is empty"
    assert (after.learners, after.last_full) == ((), ())
    again = msgspec.structs.replace(after, last_full=(former(4, 80),))
    with pytest.raises(CannotRecover):
        forced_recovery(again, live(4))


def test_a_configuration_without_recoveries_is_written_as_before() -> None:
    before = lone(former(2, 90))
    assert b"recoveries" not in encode_configuration(before)
    after = forced_recovery(before, live(2)).configuration
    assert decode_configuration(encode_configuration(after)) == after


def store(before: ShardConfiguration) -> tuple[Keyspace, KeyValue]:
    keyspace = Keyspace()
    stage = keyspace.stage(lambda _: True)
    value = encode_configuration(before)[:-1] + b',"newer":1}'
    stage.transact([], [Put(KEYS.shard(SHARD), value), Put(KEYS.fence(NodeId(1)), b"old")])
    keyspace.publish(stage.changes)
    entry = keyspace.get(KEYS.shard(SHARD))
    assert entry is not None
    return keyspace, entry


def test_the_transaction_fences_the_absent_and_keeps_what_it_does_not_know() -> None:
    before = lone(former(2, 90))
    keyspace, entry = store(before)
    recovery = forced_recovery(before, live(2))
    transaction = recovery_transaction(KEYS, entry, recovery, live(2), "recovery-1")
    stage = keyspace.stage(lambda _: True)
    assert stage.transact(*transaction).succeeded
    keyspace.publish(stage.changes)
    written, fence = keyspace.get(entry.key), keyspace.get(KEYS.fence(NodeId(1)))
    assert written is not None
    assert fence is not None
    assert decode_configuration(written.value) == recovery.configuration
    assert b'"newer":1' in written.value
    assert msgspec.json.decode(fence.value, type=FenceRecord).boot == "recovery-1"
    assert not keyspace.stage(lambda _: True).transact(*transaction).succeeded, (
        "the configuration differs"
    )


def test_nothing_happens_when_the_one_who_was_gone_comes_back_meanwhile() -> None:
    before = lone(former(2, 90))
    keyspace, entry = store(before)
    transaction = recovery_transaction(
        KEYS, entry, forced_recovery(before, live(2)), live(2), "recovery-1"
    )
    stage = keyspace.stage(lambda _: True)
    stage.transact([], [Put(KEYS.node(NodeId(1)), b"{}", LeaseId(0))])
    keyspace.publish(stage.changes)
    assert not keyspace.stage(lambda _: True).transact(*transaction).succeeded


def test_names_of_shards_are_read_as_they_are_written() -> None:
    assert shard_name(SHARD) == "0/3"
    for text in ("", "3", "0/", "/3", "0/x", "n0/3", f"0/{1 << 60}"):
        with pytest.raises(ValueError, match="not a shard's name"):
            parse_shard_name(text)
