"""A client with each face, and a bucket of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from tests.cluster.client_sdk.faces import Open, open_async, open_blocking
from tests.harness.cluster_process import DevCluster

from octad import AsyncBucket, AsyncClient


@pytest.fixture(params=[open_async, open_blocking], ids=["async", "sync"])
def open_client(request: pytest.FixtureRequest) -> Open:
    """Makes a client, with the arguments of `AsyncClient`."""
    opens: Open = request.param
    return opens


@pytest.fixture
async def client(cluster: DevCluster, open_client: Open) -> AsyncIterator[AsyncClient]:
    """A client of the first node."""
    keys = cluster.access_key, cluster.secret_key
    async with open_client(cluster.endpoint(), *keys) as made:
        yield made


@pytest.fixture
async def bucket(client: AsyncClient) -> AsyncBucket:
    return await client.create_bucket(f"sdk-{uuid4().hex[:12]}")
