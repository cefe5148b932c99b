"""What every configuration store promises, as tests that run against each implementation.

A test module subclasses `StoreConformance` and has a fixture `site`.
"""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.store.store_site import SOON_S, Site, events_until, plain, put, revision_of

from octad.coordinator.store.interface import (
    Compacted,
    ConfigStore,
    Delete,
    KeyValue,
    LeaseExpired,
    ModRevisionIs,
    NoneNewer,
    Outcome,
    Put,
    Revision,
    StoreOperation,
    ValueIs,
)
from octad.coordinator.store.watching import watching
from octad.sharding.limits import STORE_TRANSACTION_BYTES_MAX, STORE_TRANSACTION_OPERATIONS_MAX


class StoreConformance:
    """The suite."""

    @pytest.fixture
    async def store(self, site: Site) -> ConfigStore:
        return await site.open()

    async def test_a_key_is_read_as_it_was_written(self, store: ConfigStore) -> None:
        assert await store.get("a/1") is None
        created = await put(store, "a/1", b"first")
        changed = await put(store, "a/1", b"second")
        assert created < changed
        assert await store.get("a/1") == KeyValue("a/1", b"second", created, changed)

    async def test_values_hold_any_bytes_and_keys_any_text(self, store: ConfigStore) -> None:
        values = {
            "a/every byte": bytes(range(256)),
            "a/": b"",
            "a/ключ/ \x00\n\"'%/": b"\xff\xfe\x00",
        }
        await store.transact([], [Put(key, value) for key, value in values.items()])
        listing = await store.range("a/")
        assert {entry.key: entry.value for entry in listing.entries} == values
        for key, value in values.items():
            entry = await store.get(key)
            assert entry is not None
            assert entry.value == value

    async def test_a_range_is_its_prefix_alone_in_key_order(self, store: ConfigStore) -> None:
        keys = ["a", "a/", "a/é", "a/10", "a/2", "a/\x00", "a0", "b/1", "a/\U0010ffff"]
        revision = await put(store, "z")
        for key in keys:
            revision = await put(store, key)
        listing = await store.range("a/")
        assert [entry.key for entry in listing.entries] == [
            "a/",
            "a/\x00",
            "a/10",
            "a/2",
            "a/é",
            "a/\U0010ffff",
        ]
        assert listing.revision == revision
        assert [entry.key for entry in (await store.range("")).entries] == sorted([*keys, "z"])

    async def test_a_range_at_a_revision_shows_that_revision(self, store: ConfigStore) -> None:
        await put(store, "a/stays", b"1")
        before = await put(store, "a/goes", b"1")
        then = (await store.range("a/")).entries
        await store.transact([], [Delete("a/goes"), Put("a/comes", b"1"), Put("a/stays", b"2")])
        assert [e.key for e in (await store.range("a/")).entries] == ["a/comes", "a/stays"]
        old = await store.range("a/", before)
        assert (old.revision, list(old.entries)) == (before, list(then))

    async def test_ten_thousand_keys_are_listed_once_each(self, store: ConfigStore) -> None:
        keys = [f"a/{number:05}" for number in range(10_000)]
        batch_size = STORE_TRANSACTION_OPERATIONS_MAX
        for start in range(0, len(keys), batch_size):
            await store.transact(
                [], [Put(key, b"v" * 100) for key in keys[start : start + batch_size]]
            )
        assert [entry.key for entry in (await store.range("a/")).entries] == keys

    async def test_a_transaction_is_one_revision_and_all_or_nothing(
        self, store: ConfigStore
    ) -> None:
        before = await put(store, "a/1", b"old")
        outcome = await store.transact(
            [
                ModRevisionIs("a/1", before),
                ModRevisionIs("a/2", Revision(0)),
                ValueIs("a/1", b"old"),
            ],
            [Put("a/1", b"new"), Put("a/2", b"new"), Delete("a/3")],
        )
        assert outcome == Outcome(True, Revision(before + 1))
        entries = (await store.range("a/")).entries
        assert [(e.key, e.value, e.mod_revision) for e in entries] == [
            ("a/1", b"new", outcome.revision),
            ("a/2", b"new", outcome.revision),
        ]
        refused = await store.transact(
            [ModRevisionIs("a/1", outcome.revision), ValueIs("a/2", b"old")],
            [Put("a/1", b"never"), Delete("a/2"), Put("a/4", b"never")],
        )
        assert refused == Outcome(False, outcome.revision)
        assert (await store.range("a/")).entries == entries

    @pytest.mark.parametrize(
        ("compare", "holds"),
        [
            (ModRevisionIs("a/absent", Revision(0)), True),
            (ModRevisionIs("a/absent", Revision(1)), False),
            (ValueIs("a/absent", b""), False),
            (ModRevisionIs("a/empty", Revision(0)), False),
            (ValueIs("a/empty", b""), True),
            (ValueIs("a/empty", b"x"), False),
        ],
        ids=str,
    )
    async def test_a_compare_tells_absent_from_empty(
        self, store: ConfigStore, compare: ModRevisionIs | ValueIs, holds: bool
    ) -> None:
        await put(store, "a/empty")
        assert (await store.transact([compare], [])).succeeded is holds

    async def test_a_compare_of_a_prefix_sees_what_was_put_below_it_and_nothing_else(
        self, store: ConfigStore
    ) -> None:
        first = await put(store, "a/1")
        second = await put(store, "a/2")
        await put(store, "a")
        await put(store, "a0")

        async def none_newer(prefix: str, revision: int) -> bool:
            compare = NoneNewer(prefix, Revision(revision))
            return (await store.transact([compare], [])).succeeded

        assert await none_newer("a/", second)
        assert not await none_newer("a/", first)
        assert await none_newer("b/", 0), "there is nothing"
        assert not await none_newer("a", second), "not only keys with a slash"
        await store.transact([], [Delete("a/2")])
        assert await none_newer("a/", first), "what is deleted is not there"
        last = await put(store, "a/2")
        assert not await none_newer("a/", last - 1), "it came again"
        outcome = await store.transact(
            [NoneNewer("a/", last), ModRevisionIs("a/3", Revision(0))], [Put("a/3", b"")]
        )
        assert outcome.succeeded
        again = await store.transact([NoneNewer("a/", last)], [Put("a/4", b"")])
        assert not again.succeeded

    async def test_only_a_change_makes_a_revision(self, store: ConfigStore) -> None:
        revision = await put(store, "a/1", b"same")
        assert (await store.transact([], [])).revision == revision
        assert (await store.transact([], [Delete("a/absent")])).revision == revision
        assert await revision_of(store) == revision
        assert await put(store, "a/1", b"same") == revision + 1

    async def test_a_transaction_beyond_the_limits_is_a_mistake(self, store: ConfigStore) -> None:
        revision = await revision_of(store)
        too_many = STORE_TRANSACTION_OPERATIONS_MAX + 1
        mistakes: list[list[StoreOperation]] = [
            [Put(f"a/{number}", b"") for number in range(too_many)],
            [Put("a/1", bytes(STORE_TRANSACTION_BYTES_MAX))],
            [Put("a/1", b""), Delete("a/1")],
            [Put("", b"")],
        ]
        for operations in mistakes:
            with pytest.raises(ValueError, match=r"at most|twice|empty"):
                await store.transact([], operations)
        assert await revision_of(store) == revision
        largest = bytes(STORE_TRANSACTION_BYTES_MAX - 3)
        await put(store, "a/1", largest)
        entry = await store.get("a/1")
        assert entry is not None
        assert entry.value == largest

    async def test_of_fifty_writers_racing_exactly_one_wins_each_round(self, site: Site) -> None:
        stores = [await site.open() for _ in range(5)]
        await put(stores[0], "a/sum", b"0")

        async def race(store: ConfigStore) -> bool:
            entry = await store.get("a/sum")
            assert entry is not None
            await barrier.wait()
            compare = ModRevisionIs("a/sum", entry.mod_revision)
            value = b"%d" % (int(entry.value) + 1)
            return (await store.transact([compare], [Put("a/sum", value)])).succeeded

        for number in range(1, 6):
            barrier = asyncio.Barrier(50)
            wins = await asyncio.gather(*(race(stores[writer % 5]) for writer in range(50)))
            assert sum(wins) == 1
            entry = await stores[0].get("a/sum")
            assert entry is not None
            assert entry.value == b"%d" % number

    async def test_a_watch_tells_every_change_once_and_in_order(self, site: Site) -> None:
        watcher, writer = await site.open(), await site.open()
        after = await put(writer, "a/before")
        watching_now = asyncio.create_task(events_until(watcher, after, Revision(after + 60)))
        expected: list[tuple[str, bytes | None, int]] = []
        for number in range(20):
            revision = await put(writer, f"a/{number}", b"%d" % number)
            expected.append((f"a/{number}", b"%d" % number, revision))
            await put(writer, f"b/{number}")
            revision = (await writer.transact([], [Delete(f"a/{number}")])).revision
            expected.append((f"a/{number}", None, revision))
        await put(writer, "a/last")
        events = await events_until(watcher, after, await revision_of(writer))
        assert plain(events[:-1]) == expected
        live = await watching_now
        assert plain(live[: len(expected)]) == expected

    async def test_a_watch_delivers_the_revisions_of_large_transactions_whole(
        self, site: Site
    ) -> None:
        watcher, writer = await site.open(), await site.open()
        after = await revision_of(writer)
        watching_now = asyncio.create_task(events_until(watcher, after, Revision(after + 8)))
        keys = [f"a/{number}" for number in range(STORE_TRANSACTION_OPERATIONS_MAX)]
        value = b"v" * (STORE_TRANSACTION_BYTES_MAX // len(keys) - 100)
        for _ in range(8):
            await writer.transact([], [Put(key, value) for key in keys])
        live = await watching_now
        past = await events_until(watcher, after, Revision(after + 8))
        for events in (live, past):
            assert [e.revision - after for e in events] == [n for n in range(1, 9) for _ in keys]

    async def test_a_watch_starts_at_any_revision_that_is_kept(self, store: ConfigStore) -> None:
        revisions = [await put(store, "a/1", b"%d" % number) for number in range(5)]
        for position, revision in enumerate(revisions[:-1]):
            events = await events_until(store, revision, revisions[-1])
            assert [e.revision for e in events] == revisions[position + 1 :]

    async def test_an_idle_watch_still_gives_a_sign_of_life(self, store: ConfigStore) -> None:
        revision = await put(store, "b/elsewhere")
        async with asyncio.timeout(SOON_S), watching(store, "a/", revision) as batches:
            batch = await anext(aiter(batches))
        assert (batch.revision, list(batch.events)) == (revision, [])

    async def test_what_is_compacted_can_be_neither_watched_nor_listed(self, site: Site) -> None:
        store = await site.open()
        old = await put(store, "a/1", b"old")
        await store.transact([], [Delete("a/1")])
        kept = await put(store, "a/2")
        await site.forget_history()
        with pytest.raises(Compacted):
            await events_until(store, old, kept)
        with pytest.raises(Compacted):
            await store.range("a/", old)
        assert [e.key for e in (await store.range("a/")).entries] == ["a/2"]
        newest = await revision_of(store)
        last = await put(store, "a/3")
        assert [e.key for e in await events_until(store, newest, last)] == ["a/3"]

    async def test_a_deletion_that_is_compacted_is_never_skipped_silently(self, site: Site) -> None:
        store = await site.open()
        before = await put(store, "a/1")
        await store.transact([], [Delete("a/1")])
        await site.forget_history()
        last = await put(store, "a/2")
        with pytest.raises(Compacted):
            await events_until(store, before, last)

    async def test_a_lease_that_is_not_renewed_ends_with_its_keys(self, site: Site) -> None:
        store = await site.open()
        dying, renewed = (
            await store.grant_lease(site.lease_s),
            await store.grant_lease(site.lease_s),
        )
        await put(store, "a/dying/1", b"", dying)
        await put(store, "a/dying/2", b"", dying)
        after = await put(store, "a/renewed", b"", renewed)
        entry = await store.get("a/renewed")
        assert entry is not None
        assert entry.lease == renewed
        gone = asyncio.create_task(events_until(store, after, Revision(after + 1)))
        while not gone.done():
            await store.keep_alive(renewed)
            await asyncio.sleep(site.lease_s / 4)
        assert plain(await gone) == [
            ("a/dying/1", None, after + 1),
            ("a/dying/2", None, after + 1),
        ]
        assert [e.key for e in (await store.range("a/")).entries] == ["a/renewed"]
        with pytest.raises(LeaseExpired):
            await store.keep_alive(dying)

    async def test_a_put_under_a_lease_that_is_gone_changes_nothing(self, site: Site) -> None:
        store = await site.open()
        lease = await store.grant_lease(60)
        await store.revoke_lease(lease)
        await store.revoke_lease(lease)
        before = await revision_of(store)
        with pytest.raises(LeaseExpired):
            await store.transact([], [Put("a/1", b""), Put("a/2", b"", lease)])
        refused = await store.transact([ValueIs("a/1", b"")], [Put("a/2", b"", lease)])
        assert refused == Outcome(False, before)
        assert (await store.range("a/")).entries == []

    async def test_a_key_belongs_to_the_lease_of_its_last_put(self, store: ConfigStore) -> None:
        first, second = await store.grant_lease(60), await store.grant_lease(60)
        for key in ("a/freed", "a/moved", "a/kept"):
            await put(store, key, b"", first)
        await put(store, "a/freed")
        await put(store, "a/moved", b"", second)
        await store.revoke_lease(first)
        entries = (await store.range("a/")).entries
        assert [(e.key, e.lease) for e in entries] == [("a/freed", 0), ("a/moved", second)]
