"""Whatever is wrong with what the SDK is given: a typed error, and nothing left open behind it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import cast
from uuid import uuid4

import pytest
from tests.cluster.client_sdk.faces import Open
from tests.harness.cluster_process import DevCluster

from octad import (
    AsyncClient,
    BucketNotFound,
    CannotReach,
    ClientClosed,
    ConfigurationError,
    OctadError,
    WrongClock,
    WrongKey,
    WrongProtocol,
)
from octad.chaos.cluster.free_ports import free_port
from octad.client.calls import exchanges
from octad.client.calls.caller import Caller
from octad.client.http.transport import Address
from octad.sharding.ids import BucketId, NodeId

pytestmark = pytest.mark.cluster

KEYS = [f"k{number}" for number in range(20)]


def left_open() -> tuple[int, int, int]:
    """Descriptors, threads and tasks of this process."""
    descriptors = os.listdir("/proc/self/fd")  # noqa: PTH208
    return len(descriptors), threading.active_count(), len(asyncio.all_tasks())


@pytest.fixture
async def nothing_left() -> AsyncIterator[None]:
    await asyncio.to_thread(int)  # The loop's own, in which it looks names up.
    before = left_open()
    yield
    await asyncio.sleep(0)  # Connections of the loop close in its next round.
    assert left_open() == before


Call = Callable[[AsyncClient], Awaitable[object]]


async def get(client: AsyncClient) -> object:
    return await client.bucket("no-such-bucket").get("k")


async def put_parts(client: AsyncClient) -> object:
    return await client.bucket("no-such-bucket").put("k", bytes(20_000_000))


async def list_all(client: AsyncClient) -> object:
    return [entry async for entry in client.bucket("no-such-bucket").list()]


async def get_stream(client: AsyncClient) -> object:
    async with client.bucket("no-such-bucket").stream("k") as stream:
        return await stream.read()


CASES: dict[str, tuple[type[OctadError], str]] = {
    "an unknown bucket": (BucketNotFound, "create the bucket"),
    "a wrong key": (WrongKey, "check the access key"),
    "a wrong secret": (WrongKey, "check the secret key"),
    "a token of other keys": (WrongKey, "unset AWS_SESSION_TOKEN"),
    "a port where no one listens": (CannotReach, "check the endpoint"),
    "a name that is none": (CannotReach, "check the endpoint"),
    "https to a port of http": (WrongProtocol, "use http://"),
    "the coordinator": (WrongProtocol, "no S3 server"),
    "a wrong clock": (WrongClock, "clock"),
}


@pytest.mark.parametrize("call", [get, put_parts, list_all, get_stream])
@pytest.mark.parametrize("case", CASES)
async def test_each_has_its_error_and_leaves_nothing_open(
    cluster: DevCluster,
    open_client: Open,
    monkeypatch: pytest.MonkeyPatch,
    nothing_left: None,
    case: str,
    call: Call,
) -> None:
    access_key, secret_key, endpoint = cluster.access_key, cluster.secret_key, cluster.endpoint()
    if case == "a wrong key":
        access_key = "nobody"
    elif case == "a wrong secret":
        secret_key = "wrong"
    elif case == "a token of other keys":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)
        monkeypatch.setenv("AWS_SESSION_TOKEN", "stale")
        access_key = secret_key = ""
    elif case == "a port where no one listens":
        endpoint = f"http://127.0.0.1:{free_port(range(1))}"
    elif case == "a name that is none":
        endpoint = "http://no-such-host.invalid:9000"
    elif case == "https to a port of http":
        endpoint = endpoint.replace("http:", "https:")
    elif case == "the coordinator":
        endpoint = cluster.coordinator
    elif case == "a wrong clock":
        monkeypatch.setattr(exchanges, "time", SimpleNamespace(time=lambda: time.time() - 3600))
    error, fix = CASES[case]
    async with open_client(endpoint, access_key, secret_key) as client:
        with pytest.raises(error, match=fix):
            await call(client)
        assert {node.in_flight for node in client.nodes} == {0}


async def test_a_closed_client_says_so(
    cluster: DevCluster, open_client: Open, nothing_left: None
) -> None:
    async with open_client(cluster.endpoint(), cluster.access_key, cluster.secret_key) as client:
        assert not await client.bucket("no-such-bucket").exists()
    for call in (get, put_parts, list_all, get_stream):
        with pytest.raises(ClientClosed, match="make another"):
            await call(client)
    await client.close()


async def test_what_makes_no_sense_is_refused_before_a_request(
    cluster: DevCluster, open_client: Open, nothing_left: None
) -> None:
    keys = cluster.access_key, cluster.secret_key
    async with open_client(f"http://127.0.0.1:{free_port(range(1))}", *keys) as client:
        bucket = client.bucket("photos")
        wrong: list[Callable[[], Awaitable[object]]] = [
            lambda: bucket.put("k", cast(bytes, "text")),
            lambda: bucket.put("k", cast(bytes, 7)),
            lambda: bucket.put("k", b"", metadata={"a b": "c"}),
            lambda: bucket.put("k", b"", metadata={"a": "c\r\nx-amz-acl: public-read"}),
            lambda: bucket.put("k", b"", content_type="a\nb"),
            lambda: bucket.put("\ud800", b""),
            lambda: bucket.get("k", start=5, end=5),
            lambda: bucket.presign("k", expires_s=0),
            lambda: bucket.presign("k", method="POST"),
        ]
        for call in wrong:
            with pytest.raises(ConfigurationError):
                await call()


async def test_old_maps_and_lies_about_a_bucket_cost_a_way_and_no_answer(
    cluster: DevCluster, open_client: Open
) -> None:
    """All nodes have changed places, and the bucket has the id of another one."""
    keys = cluster.access_key, cluster.secret_key
    async with open_client(None, *keys, cluster.coordinator) as client:
        bucket = await client.create_bucket(f"sdk-{uuid4().hex[:12]}")
        for key in KEYS:
            await bucket.put(key, key.encode())
        keeper = _caller_of(client)._keeper
        assert keeper is not None
        placement = keeper.placement
        nodes: dict[NodeId, Address] = placement.addresses
        others = [*nodes.values()][1:] + [*nodes.values()][:1]
        placement.addresses = dict(zip(nodes, others, strict=True))
        for key in KEYS:
            assert (await bucket.get(key)).data == key.encode()
            await bucket.put(key, b"new")
        true = placement._buckets[bucket.name]
        assert true is not None
        placement.set_bucket(bucket.name, (true[0], BucketId(true[1] + 1)))
        for key in KEYS:
            assert (await bucket.get(key)).data == b"new"
        assert placement._buckets[bucket.name] == true  # It was asked for anew.


def _caller_of(client: AsyncClient) -> Caller:
    blocking = getattr(client, "_blocking", None)
    found = (blocking._client if blocking is not None else client).caller
    assert isinstance(found, Caller)
    return found
