"""What operators ask for that makes no sense, or would lose data: refused, with the way out."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.placement.placement_cluster import (
    KEYS,
    PLACEMENT,
    POOL,
    PlacementCluster,
)

from octad.coordinator.placement.placement_commit import resumed, reverted, stopped
from octad.coordinator.placement.placement_requests import PlanRefused
from octad.coordinator.placement.placement_status import placed_nodes, placed_pools, plan_status
from octad.coordinator.schema.placement_records import UsageRecord, encode_record
from octad.coordinator.store.interface import Delete
from octad.sharding.ids import NodeId, shard_id

ZONES = {1: "rack-1", 2: "rack-1", 3: "rack-2", 4: "rack-2", 5: "rack-3"}


@pytest.fixture
def cluster() -> PlacementCluster:
    return PlacementCluster(ZONES, depth=3)


def refusal(cluster: PlacementCluster, action: str, *nodes: str, **fields: object) -> str:
    with pytest.raises(PlanRefused) as refused:
        cluster.ask(action, *nodes, **fields)
    assert refused.value.way_out
    return str(refused.value)


@pytest.mark.parametrize(
    ("action", "nodes", "fields", "said"),
    [
        ("drain", ("n9",), {}, "no node n9 ever joined; octad node ls names those"),
        ("drain", ("two",), {}, "'two' is not a node's name: expected one like n1"),
        ("drain", ("n2", "n2"), {}, "n2 is named twice; name each node once"),
        ("drain", (), {}, "name nodes or a zone, one of the two"),
        ("drain", ("n1",), {"zone": "rack-1"}, "name nodes or a zone, one of the two"),
        ("drain", (), {"zone": "rack1"}, "no node is in zone 'rack1'; did you mean rack-1?"),
        ("drain", (), {"zone": ""}, "no node is in zone ''; zones: rack-1, rack-2, rack-3"),
        ("drain", ("n5",), {}, "without zone rack-3 the 3 copies of pool 0 would stand in 2 zones"),
        (
            "drain",
            ("n1", "n2", "n5"),
            {"fewer_zones": True},
            "3 replicas need 3 nodes, there are 2",
        ),
        ("add", (), {}, "no node is named"),
        ("add", ("n1",), {"weight": 0.0}, "a weight of 0.0; choose one above 0"),
        ("add", ("n1",), {"weight": float("nan")}, "a weight of nan"),
        ("add", ("n1",), {"zone": "a b"}, "zone 'a b'; use up to 64 letters"),
        ("remove", ("n2",), {}, "n2 holds shard 0/"),
        ("remove", (), {}, "no node is named"),
        ("split", (), {"pool": 4}, "there is no pool 4; choose from 0"),
        ("create-pool", (), {}, "a pool of None copies; choose from 1, 2, 3"),
        ("create-pool", (), {"replicas": 7}, "a pool of 7 copies; choose from 1, 2, 3"),
        ("create-pool", (), {"replicas": 2, "depth": 40}, "a depth of 40; choose 0 to 18"),
        ("rebalance", ("n1",), {}, "rebalance has no use for nodes; leave it out"),
        ("rebalance", (), {"moves_max": 0}, "moves_max 0; choose from 1 to 1024"),
        ("balance", (), {}, "no action 'balance'"),
    ],
)
def test_it_is_refused_with_the_way_out(
    cluster: PlacementCluster,
    action: str,
    nodes: tuple[str, ...],
    fields: dict[str, object],
    said: str,
) -> None:
    before = cluster.keyspace.revision
    assert said in refusal(cluster, action, *nodes, **fields)
    assert cluster.keyspace.revision == before, "nothing was written"


def test_a_node_that_is_away_is_not_planned_away_by_the_way(cluster: PlacementCluster) -> None:
    lapse(cluster, 1)
    assert "n1 holds data and is not live; start it, or give it up: octad node drain n1" in refusal(
        cluster, "rebalance"
    )
    cluster.ask("drain", "n1")


def lapse(cluster: PlacementCluster, node: int) -> None:
    """Its lease ends, and no one has done anything about it yet."""
    cluster.transact([], [Delete(KEYS.node(NodeId(node)))])


def test_the_last_copy_is_not_drained_from_a_node_that_is_gone(cluster: PlacementCluster) -> None:
    configuration = cluster.configuration(2)
    lone = configuration.members[0].node
    cluster._write_configuration(
        shard_id(POOL, 2), configuration, members=configuration.members[:1], primary=lone
    )
    lapse(cluster, lone)
    said = refusal(cluster, "drain", f"n{lone}")
    assert f"n{lone} holds the only copy of shard 0/2 and is not live; start it" in said


def test_a_recruit_is_no_copy_that_a_drain_could_count_on(cluster: PlacementCluster) -> None:
    configuration = cluster.configuration(2)
    full, other = configuration.members[:2]
    recruit = msgspec.structs.replace(other, base=5)
    cluster._write_configuration(
        shard_id(POOL, 2), configuration, members=(full, recruit), primary=full.node, learners=()
    )
    lapse(cluster, full.node)
    assert "the only copy of shard 0/2" in refusal(cluster, "drain", f"n{full.node}")


def test_a_node_is_removed_once_it_is_empty_and_stopped(cluster: PlacementCluster) -> None:
    cluster.ask("drain", "n2")
    assert "n2 holds shard 0/" in refusal(cluster, "remove", "n2")
    cluster.run()
    assert "n2 still runs; stop n2, then remove it" in refusal(cluster, "remove", "n2")
    cluster.kill(2)
    cluster.ask("remove", "n2")
    assert "n2 was removed; to use its disk again, empty it" in refusal(cluster, "add", "n2")
    states = {node.name: node.state for node in placed_nodes(cluster.view()).nodes}
    assert states == {"n1": "live", "n2": "removed", "n3": "live", "n4": "live", "n5": "live"}


def test_a_node_that_is_away_is_removed_once_others_have_its_copies(
    cluster: PlacementCluster,
) -> None:
    lapse(cluster, 2)
    assert "it is away: start it, or wait until other nodes have its copies" in refusal(
        cluster, "remove", "n2"
    )


def test_a_node_that_is_to_get_data_is_not_removed() -> None:
    cluster = PlacementCluster(dict.fromkeys(range(1, 6), ""), depth=3, later=[5])
    cluster.ask("add", "n5")
    cluster.kill(5)
    assert "n5 is to get data; plan without it first: octad node drain n5" in refusal(
        cluster, "remove", "n5"
    )


def test_what_does_not_fit_is_refused_before_anything_moves(cluster: PlacementCluster) -> None:
    sizes = {f"0/{number}": 1000 for number in range(8)}
    for node in (1, 2, 3, 4, 5):
        usage = UsageRecord(NodeId(node), 100_000, 1500 if node == 4 else 90_000, sizes)
        cluster.put(PLACEMENT.node_usage(NodeId(node)), encode_record(usage))
    said = refusal(cluster, "drain", "n3")
    assert "n4 would receive" in said
    assert "bytes and has 1500 free; add a node first" in said


def test_bytes_are_told_when_nodes_report_them_and_are_unknown_otherwise(
    cluster: PlacementCluster,
) -> None:
    silent = cluster.ask("drain", "n2").answer(dry_run=True, operation=None)
    assert silent.moves_bytes is None
    assert plan_status(cluster.view(), ()).bytes_left is None
    sizes = {f"0/{number}": 1000 for number in range(8)}
    usage = UsageRecord(NodeId(1), 100_000, 90_000, {**sizes, "7/7": 1})
    cluster.put(PLACEMENT.node_usage(NodeId(1)), encode_record(usage))
    answer = cluster.ask("drain", "n2").answer(dry_run=True, operation=None)
    assert answer.moves_bytes == 1000 * answer.moves
    assert sum(node.receives_bytes or 0 for node in answer.nodes) == answer.moves_bytes
    assert plan_status(cluster.view(), ()).bytes_left == answer.moves_bytes
    assert placed_pools(cluster.view()).pools[0].bytes == 8000


def test_bytes_left_shrink_while_a_copy_is_under_way(cluster: PlacementCluster) -> None:
    sizes = {f"0/{number}": 4096 for number in range(8)}
    for node in range(1, 6):
        usage = UsageRecord(NodeId(node), 1 << 40, 1 << 39, sizes)
        cluster.put(PLACEMENT.node_usage(NodeId(node)), encode_record(usage))
    cluster.ask("drain", "n2", moves_max=1)
    seen = []
    while not cluster.is_settled():
        cluster.tick()
        left = plan_status(cluster.view(), ()).bytes_left
        assert left is not None
        seen.append(left)
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) > 8, "also between two copies"
    assert seen[-1] == 0


def test_nothing_is_steered_where_nothing_was_planned(cluster: PlacementCluster) -> None:
    for steer in (stopped, resumed, reverted):
        with pytest.raises(PlanRefused, match="nothing was planned; octad rebalance --dry-run"):
            steer(KEYS, cluster.view())
    cluster.ask("drain", "n2")
    with pytest.raises(PlanRefused, match="drain n2 is running; nothing to resume"):
        resumed(KEYS, cluster.view())
    cluster.run()
    with pytest.raises(PlanRefused, match="drain n2 is done"):
        stopped(KEYS, cluster.view())


def test_a_zone_that_no_other_node_has_is_allowed_and_remarked_on(
    cluster: PlacementCluster,
) -> None:
    said = cluster.ask("add", "n5", zone="rack-33").warnings
    assert len(said) == 1
    assert said[0].startswith("zone rack-33 is new: no other node is in it; did you mean rack-")


def test_a_request_with_nothing_to_do_begins_nothing(cluster: PlacementCluster) -> None:
    answer = cluster.ask("rebalance")
    assert not answer.has_work
    assert cluster.view().operation is None
