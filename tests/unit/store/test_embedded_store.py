"""The embedded store, in this process and over HTTP on a real loopback socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.store.mirror_conformance import MirrorConformance
from tests.unit.store.store_conformance import StoreConformance
from tests.unit.store.store_site import Site, put

from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.http_client import HttpStore
from octad.coordinator.store.http_server import HttpFace
from octad.coordinator.store.interface import ConfigStore

KEY = b"k" * 32
HISTORY_REVISIONS = 200


class EmbeddedSite(Site):
    """All clients share the one store, as they do in a process."""

    def __init__(self, store: EmbeddedStore) -> None:
        self.store = store

    async def open(self) -> ConfigStore:
        return self.store

    async def forget_history(self) -> None:
        for number in range(HISTORY_REVISIONS * 9 // 8 + 1):
            await put(self.store, "z/filler", b"%d" % number)


class HttpSite(EmbeddedSite):
    """Every client has its own connection."""

    def __init__(self, store: EmbeddedStore, url: str) -> None:
        super().__init__(store)
        self._url = url
        self.clients: list[HttpStore] = []

    async def open(self) -> ConfigStore:
        self.clients.append(HttpStore(self._url, KEY))
        return self.clients[-1]


@pytest.fixture(params=["in process", "over http"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    store = await EmbeddedStore.open(tmp_path / "store.db", HISTORY_REVISIONS)
    try:
        if request.param == "in process":
            yield EmbeddedSite(store)
            return
        face = HttpFace(store, KEY)
        http = HttpSite(store, await face.start("127.0.0.1"))
        try:
            yield http
        finally:
            for client in http.clients:
                await client.close()
            await face.stop()
    finally:
        await store.close()


class TestEmbeddedStore(StoreConformance):
    pass


class TestMirrorOfEmbeddedStore(MirrorConformance):
    pass
