"""A cluster of which one node has a small disk: it is full, is emptied, and takes writes again."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.cluster.limits.full_disk import (
    BODY,
    BUCKET,
    MARGIN,
    MIB,
    fill,
    small_disk,
    take,
    wait_for,
)
from tests.harness.cluster_process import OCTAD, DevCluster, StartCluster
from tests.harness.loop_disk import data_on_loop_disk
from tests.harness.s3_clients import put_status, s3_client

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk"),
]

SHARED_DISK_BYTES = 3072 * MIB
MANY, IN_BATCHES = 100_000, 90_000
SMALL = 40
STUCK_S = 7.0  # After it, whoever could not take a put has been removed.


def log_of(cluster: DevCluster) -> str:
    return "".join((cluster.data / f"n{number}.log").read_text() for number in (1, 2, 3))


def doctor(cluster: DevCluster) -> str:
    command: list[str | Path] = [OCTAD, "doctor", "--data", cluster.data]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout


def test_a_full_disk_costs_no_copy_refuses_no_delete_and_has_space_again_within_seconds(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    cluster.stop()
    with small_disk(cluster, "n1"):
        cluster.start()
        with s3_client(cluster, 0) as n1, s3_client(cluster, 1) as n2, s3_client(cluster, 2) as n3:
            clients = [n1, n2, n3]
            n1.create_bucket(Bucket=BUCKET)
            for number in range(SMALL):
                n1.put_object(Bucket=BUCKET, Key=f"small-{number}", Body=b"small")
            n1.put_object(Bucket=BUCKET, Key="read", Body=BODY * 6)
            keys = fill(clients)
            assert keys, "the disk is too small for the test"
            take(cluster.data / "n1" / "filler", MARGIN)
            full_since = time.monotonic()
            assert wait_for(
                lambda: {put_status(each, BUCKET, "more", b"x") for each in clients} == {507}
            )
            reading = n2.get_object(Bucket=BUCKET, Key="read")["Body"]
            first = reading.read(MIB)
            for number, key in enumerate(["read", *keys, *[f"small-{n}" for n in range(SMALL)]]):
                clients[number % 3].delete_object(Bucket=BUCKET, Key=key)  # Raises if refused.
            assert wait_for(lambda: "come back within about" in doctor(cluster))
            time.sleep(3.0)  # Long enough for whatever does not wait for who reads.
            assert first + reading.read() == BODY * 6
            assert wait_for(lambda: put_status(n3, BUCKET, "more", BODY) == 200)
            time.sleep(max(0.0, full_since + STUCK_S - time.monotonic()))
            assert "is removed" not in log_of(cluster), "a full disk costs a copy"
        cluster.stop()


@pytest.mark.long
def test_a_hundred_thousand_deletes_on_a_disk_that_three_nodes_have_filled(
    start_cluster: StartCluster,
) -> None:
    """All of them, in batches and one by one, right after the last put was refused."""
    cluster = start_cluster()
    cluster.stop()
    with data_on_loop_disk(cluster.data, SHARED_DISK_BYTES):
        cluster.start()
        with s3_client(cluster) as client, ThreadPoolExecutor(16) as pool:
            client.create_bucket(Bucket=BUCKET)

            def put(number: int) -> bool:
                return put_status(client, BUCKET, f"small-{number}", b"x" * 1000) == 200

            assert all(pool.map(put, range(MANY)))
            large = fill([client], SHARED_DISK_BYTES)
            assert wait_for(lambda: put_status(client, BUCKET, "more", b"x") == 507)
            keys = [*(f"small-{number}" for number in range(MANY)), *large]

            def delete_many(first: int) -> list[str]:
                some = keys[first : first + 1000]
                answer = client.delete_objects(
                    Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in some]}
                )
                return [error["Code"] for error in answer.get("Errors", [])]

            refusals = [each for each in pool.map(delete_many, range(0, IN_BATCHES, 1000)) if each]
            assert refusals == []
            rest = keys[IN_BATCHES:]
            list(pool.map(lambda key: client.delete_object(Bucket=BUCKET, Key=key), rest))
            assert client.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0
            assert wait_for(lambda: put_status(client, BUCKET, "more", BODY) == 200)
        cluster.stop()
