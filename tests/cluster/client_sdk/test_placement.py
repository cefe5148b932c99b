"""With a coordinator, a request goes straight to the node that answers it."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.error
import urllib.request
from collections import Counter
from uuid import uuid4

import pytest
from tests.cluster.client_sdk.faces import Open
from tests.harness.cluster_process import DevCluster, StartCluster

from octad import BucketNotFound, CannotReach, ObjectNotFound
from octad.chaos.cluster.free_ports import free_port
from octad.client.calls.map_reading import lookups_of
from octad.client.calls.placement import parse_placement
from octad.client.objects.client import Client
from octad.sharding.hashing import object_hash

pytestmark = pytest.mark.cluster

KEYS = [f"k{number}" for number in range(60)]


def asked(cluster: DevCluster) -> Counter[str]:
    """GETs of objects that each node has answered so far, by its S3 address."""
    with urllib.request.urlopen(f"{cluster.coordinator}/cluster/v1/nodes") as answer:
        nodes = json.load(answer)["nodes"]
    counts: Counter[str] = Counter()
    for node in nodes:
        with urllib.request.urlopen(f"http://{node['admin_address']}/metrics") as answer:
            found = re.findall(
                r'octad_s3_requests_total\{code="200",operation="GetObject"\} (\S+)',
                answer.read().decode(),
            )
        counts[node["s3_address"]] = int(sum(float(count) for count in found))
    return counts


def primaries(cluster: DevCluster, bucket: str) -> Counter[str]:
    """How many of `KEYS` each node is the primary of."""
    url = f"{cluster.coordinator}/cluster/v1/map"
    wanted = {"Accept": "application/vnd.octad.shard-map"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=wanted)) as answer:
        lookups = lookups_of(answer.read())
    from octad.client.calls.requests import Request

    with Client(cluster.endpoint(), cluster.access_key, cluster.secret_key) as client:
        from octad.client.http.blocking import drive

        head = drive(client._client.caller.whole(Request("HEAD", bucket))).head
    placement = parse_placement(head.headers["x-octad-placement"])
    assert placement is not None
    addresses = {node.id: node.s3 for node in cluster.nodes}
    found = Counter[str]()
    for key in KEYS:
        configuration = lookups[placement[0]].configuration(object_hash(placement[1], key.encode()))
        assert configuration is not None
        found[addresses[configuration.primary]] += 1
    return found


async def test_each_read_goes_to_its_keys_primary(cluster: DevCluster, open_client: Open) -> None:
    keys = cluster.access_key, cluster.secret_key
    async with open_client(None, *keys, cluster.coordinator) as client:
        bucket = await client.create_bucket(f"sdk-{uuid4().hex[:12]}")
        for key in KEYS:
            await bucket.put(key, key.encode())
        before = asked(cluster)
        for key in KEYS:
            assert (await bucket.get(key)).data == key.encode()
        assert asked(cluster) - before == primaries(cluster, bucket.name)


async def test_a_bucket_that_is_made_again_is_found_again(
    cluster: DevCluster, open_client: Open
) -> None:
    keys = cluster.access_key, cluster.secret_key
    async with open_client(None, *keys, cluster.coordinator) as client:
        bucket = client.bucket(f"sdk-{uuid4().hex[:12]}")
        with pytest.raises(BucketNotFound):
            await bucket.get("k0")
        for _ in range(2):
            await client.create_bucket(bucket.name)
            for key in KEYS:
                await bucket.put(key, b"x")
            before = asked(cluster)
            for key in KEYS:
                await bucket.get(key)
            assert asked(cluster) - before == primaries(cluster, bucket.name)
            await bucket.delete_many(KEYS)
            await client.delete_bucket(bucket.name)
        with pytest.raises((BucketNotFound, ObjectNotFound)):
            await bucket.get("k0")


async def test_a_node_that_dies_costs_no_call(
    start_cluster: StartCluster, open_client: Open
) -> None:
    cluster = start_cluster()
    keys = cluster.access_key, cluster.secret_key
    async with open_client(None, *keys, cluster.coordinator, hedge=True) as client:
        bucket = await client.create_bucket("photos")
        for key in KEYS:
            await bucket.put(key, key.encode())
        os.kill(cluster.nodes[1].pid, signal.SIGKILL)
        for key in KEYS:
            await bucket.put(key, b"new " + key.encode())
            assert (await bucket.get(key)).data == b"new " + key.encode()
        assert [entry.key async for entry in bucket.list()] == sorted(KEYS)


async def test_without_a_coordinator_that_answers_the_endpoint_serves(
    cluster: DevCluster, open_client: Open
) -> None:
    keys = cluster.access_key, cluster.secret_key
    nowhere = f"http://127.0.0.1:{free_port(range(1))}"
    async with open_client(cluster.endpoint(), *keys, nowhere) as client:
        bucket = await client.create_bucket(f"sdk-{uuid4().hex[:12]}")
        await bucket.put("k", b"x")
    for wrong in (nowhere, cluster.endpoint()):
        async with open_client(None, *keys, wrong) as client:
            with pytest.raises(CannotReach, match="no coordinator answers"):
                await client.bucket(bucket.name).get("k")
    async with open_client(None, *keys, f"{nowhere},{cluster.coordinator}") as client:
        assert (await client.bucket(bucket.name).get("k")).data == b"x"


def test_where_a_bucket_is_placed_is_told_to_signed_requests_alone(cluster: DevCluster) -> None:
    with Client(cluster.endpoint(), cluster.access_key, cluster.secret_key) as client:
        bucket = client.create_bucket(f"sdk-{uuid4().hex[:12]}")
    assert sum(primaries(cluster, bucket.name).values()) == len(KEYS)
    unsigned = urllib.request.Request(f"{cluster.endpoint()}/{bucket.name}", method="HEAD")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(unsigned)
    assert "x-octad-placement" not in refused.value.headers
    refused.value.close()
