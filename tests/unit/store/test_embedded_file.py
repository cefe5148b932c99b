"""What an embedded store keeps through a restart, and what it says of a file that it cannot use."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from tests.unit.store.store_site import events_until, plain, put

from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import (
    Delete,
    LeaseExpired,
    ModRevisionIs,
    Put,
    Revision,
    StoreUnavailable,
)
from octad.coordinator.store.sqlite_log import LogEntry, SqliteLog, StoreFileUnusable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[EmbeddedStore]:
    store = await EmbeddedStore.open(path)
    try:
        yield store
    finally:
        await store.close()


async def test_keys_revisions_and_history_survive_a_restart(path: Path) -> None:
    async with opened(path) as store:
        first = await put(store, "a/1", b"1")
        await store.transact([], [Put("a/2", b"2"), Delete("a/1")])
        last = await put(store, "a/2", b"3")
        events, listing = await events_until(store, first, last), await store.range("")
    async with opened(path) as store:
        assert await store.range("") == listing
        assert await events_until(store, first, last) == events
        assert await put(store, "a/3") == last + 1


async def test_a_lease_has_a_full_ttl_after_a_restart_and_then_ends(path: Path) -> None:
    async with opened(path) as store:
        lease, revoked = await store.grant_lease(0.6), await store.grant_lease(60)
        await put(store, "a/1", b"", lease)
        await store.revoke_lease(revoked)
        await asyncio.sleep(0.4)
    async with opened(path) as store:
        after = (await store.range("")).revision
        await asyncio.sleep(0.4)
        assert await store.get("a/1") is not None
        assert plain(await events_until(store, after, Revision(after + 1))) == [
            ("a/1", None, after + 1)
        ]
        for gone in (lease, revoked):
            with pytest.raises(LeaseExpired):
                await store.keep_alive(gone)
    async with opened(path) as store:
        with pytest.raises(LeaseExpired):
            await store.keep_alive(lease)


async def test_transactions_that_wait_together_share_a_commit_and_see_each_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = 0
    commit = SqliteLog.commit

    def counting(log: SqliteLog, entry: LogEntry) -> None:
        nonlocal commits
        commits += 1
        commit(log, entry)

    monkeypatch.setattr(SqliteLog, "commit", counting)
    async with opened(path) as store:
        created = await asyncio.gather(
            *(
                store.transact([ModRevisionIs("k", Revision(0))], [Put("k", b"")])
                for _ in range(300)
            )
        )
        assert sum(outcome.succeeded for outcome in created) == 1
        assert commits < 10


async def test_a_lease_that_ends_in_a_commit_takes_no_key_of_the_same_commit(path: Path) -> None:
    async with opened(path) as store:
        lease = await store.grant_lease(60)
        kept = await store.grant_lease(60)
        results = await asyncio.gather(
            put(store, "a/before", b"", lease),
            store.revoke_lease(lease),
            put(store, "a/after", b"", lease),
            put(store, "a/kept", b"", kept),
            return_exceptions=True,
        )
        assert isinstance(results[2], LeaseExpired)
        assert [entry.key for entry in (await store.range("")).entries] == ["a/kept"]


def test_the_file_is_synced_at_every_commit(path: Path) -> None:
    names = ("journal_mode", "synchronous")
    with closing(SqliteLog(path)) as log:
        settings = [log._db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
    assert settings == ["wal", 2]  # 2 is FULL.


async def test_an_acknowledged_change_is_in_the_file(path: Path) -> None:
    async with opened(path) as store:
        await put(store, "a/1", b"here")
        copy = path.with_name("copy.db")
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
        async with opened(copy) as other:
            entry = await other.get("a/1")
            assert entry is not None
            assert entry.value == b"here"


async def test_a_file_serves_one_process_at_a_time(path: Path) -> None:
    async with opened(path):
        with pytest.raises(StoreFileUnusable, match="in use by another process"):
            await EmbeddedStore.open(path)
    async with opened(path) as store:
        await put(store, "a/1")


def _spoil_header(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 1000)


def _spoil_pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


def _renew_format(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 1000")


def _replace(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE somebody_elses (x)")


def _make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_spoil_header, "damaged"),
        (_spoil_pages, "damaged"),
        (_renew_format, "newer"),
        (_replace, "not a configuration store"),
        (_make_directory, "unable to open"),
    ],
)
async def test_an_unusable_file_is_named_with_its_reason(
    path: Path, spoil: object, complaint: str
) -> None:
    async with opened(path) as store:
        await put(store, "a/1")
    assert callable(spoil)
    spoil(path)
    with pytest.raises(StoreFileUnusable, match=complaint) as raised:
        await EmbeddedStore.open(path)
    assert str(path) in str(raised.value)


class FailingLog(SqliteLog):
    """Fails with `error` while there is one."""

    error: sqlite3.Error | None = None

    def commit(self, entry: LogEntry) -> None:
        if self.error is not None:
            raise self.error
        super().commit(entry)


@asynccontextmanager
async def on_a_failing_log(path: Path) -> AsyncIterator[tuple[EmbeddedStore, FailingLog]]:
    thread = ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    log = await loop.run_in_executor(thread, FailingLog, path)
    keyspace, leases = await loop.run_in_executor(thread, log.load)
    store = EmbeddedStore(log, keyspace, leases, thread, 100)
    try:
        yield store, log
    finally:
        await store.close()


def _sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("it failed")
    error.sqlite_errorcode = code
    return error


async def test_a_full_disk_refuses_changes_until_there_is_room(path: Path) -> None:
    async with on_a_failing_log(path) as (store, log):
        revision = await put(store, "a/1")
        lease = await store.grant_lease(60)
        log.error = _sqlite_error(sqlite3.SQLITE_FULL)
        for change in (put(store, "a/2"), store.revoke_lease(lease), store.grant_lease(60)):
            with pytest.raises(StoreUnavailable, match="it failed"):
                await change
        assert (await store.range("")).revision == revision
        log.error = None
        assert await put(store, "a/2", b"", lease) == revision + 1


async def test_a_failed_fsync_ends_the_store_and_its_watches(path: Path) -> None:
    async with on_a_failing_log(path) as (store, log):
        revision = await put(store, "a/1")
        watching = asyncio.create_task(events_until(store, revision, Revision(revision + 1)))
        await asyncio.sleep(0)
        log.error = _sqlite_error(sqlite3.SQLITE_IOERR)
        with pytest.raises(StoreUnavailable, match="it failed"):
            await put(store, "a/2")
        log.error = None
        with pytest.raises(StoreUnavailable):
            await put(store, "a/3")
        with pytest.raises(StoreUnavailable):
            await store.get("a/1")
        with pytest.raises(StoreUnavailable):
            await watching
    async with opened(path) as store:
        assert [entry.key for entry in (await store.range("")).entries] == ["a/1"]


async def test_closing_answers_those_who_wait(path: Path) -> None:
    store = await EmbeddedStore.open(path)
    waiting = [asyncio.create_task(put(store, f"a/{number}")) for number in range(5)]
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, int | StoreUnavailable) for result in results)
