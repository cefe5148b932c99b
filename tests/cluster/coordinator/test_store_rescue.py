"""The configuration store saved, lost and put together again, with a real etcd and the commands."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.cluster.coordinator.coordinator_site import (
    CoordinatorProcess,
    forget_clusters,
    store_of,
    until,
)
from tests.cluster.store.etcd_process import EtcdMember, etcd_binary
from tests.unit.coordinator.cluster_records import incarnation, node

from octad.chaos.cluster.addresses import Shape
from octad.chaos.cluster.cluster import Cluster
from octad.client.cluster.join_token import JoinToken, encode_join_token
from octad.coordinator.recovery.store_rebuild import EPOCH_STEP
from octad.coordinator.schema.backup_format import StoreBackup, decode_backup, encode_backup
from octad.coordinator.schema.records import FormatLevelRecord, IdentityRecord, StoreKeys
from octad.coordinator.store.interface import ConfigStore, Put
from octad.coordinator.store.mirror import Mirror
from octad.coordinator.store.open_store import open_store
from octad.sharding.ids import Epoch, NodeId
from octad.sharding.map.shard_map import (
    ShardConfiguration,
    decode_configuration,
    encode_configuration,
)
from octad.storage_node.journal.record_format import Identity
from octad.storage_node.node.store_snapshot import StoreSnapshot
from octad.storage_node.operations.registry import FORMAT_LEVEL

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

TOKEN = JoinToken("5c5c5c5c", bytes(range(32)))
TOKEN_TEXT = encode_join_token(TOKEN)
KEYS = StoreKeys(TOKEN.cluster)
NUMBERS = (1, 2, 3)


@pytest.fixture
async def store(etcd: EtcdMember) -> AsyncIterator[ConfigStore]:
    async with store_of(etcd, TOKEN) as opened:
        yield opened
        await forget_clusters(opened)


async def octad(url: str, *words: str | Path, token: str = TOKEN_TEXT) -> tuple[int, str]:
    """`octad coordinator …`: its exit code and what it said."""
    command = [sys.executable, "-m", "octad", "coordinator", *map(str, words)]
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, "--etcd", url, "--join-token", token],
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


async def served(etcd: EtcdMember, store: ConfigStore, log: Path) -> None:
    """A coordinator makes the cluster and its map, or takes up the one that is there; and stops."""
    process = CoordinatorProcess(
        etcd.url, log, ["--join-token", TOKEN_TEXT, "--create", "--nodes-expected", "3"]
    )
    try:
        process.start().wait_until_ready()
        for number in NUMBERS:
            record = node(number)
            identity = IdentityRecord(record.id, record.incarnation)
            await store.transact(
                [],
                [
                    Put(KEYS.identity(record.id), msgspec.json.encode(identity)),
                    Put(KEYS.node(record.id), msgspec.json.encode(record)),
                ],
            )
        await until(lambda: process.status().state == "healthy", "it is healthy")
        assert process.stop(15) == 0
    finally:
        process.kill()


async def kept_by_nodes(store: ConfigStore, directory: Path) -> list[Path]:
    """What each node has on its disk."""
    directories = []
    for number in NUMBERS:
        path = directory / f"n{number}"
        await asyncio.to_thread(path.mkdir, exist_ok=True)
        mirror = Mirror(store, KEYS.prefix)
        await mirror.start()
        identity = Identity(TOKEN.cluster, NodeId(number), incarnation(number))
        keeper = StoreSnapshot(path, identity, mirror)
        keeper.start()
        await keeper.close()
        await mirror.stop()
        directories.append(path)
    return directories


async def configurations_in(store: ConfigStore) -> dict[str, ShardConfiguration]:
    listing = await store.range(KEYS.shards)
    return {entry.key: decode_configuration(entry.value) for entry in listing.entries}


async def test_a_lost_store_is_rebuilt_from_what_the_nodes_kept(
    etcd: EtcdMember, store: ConfigStore, tmp_path: Path
) -> None:
    await served(etcd, store, tmp_path / "first.log")
    directories = await kept_by_nodes(store, tmp_path)
    before = await configurations_in(store)
    assert len(before) == 256
    await forget_clusters(store)
    code, said = await octad(etcd.url, "rebuild", "--node-data", *directories[:2])
    assert (code, "n3 was not heard" in said) == (1, True), said
    assert await configurations_in(store) == {}
    code, said = await octad(etcd.url, "rebuild", "--node-data", *directories, "--dry-run")
    assert (code, "would hold" in said) == (0, True), said
    assert await configurations_in(store) == {}
    code, said = await octad(etcd.url, "rebuild", "--node-data", *directories)
    assert code == 0, said
    after = await configurations_in(store)
    assert {key: configuration.members for key, configuration in after.items()} == {
        key: configuration.members for key, configuration in before.items()
    }
    assert all(
        after[key].epoch == configuration.epoch + EPOCH_STEP
        for key, configuration in before.items()
    )
    await served(etcd, store, tmp_path / "second.log")
    assert await configurations_in(store) == after, "no coordinator made a configuration anew"


async def test_configurations_that_went_on_after_the_backup_are_not_taken_back_by_it(
    etcd: EtcdMember, store: ConfigStore, tmp_path: Path
) -> None:
    await served(etcd, store, tmp_path / "first.log")
    backup = tmp_path / "backup"
    code, said = await octad(etcd.url, "backup", backup)
    assert (code, "keys at revision" in said) == (0, True), said
    key, configuration = next(iter((await configurations_in(store)).items()))
    heir = next(
        member.node for member in configuration.members if member.node != configuration.primary
    )
    newer = msgspec.structs.replace(
        configuration, epoch=Epoch(configuration.epoch + 5), primary=heir
    )
    await store.transact([], [Put(key, encode_configuration(newer))])
    directories = await kept_by_nodes(store, tmp_path)
    code, said = await octad(etcd.url, "restore", backup, "--node-data", *directories)
    assert (code, "replace what is there with --force" in said) == (1, True), said
    code, said = await octad(etcd.url, "restore", backup, "--node-data", *directories, "--force")
    assert (code, "1 configurations are newer than the backup's" in said) == (0, True), said
    restored = (await configurations_in(store))[key]
    assert (restored.primary, restored.epoch) == (heir, newer.epoch + EPOCH_STEP)
    await served(etcd, store, tmp_path / "second.log")


async def until_level(store: ConfigStore, keys: StoreKeys, level: int) -> None:
    async with asyncio.timeout(30):
        while await level_in_use(store, keys) != level:
            await asyncio.sleep(0.05)


async def level_in_use(store: ConfigStore, keys: StoreKeys) -> int:
    entry = await store.get(keys.format_level)
    return msgspec.json.decode(entry.value, type=FormatLevelRecord).level if entry else 1


def older_than_levels(backup: Path) -> Path:
    """The backup as it would be from before its nodes knew more than the first level."""
    known = decode_backup(backup.read_bytes())
    entries = {key: value for key, value in known.entries.items() if key != "format-level"}
    header = msgspec.structs.replace(known.header, keys=len(entries))
    older = backup.with_name("older")
    older.write_bytes(encode_backup(StoreBackup(header, entries)))
    return older


async def test_nodes_that_run_put_the_format_level_into_a_store_that_an_older_backup_replaces(
    tmp_path: Path,
) -> None:
    cluster = Cluster(tmp_path, Shape(etcd=etcd_binary(), proxies=False))
    token, keys = encode_join_token(cluster.token), StoreKeys(cluster.token.cluster)
    store, url = (
        open_store(cluster.addresses.store_for_clients, cluster.token),
        cluster.addresses.store_url,
    )
    await cluster.start()
    try:
        await until_level(store, keys, FORMAT_LEVEL)
        backup = tmp_path / "backup"
        code, said = await octad(url, "backup", backup, token=token)
        assert code == 0, said
        cluster.coordinator.kill()
        async with asyncio.timeout(30):
            while await store.get(keys.leader) is not None:
                await asyncio.sleep(0.05)
        restore = ("restore", older_than_levels(backup), "--trust-backup", "--force")
        code, said = await octad(url, *restore, token=token)
        assert code == 0, said
        await until_level(store, keys, FORMAT_LEVEL)
        assert all(process.runs for process in cluster.nodes.values())
    finally:
        await store.close()
        await cluster.stop()


async def test_nothing_is_filled_in_under_a_running_coordinator(
    etcd: EtcdMember, store: ConfigStore, tmp_path: Path
) -> None:
    process = CoordinatorProcess(
        etcd.url, tmp_path / "log", ["--join-token", TOKEN_TEXT, "--create"]
    )
    try:
        process.start().wait_until_ready()
        await until(lambda: process.status().coordinator.leading, "it leads")
        code, said = await octad(etcd.url, "backup", tmp_path / "backup")
        assert code == 0, said
        restore = ("restore", tmp_path / "backup", "--trust-backup", "--force", "--accept-loss")
        code, said = await octad(etcd.url, *restore)
        assert (code, "stop all coordinators of the cluster first" in said) == (1, True), said
    finally:
        process.kill()
