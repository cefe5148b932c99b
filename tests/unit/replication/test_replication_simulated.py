"""What a shard's replicas promise, under crashes, cut links, late syncs and late news.

To replay a failure: pytest tests/unit/replication -k "seed-17".
"""

from __future__ import annotations

import pytest
from tests.unit.replication.replica_cluster import SHARD, ReplicaCluster

from octad.sharding.ids import Epoch, NodeId, Seq
from octad.sharding.shard_map import Member, ShardRow
from octad.storage_node.core.shard_replica import (
    Action,
    Append,
    SendNack,
    SendPrepare,
    ShardReplica,
)

STEPS = 2000


def run(seed: int, *, replicas: int = 3, ack_before_sync: bool = False) -> ReplicaCluster:
    cluster = ReplicaCluster(seed, replicas=replicas, ack_before_sync=ack_before_sync)
    for _ in range(STEPS):
        cluster.step()
    return cluster


def run_many(seeds: int, *, ack_before_sync: bool = False) -> None:
    for seed in range(seeds):
        run(seed, ack_before_sync=ack_before_sync)


@pytest.mark.parametrize("replicas", [2, 3])
@pytest.mark.parametrize("seed", range(250), ids="seed-{}".format)
def test_what_was_acknowledged_or_read_is_never_undone(seed: int, replicas: int) -> None:
    cluster = run(seed, replicas=replicas)
    cluster.heal()
    leader = cluster.replicas[cluster.row.primary]
    assert leader is not None
    assert leader.leading, cluster.story[-40:]
    assert leader.commit == leader.end >= leader.barrier, "a healed shard serves"
    indexes = [disk.index for disk in cluster.disks.values()]
    assert all(index == indexes[0] for index in indexes), "members agree"


def test_the_simulated_runs_get_somewhere() -> None:
    clusters = [run(seed) for seed in range(20)]
    assert sum(cluster.acknowledged for cluster in clusters) > 200
    assert max(cluster.row.epoch for cluster in clusters) > 3, "primaries restarted"


def test_the_same_seed_gives_the_same_story() -> None:
    assert run(7).story == run(7).story


def test_the_simulation_catches_an_acknowledgement_before_the_sync() -> None:
    with pytest.raises(AssertionError, match="may lose it"):
        run_many(20, ack_before_sync=True)


def test_the_simulation_catches_a_commit_by_majority(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_majority(replica: ShardReplica) -> list[object]:
        committed = sorted(replica.match.values())[1]
        if committed <= replica.commit:
            return []
        previous, replica.commit = replica.commit, Seq(committed)
        return list(replica._apply_from(previous))

    monkeypatch.setattr(ShardReplica, "_advance", by_majority)
    with pytest.raises(AssertionError):
        run_many(20)


def test_the_simulation_catches_a_dirty_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class NeverDirty(dict[bytes, int]):
        def __contains__(self, key: object) -> bool:
            return False

    original = ShardReplica.__init__

    def forgetful(replica: ShardReplica, *args: object) -> None:
        original(replica, *args)  # type: ignore[arg-type]
        replica.dirty = NeverDirty()

    monkeypatch.setattr(ShardReplica, "__init__", forgetful)
    with pytest.raises(AssertionError, match="reads"):
        run_many(20)


def test_the_simulation_catches_a_primary_that_resumes_its_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Finding F4: it may have sent what its own disk then lost, and use the number again."""

    def resume(cluster: ReplicaCluster) -> None:
        while cluster.swaps:
            node, replica, old = cluster.swaps.pop()
            if cluster.replicas[node] is replica and cluster.row == old:
                cluster._perform(replica, replica.lead(old))

    monkeypatch.setattr(ReplicaCluster, "swap", resume)
    with pytest.raises(AssertionError):
        run_many(60)


def two_members() -> ShardRow:
    members = (Member(NodeId(1), "one"), Member(NodeId(2), "two"))
    return ShardRow(Epoch(5), 0, NodeId(1), members)


def test_a_replica_of_another_incarnation_is_no_member() -> None:
    replica = ShardReplica(SHARD, NodeId(2), "wiped", Seq(0), Epoch(0))
    assert replica.on_row(two_members()) == []
    assert replica.on_connected(NodeId(1)) == []


def test_a_primary_does_not_lead_before_its_own_swap() -> None:
    replica = ShardReplica(SHARD, NodeId(1), "one", Seq(0), Epoch(0))
    replica.on_row(two_members())
    assert not replica.leading


def test_a_new_primary_sends_its_tail_again_before_its_barrier() -> None:
    replica = ShardReplica(SHARD, NodeId(1), "one", Seq(0), Epoch(0))
    first = replica.lead(two_members())
    barrier = next(action.entry for action in first if isinstance(action, Append))
    row = ShardRow(Epoch(6), 0, NodeId(1), two_members().members)
    again = [action for action in replica.lead(row) if isinstance(action, SendPrepare)]
    assert [(action.entry.epoch, action.entry.seq) for action in again] == [(5, 1), (6, 2)]
    assert again[0].entry is barrier, "the tail keeps the epoch in which it was first appended"


def test_a_backup_asks_again_after_every_new_connection() -> None:
    replica = ShardReplica(SHARD, NodeId(2), "two", Seq(0), Epoch(0))
    replica.on_row(two_members())
    assert replica.on_connected(NodeId(1)) == [SendNack(NodeId(1), Seq(0))]


def test_a_gap_is_refused_once_until_the_tail_is_sent_again() -> None:
    replica = ShardReplica(SHARD, NodeId(2), "two", Seq(0), Epoch(0))
    replica.on_row(two_members())
    leader = ShardReplica(SHARD, NodeId(1), "one", Seq(0), Epoch(0))
    prepare = next(a for a in leader.lead(two_members()) if isinstance(a, SendPrepare))

    def receive(seq: int) -> list[Action]:
        entry = prepare.entry
        sent = (entry.epoch, Seq(seq), entry.kind, entry.request_id, entry.metadata, b"")
        return replica.on_prepare(NodeId(1), Epoch(5), sent, Epoch(5 if seq > 1 else 0), Seq(0))

    assert [type(action) for action in receive(1)] == [Append]
    assert receive(3) == [SendNack(NodeId(1), Seq(1))]
    assert receive(4) == [], "its answer is under way"
    assert [type(action) for action in receive(2)] == [Append]
    assert receive(5) == [SendNack(NodeId(1), Seq(2))]
