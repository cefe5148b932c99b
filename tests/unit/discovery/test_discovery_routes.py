"""Listings, `http_sd` and Consul's reads over HTTP: filtered, blocking, bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from tests.unit.coordinator.cluster_records import node
from tests.unit.coordinator.running_coordinator import (
    TOKEN,
    open_cluster,
    register,
    running,
    until,
)

from octad.client.cluster.service_records import SERVICES_PATH, ServiceInstance
from octad.client.cluster.service_token import service_token
from octad.client.membership import Session, open_session
from octad.coordinator.http.api import PROMETHEUS_PATH
from octad.coordinator.http.http_watches import watchers_max_of
from octad.coordinator.server.coordinator import Coordinator

NODE = msgspec.structs.replace(node(1), admin_address="127.0.0.1:11001")
ROOM = 8
HEALTH = "/v1/health/service/web"


def one(name: str, **fields: Any) -> ServiceInstance:
    return ServiceInstance(service="web", instance=name, address=f"10.0.0.5:{ord(name)}", **fields)


@asynccontextmanager
async def services(
    directory: Path, connections_max: int | None = None
) -> AsyncIterator[tuple[Coordinator, Session, str]]:
    async with (
        open_cluster(directory) as store,
        running(store, connections_max=connections_max) as (coordinator, url),
        open_session(url, service_token(TOKEN), ttl_s=60) as session,
    ):
        await register(store, NODE)
        await session.register(one("a", zone="rack-1", labels={"tier": "front"}))
        revision = await session.register(one("b", zone="rack-2", drain=True))
        await until(lambda: coordinator.feed.history.revision >= revision, "all is known")
        yield coordinator, session, url


async def get(url: str, **query: str | list[str]) -> tuple[int, Any, int]:
    """Status, document and Consul's index."""
    words = [
        (k, v) for k, values in query.items() for v in ([values] if type(values) is str else values)
    ]
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, params=words) as answer,
    ):
        assert answer.content_type == "application/json"
        index = int(answer.headers.get("X-Consul-Index", "0"))
        return answer.status, json.loads(await answer.read()), index


async def metrics_of(http: aiohttp.ClientSession, url: str) -> str:
    async with http.get(f"{url}/metrics") as answer:
        return await answer.text()


async def test_a_listing_shows_what_is_asked_for(tmp_path: Path) -> None:
    async with services(tmp_path) as (_, _, url):

        async def listed(query: str) -> list[str]:
            status, document, _ = await get(f"{url}{SERVICES_PATH}/web?{query}")
            assert status == 200
            return [each["instance"] for each in document["services"]]

        for query, names in (
            ("", ["a", "b"]),
            ("passing", ["a"]),
            ("passing=1&zone=rack-2", []),
            ("passing=false", ["a", "b"]),
            ("zone=rack-2", ["b"]),
            ("label=tier=front", ["a"]),
            ("label=tier=front&label=tier=back", []),
        ):
            assert await listed(query) == names, query
        for query in ("passing=maybe", "label=tier"):
            assert (await get(f"{url}{SERVICES_PATH}?{query}"))[0] == 400


async def test_prometheus_is_told_of_instances_and_nodes(tmp_path: Path) -> None:
    async with services(tmp_path) as (_, _, url):

        async def targets(query: str) -> list[str]:
            status, groups, _ = await get(f"{url}{PROMETHEUS_PATH}?{query}")
            assert status == 200
            return [target for group in groups for target in group["targets"]]

        web, admin = ["10.0.0.5:97", "10.0.0.5:98"], NODE.admin_address
        assert await targets("") == [*web, admin]
        assert await targets("service=web&passing") == web[:1]
        assert await targets("service=octad-node") == [admin]
        assert await targets("service=no-such") == []


async def test_a_blocking_query_answers_once_the_service_has_changed(tmp_path: Path) -> None:
    async with services(tmp_path) as (_, session, url):
        _, entries, index = await get(url + HEALTH)
        assert [entry["Service"]["ID"] for entry in entries] == ["a", "b"]
        waiting = asyncio.create_task(get(url + HEALTH, index=str(index), wait="1m"))
        names = asyncio.create_task(get(f"{url}/v1/catalog/services", index=str(index), wait="1m"))
        other = ServiceInstance(service="db", instance="a", address="10.0.0.6:1")
        await session.register(other)
        assert (await names)[1].keys() == {"db", "web"}
        assert not waiting.done(), "another service has changed"
        await session.withdraw("web", "a")
        _, entries, newer = await waiting
        assert [entry["Service"]["ID"] for entry in entries] == ["b"]
        assert newer > index
        assert (await get(url + HEALTH, index=str(newer), wait="10ms"))[2] == newer, "no news"
        for unknown in ("1", str(newer + 1000)):
            async with asyncio.timeout(10):
                assert (await get(url + HEALTH, index=unknown, wait="1m"))[2] >= newer


async def test_consul_queries_narrow_and_bad_ones_are_refused(tmp_path: Path) -> None:
    async with services(tmp_path) as (_, _, url):
        _, entries, _ = await get(url + HEALTH, passing="1", tag=["tier=front"], stale="")
        assert [entry["Service"]["ID"] for entry in entries] == ["a"]
        assert (await get(f"{url}/v1/health/service/none"))[1] == []
        _, agent, _ = await get(f"{url}/v1/agent/self")
        assert agent["Config"]["Datacenter"] == TOKEN.cluster
        assert (await get(url + HEALTH, dc=TOKEN.cluster))[0] == 200
        for bad in ({"dc": "other"}, {"filter": "x"}, {"index": "x"}):
            assert (await get(url + HEALTH, **bad))[0] == 400
        assert (await get(url + HEALTH, index="5", wait="soon"))[0] == 400


async def test_blocking_queries_are_watchers_of_which_there_are_so_many(tmp_path: Path) -> None:
    async with services(tmp_path, connections_max=ROOM) as (_, session, url):
        index = (await get(url + HEALTH))[2]
        query = {"index": str(index), "wait": "1m"}
        waiting = [
            asyncio.create_task(get(url + HEALTH, **query)) for _ in range(watchers_max_of(ROOM))
        ]
        async with asyncio.timeout(20), aiohttp.ClientSession() as http:
            while f"octad_watchers {len(waiting)}.0" not in await metrics_of(http, url):
                await asyncio.sleep(0.01)
        assert (await get(url + HEALTH, **query))[0] == 503
        assert not any(each.done() for each in waiting)
        await session.withdraw("web", "a")
        assert {answer[0] for answer in await asyncio.gather(*waiting)} == {200}
