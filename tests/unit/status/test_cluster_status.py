"""The status document says what is wrong, and its JSON does not change under scripts."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from tests.unit.coordinator.cluster_records import CLUSTER, configuration, incarnation, node, view

from octad.client.cluster.status_document import (
    BadStatus,
    ClusterStatus,
    CoordinatorStatus,
    ShardState,
    StoreStatus,
    decode_status,
)
from octad.coordinator.schema.cluster_view import ClusterView, Departure
from octad.coordinator.status.cluster_health import not_serving
from octad.coordinator.status.cluster_status import (
    NO_FAILURES,
    NodeFailure,
    cluster_status,
    shard_statuses,
)
from octad.coordinator.status.known_copies import NOTHING_KNOWN, KnownCopies
from octad.sharding.ids import Epoch, NodeId, Seq, parse_shard_name
from octad.sharding.map.shard_map import Member

STORE = StoreStatus("embedded", ("http://127.0.0.1:9500",), 9)
COORDINATOR = CoordinatorStatus("127.0.0.1:9400", "0.1.0", True, "127.0.0.1:9400")
CONFIGURATIONS = [
    configuration(1, 2, 3),
    configuration(2, 3, 1),
    configuration(3, 1, 2),
    configuration(1, 3, 2),
]
NODES = [node(number) for number in (1, 2, 3)]


def status(
    seen: ClusterView,
    departures: dict[NodeId, Departure] | None = None,
    *,
    nodes_expected: int = 0,
    removed: tuple[NodeId, ...] = (),
    problems: tuple[str, ...] = (),
    copies: KnownCopies = NOTHING_KNOWN,
    failures: Mapping[NodeId, NodeFailure] = NO_FAILURES,
) -> ClusterStatus:
    return cluster_status(
        CLUSTER,
        seen,
        departures or {},
        STORE,
        COORDINATOR,
        nodes_expected=nodes_expected,
        removed=removed,
        problems=problems,
        copies=copies,
        failures=failures,
    )


def test_all_is_well_when_every_member_is_live() -> None:
    found = status(view(live=NODES, configurations=CONFIGURATIONS))
    assert (found.state, found.problems) == ("healthy", ())
    assert found.pools[0].shards == {
        "ok": 4,
        "degraded": 0,
        "writes-blocked": 0,
        "unavailable": 0,
        "forming": 0,
    }
    assert [(n.name, n.primary_of, n.member_of) for n in found.nodes] == [
        ("n1", 2, 4),
        ("n2", 1, 4),
        ("n3", 1, 4),
    ]


@pytest.mark.parametrize(
    ("down", "states"),
    [
        (1, ["unavailable", "writes-blocked", "writes-blocked", "unavailable"]),
        (2, ["writes-blocked", "unavailable", "writes-blocked", "writes-blocked"]),
    ],
)
def test_a_dead_primary_makes_a_shard_unavailable_and_a_dead_member_blocks_its_writes(
    down: int, states: list[ShardState]
) -> None:
    live = [record for record in NODES if record.id != down]
    seen = view(live=live, known=[down], configurations=CONFIGURATIONS)
    assert [shard.state for shard in shard_statuses(seen)] == states
    found = status(seen)
    assert found.state == "degraded"
    assert f"n{down} is not live" in found.problems


def test_why_a_node_cannot_start_is_a_problem() -> None:
    seen = view(
        live=[record for record in NODES if record.id != 3],
        known=[3],
        configurations=CONFIGURATIONS,
    )
    found = status(seen, failures={NodeId(3): NodeFailure("n3 cannot start: …", "replace it")})
    assert "n3 cannot start: …; replace it" in found.problems


def test_a_node_that_was_removed_is_not_missed() -> None:
    seen = view(live=NODES, known=[4, 5], configurations=CONFIGURATIONS)
    found = status(seen, removed=(NodeId(4),))
    assert found.problems == ("n5 is not live",)
    assert [node.name for node in found.nodes] == ["n1", "n2", "n3", "n5"]
    assert status(seen, removed=(NodeId(4), NodeId(5))).state == "healthy"


def test_a_node_that_was_removed_is_shown_while_it_is_live() -> None:
    found = status(view(live=NODES, configurations=CONFIGURATIONS), removed=(NodeId(2),))
    assert [node.name for node in found.nodes] == ["n1", "n2", "n3"]


def test_a_shard_with_fewer_complete_members_than_its_pool_keeps_copies_is_degraded() -> None:
    recruit = Member(NodeId(3), incarnation(3), base=Seq(7), base_epoch=Epoch(1))
    recruited = msgspec.structs.replace(
        configuration(1, 2), members=(*configuration(1, 2).members, recruit)
    )
    seen = view(
        live=NODES,
        configurations=[configuration(1, 2, 3), configuration(1, 2), recruited, configuration(2)],
    )
    assert [s.state for s in shard_statuses(seen)] == ["ok", "degraded", "degraded", "degraded"]
    found = status(seen)
    assert (found.pools[0].shards["ok"], found.pools[0].shards["degraded"]) == (1, 3)
    assert found.problems == ("3 shards have fewer than 3 copies",)
    assert found.state == "degraded"
    assert not_serving(seen) == [], "it takes reads and writes"


def test_a_shard_of_which_its_primary_has_verified_fewer_copies_is_degraded() -> None:
    seen = view(live=NODES, configurations=CONFIGURATIONS)
    shards = list(seen.configurations)
    verified = {shards[0]: 2, shards[1]: 3, shards[2]: None, shards[3]: 3}
    found = status(seen, copies=KnownCopies(verified, (), {}, 0, 0))
    assert (found.state, found.pools[0].shards["degraded"]) == ("degraded", 1)


def test_a_node_whose_copies_are_not_what_their_primaries_have_is_named() -> None:
    seen = view(live=NODES, configurations=CONFIGURATIONS)
    shards = tuple(list(seen.configurations)[:2])
    verified = dict.fromkeys(seen.configurations, 3) | dict.fromkeys(shards, 2)
    different = {NodeId(2): shards}
    found = status(seen, copies=KnownCopies(verified, (), {}, 0, 0, different=different))
    assert [each.different for each in found.nodes] == [(), ("0/0", "0/1"), ()]
    assert found.pools[0].shards["degraded"] == 2
    assert found.problems[-1] == (
        "n2 and the primaries of 2 shards (0/0, 0/1) have different rows: they count them anew"
        " (octad doctor)"
    )


def test_a_node_whose_journal_is_damaged_and_one_in_its_place_are_named() -> None:
    seen = view(live=NODES[:2], known=[3], configurations=CONFIGURATIONS)
    waits = KnownCopies({}, (), {}, 0, 0, anew_wait_for={NodeId(3): "n2 is filled first"})
    assert (
        "the journal of n3 is damaged, and it is not filled anew yet: octad doctor"
        in status(seen, copies=waits).problems
    )
    filled = KnownCopies({}, (), {}, 0, 0, replaced={NodeId(3): NodeId(2)})
    problems = status(seen, copies=filled).problems
    assert "n2 is filled in the place of n3, whose journal was damaged" in problems
    assert "n3 is not live" not in problems


def test_while_a_pool_is_split_every_shard_counts_once() -> None:
    configurations = [
        configuration(1, 2, 3, depth=3),
        *CONFIGURATIONS[1:],
        configuration(1, 2, 3, depth=3),
    ]
    seen = view(live=NODES, configurations=configurations)
    assert [s.name for s in shard_statuses(seen)] == [f"0/{number}" for number in range(5)]
    found = status(seen)
    assert (found.state, found.pools[0].shards["ok"], found.pools[0].shards["forming"]) == (
        "healthy",
        5,
        0,
    )
    assert not_serving(seen) == []
    half = status(view(live=NODES, configurations=configurations[:-1]))
    assert (half.state, half.pools[0].shards["forming"]) == ("forming", 1)


def test_a_member_that_came_back_with_another_disk_counts_as_down() -> None:
    live = [node(1), node(2), node(3, disk=33)]
    assert [
        s.state
        for s in shard_statuses(
            view(live=live, configurations=[configuration(1, 2, 3), configuration(3, 1, 2)])
        )
    ] == [
        "writes-blocked",
        "unavailable",
        "forming",
        "forming",
    ]


def test_a_cluster_without_its_map_is_forming_and_says_how_many_nodes_it_waits_for() -> None:
    found = status(view(live=[node(1)]))
    assert (found.state, found.pools[0].nodes_missing) == ("forming", 2)
    assert found.problems == ("pool 0 waits for 2 more nodes to join",)
    assert status(view(live=NODES), nodes_expected=4).pools[0].nodes_missing == 1
    assert (
        status(view(live=NODES[:2], known=[3], configurations=CONFIGURATIONS))
        .pools[0]
        .nodes_missing
        == 0
    )


def test_a_cluster_without_a_pool_is_forming() -> None:
    assert status(view_without_pools()).state == "forming"


def view_without_pools() -> ClusterView:
    seen = view()
    return ClusterView(seen.revision, {}, seen.identities, seen.nodes, seen.configurations)


def test_a_node_that_went_shows_what_it_last_said_and_since_when_it_is_gone() -> None:
    departures = {NodeId(3): Departure(node(3, zone="rack-3"), 1_700_000_000_000)}
    gone = status(view(live=NODES[:2], known=[3], configurations=CONFIGURATIONS), departures).nodes[
        2
    ]
    assert (gone.live, gone.gone_since_ms) == (False, 1_700_000_000_000)
    assert (gone.s3_address, gone.zone) == ("127.0.0.1:9003", "rack-3")


def test_a_node_that_nobody_saw_live_shows_only_its_identity() -> None:
    gone = status(view(live=NODES[:2], known=[3], configurations=CONFIGURATIONS)).nodes[2]
    assert (gone.live, gone.gone_since_ms, gone.rpc_address) == (False, None, None)
    assert gone.incarnation == incarnation(3)


def test_different_versions_are_a_problem() -> None:
    found = status(view(live=[*NODES[:2], node(3, version="0.2.0")], configurations=CONFIGURATIONS))
    assert found.problems == ("nodes run different versions: 0.1.0, 0.2.0",)
    assert found.state == "degraded"


def test_copies_of_no_use_and_full_disks_are_named_with_what_to_do() -> None:
    names = ("0/0", "0/1", "0/2", "0/3")
    shards = tuple(map(parse_shard_name, names))
    copies = KnownCopies(
        {},
        (),
        {},
        0,
        0,
        void={NodeId(1): shards},
        failed={NodeId(2): shards[:1]},
        read_only=frozenset({NodeId(3)}),
        indexes={NodeId(3): "rebuilding"},
    )
    found = status(view(live=NODES, configurations=CONFIGURATIONS), copies=copies)
    assert [each.void for each in found.nodes] == [names, (), ()]
    assert [each.failed for each in found.nodes] == [(), ("0/0",), ()]
    assert [each.read_only for each in found.nodes] == [False, False, True]
    assert found.state == "degraded"
    assert found.problems == (
        "n1 has void copies of 4 shards (0/0, 0/1, 0/2, …): octad doctor tells what to do",
        "n2 failed in 1 shard (0/0): restart it",
        "the damaged index of n3 is made anew",
        "n3 refuses writes: its disk is full",
    )


def test_what_the_caller_knows_to_be_wrong_comes_first() -> None:
    found = status(
        view(live=NODES, configurations=CONFIGURATIONS), problems=("the store is silent",)
    )
    assert (found.state, found.problems) == ("degraded", ("the store is silent",))


def test_the_json_is_the_documented_one() -> None:
    seen = view(live=NODES[:1], configurations=[configuration(1, 2, 3, depth=0)], depth=0)
    assert msgspec.json.encode(status(seen)) == (
        b'{"format":1,"cluster":"1a2b3c4d","state":"degraded",'
        b'"problems":["1 shard refuses writes: a member is down"],'
        b'"store":{"kind":"embedded","endpoints":["http://127.0.0.1:9500"],"revision":9,"age_s":0.0},'
        b'"coordinator":{"address":"127.0.0.1:9400","version":"0.1.0","leading":true,'
        b'"leader_address":"127.0.0.1:9400"},'
        b'"pools":[{"id":0,"replicas":3,"depth":0,"nodes_missing":0,'
        b'"shards":{"ok":0,"degraded":0,"writes-blocked":1,"unavailable":0,"forming":0},"copies":{"unverified":1}}],'
        b'"nodes":[{"name":"n1","live":true,"gone_since_ms":null,"incarnation":"incarnation-1",'
        b'"rpc_address":"127.0.0.1:7001","s3_address":"127.0.0.1:9001","zone":"","weight":1.0,'
        b'"version":"0.1.0","primary_of":1,"member_of":1,"admin_address":null,'
        b'"void":[],"failed":[],"read_only":false,"index":"","different":[],'
        b'"s3_tls":false,"log_address":null,"log_tls":false}],'
        b'"copies":{"unverified":1},"copying":{"missing":0,"under_way":0,"waiting":0,'
        b'"bytes_left":0,"time_left_s":null}}'
    )


def test_a_reader_takes_its_own_document_and_one_with_more_fields_but_no_newer_format() -> None:
    document = status(view(live=NODES, configurations=CONFIGURATIONS))
    data = msgspec.json.encode(document)
    assert decode_status(data) == document
    assert decode_status(data[:-1] + b',"more":1}') == document
    for other in (data.replace(b'"format":1', b'"format":2'), b"{}", b"", b"<html>"):
        with pytest.raises(BadStatus):
            decode_status(other)
