"""Who may join, and as whom."""

from __future__ import annotations

import math

import pytest
from tests.unit.coordinator.cluster_records import CLUSTER, join_request, node, view

from octad.coordinator.membership.admission import Admission, JoinRefused, admit
from octad.coordinator.schema.cluster_view import ClusterView
from octad.coordinator.schema.join_messages import JoinRequest
from octad.sharding.ids import NodeId
from octad.sharding.limits import NODE_ID_MAX


def refusal(request: JoinRequest, seen: ClusterView, last_node: int = 0) -> JoinRefused:
    with pytest.raises(JoinRefused) as refused:
        admit(CLUSTER, request, seen, NodeId(last_node))
    return refused.value


def test_the_first_node_is_n1() -> None:
    assert admit(CLUSTER, join_request(1), view(), NodeId(0)) == Admission(NodeId(1), is_new=True)


def test_an_id_that_was_ever_handed_out_is_not_handed_out_again() -> None:
    admission = admit(CLUSTER, join_request(9), view(known=[1, 2]), NodeId(5))
    assert admission == Admission(NodeId(6), is_new=True)


def test_a_known_disk_gets_its_old_id_back_whether_it_remembers_it_or_not() -> None:
    seen = view(known=[1, 2])
    for wants in (None, 2):
        admission = admit(CLUSTER, join_request(2, wants=wants), seen, NodeId(2))
        assert admission == Admission(NodeId(2), is_new=False)


def test_a_free_id_can_be_asked_for() -> None:
    assert admit(CLUSTER, join_request(7, wants=7), view(), NodeId(0)).node == 7


def test_a_wiped_node_does_not_get_its_old_id() -> None:
    refused = refusal(join_request(2, wants=2, disk="another-disk"), view(known=[2]), 2)
    assert refused.code == "wiped"
    assert "incarnation-2" in refused.reason
    assert not refused.passes


def test_a_disk_is_one_node_only() -> None:
    assert refusal(join_request(2, wants=3), view(known=[2]), 2).code == "identity-differs"


def test_a_copied_data_directory_is_refused_while_the_original_is_live() -> None:
    request = join_request(2, wants=2, rpc_address="127.0.0.1:7999")
    refused = refusal(request, view(live=[node(2)]), 2)
    assert refused.code == "identity-in-use"
    assert refused.passes, "an old lease ends by itself"


def test_a_node_that_restarts_at_once_on_its_address_is_let_in() -> None:
    admission = admit(CLUSTER, join_request(2, wants=2), view(live=[node(2)]), NodeId(2))
    assert admission.node == 2


@pytest.mark.parametrize("role", ["RPC", "S3"])
@pytest.mark.parametrize("port", [7001, 9001])
def test_an_address_of_another_live_node_is_refused(role: str, port: int) -> None:
    taken = f"127.0.0.1:{port}"
    request = (
        join_request(2, rpc_address=taken) if role == "RPC" else join_request(2, s3_address=taken)
    )
    refused = refusal(request, view(live=[node(1)]), 1)
    assert refused.code == "address-in-use"
    assert "n1" in refused.reason


def test_the_address_of_a_node_that_is_gone_is_free() -> None:
    request = join_request(2, rpc_address="127.0.0.1:7001")
    assert admit(CLUSTER, request, view(known=[1]), NodeId(1)).node == 2


def test_a_node_of_another_cluster_is_refused() -> None:
    assert refusal(join_request(1, cluster="deadbeef"), view()).code == "other-cluster"


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":1", "host:0", "host:65536", "0.0.0.0:1", "[::]:1", "a b:1"]
)
def test_an_address_nobody_can_connect_to_is_refused(address: str) -> None:
    request = join_request(1, rpc_address=address)
    assert refusal(request, view()).code == "bad-address"


def test_rpc_and_s3_need_an_address_each() -> None:
    request = join_request(1, rpc_address="127.0.0.1:1", s3_address="127.0.0.1:1")
    assert refusal(request, view()).code == "bad-address"


def test_loopback_and_real_addresses_do_not_mix() -> None:
    request = join_request(2, rpc_address="10.0.0.2:7000", s3_address="10.0.0.2:9000")
    assert refusal(request, view(live=[node(1)])).code == "bad-address"


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan, 1e9])
def test_a_weight_that_makes_no_sense_is_refused(weight: float) -> None:
    assert refusal(join_request(1, weight=weight), view()).code == "bad-weight"


@pytest.mark.parametrize("zone", ["a/b", "a b", "x" * 65, "zone\n", "zöne"])
def test_a_zone_that_makes_no_sense_is_refused(zone: str) -> None:
    assert refusal(join_request(1, zone=zone), view()).code == "bad-zone"


@pytest.mark.parametrize("disk", ["", "short", "x" * 65, "a/b/c/d/e/f"])
def test_an_incarnation_that_names_no_disk_is_refused(disk: str) -> None:
    assert refusal(join_request(1, disk=disk), view()).code == "bad-incarnation"


def test_a_version_that_makes_no_sense_is_refused() -> None:
    assert refusal(join_request(1, version=""), view()).code == "bad-version"


@pytest.mark.parametrize("wants", [0, -1, NODE_ID_MAX + 1])
def test_an_id_out_of_range_is_refused(wants: int) -> None:
    assert refusal(join_request(1, wants=wants), view()).code == "bad-id"


def test_when_all_ids_were_handed_out_nobody_new_joins() -> None:
    assert refusal(join_request(1), view(), NODE_ID_MAX).code == "too-many-nodes"
