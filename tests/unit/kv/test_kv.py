"""Settings over HTTP and in the SDK: compared, bounded, watched, and nobody's without a key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from tests.unit.coordinator.running_coordinator import KEYS, TOKEN, open_cluster, running

from octad.client.cluster.service_token import service_token
from octad.client.kv import CallRefused, Kv, KvKey, open_kv
from octad.client.kv.kv_records import KV_PATH, KV_VALUE_BYTES_MAX
from octad.coordinator.kv import kv_changes
from octad.coordinator.kv.kv_changes import usage_of
from octad.coordinator.recovery.store_rebuild import Rebuilt, rebuild
from octad.coordinator.recovery.store_rescue import fill, read_backup
from octad.coordinator.schema.backup_format import decode_backup, encode_backup
from octad.coordinator.schema.records import KvUsageRecord
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import ConfigStore

SERVICE_TOKEN = service_token(TOKEN)


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[tuple[EmbeddedStore, Kv, str]]:
    async with (
        open_cluster(directory) as store,
        running(store) as (_, url),
        open_kv(coordinator=url, token=SERVICE_TOKEN) as kv,
    ):
        yield store, kv, url


async def usage(store: ConfigStore) -> KvUsageRecord:
    entry = await store.get(KEYS.kv_usage)
    assert entry is not None
    told = msgspec.json.decode(entry.value, type=KvUsageRecord)
    there = (await store.range(KEYS.kv)).entries
    assert told == usage_of(KEYS.kv, {each.key: each.value for each in there})
    return told


async def test_a_value_is_what_was_put_and_its_revision_is_compared(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, kv, _):
        assert (await kv.get("app/limits")).value is None
        every_byte = bytes(range(256)) * (KV_VALUE_BYTES_MAX // 256)
        first = await kv.put("app/limits", every_byte, if_revision=0)
        entry = await kv.get("app/limits")
        assert (entry.value, entry.revision) == (every_byte, first)
        second = await kv.put("app/limits", b"", if_revision=first)
        for stale in (first, 0):
            with pytest.raises(CallRefused, match=f"is at revision {second}") as refused:
                await kv.put("app/limits", b"late", if_revision=stale)
            assert refused.value.code == "other-revision"
            with pytest.raises(CallRefused):
                await kv.delete("app/limits", if_revision=stale)
        assert await kv.put("app/limits", b"whatever is there") > second
        await kv.put("app/names", b"n")
        keys = await kv.keys("app/")
        assert [key.key for key in keys.keys] == ["app/limits", "app/names"]
        assert keys.keys[1] == KvKey("app/names", (await kv.get("app/names")).revision, 1)
        assert (await kv.keys("other")).keys == ()
        assert await usage(store) == KvUsageRecord(2, 10 + 17 + 9 + 1)
        assert await kv.delete("app/limits") > 0
        assert await kv.delete("app/limits") == 0
        assert await kv.delete("app/limits", if_revision=0) == 0
        assert await usage(store) == KvUsageRecord(1, 10)


async def test_of_many_who_count_up_at_two_coordinators_none_is_lost(tmp_path: Path) -> None:
    async with (
        opened(tmp_path) as (store, kv, url),
        running(store) as (_, other),
        open_kv(coordinator=f"{other},{url}", token=SERVICE_TOKEN) as other_kv,
    ):

        async def count(at: Kv) -> None:
            for _ in range(5):
                while True:
                    entry = await at.get("counter")
                    value = str(int(entry.value or b"0") + 1).encode()
                    try:
                        await at.put("counter", value, if_revision=entry.revision)
                        break
                    except CallRefused:  # Someone else was faster.
                        await asyncio.sleep(0.005)

        await asyncio.gather(*map(count, [kv, other_kv] * 3))
        newest = await store.get(KEYS.kv + "counter")
        assert newest is not None
        assert newest.value == b"30"
        await usage(store)


async def test_the_bounds_hold_whoever_writes_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_changes, "KV_KEYS_MAX", 4)
    async with (
        opened(tmp_path) as (store, kv, _),
        running(store) as (_, other),
        open_kv(coordinator=other, token=SERVICE_TOKEN) as other_kv,
    ):
        puts = [(kv, other_kv)[n % 2].put(f"k{n}", b"v") for n in range(10)]
        done = await asyncio.gather(*puts, return_exceptions=True)
        refused = [each for each in done if isinstance(each, CallRefused)]
        assert len(refused) == 6
        assert {each.code for each in refused} == {"kv-full"}
        assert (await usage(store)).keys == 4
        with pytest.raises(CallRefused) as too_large:
            await kv._change("PUT", "k", bytes(KV_VALUE_BYTES_MAX + 1), None)
        assert too_large.value.code == "too-large"


async def test_a_watcher_gets_every_newest_state_at_whichever_coordinator(tmp_path: Path) -> None:
    async with (
        opened(tmp_path) as (store, kv, _),
        running(store) as (_, other),
        open_kv(coordinator=other, token=SERVICE_TOKEN) as watching,
        aclosing(watching.watch("app/limits")) as entries,
        aclosing(watching.watch_keys("app/")) as listings,
    ):
        assert (await anext(entries)).value is None
        assert (await anext(listings)).keys == ()
        for change in (b"1", b"2", None, b"3"):
            entry = asyncio.ensure_future(anext(entries))
            keys = asyncio.ensure_future(anext(listings))
            await kv.put("other/key", b"no one is told")
            if change is None:
                await kv.delete("app/limits")
            else:
                await kv.put("app/limits", change)
            assert (await entry).value == change
            assert [key.key for key in (await keys).keys] == ["app/limits"] * bool(change)


async def test_a_watch_of_what_is_no_longer_known_answers_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_changes, "CHANGES_KEPT_MAX", 2)
    async with opened(tmp_path) as (_, kv, _):
        before = (await kv.get("a")).as_of
        for number in range(3):
            await kv.put(f"b{number}", b"")
        async with asyncio.timeout(5):
            await kv._coordinators.write("GET", f"{KV_PATH}/a?after={before}&wait=60", timeout_s=9)


async def test_no_one_reads_or_writes_without_the_key(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, kv, url):
        await kv.put("secret", b"hush")
        async with aiohttp.ClientSession() as stranger:
            for method in ("GET", "HEAD", "PUT", "DELETE"):
                for path in (f"{KV_PATH}/secret", KV_PATH, f"{KV_PATH}/", f"{KV_PATH}?prefix=s"):
                    async with stranger.request(method, url + path) as answer:
                        assert answer.status == 401, (method, path)
                        assert b"hush" not in await answer.read()
            async with stranger.get(f"{url}/cluster/v1/events") as answer:
                assert b"secret" not in await answer.read()


async def test_bad_keys_and_parameters_are_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, kv, _):
        write = kv._coordinators.write
        for method, path, code in (
            ("GET", f"{KV_PATH}/a%20b", "bad-key"),
            ("GET", f"{KV_PATH}?prefix=%20", "bad-key"),
            ("PUT", f"{KV_PATH}/a//b", "bad-key"),
            ("PUT", f"{KV_PATH}/a?if_revision=x", "bad-request"),
            ("GET", f"{KV_PATH}/a?after=-1", "bad-request"),
        ):
            with pytest.raises(CallRefused) as refused:
                await write(method, path)
            assert refused.value.code == code, path


async def test_a_backup_has_the_settings_and_a_rebuild_without_one_keeps_them(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as (store, kv, _):
        await kv.put("app/limits", b"\x00\xff")
        written = encode_backup(await read_backup(store, TOKEN))
    backup = decode_backup(written)
    assert backup.entries["kv/app/limits"] == b"\x00\xff"
    rebuilt = rebuild(TOKEN.cluster, [], backup, trust_backup=True, accept_loss=True)
    (tmp_path / "other").mkdir()
    async with open_cluster(tmp_path / "other") as store:
        await fill(store, TOKEN, rebuilt)
        assert [each.key for each in (await store.range(KEYS.kv)).entries] == [
            f"{KEYS.kv}app/limits"
        ]
        assert await usage(store) == KvUsageRecord(1, 12)
        assert (await store.range(f"{KEYS.prefix}kv")).entries == []
        without = {k: v for k, v in rebuilt.entries.items() if not k.startswith("kv/")}
        await fill(store, TOKEN, Rebuilt(without, 0, 0, ()))
        assert await usage(store) == KvUsageRecord(1, 12)
