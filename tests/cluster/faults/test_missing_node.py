"""A node is frozen or killed under writes: all of them are acknowledged, what was stays, and keys
that no one was writing are read from the other nodes all the while.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.s3_clients import put_status, s3_client

pytestmark = pytest.mark.cluster

BUCKET = "missing-node"
WRITTEN = [f"written-{number}" for number in range(24)]
UNTOUCHED = [f"untouched-{number}" for number in range(24)]
LARGE = ["large-1", "large-2"]  # Beyond what a journal record holds: extents.
AWAY = 2  # Index of the node that is away; the others take the requests.
BACK_S_MAX = 30.0


def old(key: str) -> bytes:
    return b"old " + key.encode()


def new(key: str) -> bytes:
    return (b"new " + key.encode()) * (20_000 if key in LARGE else 1)


def fill(cluster: DevCluster) -> None:
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=BUCKET)
        for key in [*WRITTEN, *UNTOUCHED, *LARGE]:
            client.put_object(Bucket=BUCKET, Key=key, Body=old(key))
    time.sleep(0.3)  # Every member has heard by now that these are committed.


def write_once(cluster: DevCluster, node: int, keys: Iterable[str]) -> dict[str, int]:
    """One try for each key; gives the status of each."""
    with s3_client(cluster, node) as client, ThreadPoolExecutor(16) as pool:
        tries = {key: pool.submit(put_status, client, BUCKET, key, new(key)) for key in keys}
        return {key: attempt.result() for key, attempt in tries.items()}


def read(cluster: DevCluster, node: int, keys: Iterable[str]) -> dict[str, bytes | int]:
    """The body of each key, or the status of the refusal."""
    found: dict[str, bytes | int] = {}
    with s3_client(cluster, node) as client:
        for key in keys:
            try:
                found[key] = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            except ClientError as error:
                found[key] = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return found


def expect_untouched(cluster: DevCluster) -> None:
    for node in (0, 1):
        assert read(cluster, node, UNTOUCHED) == {key: old(key) for key in UNTOUCHED}


def wait_until_whole(cluster: DevCluster) -> None:
    """All three nodes answer for every key and take writes."""
    deadline = time.monotonic() + BACK_S_MAX
    for node in range(3):
        while not is_at_full_strength(cluster, node):
            assert time.monotonic() < deadline, f"node {node + 1} refuses requests"
            time.sleep(0.1)


def is_at_full_strength(cluster: DevCluster, node: int) -> bool:
    try:
        answers = read(cluster, node, [*WRITTEN, *LARGE])
        with s3_client(cluster, node) as client:
            statuses = [put_status(client, BUCKET, f"probe-{n}", b"") for n in range(40)]
    except (OSError, EndpointConnectionError):
        return False  # Not listening yet.
    return set(statuses) == {200} and 503 not in answers.values()


def expect_acknowledged(cluster: DevCluster, statuses: dict[str, int]) -> dict[str, bytes | int]:
    """Every node has what was acknowledged, and they agree on the rest; gives what they say."""
    first = read(cluster, 0, statuses)
    for key, status in statuses.items():
        possible = [new(key)] if status == 200 else [old(key), new(key)]
        assert first[key] in possible, f"{key}: PUT answered {status}, GET gives {first[key]!r:.60}"
    for node in (1, 2):
        assert read(cluster, node, statuses) == first
    return first


def freeze(cluster: DevCluster) -> Callable[[], None]:
    pid = cluster.nodes[AWAY].pid
    os.kill(pid, signal.SIGSTOP)
    return lambda: os.kill(pid, signal.SIGCONT)


def kill(cluster: DevCluster) -> Callable[[], None]:
    os.kill(cluster.nodes[AWAY].pid, signal.SIGKILL)
    return lambda: None  # The supervisor starts it again by itself.


@pytest.mark.parametrize("send_away", [freeze, kill])
def test_no_acknowledged_write_is_lost_around_a_node_that_is_away(
    start_cluster: StartCluster, send_away: Callable[[DevCluster], Callable[[], None]]
) -> None:
    cluster = start_cluster()
    fill(cluster)
    bring_back = send_away(cluster)
    with ThreadPoolExecutor(3) as pool:
        writes = [
            pool.submit(write_once, cluster, 0, [*WRITTEN[::2], LARGE[0]]),
            pool.submit(write_once, cluster, 1, [*WRITTEN[1::2], LARGE[1]]),
        ]
        expect_untouched(cluster)
        statuses = {key: status for each in writes for key, status in each.result().items()}
    assert set(statuses.values()) == {200}
    bring_back()
    wait_until_whole(cluster)
    before = expect_acknowledged(cluster, statuses)
    cluster.kill()
    cluster.start()
    assert expect_acknowledged(cluster, statuses) == before, "it was undone"


def test_with_two_copies_writes_go_on_without_the_missing_node(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(options=("--replicas", "2"))
    fill(cluster)
    bring_back = freeze(cluster)
    statuses = write_once(cluster, 0, WRITTEN)
    expect_untouched(cluster)
    bring_back()
    assert set(statuses.values()) == {200}
    wait_until_whole(cluster)
    expect_acknowledged(cluster, statuses)
