"""Rule R23: a node that has restarted leads only with a log that nobody else's goes beyond."""

from __future__ import annotations

import msgspec
from tests.unit.replication.single_replicas import (
    BARRIER,
    SHARD,
    A,
    B,
    C,
    configuration,
    keep_beating,
    prepare,
    proposed,
    replica,
)

from octad.sharding.ids import Epoch, NodeId, Seq
from octad.sharding.limits import BOOT_PATIENCE_S, GRACE_S
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.index_changes import Barrier
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import Actions, SendLogEnd, SubmitSwap
from octad.storage_node.replication.replication_messages import Nack
from octad.storage_node.replication.shard_log import Entry

SOON = 0.1


def restarted(node: NodeId, *epochs: int) -> ShardReplica:
    """With entries of these epochs in its journal."""
    here = replica(node)
    for seq, epoch in enumerate(epochs, start=1):
        of = Epoch(epoch), Seq(seq), RecordKind.BARRIER, bytes(16), BARRIER
        here.recover(Entry(*of, None, Barrier(), ()), Seq(0))
    here.recovered()
    return here


def says(here: ShardReplica, node: NodeId, epoch: int, end: int, now: float = SOON) -> Actions:
    assert here.configuration is not None
    log_end = Epoch(epoch), Seq(end)
    return here.on_log_end(node, here.configuration.epoch, log_end, False, now)


def swaps(actions: Actions) -> bool:
    return any(isinstance(action, SubmitSwap) for action in actions)


def asked(actions: Actions) -> list[NodeId]:
    return [each.node for each in actions if isinstance(each, SendLogEnd) and each.asks]


def test_a_primary_that_has_restarted_asks_first_and_leads_with_the_longest_log() -> None:
    primary = restarted(A, 2, 2)
    assert asked(primary.on_configuration(configuration(2), 0.0)) == [B, C]
    assert asked(primary.on_connected(C)) == [C], "a new connection: what was asked may be lost"
    assert proposed(says(primary, C, 2, 2)).proposed.epoch == 3, (
        "all of them have what is committed"
    )


def test_it_does_not_lead_where_another_log_goes_on_and_the_other_takes_over() -> None:
    """As where its last batch was damaged, and taken for torn."""
    primary, backup = restarted(A, 2, 2), replica(B)
    for epoch, seq, previous in ((2, 1, 0), (2, 2, 2), (2, 3, 2)):
        backup.on_configuration(configuration(2), 0.0)
        prepare(backup, epoch, epoch, seq, previous)
    asking = primary.on_configuration(configuration(2), 0.0)
    ((question,)) = [a for a in asking if isinstance(a, SendLogEnd) and a.node == B]
    ((answer,)) = backup.on_log_end(A, Epoch(2), question.end, question.asks, SOON)
    assert isinstance(answer, SendLogEnd)
    assert (answer.end, answer.asks) == ((2, 3), False)
    assert not swaps(primary.on_log_end(B, Epoch(2), answer.end, False, SOON))
    assert not swaps(says(primary, C, 2, 2))
    keep_beating(primary, 60.0)
    assert not swaps(primary.on_timer(60.0)), "however long that takes"
    keep_beating(backup, GRACE_S * 2 + BOOT_PATIENCE_S)
    taken = proposed(backup.on_timer(GRACE_S * 2 + BOOT_PATIENCE_S)).proposed
    assert (taken.primary, taken.epoch) == (B, 3), "one that has not restarted asks no one"


def test_two_empty_logs_end_alike() -> None:
    primary = restarted(A)
    assert asked(primary.on_configuration(configuration(1), 0.0)) == [B, C]
    assert swaps(says(primary, B, 0, 0))


def test_a_longer_log_of_an_older_epoch_holds_up_no_one() -> None:
    primary = restarted(A, 2, 3)
    primary.on_configuration(configuration(3), 0.0)
    assert swaps(says(primary, B, 2, 9))


def test_those_who_could_be_removed_are_not_waited_for() -> None:
    primary = restarted(A, 2)
    primary.on_configuration(configuration(2), 0.0)
    keep_beating(primary, BOOT_PATIENCE_S - 1)
    assert asked(primary.on_timer(BOOT_PATIENCE_S - 1)) == [B, C], "they may be starting, too"
    keep_beating(primary, BOOT_PATIENCE_S + 2 * GRACE_S)
    assert swaps(primary.on_timer(BOOT_PATIENCE_S + 2 * GRACE_S))


