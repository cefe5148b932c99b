"""SIGKILL of the supervisor of `octad dev`: its nodes end with it, and another one takes over."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.process_tree import ProcessTree
from tests.harness.s3_clients import s3_client

pytestmark = pytest.mark.cluster

BUCKET = "acknowledged"
WRITES_MIN = 40
WAIT_S = 30.0


def write(cluster: DevCluster, node: int, acknowledged: list[str]) -> None:
    """One object after the other through a node, until that one has ended."""
    with s3_client(cluster, node) as client:
        for number in range(1_000_000):
            key = f"{node}-{number}"
            try:
                client.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
            except Exception:
                return
            acknowledged.append(key)


def test_a_new_supervisor_starts_at_once_on_what_a_killed_one_has_left(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=BUCKET)
    acknowledged: list[str] = []
    with ThreadPoolExecutor(len(cluster.nodes)) as writers:
        for node in range(len(cluster.nodes)):
            writers.submit(write, cluster, node, acknowledged)
        deadline = time.monotonic() + WAIT_S
        while len(acknowledged) < WRITES_MIN:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        tree, cluster.tree = cluster.tree, ProcessTree((), cluster.log)
        os.kill(cluster.nodes[0].pid, signal.SIGSTOP)  # It can neither hear of it nor stop.
        os.kill(tree.pid, signal.SIGKILL)
        try:
            cluster.start()  # While the writers are about to notice.
            assert tree.wait_until_gone(timeout_s=0) == []
        finally:
            tree.kill()
    for node in range(len(cluster.nodes)):
        with s3_client(cluster, node) as client:
            for key in acknowledged:
                body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
                assert body == key.encode()
