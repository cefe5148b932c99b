"""Whoever sees signed requests pass can do nothing with them; whoever passes them on may choose."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import aiohttp
from aiohttp import web
from multidict import CIMultiDictProxy
from tests.unit.coordinator.cluster_records import join_request
from tests.unit.coordinator.running_coordinator import KEYS, TOKEN, open_cluster, running

from octad.client.cluster.service_records import ServiceInstance
from octad.client.cluster.service_token import service_token
from octad.client.membership import open_session
from octad.client.runtime.listener import listen_on
from octad.coordinator.membership.join_client import join

SERVICE_TOKEN = service_token(TOKEN)
WEB = ServiceInstance(service="web", instance="a", address="10.0.0.5:80")


@dataclass(frozen=True)
class Captured:
    """A request, as it passed."""

    method: str
    path: str
    headers: CIMultiDictProxy[str]
    body: bytes

    async def send_to(self, url: str) -> tuple[int, bytes, CIMultiDictProxy[str]]:
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                self.method, url + self.path, headers=self.headers, data=self.body
            ) as response,
        ):
            return response.status, await response.read(), response.headers


@dataclass
class Passed:
    """What went through a proxy and was taken."""

    url: str
    requests: list[Captured] = field(default_factory=list)


@asynccontextmanager
async def proxy(choose: Callable[[], str]) -> AsyncIterator[Passed]:
    """Passes each request on, whole, to the coordinator that `choose` says."""

    async def pass_on(request: web.BaseRequest) -> web.Response:
        captured = Captured(request.method, request.path_qs, request.headers, await request.read())
        status, body, headers = await captured.send_to(choose())
        if status == 200:
            passed.requests.append(captured)
        return web.Response(status=status, body=body, headers=headers)

    runner = web.ServerRunner(web.Server(pass_on))
    await runner.setup()
    listener = listen_on("127.0.0.1:0", "--listen")
    await web.SockSite(runner, listener).start()
    passed = Passed(f"http://127.0.0.1:{listener.getsockname()[1]}")
    try:
        yield passed
    finally:
        await runner.cleanup()


async def test_what_was_captured_on_its_way_to_one_coordinator_does_nothing_at_any(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (_, other_url):
        async with running(store) as (_, url), proxy(lambda: url) as passed:
            async with open_session(passed.url, SERVICE_TOKEN, ttl_s=3600) as session:
                await session.register(WEB)
            assert [request.method for request in passed.requests] == ["POST", "PUT", "DELETE"]
            await join(passed.url, TOKEN, join_request(1))
            before = await store.range(KEYS.prefix + "services/")
            for captured in passed.requests:
                for target in (url, other_url):
                    status, answer, _ = await captured.send_to(target)
                    assert status == 401, answer
        async with running(store) as (_, restarted_url):
            for captured in passed.requests:
                assert (await captured.send_to(restarted_url))[0] == 401
        assert (await store.range(KEYS.prefix + "services/")).entries == before.entries == []


async def test_a_proxy_may_give_every_request_to_another_coordinator(tmp_path: Path) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(store) as (_, first_url),
        running(store) as (_, second_url),
    ):
        turns = cycle([first_url, second_url])
        async with proxy(lambda: next(turns)) as passed:
            async with open_session(passed.url, SERVICE_TOKEN, ttl_s=3600) as session:
                for weight in range(20):
                    await session.register(
                        ServiceInstance(
                            service="web", instance="a", address="10.0.0.5:80", weight=weight
                        )
                    )
                assert await store.get(KEYS.service("web", "a")) is not None
            assert await store.get(KEYS.service("web", "a")) is None
            assert (await join(passed.url, TOKEN, join_request(1))).node == 1
