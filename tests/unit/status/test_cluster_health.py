"""Is all data served, and may a node be stopped now?"""

from __future__ import annotations

import pytest
from tests.unit.coordinator.cluster_records import configuration, node, view

from octad.coordinator.status.cluster_health import may_not_go_down, not_serving
from octad.sharding.ids import NodeId

FOUR = [node(number) for number in (1, 2, 3, 4)]
CONFIGURATIONS = [
    configuration(1, 2, 3),
    configuration(2, 3, 4),
    configuration(3, 4, 1),
    configuration(4, 1, 2),
]


def test_at_full_strength_any_node_may_go_down() -> None:
    whole = view(live=FOUR, configurations=CONFIGURATIONS)
    assert not_serving(whole) == []
    assert all(may_not_go_down(whole, NodeId(number)) == [] for number in (1, 2, 3, 4))


def test_while_one_is_down_no_other_member_of_its_shards_may_follow() -> None:
    weak = view(live=FOUR[:3], known=[4], configurations=CONFIGURATIONS)
    assert not_serving(weak) == ["shards 0/1, 0/2, 0/3: a member is down"]
    assert may_not_go_down(weak, NodeId(1)) == [
        "without n1 shards 0/2, 0/3 would have too few live copies"
    ]


def test_two_copies_may_become_one_but_not_none() -> None:
    pair = view(
        live=FOUR[:2],
        known=[3],
        configurations=[configuration(1, 2), configuration(1, 3)],
        replicas=2,
        depth=1,
    )
    assert may_not_go_down(pair, NodeId(2)) == []
    assert may_not_go_down(pair, NodeId(1)) == [
        "without n1 shard 0/1 would have too few live copies"
    ]


def test_a_member_on_a_wiped_disk_is_no_copy() -> None:
    wiped = view(
        live=[node(1), node(2), node(3, disk=9)], configurations=[configuration(1, 2, 3)], depth=0
    )
    assert may_not_go_down(wiped, NodeId(1)) != []


@pytest.mark.parametrize("number", [9, 0])
def test_a_node_that_the_cluster_does_not_have_is_told_so(number: int) -> None:
    assert may_not_go_down(view(live=FOUR, configurations=CONFIGURATIONS), NodeId(number)) == [
        f"the cluster has no n{number}"
    ]


def test_missing_configurations_are_counted() -> None:
    assert not_serving(view(live=FOUR, configurations=CONFIGURATIONS[:3])) == [
        "pool 0: 1 shards have no configuration yet"
    ]
