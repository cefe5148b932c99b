"""Replicas of one shard by themselves, for tests of single rules: A leads, B, C and D do not."""

from __future__ import annotations

from collections.abc import Collection

from octad.sharding.ids import BucketId, Epoch, NodeId, Seq, ShardId
from octad.sharding.limits import BEAT_S
from octad.sharding.map.shard_map import Learner, Member, ShardConfiguration
from octad.storage_node.index.index_format import object_key
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.index_changes import Barrier, encode_operation, put_object
from octad.storage_node.replication.pair_leases import PairLeases
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import (
    Actions,
    Append,
    SplitLog,
    SubmitSwap,
    Swap,
)
from octad.storage_node.replication.replica_state import Strength
from octad.storage_node.replication.shard_log import Entry, ShardLog
from octad.storage_node.replication.writes import write_of

SHARD = ShardId(0)
A, B, C, D = NodeId(1), NodeId(2), NodeId(3), NodeId(4)
KEY = object_key(BucketId(1), b"key")
BARRIER = encode_operation(Barrier())


def configuration(
    epoch: int, primary: NodeId = A, members: tuple[NodeId, ...] = (A, B, C)
) -> ShardConfiguration:
    return ShardConfiguration(
        Epoch(epoch), 0, primary, tuple(Member(node, f"disk{node}") for node in members)
    )


def replica(
    node: NodeId,
    replicas: int = 3,
    spare: Learner | None = None,
    *,
    log: ShardLog | None = None,
    disk: str | None = None,
    incarnations: dict[NodeId, str] | None = None,
) -> ShardReplica:
    leases = PairLeases(node, 1000 + node, 0.0)

    def choose_spare(
        _shard: ShardId, _configuration: ShardConfiguration, useless: Collection[NodeId]
    ) -> Learner | None:
        return None if spare is None or spare.node in useless else spare

    return ShardReplica(
        SHARD, node, disk or f"disk{node}", leases, Strength(replicas, max(1, replicas - 1)),
        choose_spare, log or ShardLog(Seq(0), Epoch(0)), incarnations or {},
    )  # fmt: skip


def proposed(actions: Actions) -> Swap:
    return next(action.swap for action in actions if isinstance(action, SubmitSwap))


def leader(
    members: tuple[NodeId, ...] = (A, B, C),
    spare: Learner | None = None,
    incarnations: dict[NodeId, str] | None = None,
) -> ShardReplica:
    """A as primary of epoch 2, past its barrier, with everything applied."""
    primary = replica(A, len(members), spare, incarnations=incarnations)
    swap = proposed(primary.on_configuration(configuration(1, members=members), 0.0))
    durable(primary, primary.on_configuration(swap.proposed, 0.0))
    for node in members[1:]:
        acknowledge(primary, node)
    assert primary.serves()
    primary.on_applied(primary.log.commit, 0.0)
    return primary


def durable(here: ShardReplica, actions: Actions) -> Actions:
    return [
        further
        for action in actions
        if isinstance(action, Append)
        for further in here.on_durable(action.entry)
    ]


def acknowledge(primary: ShardReplica, node: NodeId) -> Actions:
    assert primary.configuration is not None
    return primary.on_ack(node, primary.configuration.epoch, primary.log.end, 0, True)


def put(primary: ShardReplica, number: int = 1) -> tuple[Entry, Actions]:
    operation = put_object(BucketId(1), b"key", ObjectRow(1, f"v{number}", 0))
    return primary.propose(write_of(operation, number.to_bytes(16, "big")))


def barrier(epoch: int, seq: int) -> tuple[Epoch, Seq, RecordKind, bytes, bytes, bytes]:
    return (Epoch(epoch), Seq(seq), RecordKind.BARRIER, bytes(16), BARRIER, b"")


def prepare(
    backup: ShardReplica, epoch: int, entry_epoch: int, seq: int, previous: int, commit: int = 0
) -> Actions:
    return backup.on_prepare(
        A, Epoch(epoch), 0, barrier(entry_epoch, seq), Epoch(previous), Seq(commit)
    )


def beat_each_other(a: ShardReplica, b: ShardReplica, now: float) -> None:
    """Each has the other's promise, and grants, as of `now`."""
    for _ in range(2):
        for here, there in ((a, b), (b, a)):
            beats = dict(here.leases.pairs.beats(now))
            if there.node in beats:
                answer = there.leases.pairs.on_beat(here.node, beats[there.node], now)
                if here.leases.pairs.on_answer(there.node, answer, now):
                    listed = here.leases.pairs.beat(there.node, now)
                    answer = there.leases.pairs.on_beat(here.node, listed, now)
                    here.leases.pairs.on_answer(there.node, answer, now)


def follower(node: NodeId, of: ShardReplica) -> ShardReplica:
    backup = replica(node, len(of.primary.followers.match))
    assert of.configuration is not None
    backup.on_configuration(of.configuration, 0.0)
    return backup


def keep_beating(here: ShardReplica, until: float) -> None:
    """Its own beats, unanswered: so that it does not take itself for one that was paused."""
    now = until - 3.0
    while now < until:
        here.leases.pairs.beats(now)
        now += BEAT_S


def sibling_of(here: ShardReplica, split_log: SplitLog) -> ShardReplica:
    spares = here.reconfigurer.spares
    half = ShardReplica(
        split_log.sibling, here.node, here.place.incarnation, here.leases.pairs,
        here.primary.strength, spares.choose, split_log.log, spares.incarnations,
    )  # fmt: skip
    half.inherit(split_log)
    return half
