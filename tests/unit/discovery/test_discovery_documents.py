"""Services as Prometheus and Consul's clients read them."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.coordinator.cluster_records import node

from octad.client.cluster.service_records import ServiceInstance
from octad.coordinator.discovery.consul_documents import (
    consul_wait_s,
    service_entries,
    service_names,
)
from octad.coordinator.discovery.prometheus_targets import node_targets, service_targets

CLUSTER = "1a2b3c4d"
WELL = ServiceInstance(
    service="web",
    instance="a",
    address="10.0.0.5:80",
    zone="rack-1",
    weight=2.6,
    version="7",
    labels={"tier": "front", "traefik.enable": "true", "canary": ""},
)
SLOW = ServiceInstance(service="web", instance="b", address="[fd00::5]:81", health="degraded")
LEAVING = ServiceInstance(service="db", instance="c", address="db.lan:5432", drain=True, weight=0)


def test_prometheus_gets_a_group_for_each_instance_and_node() -> None:
    with_metrics = msgspec.structs.replace(node(3), admin_address="127.0.0.1:11003")
    groups = [*service_targets([WELL, SLOW]), *node_targets([with_metrics, node(4)])]
    assert [group.targets for group in groups] == [
        ("10.0.0.5:80",), ("[fd00::5]:81",), ("127.0.0.1:11003",),
    ]  # fmt: skip
    assert groups[0].labels == {
        "__meta_octad_service": "web",
        "__meta_octad_instance": "a",
        "__meta_octad_zone": "rack-1",
        "__meta_octad_version": "7",
        "__meta_octad_health": "ok",
        "__meta_octad_drain": "false",
        "__meta_octad_label_tier": "front",
        "__meta_octad_label_traefik_enable": "true",
        "__meta_octad_label_canary": "",
    }
    assert groups[2].labels["__meta_octad_service"] == "octad-node"
    assert groups[2].labels["__meta_octad_instance"] == "n3"


def test_consul_clients_get_address_port_tags_and_checks() -> None:
    entries = service_entries([WELL, SLOW, LEAVING], CLUSTER, passing=False, tags=())
    first = entries[0]
    assert first["Node"]["Address"] == first["Service"]["Address"] == "10.0.0.5"
    assert first["Node"]["Datacenter"] == CLUSTER
    service = first["Service"]
    assert (service["ID"], service["Service"], service["Port"]) == ("a", "web", 80)
    assert service["Tags"] == ["canary", "tier=front", "traefik.enable=true"]
    assert service["Meta"]["zone"] == "rack-1"
    assert service["Weights"] == {"Passing": 3, "Warning": 1}
    assert entries[1]["Service"]["Address"] == "fd00::5"
    statuses = [[check["Status"] for check in entry["Checks"]] for entry in entries]
    assert statuses == [["passing"], ["warning"], ["passing", "critical"]]
    assert entries[2]["Service"]["Weights"]["Passing"] == 1, "Consul knows no smaller weight"


def test_tags_and_passing_narrow_it() -> None:
    def found(passing: bool, *tags: str) -> list[str]:
        entries = service_entries([WELL, SLOW, LEAVING], CLUSTER, passing=passing, tags=tags)
        return [entry["Service"]["ID"] for entry in entries]

    assert found(True) == ["a"]
    assert found(False, "tier=front", "canary") == ["a"]
    assert found(False, "tier") == []
    assert service_names([WELL, SLOW, LEAVING]) == {
        "db": [], "web": ["canary", "tier=front", "traefik.enable=true"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("30s", 30), ("500ms", 0.5), ("1.5s", 1.5), ("10", 10), ("1h", 3600)],
)
def test_a_wait_is_read_as_consul_reads_it(text: str, seconds: float) -> None:
    assert consul_wait_s(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-5s", "5 s", "5d", "1e9", "nan", "9" * 99])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert consul_wait_s(text) is None
