"""When a node whose journal is damaged may be filled anew by the others, and when it was."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from tests.unit.coordinator.cluster_records import CLUSTER, configuration, incarnation, node, view

from octad.coordinator.recovery.filling_anew import (
    Obstacle,
    OldDisk,
    Seen,
    ending,
    giving_turn_back,
    inheriting,
    is_over,
    obstacle,
)
from octad.coordinator.schema.cluster_view import ClusterView
from octad.coordinator.schema.node_report import NodeReport, VerifiedCopies
from octad.coordinator.schema.placement_records import NodeSettings, PlacementKeys
from octad.coordinator.schema.records import StoreKeys, TurnRecord
from octad.coordinator.status.known_copies import known_copies
from octad.coordinator.store.interface import Delete, KeyValue, Put, Revision
from octad.sharding.ids import NodeId, Seq
from octad.sharding.map.shard_map import FormerMember, GivenUp, Recovery, ShardConfiguration

KEYS = StoreKeys(CLUSTER)
OLD = OldDisk(NodeId(2), incarnation(2))
OTHERS = (node(1), node(3))


def left(*members: int, verified: int, replicas: int = 3) -> Obstacle | None:
    """With a shard of these members, of which n2 was one."""
    return obstacle(now(without_n2(*members), verified, replicas=replicas), OLD, runs=False)


def without_n2(*members: int) -> ShardConfiguration:
    former = (FormerMember(*OLD, Seq(9)),)
    return msgspec.structs.replace(configuration(*members, depth=0), last_full=former)


def now(
    shard: ShardConfiguration,
    verified: int,
    *,
    replicas: int = 3,
    turn: TurnRecord | None = None,
    settings: dict[int, NodeSettings] | None = None,
    more: Sequence[NodeReport] = (),
) -> Seen:
    live = [*OTHERS, node(2)] if shard.primary == OLD.node else OTHERS
    cluster = view(live=live, known=[2, 4], configurations=[shard], depth=0, replicas=replicas)
    led = {"0/0": VerifiedCopies(shard.epoch, verified)}
    reports = {shard.primary: NodeReport(shard.primary, "boot", led, {})}
    copies = known_copies(cluster, reports | {each.node: each for each in more}, {})
    kept = {NodeId(n): entry("settings", said) for n, said in (settings or {}).items()}
    return Seen(cluster, copies, kept, None if turn is None else entry(KEYS.filled_anew, turn))


def entry(key: str, record: msgspec.Struct) -> KeyValue:
    return KeyValue(key, msgspec.json.encode(record), Revision(7), Revision(7))


def test_it_may_begin_once_the_others_have_one_copy_less_than_the_pool_keeps() -> None:
    assert left(1, 3, verified=2) is None
    assert left(1, verified=1, replicas=2) is None
    found = left(1, 3, verified=1)
    assert found is not None
    assert found.passes
    assert found.why == "shard 0/0 not known to have 2 other copies that are verified"
    assert left(1, verified=0, replicas=2) is not None


def test_who_is_still_a_member_may_have_been_counted_unless_it_said_that_it_does_not_count() -> (
    None
):
    shard = configuration(1, 2, 3, depth=0)
    assert obstacle(now(shard, 3), OLD, runs=False) is not None
    assert obstacle(now(shard, 2), OLD, runs=True) is None
    assert obstacle(now(shard, 1), OLD, runs=True) is not None


def test_a_primary_and_a_lone_copy_stay() -> None:
    leading = obstacle(now(configuration(2, 1, 3, depth=0), 3), OLD, runs=True)
    assert leading is not None
    assert leading.passes, "the others take over"
    assert obstacle(now(configuration(2, depth=0), 1, replicas=1), OLD, runs=True) is not None


def test_another_disk_of_the_same_node_is_not_meant() -> None:
    shard = configuration(1, depth=0)
    assert obstacle(now(shard, 0), OLD, runs=False) is None, "it has no part of anything"
    other = OldDisk(OLD.node, "another")
    found = obstacle(now(without_n2(1, 3), 2), other, runs=False)
    assert found is not None
    assert "does not know" in found.why


def test_a_store_that_lost_its_configurations_knows_of_no_copies() -> None:
    known = now(without_n2(1, 3), 2)
    cluster = known.cluster
    for lost in (
        ClusterView(cluster.revision, cluster.pools, cluster.identities, cluster.nodes, {}),
        ClusterView(
            cluster.revision, {}, cluster.identities, cluster.nodes, cluster.configurations
        ),
        ClusterView(cluster.revision, cluster.pools, {}, cluster.nodes, cluster.configurations),
    ):
        found = obstacle(Seen(lost, known.copies, {}, None), OLD, runs=False)
        assert found is not None
        assert "does not know all of its shards" in found.why


def test_what_was_recovered_without_the_disk_keeps_it() -> None:
    shard = without_n2(1, 3)
    recovery = Recovery(shard.epoch, NodeId(1), incarnation(1), Seq(5), (GivenUp(*OLD),))
    found = obstacle(
        now(msgspec.structs.replace(shard, recoveries=(recovery,)), 2), OLD, runs=False
    )
    assert found is not None
    assert not found.passes
    assert "what was lost may still be here" in found.why


def test_it_is_one_nodes_turn_at_a_time_until_that_is_removed() -> None:
    shard, turn = without_n2(1, 3), TurnRecord(NodeId(4), incarnation(4))
    found = obstacle(now(shard, 2, turn=turn), OLD, runs=False)
    assert found == Obstacle("n4 is filled anew first: one node at a time")
    removed = now(shard, 2, turn=turn, settings={4: NodeSettings(removed=True)})
    assert obstacle(removed, OLD, runs=False) is None
    assert giving_turn_back(KEYS, removed, OLD) is None, "it is not its own"
    mine = now(shard, 2, turn=TurnRecord(*OLD))
    assert obstacle(mine, OLD, runs=False) is None
    assert giving_turn_back(KEYS, mine, OLD) is not None


def test_a_place_that_is_being_filled_does_not_hold_up_the_next_damaged_disk() -> None:
    """Else each waits for the other: one for all copies, the other for its turn."""
    turn = TurnRecord(NodeId(4), incarnation(4))
    begun = NodeReport(NodeId(3), "boot", {}, {}, in_place_of=NodeId(4))
    seen = now(without_n2(1, 3), 2, turn=turn)
    assert obstacle(seen, OLD, runs=False) is not None, "it may not have begun"
    seen = now(without_n2(1, 3), 2, turn=turn, more=(begun,))
    assert obstacle(seen, OLD, runs=False) is None
    still_counted = msgspec.structs.replace(
        configuration(1, 3, 4, depth=0), last_full=without_n2(1).last_full
    )
    seen = now(still_counted, 2, turn=turn, more=(begun,))
    assert obstacle(seen, OLD, runs=False) is not None


def test_it_is_over_when_all_copies_are_verified_and_no_configuration_names_the_old_node() -> None:
    assert is_over(now(configuration(1, 3, 4, depth=0), 3), OLD.node)
    assert not is_over(now(configuration(1, 3, 4, depth=0), 2), OLD.node)
    assert not is_over(now(without_n2(1, 3, 4), 3), OLD.node)
    other = view(live=OTHERS, configurations=[configuration(1, 3, 4, depth=1)], depth=1)
    assert not is_over(Seen(other, now(configuration(1, 3, 4), 3).copies, {}, None), OLD.node)


def test_then_the_old_node_is_forgotten_and_the_turn_is_given_back() -> None:
    said = NodeSettings(weight=2.0)
    seen = now(configuration(1, 3, 4, depth=0), 3, turn=TurnRecord(*OLD), settings={2: said})
    compares, changes = ending(KEYS, seen, OLD)
    removed = msgspec.structs.replace(said, draining=True, removed=True)
    key = PlacementKeys(KEYS).node_settings(OLD.node)
    assert changes == [Put(key, msgspec.json.encode(removed)), Delete(KEYS.filled_anew)]
    assert len(compares) == 2
    others = now(configuration(1, 3, 4, depth=0), 3, turn=TurnRecord(NodeId(4), incarnation(4)))
    assert Delete(KEYS.filled_anew) not in ending(KEYS, others, OLD)[1]


def test_what_operators_said_of_the_old_node_holds_for_the_new_one() -> None:
    said = NodeSettings(weight=2.0, zone="rack-2")
    seen = now(configuration(1, 3, depth=0), 2, settings={2: said})
    change = inheriting(KEYS, seen, OLD.node, NodeId(4))
    assert change is not None
    assert change[1] == [
        Put(PlacementKeys(KEYS).node_settings(NodeId(4)), msgspec.json.encode(said))
    ]
    again = now(configuration(1, 3, depth=0), 2, settings={2: said, 4: NodeSettings(weight=1.0)})
    assert inheriting(KEYS, again, OLD.node, NodeId(4)) is None
    gone = now(
        configuration(1, 3, depth=0), 2, settings={2: NodeSettings(draining=True, removed=True)}
    )
    assert inheriting(KEYS, gone, OLD.node, NodeId(4)) is None
