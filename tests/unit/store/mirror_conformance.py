"""What a mirror promises over any configuration store; used as `StoreConformance` is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
from tests.unit.store.store_site import Site, put, until

from octad.coordinator.store.interface import (
    Compare,
    ConfigStore,
    Delete,
    EventBatch,
    KeyValue,
    LeaseId,
    Listing,
    Outcome,
    Put,
    Revision,
    StoreOperation,
    StoreUnavailable,
)
from octad.coordinator.store.mirror import Mirror
from octad.coordinator.store.watching import watching

KINDS = ("a/one/", "a/two/")


class CuttableStore:
    """Another store behind a connection that a test can cut, and watches that it can hold up."""

    def __init__(self, inner: ConfigStore) -> None:
        self._inner = inner
        self._is_cut = False
        self._watches_flow = asyncio.Event()
        self._watches_flow.set()

    def cut(self) -> None:
        self._is_cut = True

    def heal(self) -> None:
        self._is_cut = False

    def hold_watches(self) -> None:
        self._watches_flow.clear()

    def release_watches(self) -> None:
        self._watches_flow.set()

    async def range(self, prefix: str, revision: Revision | None = None) -> Listing:
        self._check()
        return await self._inner.range(prefix, revision)

    async def get(self, key: str) -> KeyValue | None:
        self._check()
        return await self._inner.get(key)

    async def transact(
        self, compares: Sequence[Compare], operations: Sequence[StoreOperation]
    ) -> Outcome:
        self._check()
        return await self._inner.transact(compares, operations)

    async def grant_lease(self, ttl_s: float) -> LeaseId:
        self._check()
        return await self._inner.grant_lease(ttl_s)

    async def keep_alive(self, lease: LeaseId) -> None:
        self._check()
        await self._inner.keep_alive(lease)

    async def revoke_lease(self, lease: LeaseId) -> None:
        self._check()
        await self._inner.revoke_lease(lease)

    async def versions(self) -> Mapping[str, str]:
        return await self._inner.versions()

    async def watch(self, prefix: str, after: Revision) -> AsyncGenerator[EventBatch, None]:
        self._check()
        async with watching(self._inner, prefix, after) as batches:
            async for batch in batches:
                await self._watches_flow.wait()
                self._check()
                yield batch

    async def close(self) -> None:
        await self._inner.close()

    def _check(self) -> None:
        if self._is_cut:
            raise StoreUnavailable("cut")


async def entries_of(store: ConfigStore, prefix: str) -> dict[str, KeyValue]:
    return {entry.key: entry for entry in (await store.range(prefix)).entries}


class BusyStore(CuttableStore):
    """Between any two of its reads someone changes one key of each kind, in one transaction."""

    def __init__(self, inner: ConfigStore) -> None:
        super().__init__(inner)
        self.writes = 0
        self._one_by_one = asyncio.Lock()

    async def range(self, prefix: str, revision: Revision | None = None) -> Listing:
        async with self._one_by_one:
            self.writes += 1
            value = b"%d" % self.writes
            puts = [Put(f"{kind}1", value) for kind in (*KINDS, "a/other/")]
            await self._inner.transact([], puts)
            return await super().range(prefix, revision)


class FrozenStore(CuttableStore):
    """From a moment on it answers no read."""

    reads_waiting = 0

    def __init__(self, inner: ConfigStore) -> None:
        super().__init__(inner)
        self._is_frozen = False

    def freeze(self) -> None:
        self._is_frozen = True

    async def range(self, prefix: str, revision: Revision | None = None) -> Listing:
        if self._is_frozen:
            self.reads_waiting += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.reads_waiting -= 1
        return await super().range(prefix, revision)


class History:
    """A follower: what it was told, since what it began with."""

    def __init__(self, mirror: Mirror, begins_at: Revision | None = None) -> None:
        self._mirror = mirror
        self._begins_at = begins_at
        self.began: list[dict[str, bytes]] = []
        self.told: list[tuple[str, bytes | None]] = []
        self.life = b""
        mirror.follow(self)

    async def on_gap(self) -> Revision:
        shown = {key: entry.value for key, entry in self._mirror.entries.items()}
        self.began.append(shown)
        self.life = shown.get("a/life", b"")
        return self._mirror.revision if self._begins_at is None else self._begins_at

    def on_batch(self, batch: EventBatch) -> bool:
        assert self._mirror.revision >= batch.revision, "the mirror shows what it tells of"
        self.told += [(e.key, e.entry.value if e.entry else None) for e in batch.events]
        lives = [e.entry.value for e in batch.events if e.key == "a/life" and e.entry]
        return all(life == self.life for life in lives)


@asynccontextmanager
async def mirror_of(
    store: ConfigStore, prefix: str, kinds: Sequence[str] = ()
) -> AsyncIterator[Mirror]:
    mirror = Mirror(store, prefix, kinds)
    await mirror.start()
    try:
        yield mirror
    finally:
        await mirror.stop()


class MirrorConformance:
    """The suite."""

    async def test_a_mirror_shows_what_a_listing_shows(self, site: Site) -> None:
        store, writer = await site.open(), await site.open()
        await put(writer, "a/1", b"1")
        await put(writer, "b/1", b"elsewhere")
        async with mirror_of(store, "a/") as mirror:
            told: dict[str, KeyValue | None] = {}
            mirror.subscribe(told.__setitem__)
            assert list(told) == ["a/1"]
            await put(writer, "a/2", b"2")
            await put(writer, "b/2", b"elsewhere")
            await writer.transact([], [Delete("a/1"), Put("a/3", b"3")])
            await mirror.refresh()
            assert mirror.entries == await entries_of(writer, "a/")
            assert told == {"a/1": None, **mirror.entries}
            last = await put(writer, "a/4", b"4")
            await until(lambda: mirror.revision >= last, "the watch brings a/4")
            assert mirror.entries["a/4"].value == b"4"

    async def test_a_refreshed_mirror_is_never_older_than_a_read(self, site: Site) -> None:
        store, writer = await site.open(), await site.open()
        async with mirror_of(store, "a/") as mirror:
            for number in range(20):
                revision = await put(writer, "a/1", b"%d" % number)
                await asyncio.gather(mirror.refresh(), mirror.refresh())
                assert mirror.entries["a/1"].mod_revision == revision

    async def test_a_watch_behind_a_refresh_does_not_take_the_mirror_back(self, site: Site) -> None:
        writer = await site.open()
        store = CuttableStore(await site.open())
        async with mirror_of(store, "a/") as mirror:
            told: list[tuple[str, bytes | None]] = []
            mirror.subscribe(lambda key, e: told.append((key, e.value if e else None)))
            store.hold_watches()
            for value in (b"1", b"2"):
                await put(writer, "a/1", value)
            await put(writer, "a/gone")
            await writer.transact([], [Delete("a/gone")])
            await mirror.refresh()
            store.release_watches()
            last = await put(writer, "a/1", b"3")
            await until(lambda: mirror.revision >= last, "the watch goes on")
            assert told == [("a/1", b"2"), ("a/1", b"3")]

    async def test_a_mirror_that_was_cut_off_tells_the_difference_once(self, site: Site) -> None:
        writer = await site.open()
        store = CuttableStore(await site.open())
        await writer.transact([], [Put("a/goes", b""), Put("a/stays", b""), Put("a/turns", b"1")])
        async with mirror_of(store, "a/") as mirror:
            told: list[tuple[str, bytes | None]] = []
            mirror.subscribe(lambda key, e: told.append((key, e.value if e else None)))
            told.clear()
            store.cut()
            await writer.transact([], [Delete("a/goes"), Put("a/turns", b"2")])
            last = await put(writer, "a/comes")
            store.heal()
            await until(lambda: mirror.revision >= last, "the mirror goes on")
            assert sorted(told) == [("a/comes", b""), ("a/goes", None), ("a/turns", b"2")]
            assert mirror.entries == await entries_of(writer, "a/")

    async def test_a_mirror_that_was_cut_off_past_compaction_lists_again(self, site: Site) -> None:
        writer = await site.open()
        store = CuttableStore(await site.open())
        await writer.transact([], [Put("a/goes", b""), Put("a/stays", b"")])
        async with mirror_of(store, "a/") as mirror:
            told: list[tuple[str, bool]] = []
            mirror.subscribe(lambda key, entry: told.append((key, entry is not None)))
            told.clear()
            store.cut()
            await writer.transact([], [Delete("a/goes"), Put("a/comes", b"")])
            await site.forget_history()
            store.heal()
            await until(lambda: "a/comes" in mirror.entries, "the mirror lists again")
            assert told == [("a/goes", False), ("a/comes", True)]
            assert sorted(mirror.entries) == ["a/comes", "a/stays"]
            last = await put(writer, "a/more")
            await until(lambda: mirror.revision >= last, "the mirror watches again")

    async def test_a_mirror_starts_once_its_store_can_be_reached(self, site: Site) -> None:
        store = CuttableStore(await site.open())
        await put(store, "a/1")
        store.cut()
        mirror = Mirror(store, "a/")
        starting = asyncio.create_task(mirror.start())
        await asyncio.sleep(0.05)
        assert not starting.done()
        store.heal()
        await starting
        assert list(mirror.entries) == ["a/1"]
        await mirror.stop()

    async def test_a_mirror_says_when_it_was_last_known_to_be_current(self, site: Site) -> None:
        store = CuttableStore(await site.open())
        async with mirror_of(store, "a/") as mirror:
            began = mirror.last_confirmed
            await mirror.refresh()
            assert mirror.last_confirmed > began
            refreshed = mirror.last_confirmed
            await until(lambda: mirror.last_confirmed > refreshed, "an idle watch confirms")
            store.cut()
            with pytest.raises(StoreUnavailable):
                await mirror.refresh()

    async def test_a_mirror_that_has_stopped_reads_no_more_and_tells_who_waits(
        self, site: Site
    ) -> None:
        """Who waits belongs to others, who have not stopped yet, and is not cancelled by it."""
        store = FrozenStore(await site.open())
        mirror = Mirror(store, "a/")
        await mirror.start()
        store.freeze()
        waiting = [asyncio.create_task(mirror.refresh()) for _ in range(3)]
        await until(lambda: store.reads_waiting > 0, "the first read is under way")
        await mirror.stop()
        asked = asyncio.gather(*waiting, mirror.refresh(), return_exceptions=True)
        told = await asyncio.wait_for(asked, 10)
        assert [type(each) for each in told] == [StoreUnavailable] * 4
        assert store.reads_waiting == 0

    async def test_a_mirror_of_some_kinds_shows_them_alone_and_at_one_revision(
        self, site: Site
    ) -> None:
        store = BusyStore(await site.open())
        async with mirror_of(store, "a/", KINDS) as mirror:
            shown: list[set[bytes]] = []
            told: list[str] = []

            def look(key: str, _entry: KeyValue | None) -> None:
                told.append(key)
                shown.append({entry.value for entry in mirror.entries.values()})

            mirror.subscribe(look)
            for _ in range(20):
                await mirror.refresh()
                shown.append({entry.value for entry in mirror.entries.values()})
            assert {len(values) for values in shown} == {1}, "both keys always change together"
            assert set(told) == {"a/one/1", "a/two/1"}
            assert {kind: list(mirror.of(kind)) for kind in KINDS} == {k: [f"{k}1"] for k in KINDS}
            await store.transact([], [Delete("a/one/1")])
            await until(lambda: "a/one/1" not in mirror.entries, "the watch goes on")
            assert not mirror.of("a/one/")

    async def test_a_subscriber_is_told_of_the_kinds_that_it_names(self, site: Site) -> None:
        store = await site.open()
        await store.transact([], [Put("a/one/1", b""), Put("a/two/1", b"")])
        async with mirror_of(store, "a/", KINDS) as mirror:
            told: list[str] = []
            mirror.subscribe(lambda key, _: told.append(key), "a/two/")
            await store.transact([], [Put("a/one/2", b""), Put("a/two/2", b"")])
            await until(lambda: len(mirror.entries) == 4, "the watch brings both")
            assert told == ["a/two/1", "a/two/2"]

    async def test_a_follower_sees_every_change_though_the_mirror_was_ahead_and_cut_off(
        self, site: Site
    ) -> None:
        writer = await site.open()
        store = CuttableStore(await site.open())
        mirror = Mirror(store, "a/")
        history = History(mirror)
        await put(writer, "a/1", b"0")
        await mirror.start()
        store.hold_watches()
        await put(writer, "a/1", b"1")
        await writer.transact([], [Delete("a/1"), Put("a/2", b"1")])
        await mirror.refresh()
        assert list(mirror.entries) == ["a/2"], "it is ahead of the watch"
        store.cut()
        store.release_watches()
        last = await put(writer, "a/1", b"2")
        store.heal()
        await until(lambda: mirror.revision >= last, "the mirror goes on")
        await mirror.stop()
        assert history.began == [{"a/1": b"0"}]
        changes = [("a/1", b"1"), ("a/1", None), ("a/2", b"1"), ("a/1", b"2")]
        assert sorted(history.told[1:3], key=str) == sorted(changes[1:3], key=str)
        assert [history.told[0], *history.told[3:]] == [changes[0], changes[3]]

    async def test_a_follower_learns_that_it_missed_what_is_compacted(self, site: Site) -> None:
        writer = await site.open()
        store = CuttableStore(await site.open())
        mirror = Mirror(store, "a/")
        history = History(mirror)
        await put(writer, "a/goes", b"")
        await mirror.start()
        store.cut()
        await writer.transact([], [Delete("a/goes"), Put("a/comes", b"")])
        await site.forget_history()
        store.heal()
        await until(lambda: len(history.began) == 2, "it begins again")
        await put(writer, "a/more", b"")
        await until(lambda: "a/more" in mirror.entries, "the mirror watches again")
        await mirror.stop()
        assert history.began == [{"a/goes": b""}, {"a/comes": b""}]
        assert history.told == [("a/more", b"")]

    async def test_a_follower_may_be_told_of_what_led_to_the_listing(self, site: Site) -> None:
        writer, store = await site.open(), await site.open()
        first = await put(writer, "a/1", b"1")
        await writer.transact([], [Delete("a/1"), Put("a/2", b"2")])
        mirror = Mirror(store, "a/")
        history = History(mirror, begins_at=first)
        await mirror.start()
        shown: list[str] = []
        mirror.subscribe(lambda key, _: shown.append(key))
        last = await put(writer, "a/3", b"3")
        await until(lambda: mirror.revision >= last, "the mirror goes on")
        await mirror.stop()
        assert history.began == [{"a/2": b"2"}]
        assert sorted(history.told) == [("a/1", None), ("a/2", b"2"), ("a/3", b"3")]
        assert shown == ["a/2", "a/3"], "what others see never goes back"

    async def test_a_follower_may_begin_anew_with_what_it_is_told(self, site: Site) -> None:
        store = await site.open()
        mirror = Mirror(store, "a/")
        history = History(mirror)
        await mirror.start()
        await put(store, "a/life", b"another")
        await until(lambda: len(history.began) == 2, "it begins anew")
        last = await put(store, "a/1", b"1")
        await until(lambda: mirror.revision >= last, "the mirror watches again")
        await mirror.stop()
        assert history.began == [{}, {"a/life": b"another"}]
        assert history.told == [("a/life", b"another"), ("a/1", b"1")]
