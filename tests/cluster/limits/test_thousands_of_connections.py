"""Thousands of clients that send half of what they said, or nothing: no node grows or slows."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.cluster.limits.many_uploads import begin_upload, resident_mib, wait_until
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.s3_clients import put_status, s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.cluster, pytest.mark.long]

BUCKET = "crowded"
HALF_SENT, STEPS = 10_000, 4
BODY_BYTES = 20_000
GROWN_MIB_MAX, KEPT_MIB_MAX, KEPT_FILES_MAX = 400, 64, 32
IDLE, ROUNDS, REQUESTS = 3_000, 4, 400
BACK_S_MAX = 120.0


@pytest.fixture
def sockets() -> Iterator[int]:
    """How many this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard - 500
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def half_sent(url: str, stack: ExitStack) -> None:
    """One body; the node may refuse it meanwhile."""
    connection, head = begin_upload(url, BODY_BYTES)
    stack.callback(connection.close)
    connection.settimeout(0)
    with suppress(BlockingIOError, ConnectionError):
        connection.send(head + bytes(BODY_BYTES // 2))


def test_ten_thousand_half_sent_bodies_are_bounded_and_all_is_given_back(
    start_cluster: StartCluster, sockets: int
) -> None:
    cluster = start_cluster()
    pid = cluster.nodes[0].pid
    with s3_client(cluster) as client, s3_client(cluster, 1) as other, ExitStack() as stack:
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="before", Body=b"x")
        url = client.generate_presigned_url("put_object", {"Bucket": BUCKET, "Key": "half"})
        mib, files = resident_mib(pid), open_files(pid)
        seen = []
        for _ in range(STEPS):
            for _ in range(min(HALF_SENT, sockets) // STEPS):
                half_sent(url, stack)
            seen.append((resident_mib(pid) - mib, open_files(pid) - files))
            assert put_status(other, BUCKET, "elsewhere", b"x") == 200
        print(f"\nMiB and files more, after each quarter: {seen}")
        assert max(grown for grown, _ in seen) <= GROWN_MIB_MAX, seen
        stack.close()
        wait_until(lambda: open_files(pid) <= files + KEPT_FILES_MAX, BACK_S_MAX, "files are kept")
        wait_until(lambda: resident_mib(pid) <= mib + KEPT_MIB_MAX, BACK_S_MAX, "memory is kept")
        assert put_status(client, BUCKET, "after", b"x") == 200
        keys = [each["Key"] for each in client.list_objects_v2(Bucket=BUCKET)["Contents"]]
        assert keys == ["after", "before", "elsewhere"], "nothing of half a body stays"
    assert cluster.nodes[0].pid == pid
    cluster.stop()


@contextmanager
def idle(cluster: DevCluster, count: int) -> Iterator[None]:
    """So many connections to each node."""
    with ExitStack() as stack:
        for node in cluster.nodes:
            host, _, port = node.s3.rpartition(":")
            for _ in range(count):
                one = socket.create_connection((host, int(port)), timeout=20)
                stack.callback(one.close)
        yield


def p99_s(client: S3Client) -> float:
    """Of reads and writes in turn."""
    took = []
    for number in range(REQUESTS):
        begun = time.perf_counter()
        if number % 2:
            client.get_object(Bucket=BUCKET, Key="key")["Body"].read()
        else:
            client.put_object(Bucket=BUCKET, Key="key", Body=bytes(4096))
        took.append(time.perf_counter() - begun)
    return sorted(took)[REQUESTS * 99 // 100]


def test_three_thousand_idle_connections_a_node_do_not_slow_others_down(
    start_cluster: StartCluster, sockets: int
) -> None:
    cluster = start_cluster()
    count = min(IDLE, sockets // len(cluster.nodes))
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=BUCKET)
        p99_s(client)
        rounds = []
        for _ in range(ROUNDS):
            alone = p99_s(client)
            with idle(cluster, count):
                rounds.append((alone, p99_s(client)))
        print(f"\np99 in s, alone and beside {count} connections a node: {rounds}")
        # Whatever else the machine does makes a round worse, never better.
        assert min(beside for _, beside in rounds) <= 2 * min(alone for alone, _ in rounds), rounds
    cluster.stop()
