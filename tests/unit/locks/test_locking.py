"""Locks over HTTP and in the SDK: one holder at a time, whoever dies, sleeps or writes late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from tests.unit.coordinator.running_coordinator import KEYS, TOKEN, open_cluster, running, until

from octad.client.cluster.coordinator_calls import (
    CallRefused,
    Coordinators,
    CoordinatorsUnreachable,
)
from octad.client.cluster.service_records import SESSIONS_PATH, SessionAnswer, SessionRequest
from octad.client.cluster.service_token import service_token
from octad.client.membership import Lock, hold, lock, locking, open_session, watch_lock
from octad.client.membership.event_document import ClusterEvent, EventsDocument
from octad.client.membership.lock_records import (
    LOCKS_PATH,
    LockAnswer,
    LockRecord,
    LockRequest,
    LocksDocument,
    UnlockRequest,
)
from octad.client.membership.session import Session
from octad.coordinator.locks import lock_queues
from octad.coordinator.server.coordinator import Coordinator
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import Put

SERVICE_TOKEN = service_token(TOKEN)
TTL_S = 2.0
LATE_S_MAX = 1.0  # What a lock may take beyond its holder's time to live.


class Caller:
    """Who holds the service key, and asks for whatever it likes."""

    def __init__(self, url: str) -> None:
        self.calls = Coordinators(url, SERVICE_TOKEN)

    async def open(self) -> str:
        body = msgspec.json.encode(SessionRequest(ttl_s=30.0))
        answer = await self.calls.write("POST", SESSIONS_PATH, body)
        return msgspec.json.decode(answer, type=SessionAnswer).session

    async def enter(self, session: str, number: int, value: str = "") -> LockAnswer:
        request = LockRequest(session=session, number=number, value=value)
        body = msgspec.json.encode(request)
        answer = await self.calls.write("PUT", f"{LOCKS_PATH}/l", body)
        return msgspec.json.decode(answer, type=LockAnswer)

    async def leave(self, session: str, number: int) -> None:
        body = msgspec.json.encode(UnlockRequest(session=session, number=number))
        await self.calls.write("DELETE", f"{LOCKS_PATH}/l", body)


@asynccontextmanager
async def calling(directory: Path) -> AsyncIterator[tuple[EmbeddedStore, Caller, str]]:
    async with open_cluster(directory) as store, running(store) as (_, url):
        caller = Caller(url)
        try:
            yield store, caller, url
        finally:
            await caller.calls.close()


async def shown(url: str) -> LocksDocument:
    async with aiohttp.ClientSession() as session, session.get(url + LOCKS_PATH) as answer:
        return msgspec.json.decode(await answer.read(), type=LocksDocument)


def asking(url: str, value: str = "") -> AbstractAsyncContextManager[Lock]:
    return lock("l", coordinator=url, token=SERVICE_TOKEN, ttl_s=TTL_S, value=value, wait_s=20.0)


async def test_one_holds_it_and_the_others_follow_in_the_order_in_which_they_came(
    tmp_path: Path,
) -> None:
    async with calling(tmp_path) as (store, _, url):
        held: list[tuple[str, int]] = []
        inside = 0

        async def worker(name: str) -> None:
            nonlocal inside
            async with asking(url, name) as own:
                inside += 1
                assert inside == 1, "it is held by two"
                held.append((name, own.token))
                await asyncio.sleep(0.02)
                assert own.is_held
                inside -= 1

        names = [f"w{number}" for number in range(8)]
        tasks = []
        for number, name in enumerate(names, start=1):
            tasks.append(asyncio.create_task(worker(name)))
            async with asyncio.timeout(10):
                while len(held) + len((await store.range(KEYS.queue_of("l"))).entries) < number:
                    await asyncio.sleep(0.002)
        await asyncio.gather(*tasks)
        assert [name for name, _ in held] == names
        tokens = [token for _, token in held]
        assert tokens == sorted(set(tokens)), "each holder has a higher one"
        assert (await store.range(KEYS.locks)).entries == []
        assert (await store.range(KEYS.sessions)).entries == []


async def test_everyone_sees_who_holds_it_and_how_many_wait(tmp_path: Path) -> None:
    async with calling(tmp_path) as (_, _, url):
        seen = watch_lock("l", coordinator=url)
        assert await anext(seen) is None
        async with asking(url, "10.0.0.5:80") as first:
            waiting = asyncio.create_task(enter(stack := AsyncExitStack(), url, "10.0.0.6:80"))
            holder = await anext(seen)
            assert holder is not None
            assert (holder.value, holder.token) == ("10.0.0.5:80", first.token)
            async with asyncio.timeout(10):
                while not (found := (await shown(url)).locks) or found[0].waiting == 0:
                    await asyncio.sleep(0.005)
            assert [(each.lock, each.holder, each.waiting) for each in found] == [("l", holder, 1)]
        second = await waiting
        holder = await anext(seen)
        assert holder is not None
        assert (holder.value, holder.token) == ("10.0.0.6:80", second.token)
        await stack.aclose()
        assert await anext(seen) is None
        assert (await shown(url)).locks == ()
        await seen.aclose()


async def enter(stack: AsyncExitStack, url: str, value: str) -> Lock:
    return await stack.enter_async_context(asking(url, value))


async def test_who_does_not_want_to_wait_is_told_and_leaves_the_queue(tmp_path: Path) -> None:
    async with (
        calling(tmp_path) as (store, _, url),
        asking(url),
        open_session(url, SERVICE_TOKEN, ttl_s=30) as session,
    ):
        for wait_s in (0.0, 0.1):
            with pytest.raises(TimeoutError):
                async with hold(session, "l", wait_s=wait_s):
                    raise AssertionError("it is another's")
        assert len((await store.range(KEYS.queue_of("l"))).entries) == 1
        async with hold(session, "m", wait_s=10.0) as other:
            assert other.is_held


async def test_of_a_holder_that_vanished_the_next_has_it_within_its_time_to_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with calling(tmp_path) as (_, _, url), AsyncExitStack() as stack:
        first = await enter(stack, url, "first")
        waiting = asyncio.create_task(enter(other := AsyncExitStack(), url, "second"))

        async def silent(*_: object) -> None:
            raise CoordinatorsUnreachable("paused")

        monkeypatch.setattr(Session, "_renew", silent)
        began = time.monotonic()
        await first.lost()
        assert not first.is_held, "its holder knows"
        assert not waiting.done(), "before anyone else has it"
        second = await waiting
        assert time.monotonic() - began <= TTL_S + LATE_S_MAX
        assert second.token > first.token
        monkeypatch.undo()
        await other.aclose()


async def test_a_session_that_the_cluster_lost_holds_nothing_and_a_waiting_one_stands_in_line_anew(
    tmp_path: Path,
) -> None:
    async with calling(tmp_path) as (store, _, url), asking(url, "first") as first:
        stack = AsyncExitStack()
        waiting = asyncio.create_task(enter(stack, url, "second"))
        async with asyncio.timeout(10):
            while len(queue := (await store.range(KEYS.queue_of("l"))).entries) < 2:
                await asyncio.sleep(0.005)
        waiting_first = sorted(queue, key=lambda entry: -entry.create_revision)
        for entry in waiting_first:
            await store.revoke_lease(entry.lease)
        async with asyncio.timeout(TTL_S):
            await first.lost()
        second = await waiting
        assert second.token > max(entry.create_revision for entry in queue)
        await stack.aclose()


async def test_what_is_carried_out_late_or_twice_changes_nothing(tmp_path: Path) -> None:
    async with calling(tmp_path) as (store, caller, _):
        session, other = await caller.open(), await caller.open()
        first = await caller.enter(session, 1)
        assert first.token is not None
        assert await caller.enter(session, 1) == first
        assert (await caller.enter(session, 2)).token == first.token, "it keeps its place"
        behind = await caller.enter(other, 1)
        assert (behind.token, behind.ahead) == (None, 1)
        await caller.leave(session, 3)
        await caller.leave(session, 3)
        for late in (caller.enter(session, 2), caller.leave(session, 2)):
            with pytest.raises(CallRefused) as refused:
                await late
            assert refused.value.code == "late"
        granted = await caller.enter(other, 2)
        assert granted.token is not None
        assert granted.token > first.token
        assert (await caller.enter(session, 4)).ahead == 1, "it has lost its place"
        await caller.calls.write("DELETE", f"{SESSIONS_PATH}/{session}")
        for gone in (caller.enter(session, 5), caller.leave(session, 5)):
            with pytest.raises(CallRefused) as refused:
                await gone
            assert refused.value.code == "session-gone"
        assert len((await store.range(KEYS.locks)).entries) == 1


async def test_a_store_that_was_made_anew_gives_higher_tokens(tmp_path: Path) -> None:
    async with calling(tmp_path) as (store, caller, _):
        before = (await caller.enter(session := await caller.open(), 1)).token
        await caller.leave(session, 2)
        await store.transact([], [Put(KEYS.generation, b"1")])
        after = (await caller.enter(session, 3)).token
        assert before is not None
        assert after is not None
        assert after > before + (1 << 39)


async def test_a_queue_has_an_end_and_all_queues_together_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, url):
        caller = Caller(url)
        monkeypatch.setattr(lock_queues, "LOCK_QUEUE_MAX", 1)
        await caller.enter(await caller.open(), 1)
        with pytest.raises(CallRefused, match="1 sessions wait for lock l already") as refused:
            await caller.enter(await caller.open(), 1)
        assert (refused.value.code, refused.value.passes) == ("locks-full", True)
        monkeypatch.undo()
        await until(lambda: locks_of(coordinator) == 1, "the coordinator knows of it")
        monkeypatch.setattr(lock_queues, "LOCK_ENTRIES_MAX", 1)
        with pytest.raises(CallRefused, match="1 sessions hold locks"):
            await caller.enter(await caller.open(), 1)
        await caller.calls.close()


def locks_of(coordinator: Coordinator) -> int:
    return len(coordinator.feed.history.state("locks/"))


async def test_bad_names_values_and_keys_are_refused(tmp_path: Path) -> None:
    async with calling(tmp_path) as (_, caller, url):
        session = await caller.open()
        with pytest.raises(CallRefused, match="more than 1024 bytes") as refused:
            await caller.enter(session, 1, "x" * 1025)
        assert refused.value.code == "bad-lock"
        body = msgspec.json.encode(LockRequest(session=session, number=1))
        with pytest.raises(CallRefused, match="lock 'a b'"):
            await caller.calls.write("PUT", f"{LOCKS_PATH}/a%20b", body)
        async with aiohttp.ClientSession() as stranger:
            for method in ("PUT", "DELETE"):
                path = f"{url}{LOCKS_PATH}/l"
                async with stranger.request(method, path, data=body) as answer:
                    assert answer.status == 401


async def test_an_entry_of_ones_own_from_before_gives_no_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A coordinator that lags shows the entry that was given back meanwhile."""

    def told(revision: int, *events: tuple[str, str, int]) -> EventsDocument:
        value = msgspec.Raw(msgspec.json.encode(LockRecord("", 0)))
        return EventsDocument(
            revision,
            revision == 10,
            tuple(ClusterEvent(kind, f"locks/l/{who}", at, value) for kind, who, at in events),  # type: ignore[arg-type]
        )

    async def watched(*_: object, **__: object) -> AsyncIterator[EventsDocument]:
        yield told(10, ("join", "me", 10))
        yield told(12, ("leave", "me", 11), ("join", "other", 12))
        yield told(20, ("join", "me", 20))
        yield told(21, ("leave", "other", 21))

    class Urls:
        urls = "http://nobody:1"
        authority_file = None

    monkeypatch.setattr(locking, "watch_keys", watched)
    assert await locking._turn_of("me", Urls(), "l", 20) == 20  # type: ignore[arg-type]
