"""Rule R20: whose index is damaged acknowledges, and does nothing that needs rows."""

from __future__ import annotations

import pytest
from tests.simulation.model.stage import SHARD, A, B, C, D, Stage
from tests.unit.replication.single_replicas import (
    KEY,
    acknowledge,
    beat_each_other,
    durable,
    follower,
    leader,
    prepare,
    put,
)

from octad.sharding.ids import Seq
from octad.storage_node.replication.reconfiguration import Plan
from octad.storage_node.replication.replica_actions import NotServing, SendAck


def test_r20_a_backup_says_that_it_cannot_read_and_goes_on_acknowledging() -> None:
    primary = leader((A, B))
    backup = follower(B, primary)
    durable(backup, prepare(backup, 2, 2, 1, 0, commit=1))
    assert backup.lose_rows() == [SendAck(A, Seq(1), 0, False)]
    actions = durable(backup, prepare(backup, 2, 2, 2, 2))
    assert actions == [SendAck(A, Seq(2), 0, False)]
    beat_each_other(primary, backup, 1.0)
    assert backup.begin_read(KEY, 1.0) is None
    assert backup.source_as_of(Seq(0)) is None
    assert not backup.backup.may_take_over(1e9)
    assert backup.regain_rows() == [SendAck(A, Seq(2), 0, True)]
    assert backup.source_as_of(Seq(0)) is not None


def test_r20_a_copy_that_cannot_be_read_is_not_verified() -> None:
    primary, second = leader((A, B)), None
    second = follower(B, primary)
    beat_each_other(primary, second, 1.0)
    assert primary.copies_heard(1.0) == [A, B]
    epoch = primary.epoch
    primary.on_ack(B, epoch, primary.log.end, 0, False)
    assert primary.copies_heard(1.0) == [A]
    acknowledge(primary, B)
    assert primary.copies_heard(1.0) == [A, B]


def test_r20_a_primary_orders_nothing_and_answers_no_read() -> None:
    primary = leader((A,))
    assert primary.begin_list(primary.epoch, 1.0) is not None
    ticket = primary.begin_read(KEY, 1.0)
    assert ticket is not None
    primary.lose_rows()
    assert not primary.read_holds(ticket, 1.0)
    assert primary.begin_read(KEY, 1.0) is None
    assert primary.begin_list(primary.epoch, 1.0) is None
    with pytest.raises(NotServing):
        put(primary)
    primary.regain_rows()
    put(primary)


def test_r20_a_primary_hands_its_shard_to_a_member_that_can_read_and_only_to_one() -> None:
    stage = Stage(nodes=3)
    stage.written(A, "v1")
    stage.process(B).lose_rows()
    stage.run(0.5)
    stage.process(A).lose_rows()
    stage.until(lambda: stage.configuration().primary == C, "C gets the shard")
    stage.run(1.0)
    stage.written(C, "v2")
    assert {member.node for member in stage.configuration().members} == {A, B, C}, "all acknowledge"
    assert stage.read(C) is not None
    assert stage.read(A) is None
    assert stage.read(B) is None
    stage.check()


def test_r20_a_primary_that_can_read_again_before_it_has_come_to_a_stand_takes_writes_again() -> (
    None
):
    primary = leader((A, B))
    backup = follower(B, primary)
    _, actions = put(primary, 1)
    durable(primary, actions)  # The other one has not acknowledged it.
    beat_each_other(primary, backup, 1.0)
    primary.lose_rows()
    primary.on_timer(1.0)
    primary.regain_rows()
    with pytest.raises(NotServing, match="is moving"):
        put(primary, 2)
    primary.on_timer(1.1)
    put(primary, 2)


def test_r20_a_plan_waits_until_its_primary_can_read() -> None:
    stage = Stage(nodes=3)
    stage.written(A, "v1")
    stage.process(B).lose_rows()
    stage.run(0.5)
    stage.plan(Plan((A, B, C), B, stage.configuration().depth))
    stage.run(3.0)
    assert stage.configuration().primary == A
    stage.process(B).regain_rows()
    stage.until(lambda: stage.configuration().primary == B, "B is primary as planned")
    stage.written(B, "v2")
    stage.check()


def test_r20_who_is_alone_serves_again_when_it_can_read_again() -> None:
    stage = Stage(nodes=1, replicas=1)
    stage.written(A, "v1")
    stage.process(A).lose_rows()
    stage.run(2.0)
    assert stage.configuration().primary == A
    assert not stage.replica(A).serves()
    stage.process(A).regain_rows()
    stage.written(A, "v2")
    stage.check()


def test_r20_a_recruit_goes_on_copying_when_its_index_is_another_one() -> None:
    stage = Stage(nodes=4)
    stage.written(A, "v1")
    stage.cut((D, A), (D, B), (D, C))
    stage.world.crash(C)
    stage.until(
        lambda: (
            stage.configuration().member(D) is not None or len(stage.configuration().members) == 2
        ),
        "gone",
    )
    stage.heal((D, A), (D, B), (D, C))
    stage.until(lambda: SHARD in stage.process(D).replicas, "D is a recruit")
    stage.process(D).lose_rows()
    stage.run(2.0)
    assert not stage.is_full(D)
    stage.process(D).regain_rows()
    stage.until(lambda: stage.is_full(D), "D is full")
    stage.check()
