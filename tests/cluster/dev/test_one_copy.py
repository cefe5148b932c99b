"""One copy is a cluster like any other: it keeps what it acknowledged, and says that it is one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.operation.test_movement import (
    FAST,
    replicas,
    status,
    wait_until_done,
    wait_until_whole,
)
from tests.cluster.operation.test_usage import octad
from tests.harness.cluster_process import OCTAD, DevCluster, StartCluster
from tests.harness.s3_clients import aws_environment, s3_client
from tests.harness.steady_load import SteadyLoad

pytestmark = pytest.mark.cluster

LARGE = bytes(range(256)) * 12_000
WAIT_S_MAX = 20.0


def doctor_of_a_well_cluster(cluster: DevCluster) -> str:
    """What it says once it finds nothing to do: each node has to tell of its copies first."""
    command: list[str | Path] = [OCTAD, "doctor", "--data", cluster.data]
    deadline = time.monotonic() + WAIT_S_MAX
    while (done := subprocess.run(command, capture_output=True, text=True)).returncode:
        assert time.monotonic() < deadline, done
        time.sleep(0.2)
    return done.stdout


def said(cluster: DevCluster) -> str:
    return cluster.log.read_text()


def kill_and_wait(cluster: DevCluster, node: int) -> None:
    """SIGKILL a node's process; its supervisor starts another one, which serves."""
    os.kill(cluster.nodes[node].pid, signal.SIGKILL)
    deadline = time.monotonic() + WAIT_S_MAX
    while True:
        with s3_client(cluster, node) as client:
            try:
                client.list_objects_v2(Bucket="single")
                return
            except Exception:
                assert time.monotonic() < deadline
                time.sleep(0.05)


def test_one_node_keeps_one_copy_says_so_and_shows_the_way_to_three(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(nodes=1)
    assert "is ready: 1 node, 1 copy of everything" in said(cluster)
    assert "1: what a lost disk held is lost" in said(cluster)
    stored = {"small": b"small", "large": LARGE}
    with s3_client(cluster) as client:
        client.create_bucket(Bucket="single")
        for key, body in stored.items():
            answer: Any = client.put_object(Bucket="single", Key=key, Body=body)
            assert "x-octad-degraded" not in answer["ResponseMetadata"]["HTTPHeaders"]
    kill_and_wait(cluster, 0)
    told = doctor_of_a_well_cluster(cluster)
    shown = octad(cluster, "status")
    assert re.search(
        r"^pool 0: 1 copy, 256 shards: 256 ok; verified copies: 1 of each$", shown, re.M
    )
    assert told.startswith("nothing is wrong\n")
    assert told.count("octad-1x keeps 1 copy, as asked for: what a lost disk held is lost") == 1
    cluster.stop()

    cluster.nodes_wanted = 3
    cluster.start()
    grown = said(cluster).rpartition("is ready: ")[2]
    assert grown.startswith("3 nodes, 1 copy of everything")
    assert "a bucket never changes its pool" in grown
    for line in re.findall(r"^  (.+)$", grown.partition("For three copies:")[2], re.M):
        line = line.replace("NEW", "triple").replace("OLD", "single")
        line = re.sub(r"^aws", str(OCTAD.with_name("aws")), line)
        subprocess.run(line, shell=True, check=True, env=aws_environment(cluster), timeout=60)
    wait_until_whole(cluster)
    assert [pool.replicas for pool in status(cluster).pools] == [1, 3]
    with s3_client(cluster, node=2) as client:
        location: Any = client.get_bucket_location(Bucket="triple")
        assert location["LocationConstraint"] == "octad-3x"
        for bucket in ("single", "triple"):
            for key, body in stored.items():
                assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == body


def test_the_only_copy_moves_between_nodes_and_is_split_under_load(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(nodes=2, options=("--replicas", "1"))
    octad(cluster, "pool", "create", "--replicas", "1", "--depth", "3", "--no-wait")
    wait_until_whole(cluster)
    with s3_client(cluster) as client:
        location: Any = {"LocationConstraint": "octad-1x-1"}
        client.create_bucket(Bucket="single", CreateBucketConfiguration=location)
    load = SteadyLoad(cluster, "single")
    with load.working([0]):
        time.sleep(0.5)
        octad(cluster, "node", "drain", "n2", "--no-wait", *FAST)
        wait_until_done(cluster)
        assert replicas(cluster)["n2"] == 0
        octad(cluster, "shards", "split", "--pool", "1", "--no-wait")
        wait_until_done(cluster)
    assert replicas(cluster) == {"n1": 256 + 16, "n2": 0}
    kill_and_wait(cluster, 0)
    load.check_at(1)
    assert doctor_of_a_well_cluster(cluster).startswith("nothing is wrong\n")


def test_two_nodes_say_that_they_keep_two_copies(start_cluster: StartCluster) -> None:
    cluster = start_cluster(nodes=2)
    assert "is ready: 2 nodes, 2 copies of everything" in said(cluster)
    assert "2: two nodes have room for no more" in said(cluster)
