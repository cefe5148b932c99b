"""Front doors of both kinds for a module of tests, a bucket for each test, nothing left behind."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from tests.unit.s3.front_door_site import FrontDoorSite
from tests.unit.s3.raw_connection import Wire

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_bucket_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["hot", "aiohttp"])
def site(request: pytest.FixtureRequest) -> Iterator[FrontDoorSite]:
    """Everything is said twice: through our own protocol, and through aiohttp alone."""
    with FrontDoorSite(all_through_aiohttp=request.param == "aiohttp") as site:
        yield site
        assert not site.store.open_bodies, "a body was neither finished nor abandoned"


@pytest.fixture(scope="module")
def s3(site: FrontDoorSite) -> S3Client:
    """boto3 as its users have it."""
    return site.client()


@pytest.fixture
def bucket(site: FrontDoorSite) -> str:
    """A bucket of alice's."""
    name = f"bucket-{next(_bucket_numbers)}"
    site.run(site.store.create_bucket(name, "alice"))
    return name


@pytest.fixture
def wire(site: FrontDoorSite) -> Iterator[Callable[[], Wire]]:
    """Makes connections, and closes them."""
    opened: list[Wire] = []

    def connect() -> Wire:
        opened.append(Wire(site))
        return opened[-1]

    yield connect
    for one in opened:
        one.socket.close()
