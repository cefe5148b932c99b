"""What is true of a plain front door is true inside TLS: these modules run against both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.s3.front_door_site import FrontDoorSite, TlsFiles


@pytest.fixture(scope="module", params=["hot", "aiohttp", "hot, TLS", "aiohttp, TLS"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FrontDoorSite]:
    """As that of the folder above."""
    way, _, tls = request.param.partition(", ")
    files = TlsFiles(tmp_path_factory.mktemp("tls")) if tls else None
    with FrontDoorSite(all_through_aiohttp=way == "aiohttp", tls=files) as site:
        yield site
        assert not site.store.open_bodies, "a body was neither finished nor abandoned"
