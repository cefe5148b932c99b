"""Watchers, whose requests have no end, take no coordinator from those who only ask."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
from tests.unit.coordinator.running_coordinator import open_cluster, running

from octad.coordinator.http.http_service import CONTROL_CONNECTIONS_MAX
from octad.coordinator.http.http_watches import WATCHERS_MAX, watchers_max_of

ROOM = 8
EVENTS = "/cluster/v1/events"
STREAM = {"Accept": "text/event-stream"}


async def test_watchers_leave_room_and_one_too_many_is_told(tmp_path: Path) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(store, connections_max=ROOM) as (_, url),
        aiohttp.ClientSession() as session,
        AsyncExitStack() as streams,
    ):
        for _ in range(watchers_max_of(ROOM)):
            stream = await streams.enter_async_context(session.get(url + EVENTS, headers=STREAM))
            assert stream.status == 200
        async with session.get(url + "/metrics") as metrics:
            assert f"octad_watchers {watchers_max_of(ROOM)}.0" in await metrics.text()
        async with session.get(url + EVENTS, headers=STREAM) as refused:
            assert refused.status == 503
            assert (await refused.json())["code"] == "too-many-watchers"
        async with asyncio.timeout(5), session.get(url + "/cluster/v1/status") as answer:
            assert answer.status == 200


def test_a_coordinator_that_may_have_many_connections_takes_two_thousand_watchers() -> None:
    assert watchers_max_of(CONTROL_CONNECTIONS_MAX) == WATCHERS_MAX
    assert watchers_max_of(512) == 384
