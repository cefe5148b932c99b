"""Watchers of coordinators on a real etcd go on where the truth is, and lose nothing by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from tests.cluster.coordinator.coordinator_site import (
    CoordinatorProcess,
    Start,
    forget_clusters,
    store_of,
)
from tests.cluster.coordinator.tcp_link import TcpLink, tcp_link
from tests.cluster.store.etcd_process import EtcdMember
from tests.cluster.store.etcd_site import compact

from octad.client.cluster.join_token import JoinToken, decode_join_token
from octad.client.cluster.view_age import OLD_S
from octad.client.membership import ServiceEvent, watch, watch_keys
from octad.client.membership.event_document import EventsDocument
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.interface import ConfigStore, Put, Revision

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

MOVE_S_MAX = 3.0  # After the view is old: a probe and a connection, on a machine that is busy.


@asynccontextmanager
async def cluster(
    etcd: EtcdMember, start: Start
) -> AsyncIterator[tuple[CoordinatorProcess, JoinToken, ConfigStore]]:
    """A coordinator, its token and store, forgotten afterwards."""
    coordinator = start()
    token = decode_join_token(coordinator.printed("join token"))
    async with store_of(etcd, token) as store:
        try:
            yield coordinator, token, store
        finally:
            await forget_clusters(store)


async def start_behind(
    link: TcpLink, start: Start, other: CoordinatorProcess
) -> CoordinatorProcess:
    """Another coordinator of the cluster, which reaches etcd through the link."""
    token = other.printed("join token")
    return await asyncio.to_thread(start, "--join-token", token, etcd_url=f"http://{link.address}")


async def put(store: ConfigStore, token: JoinToken, name: str) -> Revision:
    value = b'{"service":"web","instance":"%s","address":"h:1"}' % name.encode()
    key = StoreKeys(token.cluster).service("web", name)
    return (await store.transact([], [Put(key, value)])).revision


async def following(events: AsyncGenerator[ServiceEvent, None]) -> ServiceEvent:
    return await asyncio.wait_for(anext(events), 15)


async def test_a_watcher_leaves_a_coordinator_that_is_cut_off_from_the_store(
    etcd: EtcdMember, start: Start
) -> None:
    async with (
        cluster(etcd, start) as (second, token, store),
        tcp_link(etcd.url.removeprefix("http://")) as link,
    ):
        first = await start_behind(link, start, second)
        async with aclosing(watch("web", coordinator=f"{first.url},{second.url}")) as events:
            assert (await following(events)).type == "reset"
            await put(store, token, "a")
            told = await following(events)
            assert told.instance is not None
            assert (told.type, told.instance.instance) == ("join", "a")
            assert told.age_s < OLD_S
            link.silence()
            cut_at = time.monotonic()
            await put(store, token, "b")
            told = await following(events)
            assert told.instance is not None
            assert (told.type, told.instance.instance) == ("join", "b"), "and no reset"
            assert told.age_s < OLD_S
            assert time.monotonic() - cut_at < OLD_S + MOVE_S_MAX


async def test_a_watcher_that_can_go_nowhere_is_told_how_old_its_view_is(
    etcd: EtcdMember, start: Start
) -> None:
    async with (
        cluster(etcd, start) as (other, token, store),
        tcp_link(etcd.url.removeprefix("http://")) as link,
    ):
        only = await start_behind(link, start, other)
        async with aclosing(watch_keys("services/", coordinator=only.url)) as documents:
            assert (await anext(documents)).reset
            link.silence()
            old = await asyncio.wait_for(anext(documents), OLD_S + MOVE_S_MAX)
            assert (old.reset, old.events) == (False, ())
            assert old.age_s >= OLD_S
            await put(store, token, "a")
            link.heal()
            seen: list[EventsDocument] = []
            async with asyncio.timeout(15):
                async for document in documents:
                    seen.append(document)
                    if document.events:
                        break
            assert seen[-1].age_s < OLD_S
            assert all(not document.reset for document in seen)


async def test_a_restarted_coordinator_goes_on_from_where_the_store_was_compacted(
    etcd: EtcdMember, start: Start
) -> None:
    async with cluster(etcd, start) as (first, token, store):
        async with aclosing(watch("web", coordinator=first.url)) as events:
            await following(events)
            await put(store, token, "before")
            before = (await following(events)).token
            revision = await put(store, token, "at")
            at = (await following(events)).token
        for number in range(5):
            await put(store, token, f"after-{number}")
        await compact(etcd, revision)
        second = start("--join-token", first.printed("join token"))
        async with aclosing(watch("web", coordinator=second.url, after=at)) as events:
            for number in range(5):
                told = await following(events)
                assert told.instance is not None
                assert (told.type, told.instance.instance) == ("join", f"after-{number}")
        async with aclosing(watch("web", coordinator=second.url, after=before)) as events:
            reset = await following(events)
            assert (reset.type, len(reset.instances)) == ("reset", 7), "the store has forgotten it"
