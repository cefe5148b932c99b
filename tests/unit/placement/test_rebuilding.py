"""The store lost, or restored from an old backup: what nodes know wins, and nothing goes back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.coordinator.cluster_records import configuration, incarnation, node
from tests.unit.coordinator.running_coordinator import (
    KEYS,
    TOKEN,
    open_cluster,
    register,
    running,
    until,
)

from octad.coordinator.recovery.store_rebuild import (
    BUCKET_ID_STEP,
    EPOCH_STEP,
    RebuildRefused,
    rebuild,
)
from octad.coordinator.recovery.store_rescue import (
    check_may_fill,
    fill,
    read_backup,
    read_backup_file,
    read_snapshots,
    write_backup_file,
)
from octad.coordinator.schema.backup_format import (
    BackupHeader,
    BadBackup,
    StoreBackup,
    decode_backup,
    encode_backup,
)
from octad.coordinator.schema.cluster_snapshot import (
    FILE_NAME,
    ClusterSnapshot,
    NotASnapshot,
    SnapshotEntry,
    SnapshotHeader,
    decode_snapshot,
    encode_entry,
    encode_snapshot,
)
from octad.coordinator.schema.records import IdentityRecord, PoolRecord
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import Delete, Put
from octad.coordinator.store.mirror import Mirror
from octad.sharding.ids import Epoch, NodeId, PoolId, shard_id
from octad.sharding.map.shard_map import (
    ShardConfiguration,
    decode_configuration,
    encode_configuration,
)
from octad.sharding.map.splitting import split_configuration
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.record_format import Identity
from octad.storage_node.node.store_snapshot import StoreSnapshot

CLUSTER = TOKEN.cluster
GOLDEN_BACKUP = Path(__file__).parents[2] / "golden" / "coordinator" / "backup-1.txt"
GOLDEN_SNAPSHOT = Path(__file__).parents[2] / "golden" / "coordinator" / "cluster-kept-1.bin"


def at(epoch: int, *members: int, depth: int = 0) -> bytes:
    return encode_configuration(
        msgspec.structs.replace(configuration(*members, depth=depth), epoch=Epoch(epoch))
    )


def identity(number: int) -> bytes:
    return msgspec.json.encode(IdentityRecord(NodeId(number), incarnation(number)))


def kept(number: int, rows: dict[int, bytes], revision: int, **others: bytes) -> ClusterSnapshot:
    """What node `number` knows; the pool has one shard for each configuration, at least one."""
    entries = {f"shards/0/{n}": value for n, value in rows.items()}
    entries["pools/0"] = msgspec.json.encode(PoolRecord(PoolId(0), 2, 0))
    entries |= {key.replace("__", "/").replace("_", "-"): value for key, value in others.items()}
    header = SnapshotHeader(CLUSTER, NodeId(number), incarnation(number))
    changes = {key: SnapshotEntry(key, value, 0, revision) for key, value in entries.items()}
    return ClusterSnapshot(header, changes, (0, revision))


def configuration_in(entries: object, number: int = 0) -> ShardConfiguration:
    assert isinstance(entries, dict)
    return decode_configuration(entries[f"shards/0/{number}"])


def backup_of(entries: dict[str, bytes], revision: int = 5) -> StoreBackup:
    return StoreBackup(BackupHeader(CLUSTER, 0, revision, len(entries), "0.1.0"), entries)


def test_the_highest_epoch_wins_and_goes_in_beyond_every_epoch_that_was_used() -> None:
    rebuilt = rebuild(CLUSTER, [kept(1, {0: at(4, 1, 2)}, 9), kept(2, {0: at(7, 2)}, 8)], None)
    assert configuration_in(rebuilt.entries).epoch == 7 + EPOCH_STEP
    assert [member.node for member in configuration_in(rebuilt.entries).members] == [2]


def test_after_an_old_backup_the_nodes_configurations_win() -> None:
    old = {"pools/0": b'{"id":0,"replicas":2,"depth":0}', "shards/0/0": at(5, 1, 2)}
    rebuilt = rebuild(CLUSTER, [kept(1, {0: at(5, 1, 2)}, 9), kept(2, {0: at(6, 2, 1)}, 9)],
                      backup_of(old))  # fmt: skip
    assert configuration_in(rebuilt.entries).primary == 2
    assert rebuilt.newer_than_backup == 1


def test_a_node_that_was_not_heard_must_be_given_up_by_name() -> None:
    alone = [kept(1, {0: at(4, 1, 2)}, 9)]
    with pytest.raises(RebuildRefused, match=r"n2 was not heard.*--without n2"):
        rebuild(CLUSTER, alone, None)
    assert rebuild(CLUSTER, alone, None, {NodeId(2)}).shards == 1
    extra = kept(1, {0: at(4, 1)}, 9, identities__3=identity(3))
    with pytest.raises(RebuildRefused, match="n3 was not heard"):
        rebuild(CLUSTER, [extra], None)
    removed = kept(1, {0: at(4, 1)}, 9, identities__3=identity(3), settings__3=b'{"removed":true}')
    assert rebuild(CLUSTER, [removed], None).shards == 1


def test_a_backup_is_trusted_only_when_that_is_said() -> None:
    entries = {"pools/0": b'{"id":0,"replicas":2,"depth":0}', "shards/0/0": at(5, 1, 2)}
    with pytest.raises(RebuildRefused, match="n1 n2 were not heard"):
        rebuild(CLUSTER, [], backup_of(entries))
    rebuilt = rebuild(CLUSTER, [], backup_of(entries), trust_backup=True)
    assert configuration_in(rebuilt.entries).epoch == 5 + EPOCH_STEP


def test_two_configurations_of_one_epoch_are_not_chosen_between() -> None:
    with pytest.raises(RebuildRefused, match="different configurations of shard 0/0 at epoch 4"):
        rebuild(CLUSTER, [kept(1, {0: at(4, 1)}, 9), kept(2, {0: at(4, 2)}, 9)], None)


def test_a_shard_that_nobody_knows_is_never_made_anew_by_the_way() -> None:
    lost = kept(1, {0: at(4, 1)}, 9, pools__0=b'{"id":0,"replicas":2,"depth":1}')
    with pytest.raises(RebuildRefused, match="no one who was asked knows shard 0/1"):
        rebuild(CLUSTER, [lost], None)
    assert rebuild(CLUSTER, [lost], None, accept_loss=True).shards == 1


def test_the_lost_upper_half_of_a_shard_that_was_split_is_missed_as_well() -> None:
    half = encode_configuration(split_configuration(configuration(1, depth=0))[0])
    with pytest.raises(RebuildRefused, match="no one who was asked knows shard 0/1"):
        rebuild(CLUSTER, [kept(1, {0: half}, 9)], None)
    assert rebuild(CLUSTER, [kept(1, {0: half, 1: half}, 9)], None).shards == 2


def test_what_a_newer_octad_has_put_into_a_configuration_stays_there() -> None:
    newer = at(4, 1)[:-1] + b',"tint":"blue"}'
    rebuilt = rebuild(CLUSTER, [kept(1, {0: newer}, 9)], None).entries["shards/0/0"]
    assert msgspec.json.decode(rebuilt)["tint"] == "blue"
    assert decode_configuration(rebuilt).epoch == 4 + EPOCH_STEP


def test_what_was_deleted_does_not_come_back_from_a_node_that_missed_it() -> None:
    fresh = kept(1, {0: at(4, 1, 2)}, 20, buckets__new=b"{}")
    stale = kept(2, {0: at(4, 1, 2)}, 10, buckets__deleted=b"{}")
    entries = rebuild(CLUSTER, [stale, fresh], None).entries
    assert "buckets/new" in entries
    assert "buckets/deleted" not in entries


def test_a_later_generation_is_newer_whatever_its_revisions() -> None:
    first, second = kept(1, {0: at(4, 1, 2)}, 900, buckets__old=b"{}"), kept(2, {}, 3)
    later = ClusterSnapshot(second.header, second.entries, (1, 3))
    entries = rebuild(CLUSTER, [first, later], None).entries
    assert "buckets/old" not in entries
    assert entries["generation"] == b"2"


def test_ids_that_were_given_out_are_not_given_out_again() -> None:
    newest = kept(1, {0: at(4, 1)}, 20, last_node_id=b"3", last_bucket_id=b"7")
    joined_since = kept(9, {}, 2)
    entries = rebuild(CLUSTER, [newest, joined_since], None).entries
    assert entries["last-node-id"] == b"9"
    assert json.loads(entries["last-bucket-id"]) == 7 + BUCKET_ID_STEP
    assert entries["identities/9"] == identity(9)


def test_directories_of_another_cluster_are_refused() -> None:
    with pytest.raises(RebuildRefused, match="n1's directory is of cluster 1a2b3c4d, not other"):
        rebuild("other", [kept(1, {0: at(1, 1)}, 1)], None)
    with pytest.raises(RebuildRefused, match="nothing to rebuild from"):
        rebuild(CLUSTER, [], None)


# -- the files -----------------------------------------------------------------------------------


@given(st.dictionaries(st.text(min_size=1), st.binary(), max_size=5))
@settings(max_examples=50, deadline=None)
def test_a_backup_is_read_as_it_was_written(entries: dict[str, bytes]) -> None:
    backup = backup_of(entries)
    assert decode_backup(encode_backup(backup)) == backup


def test_a_backup_that_was_changed_or_cut_off_is_refused() -> None:
    data = encode_backup(backup_of({"pools/0": b"{}"}))
    for bad in (data[:-2], data[:-40], data.replace(b"pools", b"polls"), b"", b"octad-backup 2\n"):
        with pytest.raises(BadBackup):
            decode_backup(bad)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.binary(max_size=9)), max_size=8),
       st.integers(0, 40))  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_a_kept_file_that_is_cut_off_shows_what_was_before(
    changes: list[tuple[str, bytes | None]], cut: int
) -> None:
    header = SnapshotHeader(CLUSTER, NodeId(1), "disk")
    begun = encode_snapshot(header, ())
    frames = [encode_entry(SnapshotEntry(k, v, 0, r)) for r, (k, v) in enumerate(changes)]
    data = begun + b"".join(frames)
    data = data[: max(len(begun), len(data) - cut)]
    whole, expected = len(begun), {}
    for (key, value), frame in zip(changes, frames, strict=True):
        whole += len(frame)
        if whole > len(data):
            break
        expected[key] = value
    found = decode_snapshot(data)
    assert {k: e.value for k, e in found.entries.items()} == {
        k: v for k, v in expected.items() if v is not None
    }
    assert found.valid_bytes + found.torn_bytes == len(data)


def test_what_lies_behind_a_damaged_entry_of_a_kept_file_is_not_believed() -> None:
    header = SnapshotHeader(CLUSTER, NodeId(1), "disk")
    begun = encode_snapshot(header, [SnapshotEntry("a", b"good", 0, 1)])
    bad = bytearray(encode_entry(SnapshotEntry("b", b"value", 0, 2)))
    bad[-2] ^= 1
    found = decode_snapshot(begun + bytes(bad) + encode_entry(SnapshotEntry("c", b"later", 0, 3)))
    assert set(found.entries) == {"a"}
    assert found.torn_bytes > 0


def test_what_is_no_kept_file_is_refused() -> None:
    for bad in (b"", b"OCTADKP1", b"something else entirely"):
        with pytest.raises(NotASnapshot):
            decode_snapshot(bad)


def test_the_formats_are_the_golden_ones() -> None:
    backup = backup_of(
        {"pools/0": b'{"id":0,"replicas":2,"depth":0}', "shards/0/0": at(5, 1, 2, depth=2)}
    )
    assert GOLDEN_BACKUP.read_bytes() == encode_backup(backup)
    header = SnapshotHeader(CLUSTER, NodeId(1), incarnation(1))
    entries = [SnapshotEntry("shards/0/0", at(5, 1, 2, depth=2), 0, 7)]
    assert GOLDEN_SNAPSHOT.read_bytes() == encode_snapshot(header, entries, (0, 9))


# -- with a store --------------------------------------------------------------------------------


async def keeper_of(
    directory: Path, store: EmbeddedStore, number: int
) -> tuple[StoreSnapshot, Mirror]:
    await asyncio.to_thread(directory.mkdir, exist_ok=True)
    mirror = Mirror(store, KEYS.prefix)
    await mirror.start()
    identity = Identity(CLUSTER, NodeId(number), incarnation(number))
    keeper = StoreSnapshot(directory, identity, mirror)
    keeper.start()
    return keeper, mirror


async def started_cluster(store: EmbeddedStore) -> None:
    async with running(store, nodes_expected=3) as (coordinator, _):
        for number in (1, 2, 3):
            await store.transact([], [Put(KEYS.identity(NodeId(number)), identity(number))])
            await register(store, node(number))
        await until(lambda: coordinator.status().state == "healthy", "the map stands")


async def test_a_lost_store_is_rebuilt_from_the_nodes_and_serves_again(tmp_path: Path) -> None:
    directories = [tmp_path / f"n{number}" for number in (1, 2, 3)]
    async with open_cluster(tmp_path) as store:
        await started_cluster(store)
        await store.transact([], [Put(KEYS.bucket("photos"), b'{"name":"photos"}')])
        keepers = [await keeper_of(d, store, n) for n, d in enumerate(directories, 1)]
        configurations = {
            e.key: decode_configuration(e.value) for e in (await store.range(KEYS.shards)).entries
        }
        for keeper, mirror in keepers:
            await keeper.close()
            await mirror.stop()
    rebuilt = rebuild(CLUSTER, read_snapshots(directories), None)
    empty = await EmbeddedStore.open(tmp_path / "new.sqlite")
    try:
        await check_may_fill(empty, TOKEN, force=False)
        await fill(empty, TOKEN, rebuilt)
        for entry in (await empty.range(KEYS.shards)).entries:
            was = configurations.pop(entry.key)
            assert decode_configuration(entry.value).members == was.members
            assert decode_configuration(entry.value).epoch == was.epoch + EPOCH_STEP
        assert not configurations
        assert await empty.get(KEYS.bucket("photos")) is not None
        async with running(empty) as (coordinator, _):
            for number in (1, 2, 3):
                await register(empty, node(number))
            await until(lambda: coordinator.status().state == "healthy", "it serves")
        with pytest.raises(RebuildRefused, match="use an empty one, or replace"):
            await check_may_fill(empty, TOKEN, force=False)
        await fill(empty, TOKEN, rebuilt)
    finally:
        await empty.close()


async def test_a_backup_goes_to_a_file_and_back_without_what_is_of_processes(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path) as store:
        await started_cluster(store)
        backup = await read_backup(store, TOKEN)
        write_backup_file(tmp_path / "backup", backup)
        assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600
        assert read_backup_file(tmp_path / "backup") == backup
        assert sum(1 for key in backup.entries if key.startswith("shards/")) == 16
        assert not any(key.startswith(("nodes/", "leader", "fence/")) for key in backup.entries)


async def test_a_store_that_a_coordinator_leads_on_is_not_filled(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, _):
        await until(lambda: coordinator.is_leading, "it leads")
        with pytest.raises(RebuildRefused, match="stop all coordinators"):
            await check_may_fill(store, TOKEN, force=True)


async def test_the_snapshot_follows_configurations_and_deletions_and_survives_a_torn_end(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "n1"
    async with open_cluster(tmp_path) as store:
        keeper, mirror = await keeper_of(directory, store, 1)
        mine, others = KEYS.shard(shard_id(PoolId(0), 0)), KEYS.shard(shard_id(PoolId(0), 1))
        await store.transact([], [Put(mine, at(2, 1, 2)), Put(others, at(2, 2, 3))])
        await store.transact([], [Put(KEYS.bucket("gone"), b"{}")])
        await store.transact([], [Put(mine, at(3, 2, 3)), Delete(KEYS.bucket("gone"))])
        await mirror.refresh()
        await keeper.close()
        await mirror.stop()
        file = directory / FILE_NAME
        found = decode_snapshot(file.read_bytes()).entries
        assert found["shards/0/0"].value == at(3, 2, 3), "also that it is no member any more"
        assert "shards/0/1" not in found
        assert "buckets/gone" not in found
        file.write_bytes(file.read_bytes() + b"torn")
        await store.transact([], [Delete(KEYS.access_key("octad"))])
        keeper, mirror = await keeper_of(directory, store, 1)
        await keeper.close()
        await mirror.stop()
        assert "keys/octad" not in decode_snapshot(file.read_bytes()).entries
        assert decode_snapshot(file.read_bytes()).torn_bytes == 0


async def test_a_store_without_its_data_takes_nothing_from_the_keeper(tmp_path: Path) -> None:
    directory = tmp_path / "n1"
    key = KEYS.shard(shard_id(PoolId(0), 0))
    async with open_cluster(tmp_path) as store:
        await store.transact([], [Put(key, at(9, 1, 2))])
        keeper, mirror = await keeper_of(directory, store, 1)
        await store.transact([], [Put(key, at(2, 1, 2))])
        await mirror.refresh()
        everything = (await store.range(KEYS.prefix)).entries
        await store.transact([], [Delete(entry.key) for entry in everything])
        await mirror.refresh()
        await keeper.close()
        await mirror.stop()
        keeper, mirror = await keeper_of(directory, store, 1)
        await keeper.close()
        await mirror.stop()
        found = decode_snapshot((directory / FILE_NAME).read_bytes()).entries
        assert found["shards/0/0"].value == at(9, 1, 2)
        assert {"pools/0", "keys/octad"} <= set(found)


async def test_many_changes_share_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_cluster(tmp_path) as store:
        await started_cluster(store)
        keeper, mirror = await keeper_of(tmp_path / "n1", store, 1)
        syncs: list[int] = []
        sync = Disk.sync

        def counted(disk: Disk, descriptor: int) -> None:
            syncs.append(descriptor)
            sync(disk, descriptor)

        monkeypatch.setattr(Disk, "sync", counted)
        puts = [Put(KEYS.bucket(f"b{number}"), b"{}") for number in range(100)]
        await store.transact([], puts)
        await mirror.refresh()
        await asyncio.sleep(0)
        await keeper.close()
        await mirror.stop()
        assert 1 <= len(syncs) <= 3
