"""The directory of a node of `octad dev` is deleted: a new node takes its place and is filled."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable

import pytest
from tests.harness.cluster_process import OCTAD, DevCluster, StartCluster
from tests.harness.s3_clients import s3_client

from octad.client.cli.coordinator_option import DEV_FILE
from octad.client.cluster.status_document import ClusterStatus, decode_status

pytestmark = pytest.mark.cluster

BUCKET = "refilled"
BODIES = {f"small-{number}": f"{number} ".encode() * 50 for number in range(60)}
BODIES["large"] = os.urandom(5 * 1024 * 1024)
COPIES_S_MAX = 15.0
LOST = 1  # The index of the node that loses its directory: n2.


def octad(cluster: DevCluster, *words: str) -> tuple[int, str]:
    command: list[str | os.PathLike[str]] = [OCTAD, *words, "--data", cluster.data]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, str(done.stdout + done.stderr)


def status(cluster: DevCluster) -> ClusterStatus:
    return decode_status(octad(cluster, "status", "--json")[1].encode())


def until(found: Callable[[], bool], cluster: DevCluster, what: str) -> None:
    deadline = time.monotonic() + COPIES_S_MAX
    while not found():
        assert time.monotonic() < deadline, f"{what}:\n{octad(cluster, 'status')[1]}"
        time.sleep(0.3)


def check_reads(cluster: DevCluster, node: int) -> None:
    with s3_client(cluster, node) as client:
        for key, body in BODIES.items():
            assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body


def test_a_node_whose_directory_is_deleted_comes_back_as_a_new_one_and_is_filled(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=BUCKET)
        for key, body in BODIES.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=body)
    os.kill(cluster.nodes[LOST].pid, signal.SIGSTOP)  # It puts nothing back meanwhile.
    shutil.rmtree(cluster.data / "n2")
    os.kill(cluster.nodes[LOST].pid, signal.SIGKILL)

    def has_all_copies() -> bool:
        seen = status(cluster)
        places = {node.name: (node.live, node.member_of) for node in seen.nodes}
        return places.get("n4") == (True, 256) and seen.copies == {"3": 256}

    until(has_all_copies, cluster, "every copy is there again")
    said = cluster.log.read_text()
    assert said.count("n2 has lost its data: it comes back as n4") == 1, said
    running = json.loads((cluster.data / DEV_FILE).read_bytes())["nodes"]
    assert [node["id"] for node in running] == [1, 4, 3]
    assert running[LOST]["rpc"] == cluster.nodes[LOST].rpc
    check_reads(cluster, LOST)
    code, said = octad(cluster, "node", "remove", "n2")
    assert code == 0, said
    until(lambda: octad(cluster, "status")[0] == 0, cluster, "healthy without n2")

    cluster.stop()
    cluster.start()
    assert [node.id for node in cluster.nodes] == [1, 4, 3]
    os.kill(cluster.nodes[LOST].pid, signal.SIGKILL)  # Its end is recorded as that of n4.
    log = cluster.data / "n2.log"
    until(lambda: log.read_text().count("n4 is ready") == 3, cluster, "n4 serves again")
    check_reads(cluster, LOST)
    assert cluster.log.read_text().count("has lost its data") == 1