def test_a_lone_survivor_waits_for_no_one() -> None:
    assert swaps(restarted(A, 2).on_configuration(configuration(2, members=(A,)), 0.0))


def test_a_backup_that_has_restarted_asks_before_it_takes_over() -> None:
    for end in (1, 2):
        backup, over = waiting_to_take_over()
        assert asked(backup.on_timer(over)) == [C], "what C had may be more by now"
        assert swaps(says(backup, C, 2, end, over + SOON)) is (end == 1)


def test_a_backup_waits_so_long_for_who_does_not_answer() -> None:
    """An older version, or another disk under the same name."""
    backup, over = waiting_to_take_over()
    assert asked(backup.on_timer(over)) == [C]
    assert asked(backup.on_timer(over + GRACE_S - SOON)) == [C]
    assert swaps(backup.on_timer(over + GRACE_S))


def waiting_to_take_over() -> tuple[ShardReplica, float]:
    """B, and when the grace of A is over."""
    backup = restarted(B, 2)
    backup.on_configuration(configuration(2), 0.0)
    assert says(backup, C, 2, 1) == []
    keep_beating(backup, BOOT_PATIENCE_S - 1)
    assert not swaps(backup.on_timer(BOOT_PATIENCE_S - 1)), "what was said before is forgotten"
    over = BOOT_PATIENCE_S + 2 * GRACE_S
    keep_beating(backup, over + GRACE_S)
    return backup, over


def test_an_entry_of_a_later_epoch_proves_a_log() -> None:
    backup = restarted(B, 2)
    backup.on_configuration(configuration(2), 0.0)
    backup.on_configuration(configuration(3), 0.0)
    prepare(backup, 3, 3, 2, 2)
    over = BOOT_PATIENCE_S + 2 * GRACE_S
    keep_beating(backup, over)
    assert swaps(backup.on_timer(over))


def test_an_end_of_another_configuration_says_nothing() -> None:
    primary = restarted(A, 2)
    primary.on_configuration(configuration(2), 0.0)
    for node in (B, C):
        primary.on_log_end(node, Epoch(1), (Epoch(2), Seq(1)), False, SOON)
    assert asked(primary.on_timer(SOON)) == [B, C]


def test_an_older_version_reads_the_message_and_the_other_way_round() -> None:
    class OlderNack(msgspec.Struct, array_like=True):
        shard: int
        epoch: int
        verified: int

    told = Nack(SHARD, Epoch(2), Seq(1), (Epoch(2), Seq(3)), True)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=Nack) == told
    older = msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=OlderNack)
    assert (older.epoch, older.verified) == (2, 1)
    newer = msgspec.msgpack.decode(msgspec.msgpack.encode(OlderNack(0, 2, 1)), type=Nack)
    assert newer == Nack(SHARD, Epoch(2), Seq(1))
    assert newer.log_end is None


def test_a_member_whose_disk_is_another_one_is_not_waited_for() -> None:
    """Its node answers, and beats, so that it could not be removed for long."""
    primary, other = restarted(A, 2, 2), replica(C, disk="another")
    other.on_configuration(configuration(2), 0.0)
    asking = primary.on_configuration(configuration(2), 0.0)
    ((question,)) = [a for a in asking if isinstance(a, SendLogEnd) and a.node == C]
    ((answer,)) = other.on_log_end(A, Epoch(2), question.end, question.asks, SOON)
    assert isinstance(answer, SendLogEnd)
    assert not swaps(primary.on_log_end(C, Epoch(2), answer.end, answer.asks, SOON)), "B may know"
    assert not swaps(says(primary, B, 2, 3))
    assert swaps(says(primary, B, 2, 2))
    alone = restarted(A, 2, 2)
    alone.on_configuration(configuration(2), 0.0)
    assert not swaps(alone.on_log_end(B, Epoch(2), answer.end, answer.asks, SOON))
    assert swaps(alone.on_log_end(C, Epoch(2), answer.end, answer.asks, SOON))


def test_who_had_more_is_asked_again_since_its_disk_may_be_lost_meanwhile() -> None:
    primary = restarted(A, 2, 2)
    primary.on_configuration(configuration(2, members=(A, B)), 0.0)
    assert says(primary, B, 2, 3) == [], "at once it would say the same"
    assert asked(primary.on_timer(SOON)) == [B]
    assert asked(primary.on_connected(B)) == [B]
    assert swaps(says(primary, B, 0, -1)), "a new disk has nothing to wait for"
