"""Watchers see every join and leave once, in order, over reconnects and at any coordinator."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import aiohttp
import pytest
from tests.unit.coordinator.running_coordinator import KEYS, TOKEN, open_cluster, running, until

from octad.client.membership import CallRefused, CoordinatorsUnreachable, watch, watch_keys
from octad.client.membership.event_document import EVENTS_PATH, EventsDocument
from octad.coordinator.mirror import cluster_feed
from octad.coordinator.recovery.store_rebuild import Rebuilt
from octad.coordinator.recovery.store_rescue import fill
from octad.coordinator.store.interface import (
    Compacted,
    ConfigStore,
    Delete,
    EventBatch,
    Put,
    Revision,
)


def record(service: str, name: str) -> bytes:
    return json.dumps({"service": service, "instance": name, "address": "h:1"}).encode()


async def put(store: ConfigStore, *names: str, service: str = "web") -> Revision:
    """All at one revision."""
    puts = [Put(KEYS.service(service, name), record(service, name)) for name in names]
    return (await store.transact([], puts)).revision


async def remove(store: ConfigStore, *names: str) -> Revision:
    return (await store.transact([], [Delete(KEYS.service("web", n)) for n in names])).revision


async def poll(
    url: str,
    prefix: str = "services/",
    after: object = None,
    wait_s: float = 0,
    status: int = 200,
) -> dict[str, object]:
    query: dict[str, str | int | float] = {"prefix": prefix, "wait": wait_s}
    if after is not None:
        query["after"] = str(after)
    async with (
        aiohttp.ClientSession() as session,
        session.get(url + EVENTS_PATH, params=query) as response,
    ):
        assert response.status == status, await response.text()
        found: dict[str, object] = await response.json()
        return found


def names(document: dict[str, object]) -> list[str]:
    events = document["events"]
    assert isinstance(events, list)
    return [f"{event['type']} {event['key'].rpartition('/')[2]}" for event in events]


async def test_a_long_poll_starts_with_everything_and_goes_on_from_its_revision(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, url):
        revision = await put(store, "a", "b")
        await until(lambda: coordinator.feed.history.revision >= revision, "it is seen")
        first = await poll(url)
        assert (first["reset"], names(first)) == (True, ["join a", "join b"])
        asked = asyncio.create_task(poll(url, after=first["token"], wait_s=10))
        await asyncio.sleep(0.1)
        assert not asked.done()
        await remove(store, "a")
        second = await asked
        assert (second["reset"], names(second)) == (False, ["leave a"])
        nothing = await poll(url, after=second["token"], wait_s=0.1)
        assert (nothing["reset"], names(nothing)) == (False, [])


async def test_nodes_and_everything_else_are_watched_the_same_way(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, url):
        await until(lambda: coordinator.is_leading, "it leads")
        await store.transact([], [Put(KEYS.nodes + "3", b'{"id":3}')])
        await until(lambda: "nodes/3" in coordinator.feed.history.entries, "it is seen")
        assert names(await poll(url, "nodes/")) == ["join 3"]
        everything = names(await poll(url, ""))
        assert everything == ["join leader", "join 3", "join 0"], "leader, node and pool"
        async with aiohttp.ClientSession() as session:
            for query in (
                "prefix=keys/",
                "prefix=secret",
                "prefix=leader/",
                "after=x",
                "after=-1",
                "wait=nan",
            ):
                async with session.get(f"{url}{EVENTS_PATH}?{query}") as response:
                    assert (response.status, (await response.json())["code"]) == (
                        400,
                        "bad-request",
                    )


async def test_the_first_contact_of_a_watch_must_succeed() -> None:
    with pytest.raises(CoordinatorsUnreachable, match="no coordinator answers"):
        await anext(watch("web", coordinator="http://127.0.0.1:1"))


async def test_the_sdk_is_told_of_a_prefix_that_makes_no_sense(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        with pytest.raises(CallRefused, match="nothing to watch"):
            await anext(watch_keys("keys/", coordinator=url))


async def churn(store: ConfigStore, rounds: int) -> list[str]:
    """Joins and leaves, some of several at one revision; what a watcher must see, in order."""
    expected = []
    for number in range(rounds):
        pair = (f"{number}-a", f"{number}-b")
        await put(store, *pair)
        expected += [f"join {name}" for name in pair]
        if number % 3:
            await remove(store, *pair)
            expected += [f"leave {name}" for name in pair]
        await asyncio.sleep(0.005)
    return expected


async def see(url: str, until_name: str, after: str | None = None) -> AsyncIterator[str]:
    async with aclosing(watch("web", coordinator=url, after=after)) as events:
        async for event in events:
            name = event.instance.instance if event.instance else ""
            yield f"{event.type} {name}".strip()
            if name == until_name:
                return


async def test_nothing_is_lost_or_doubled_while_coordinators_come_and_go(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (_, steady_url):
        shown: list[str] = []
        seen = asyncio.Event()

        async def follow(urls: str) -> None:
            async for line in see(urls, "end"):
                shown.append(line)
                seen.set()

        async with running(store) as (_, first_url):
            following = asyncio.create_task(follow(f"{first_url},{steady_url}"))
            await seen.wait()
            churning = asyncio.create_task(churn(store, 100))
            await asyncio.sleep(0.2)
        # The first coordinator is gone now: the watcher goes on at the steady one.
        expected = await churning
        await put(store, "end")
        await asyncio.wait_for(following, 10)
        assert shown == ["reset", *expected, "join end"]


async def test_a_watcher_goes_on_at_a_coordinator_that_started_after_the_changes(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path) as store:
        async with running(store) as (_, url):
            token = str((await poll(url))["token"])
        expected = await churn(store, 20)
        await put(store, "end")
        async with running(store) as (_, url):
            async with asyncio.timeout(5):
                shown = [line async for line in see(url, "end", after=token)]
    assert shown == [*expected, "join end"], "no reset: the store still had it all"


async def test_what_is_no_longer_kept_is_told_as_a_reset_with_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_feed, "WATCH_CHANGES_READ_BACK", 5)
    async with open_cluster(tmp_path) as store:
        async with running(store) as (_, url):
            token = str((await poll(url))["token"])
        await churn(store, 5)
        async with running(store) as (_, url):
            document = await poll(url, after=token)
    assert document["reset"]
    assert names(document) == ["join 0-a", "join 0-b", "join 3-a", "join 3-b"]


async def test_a_compacted_watch_begins_again_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_cluster(tmp_path) as store:
        watch_store, broken = store.watch, asyncio.Event()

        async def compacted(prefix: str, after: Revision) -> AsyncIterator[EventBatch]:
            async for batch in watch_store(prefix, after):
                if prefix == KEYS.prefix and broken.is_set():
                    broken.clear()
                    raise Compacted("the revision is gone")
                yield batch

        monkeypatch.setattr(store, "watch", compacted)
        async with (
            running(store) as (coordinator, url),
            aclosing(watch("web", coordinator=url)) as events,
        ):
            assert (await anext(events)).type == "reset"
            broken.set()
            await put(store, "a")
            reset = await asyncio.wait_for(anext(events), 5)
            while not reset.instances:  # Begun again as of a moment before.
                reset = await asyncio.wait_for(anext(events), 5)
            assert (reset.type, [i.instance for i in reset.instances]) == ("reset", ["a"])
            await put(store, "b")
            joined = await asyncio.wait_for(anext(events), 5)
            assert (joined.type, joined.instance and joined.instance.instance) == ("join", "b")
            assert coordinator.feed.resets_told >= 2


async def test_a_token_from_a_store_that_has_lost_its_data_is_answered_with_a_reset(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        life = str((await poll(url))["token"]).partition("-")[0]
        assert (await poll(url, after=f"{life}-1000000"))["reset"]


@pytest.mark.parametrize("restarted", [False, True], ids=["while it runs", "before it starts"])
async def test_a_token_of_the_store_before_is_gone_whatever_its_revision(
    tmp_path: Path, restarted: bool
) -> None:
    async with open_cluster(tmp_path) as store:
        async with running(store) as (_, url):
            await put(store, "a")
            await until_seen(url, "join a")
            token = str((await poll(url))["token"])
            if not restarted:
                async with aclosing(watch_keys("services/", coordinator=url)) as documents:
                    (before,) = [d async for d in _first(documents, 1)]
                    await restore(store)
                    (anew,) = [d async for d in _first(documents, 1)]
                assert anew.reset
                lives = [life.partition("-")[0] for life in (token, before.token, anew.token)]
                assert lives[0] == lives[1] != lives[2]
                gone = await poll(url, after=token, status=410)
        if restarted:
            await restore(store)
            async with running(store) as (_, url):
                gone = await poll(url, after=token, status=410)
                bare = token.rpartition("-")[2]
                assert (await poll(url, after=bare, status=410))["reset"], "of an older octad"
    assert (gone["reset"], names(gone)) == (True, ["join a"])


async def test_a_token_is_no_place_in_another_store_that_has_come_as_far(tmp_path: Path) -> None:
    tokens: list[str] = []
    for name in ("lost", "new"):
        (tmp_path / name).mkdir()
        async with open_cluster(tmp_path / name) as store, running(store) as (_, url):
            for number in range(20):
                await put(store, f"{name}-{number}")
            await until_seen(url, f"join {name}-19")
            if tokens:
                gone = await poll(url, after=tokens[0], status=410)
                assert (gone["reset"], len(names(gone))) == (True, 20)
            tokens.append(str((await poll(url))["token"]))


async def restore(store: ConfigStore) -> None:
    """As a backup is put back: the keys are what they were, the revisions are others."""
    await fill(store, TOKEN, Rebuilt(await kept(store), 0, 0, ()))


async def kept(store: ConfigStore) -> dict[str, bytes]:
    entries = (await store.range(KEYS.prefix)).entries
    return {entry.key.removeprefix(KEYS.prefix): entry.value for entry in entries}


async def until_seen(url: str, name: str) -> None:
    async with asyncio.timeout(5):
        while name not in names(await poll(url)):
            await asyncio.sleep(0.01)


async def _first(
    documents: AsyncIterator[EventsDocument], count: int
) -> AsyncIterator[EventsDocument]:
    for _ in range(count):
        yield await asyncio.wait_for(anext(documents), 5)


async def test_events_of_one_revision_share_a_token_that_moves_on_with_the_last(
    tmp_path: Path,
) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(store) as (coordinator, url),
        aclosing(watch("web", coordinator=url)) as events,
    ):
        await until(lambda: coordinator.is_leading, "no one else writes")
        start = await anext(events)
        revision = await put(store, "a", "b")
        first, second = await anext(events), await anext(events)
        assert (first.revision, first.token) == (revision, start.token)
        life = start.token.partition("-")[0]
        assert (second.revision, second.token) == (revision, f"{life}-{revision}")


async def test_two_hundred_watchers_are_told_within_a_second(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        arrived: list[float] = []

        async def one() -> None:
            async with aclosing(watch("web", coordinator=url)) as events:
                await anext(events)
                ready.append(None)
                await anext(events)
                arrived.append(time.monotonic())

        ready: list[None] = []
        watchers = [asyncio.create_task(one()) for _ in range(200)]
        await until(lambda: len(ready) == 200, "all watch")
        begun = time.monotonic()
        await put(store, "a")
        await asyncio.gather(*watchers)
        assert max(arrived) - begun < 1.0


async def test_a_coordinator_that_stops_ends_its_streams_at_once(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, aiohttp.ClientSession() as session:
        async with running(store) as (_, url):
            accept = {"Accept": "text/event-stream"}
            response = await session.get(url + EVENTS_PATH, headers=accept)
            await response.content.readline()
            begun = time.monotonic()
        assert time.monotonic() - begun < 1.5
        assert b"data:" in await response.read(), "whole, to its end"
