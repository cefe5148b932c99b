"""A bucket made in a pool of two copies keeps all of it in that pool, large bodies too."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError
from tests.cluster.operation.test_usage import octad
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.s3_clients import s3_client

from octad.client.cluster.status_document import PoolStatus
from octad.coordinator.schema.placement_messages import PlacedNodes, PlacedPools
from octad.storage_node.index.index import Index
from octad.storage_node.index.index_format import PIECES

pytestmark = pytest.mark.cluster

LARGE_BYTES = 3 * 1024 * 1024
SMALL, SMALL_BYTES = 30, 10_000
WAIT_S_MAX = 10.0


def pair_pool(cluster: DevCluster) -> PoolStatus:
    """Make it, and wait until its shards are there."""
    octad(cluster, "pool", "create", "--replicas", "2", "--no-wait")
    deadline = time.monotonic() + WAIT_S_MAX
    while True:
        said = octad(cluster, "status", "--json")
        pools = msgspec.convert(msgspec.json.decode(said)["pools"], list[PoolStatus])
        if len(pools) == 2 and pools[1].shards["ok"] == 1 << pools[1].depth:
            return pools[1]
        assert time.monotonic() < deadline, pools
        time.sleep(0.05)


def pieces_of(data: Path, node: int) -> set[bytes]:
    index = Index(data / f"n{node}" / "index")
    try:
        return {key for key, _ in index.scan(PIECES, b"f")}
    finally:
        index.close()


def test_a_bucket_in_a_pool_of_two_keeps_two_copies(start_cluster: StartCluster) -> None:
    cluster = start_cluster()
    with s3_client(cluster, node=1) as client:
        configuration: Any = {"LocationConstraint": "octad-2x"}
        with pytest.raises(ClientError, match="InvalidLocationConstraint"):
            client.create_bucket(Bucket="pair", CreateBucketConfiguration=configuration)
        pair_pool(cluster)
        client.create_bucket(Bucket="pair", CreateBucketConfiguration=configuration)
        location: Any = client.get_bucket_location(Bucket="pair")
        assert location["LocationConstraint"] == "octad-2x"
        client.put_object(Bucket="pair", Key="large", Body=b"x" * LARGE_BYTES)
        for number in range(SMALL):
            client.put_object(Bucket="pair", Key=f"small-{number}", Body=b"y" * SMALL_BYTES)
    with s3_client(cluster, node=2) as client:
        body = client.get_object(Bucket="pair", Key="large")["Body"].read()
        assert body == b"x" * LARGE_BYTES
        assert client.list_objects_v2(Bucket="pair")["KeyCount"] == SMALL + 1
    cluster.stop()

    copies = [pieces_of(cluster.data, node) for node in (1, 2, 3)]
    pieces = set().union(*copies)
    assert len(pieces) == 3
    assert all(sum(piece in copy for copy in copies) == 2 for piece in pieces)

    cluster.start()  # Nodes report what they hold when they start.
    stored = LARGE_BYTES + SMALL * SMALL_BYTES
    assert used_bytes(cluster, at_least=2 * stored) < 2.05 * stored
    pools = msgspec.json.decode(octad(cluster, "pool", "ls", "--json"), type=PlacedPools).pools
    assert pools[0].bytes == 0
    assert stored <= (pools[1].bytes or 0) < 1.05 * stored


def used_bytes(cluster: DevCluster, at_least: int) -> int:
    deadline = time.monotonic() + WAIT_S_MAX
    while True:
        nodes = msgspec.json.decode(octad(cluster, "node", "ls", "--json"), type=PlacedNodes).nodes
        used = sum(node.used_bytes or 0 for node in nodes)
        if used >= at_least:
            return used
        assert time.monotonic() < deadline, nodes
        time.sleep(0.1)
