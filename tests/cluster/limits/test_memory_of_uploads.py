"""A node's memory is bounded whatever clients send, and it gives back what it took."""

from __future__ import annotations

import resource
import shutil
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tests.cluster.limits.many_uploads import (
    Outcome,
    begin_upload,
    resident_mib,
    upload_all,
    wait_until,
)
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.s3_clients import s3_client

from octad.sharding.limits import GIB, MIB

pytestmark = pytest.mark.cluster

BUCKET = "uploads"
KEPT_MIB_MAX = 32  # Above what the processes had before.


def node_pids(cluster: DevCluster) -> list[int]:
    return [node.pid for node in cluster.nodes]


def signed_urls(cluster: DevCluster, count: int) -> list[str]:
    """Of objects that may be put through the first node."""
    with s3_client(cluster) as client:
        return [
            client.generate_presigned_url("put_object", {"Bucket": BUCKET, "Key": f"o-{number}"})
            for number in range(count)
        ]


def make_bucket(cluster: DevCluster) -> None:
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=BUCKET)


def gives_back(cluster: DevCluster, before: dict[int, int]) -> None:
    wait_until(
        lambda: all(resident_mib(pid) <= idle + KEPT_MIB_MAX for pid, idle in before.items()),
        30,
        f"from {before} to {[resident_mib(pid) for pid in before]} MiB, for good",
    )


def test_many_uploads_take_the_memory_that_they_are_given_and_give_it_back(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(options=("--body-budget", "16", "--replicas", "2"))
    make_bucket(cluster)
    pids = node_pids(cluster)
    before = {pid: resident_mib(pid) for pid in pids}
    outcome = upload_all(signed_urls(cluster, 64), 4 * MIB, pids, seconds_max=120)
    assert outcome.statuses == {200: 64}
    grown = {pid: outcome.resident_mib_max[pid] - before[pid] for pid in pids}
    # The budget, as much again of other nodes' pieces, and what is on its way between them.
    assert max(grown.values()) <= 100, grown
    gives_back(cluster, before)


def test_bodies_of_strangers_take_no_memory(start_cluster: StartCluster) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cluster = start_cluster()
    connections: list[socket.socket] = []
    try:
        make_bucket(cluster)
        pid = node_pids(cluster)[0]
        before = {pid: resident_mib(pid)}
        url = signed_urls(cluster, 1)[0]
        forged = url.replace("Signature=", "Signature=0")
        outcome = Outcome()
        for size in (130_000, 64 * MIB):
            for _ in range(min(900, hard - 100) // 2):
                connection, head = begin_upload(forged, size)
                connections.append(connection)
                connection.sendall(head)
                connection.settimeout(0)
                with suppress(BlockingIOError, ConnectionError):
                    connection.send(bytes(129_000))
                outcome.look([pid])
        for connection in connections:
            connection.settimeout(20)
            assert connection.recv(65536).startswith(b"HTTP/1.1 403")
        outcome.look([pid])
        assert outcome.resident_mib_max[pid] - before[pid] <= KEPT_MIB_MAX
    finally:
        for connection in connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.long
def test_two_hundred_uploads_are_bounded_and_nearly_as_fast_as_sixteen(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    copies = "3" if shutil.disk_usage(tmp_path).free > 60 * GIB else "2"
    cluster = start_cluster(options=("--replicas", copies))
    make_bucket(cluster)
    pids = node_pids(cluster)
    many, few = [], []
    size = 64 * MIB
    few.append(upload_all(signed_urls(cluster, 16), size, pids, seconds_max=300))
    many.append(upload_all(signed_urls(cluster, 200), size, pids, seconds_max=600))
    few.append(upload_all(signed_urls(cluster, 16), size, pids, seconds_max=300))
    ended = time.monotonic()
    for outcome, count in ((few[0], 16), (many[0], 200), (few[1], 16)):
        assert outcome.statuses == {200: count}
        assert max(outcome.resident_mib_max.values()) <= 512, outcome
    of_few = sum(16 * size / outcome.seconds for outcome in few) / len(few)
    of_many = 200 * size / many[0].seconds
    assert of_many >= 0.7 * of_few, f"{of_many / MIB:.0f} against {of_few / MIB:.0f} MiB/s"
    wait_until(
        lambda: max(map(resident_mib, pids)) <= 150,
        max(0.0, ended + 30 - time.monotonic()),
        f"{[resident_mib(pid) for pid in pids]} MiB 30 s later",
    )
