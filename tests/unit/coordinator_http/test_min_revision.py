"""Whoever wrote at one coordinator reads his own write at another, or is told that he cannot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from tests.unit.coordinator.cluster_records import node
from tests.unit.coordinator.running_coordinator import KEYS, TOKEN, open_cluster, register, running

from octad.client.cluster.cluster_documents import MAP_PATH, NODES_PATH, PLAN_PATH
from octad.client.cluster.service_records import SERVICES_PATH, ServiceInstance
from octad.client.cluster.service_token import service_token
from octad.client.cluster.status_document import STATUS_PATH
from octad.client.membership import open_session
from octad.coordinator.http.api import OPERATIONS
from octad.coordinator.mirror.cluster_feed import REACH_S_MAX
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import ConfigStore, EventBatch, Listing, Put, Revision

LATE_S = 0.5
WEB = ServiceInstance(service="web", instance="a", address="10.0.0.5:80")


class LateStore:
    """A store whose changes are told late, and which may fall silent altogether."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        self.silent = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def range(self, prefix: str, revision: Revision | None = None) -> Listing:
        if self.silent:
            await asyncio.Event().wait()
        return await self._store.range(prefix, revision)

    async def watch(self, prefix: str, after: Revision) -> AsyncIterator[EventBatch]:
        async for batch in self._store.watch(prefix, after):
            await asyncio.sleep(LATE_S)
            while self.silent:
                await asyncio.sleep(0.05)
            yield batch


async def get(url: str, path: str, **query: object) -> tuple[int, Any]:
    asked = {name: str(value) for name, value in query.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.get(url + path, params=asked) as response,
    ):
        return response.status, await response.json()


async def test_a_registration_is_read_at_another_coordinator_at_once(tmp_path: Path) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(store) as (_, url),
        running(cast(ConfigStore, LateStore(store))) as (_, late_url),
        open_session(url, service_token(TOKEN)) as session,
    ):
        for path in (SERVICES_PATH, f"{SERVICES_PATH}/web"):
            revision = await session.register(WEB)
            _, older = await get(late_url, path)
            assert older["revision"] < revision, "it is told of changes late"
            status, document = await get(late_url, path, min_revision=revision)
            assert status == 200
            assert document["revision"] >= revision
            assert [record["instance"] for record in document["services"]] == ["a"]


async def test_nodes_status_and_map_are_as_new_as_is_asked_for(tmp_path: Path) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(cast(ConfigStore, LateStore(store))) as (_, url),
    ):
        for number, path in enumerate((NODES_PATH, STATUS_PATH, MAP_PATH), start=1):
            await register(store, node(number))
            revision = (await store.range("")).revision
            status, document = await get(url, path, min_revision=revision)
            assert (status, len(document["nodes"])) == (200, number)


async def test_a_revision_that_moved_by_what_nobody_watches_is_reached_too(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, url):
        for _ in range(3):
            revision = (await store.transact([], [Put("elsewhere", b"1")])).revision
        for path in (SERVICES_PATH, PLAN_PATH, NODES_PATH):
            assert (await get(url, path, min_revision=revision))[0] == 200
        assert coordinator.feed.history.revision < revision


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "", "9" * 30])
async def test_what_is_no_revision_is_refused(tmp_path: Path, text: str) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        for path in (SERVICES_PATH, STATUS_PATH):
            status, answer = await get(url, path, min_revision=text)
            assert (status, answer["code"]) == (400, "bad-request")


async def test_a_revision_that_the_store_has_not_come_to_is_refused(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        for path in (SERVICES_PATH, STATUS_PATH):
            status, answer = await get(url, path, min_revision=10**6)
            assert (status, answer["code"]) == (400, "bad-request")
            assert "has only come to" in answer["reason"]


async def test_a_coordinator_that_is_cut_off_says_so_instead_of_telling_what_is_old(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path) as store:
        cut = LateStore(store)
        async with running(cast(ConfigStore, cut)) as (_, url):
            assert (await get(url, SERVICES_PATH))[0] == 200
            cut.silent = True
            value = b'{"service":"web","instance":"a","address":"h:1"}'
            put = Put(KEYS.service("web", "a"), value)
            revision = (await store.transact([], [put])).revision
            for path in (SERVICES_PATH, STATUS_PATH):
                begun = time.monotonic()
                status, answer = await get(url, path, min_revision=revision)
                assert (status, answer["code"], answer["passes"]) == (503, "not-as-new", True)
                assert time.monotonic() - begun < REACH_S_MAX + 1
            cut.silent = False
            status, document = await get(url, SERVICES_PATH, min_revision=revision)
            assert (status, len(document["services"])) == (200, 1)


def test_everything_that_shows_the_cluster_can_be_asked_for_a_revision() -> None:
    shown = {o.name for o in OPERATIONS if any(q.name == "min_revision" for q in o.query)}
    assert shown == {
        "status", "doctor", "nodes", "shards", "plan", "plan-status", "plan-nodes", "plan-pools",
        "map", "services", "service", "locks", "lock-status",
        "kv-keys", "kv-get",
    }  # fmt: skip
