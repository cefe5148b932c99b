"""Dry runs say how many bytes would move, from what the nodes themselves report."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import msgspec
import pytest
from tests.harness.cluster_process import OCTAD, DevCluster, StartCluster
from tests.harness.s3_clients import s3_client

from octad.coordinator.schema.placement_messages import PlacedNodes, PlanAnswer

pytestmark = pytest.mark.cluster

OBJECT_BYTES = 300_000
OBJECTS = 20
REPORTED_S_MAX = 30.0


def octad(cluster: DevCluster, *arguments: str) -> str:
    command: list[str | Path] = [OCTAD, *arguments, "--data", cluster.data]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout


def test_a_drains_dry_run_says_bytes(start_cluster: StartCluster) -> None:
    cluster = start_cluster(nodes=4)
    with s3_client(cluster) as client:
        client.create_bucket(Bucket="sized")
        for number in range(OBJECTS):
            client.put_object(Bucket="sized", Key=f"{number}", Body=b"x" * OBJECT_BYTES)
    cluster.stop()  # Nodes report when they start, and then once a minute.
    cluster.start()

    stored = 3 * OBJECTS * OBJECT_BYTES
    deadline = time.monotonic() + REPORTED_S_MAX
    while True:
        nodes = msgspec.json.decode(octad(cluster, "node", "ls", "--json"), type=PlacedNodes).nodes
        used = [node.used_bytes for node in nodes if node.used_bytes is not None]
        if len(used) == 4 and sum(used) >= stored:
            break
        assert time.monotonic() < deadline, nodes
        time.sleep(0.1)
    assert stored <= sum(used) < 1.05 * stored

    said = octad(cluster, "node", "drain", "n4", "--dry-run", "--json")
    answer = msgspec.json.decode(said, type=PlanAnswer)
    assert answer.moves_bytes
    assert answer.moves_bytes == nodes[3].used_bytes
    assert "unknown" not in octad(cluster, "node", "drain", "n4", "--dry-run")
    assert "unknown" not in octad(cluster, "rebalance", "--dry-run")
