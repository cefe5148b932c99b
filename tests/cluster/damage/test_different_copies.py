"""A row that one node has lost behind its back is noticed, and said with where and what follows."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.harness.cluster_process import OCTAD, DevCluster, StartCluster
from tests.harness.s3_clients import s3_client

from octad.sharding.hashing import bit_reversed
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index_format import (
    OBJECTS,
    SHARD_STATES,
    decode_object_key,
    decode_shard_state,
    encode_value,
    hash_of_row,
    shard_order_key,
)
from octad.storage_node.index.key_ranges import past

pytestmark = pytest.mark.cluster

BUCKET = "compared"
KEYS = [f"key-{number:03}" for number in range(60)]
NOTICED_S_MAX = 30.0


def said_by(cluster: DevCluster, verb: str) -> str:
    command = (str(OCTAD), verb, "--coordinator", cluster.coordinator)
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def until(holds: Callable[[], bool], cluster: DevCluster, what: str) -> None:
    deadline = time.monotonic() + NOTICED_S_MAX
    while not holds():
        said = said_by(cluster, "status") + said_by(cluster, "doctor")
        assert time.monotonic() < deadline, f"{what}:\n{said}"
        time.sleep(0.1)


def all_verified(cluster: DevCluster) -> bool:
    return "verified copies: 3 of each" in said_by(cluster, "status")


def lose_a_row(index_directory: Path, *, as_an_older_octad: bool) -> str:
    """An object's row and its place in the shard's order; gives its key."""
    index = CountedIndex(index_directory)
    row = next(key for key, _ in index.scan(OBJECTS, past(OBJECTS)))
    order = shard_order_key(bit_reversed(hash_of_row(row)), row)
    assert index.get(order) is not None
    states = index.scan(SHARD_STATES, past(SHARD_STATES)) if as_an_older_octad else ()
    without_digests = [
        (key, encode_value(msgspec.structs.astuple(decode_shard_state(value))[:8]))
        for key, value in states
    ]
    index._database.write(without_digests, [row, order])
    index.close()
    return decode_object_key(row)[1].decode()


def with_objects(cluster: DevCluster) -> None:
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=BUCKET)
        for key in KEYS:
            client.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    until(lambda: all_verified(cluster), cluster, "all copies are compared")
    cluster.stop()


def test_a_row_that_was_lost_behind_a_nodes_back_is_found_and_comes_back(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    with_objects(cluster)
    lost = lose_a_row(cluster.data / "n2" / "index", as_an_older_octad=False)
    cluster.start()
    log = cluster.data / "n2.log"
    until(lambda: "rows and should have" in log.read_text(), cluster, "n2 finds what it lacks")
    until(lambda: all_verified(cluster), cluster, "n2 has made its index anew")
    with s3_client(cluster, 1) as client:
        assert client.get_object(Bucket=BUCKET, Key=lost)["Body"].read() == lost.encode()
        listed = client.list_objects_v2(Bucket=BUCKET)["Contents"]
        assert [each["Key"] for each in listed] == KEYS


def test_a_row_that_an_older_octad_had_lost_is_named_and_never_called_verified(
    start_cluster: StartCluster,
) -> None:
    """Nothing was kept of it where it lacks, so only the other copies can tell."""
    cluster = start_cluster()
    with_objects(cluster)
    lose_a_row(cluster.data / "n2" / "index", as_an_older_octad=True)
    cluster.start()
    until(lambda: "has other rows than" in said_by(cluster, "doctor"), cluster, "it is noticed")
    doctor, status = said_by(cluster, "doctor"), said_by(cluster, "status")
    assert "n2" in doctor
    assert "octad node drain the one with fewer" in doctor
    assert "have different rows: they count them anew" in status
    assert "3 of 255" in status
    assert not all_verified(cluster)
