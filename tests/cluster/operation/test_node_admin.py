"""What a node tells of itself on its admin port."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.harness.cluster_process import OCTAD, DevCluster
from tests.harness.s3_clients import s3_client

pytestmark = pytest.mark.cluster

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "reference" / "node-http.md"


def admin_of(cluster: DevCluster, node: int) -> str:
    command: list[str | Path] = [OCTAD, "status", "--json", "--coordinator", cluster.coordinator]
    done = subprocess.run(command, capture_output=True, timeout=20, check=True)
    return f"http://{json.loads(done.stdout)['nodes'][node]['admin_address']}"


def get(url: str, method: str = "GET") -> tuple[int, str]:
    try:
        request = urllib.request.Request(url, method=method)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status), str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def samples(text: str) -> dict[str, float]:
    """By name and labels, as they are written."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_a_node_counts_its_requests_and_what_it_holds(cluster: DevCluster) -> None:
    admin = admin_of(cluster, 1)
    before = samples(get(f"{admin}/metrics")[1])
    with s3_client(cluster, node=1) as client:
        client.create_bucket(Bucket="metered")
        for number in range(3):
            client.put_object(Bucket="metered", Key=f"{number}", Body=b"x" * 1000)
    assert get(f"http://{cluster.nodes[1].s3}/metrics")[0] == 403, "there it is a bucket"
    after = samples(get(f"{admin}/metrics")[1])

    def grew(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grew("octad_s3_requests_total{code=200,operation=PutObject}") == 3
    assert grew("octad_s3_requests_total{code=403,operation=ListObjects}") == 1
    assert grew("octad_journal_records_total") > 0
    assert after["octad_peers_connected"] == after["octad_peers_known"] == 2
    assert after["octad_node_replicas"] >= 256
    assert 0 < after["octad_node_primaries"] < after["octad_node_replicas"]
    assert after["octad_disk_free_bytes"] > 0
    assert grew("octad_s3_request_seconds_count{operation=PutObject}") == 3
    assert 0 < grew("octad_s3_first_byte_seconds_sum{operation=PutObject}") < 60
    assert grew("octad_s3_received_bytes_total") == 3000
    assert after["octad_s3_requests_in_flight"] == 0
    assert grew("octad_journal_sync_seconds_count") >= 3, "a write that is answered is on the disk"
    assert grew("octad_journal_sync_seconds_sum") > 0


def test_every_metric_of_a_node_is_in_the_documents(cluster: DevCluster) -> None:
    documented = set(re.findall(r"`(octad_\w+)", DOCUMENT.read_text()))
    said = samples(get(f"{admin_of(cluster, 0)}/metrics")[1])
    names = (name.partition("{")[0] for name in said if name.startswith("octad_"))
    present = {re.sub(r"_seconds_(bucket|count|sum)$", "_seconds", name) for name in names}
    assert present <= documented
    assert documented - present <= {
        *("octad_peer_refusals_total", "octad_s3_requests_total"),
        *("octad_log_requests_total", "octad_log_refused_batches_total"),
        # One for each operation that was requested.
        *("octad_s3_request_seconds", "octad_s3_first_byte_seconds"),
        # Where there is one.
        *("octad_s3_certificate_end_seconds", "octad_log_certificate_end_seconds"),
    }


def test_a_node_that_serves_is_alive_and_ready_and_shows_strangers_nothing_more(
    cluster: DevCluster,
) -> None:
    admin = admin_of(cluster, 2)
    assert get(f"{admin}/healthz") == (200, "ok\n")
    assert get(f"{admin}/readyz") == (200, "ready\n")
    status, said = get(f"{admin}/node/v1/kept", "POST")
    assert (status, "not signed" in said) == (401, True)
