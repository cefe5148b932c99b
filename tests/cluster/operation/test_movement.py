"""Shards move and are split while clients write, read, list and upload: no error, nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.cluster.operation.test_usage import octad
from tests.harness.cluster_process import OCTAD, DevCluster, Refused, StartCluster
from tests.harness.s3_clients import s3_client
from tests.harness.steady_load import SteadyLoad

from octad.client.cluster.status_document import ClusterStatus, decode_status
from octad.coordinator.schema.placement_messages import PlacedNodes, PlanStatus

pytestmark = pytest.mark.cluster

WAIT_S_MAX = 60.0
FAST = ("--moves", "32", "--moves-per-node", "16")


def plan_status(cluster: DevCluster) -> PlanStatus:
    said = octad(cluster, "rebalance", "--status", "--json")
    return msgspec.json.decode(said, type=PlanStatus)


def status(cluster: DevCluster) -> ClusterStatus:
    """Its exit code says whether all is well, which is not what is asked here."""
    command: list[str | Path] = [OCTAD, "status", "--json", "--data", cluster.data]
    return decode_status(subprocess.run(command, capture_output=True, timeout=20).stdout)


def wait_until_done(cluster: DevCluster) -> float:
    started = time.monotonic()
    while (plan := plan_status(cluster)).state != "done":
        assert time.monotonic() - started < WAIT_S_MAX, plan
        time.sleep(0.2)
    return time.monotonic() - started


def wait_until_whole(cluster: DevCluster) -> float:
    started = time.monotonic()
    while True:
        counts = [{s: n for s, n in pool.shards.items() if n} for pool in status(cluster).pools]
        if all(count.keys() <= {"ok"} for count in counts):
            return time.monotonic() - started
        assert time.monotonic() - started < WAIT_S_MAX, counts
        time.sleep(0.2)


def replicas(cluster: DevCluster) -> dict[str, int]:
    said = octad(cluster, "node", "ls", "--json")
    nodes = msgspec.json.decode(said, type=PlacedNodes).nodes
    return {node.name: node.replicas for node in nodes}


def say(what: str, load: SteadyLoad) -> None:
    longest = ", ".join(f"{kind} {took:.2f}" for kind, took in sorted(load.longest_s.items()))
    print(f"\n{what}; {load.requests} requests; longest waits in s: {longest}")


def test_a_node_is_drained_and_filled_again_under_load_and_its_shards_split(
    start_cluster: StartCluster, refused: Refused
) -> None:
    cluster = start_cluster(nodes=4)
    with s3_client(cluster) as client:
        client.create_bucket(Bucket="moved")
    load = SteadyLoad(cluster, "moved")
    with load.working([0, 1, 3]):
        time.sleep(1.0)
        octad(cluster, "node", "drain", "n4", "--no-wait", *FAST)
        drained_s = wait_until_done(cluster)
        assert replicas(cluster)["n4"] == 0
        held = refused("node", "remove", "n4", "--data", cluster.data)
        assert held == "octad: n4 still runs; stop n4, then remove it"
        octad(cluster, "node", "add", "n4", "--no-wait", *FAST)
        added_s = wait_until_done(cluster)
        assert replicas(cluster)["n4"] > 0
        octad(cluster, "shards", "split", "--no-wait")
        split_s = wait_until_done(cluster)
    say(f"drained in {drained_s:.1f}, filled in {added_s:.1f}, split in {split_s:.1f} s", load)
    wait_until_whole(cluster)
    for node in range(4):
        load.check_at(node)


def test_a_pool_is_split_under_load_while_a_node_dies(start_cluster: StartCluster) -> None:
    cluster = start_cluster()
    octad(cluster, "pool", "create", "--replicas", "2", "--depth", "3", "--no-wait")
    deadline = time.monotonic() + WAIT_S_MAX
    while len(pools := status(cluster).pools) < 2 or pools[1].shards.get("ok") != 8:
        assert time.monotonic() < deadline, pools
        time.sleep(0.1)
    with s3_client(cluster) as client:
        configuration: Any = {"LocationConstraint": "octad-2x"}
        client.create_bucket(Bucket="split", CreateBucketConfiguration=configuration)
    load = SteadyLoad(cluster, "split")
    with load.working([0, 1]):
        time.sleep(2.0)
        octad(cluster, "shards", "split", "--pool", "1", "--no-wait")
        os.kill(cluster.nodes[2].pid, signal.SIGKILL)  # The supervisor starts it again.
        split_s = wait_until_done(cluster)
        time.sleep(2.0)
    say(f"split in {split_s:.1f} s", load)
    assert status(cluster).pools[1].depth == 4
    wait_until_whole(cluster)
    for node in range(3):
        load.check_at(node)
    cluster.stop()
    cluster.start()
    for node in range(3):
        load.check_at(node)
