"""Backup, restore and rebuilding of the configuration store: does what the core decides.

A store is filled so that no one acts on half of it: pools, without which no coordinator makes a
shard's first configuration, and the list of clusters go in last; where something is replaced they
go first.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from octad.client.cluster.coordinator_calls import (
    CallRefused,
    Coordinators,
    CoordinatorsUnreachable,
)
from octad.client.cluster.join_token import JoinToken
from octad.client.cluster.service_token import ServiceToken
from octad.client.version import VERSION
from octad.coordinator.kv.kv_changes import usage_of
from octad.coordinator.recovery.create_cluster import new_life
from octad.coordinator.recovery.store_rebuild import (
    GENERATION_KEY,
    RebuildRefused,
    Rebuilt,
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
    SNAPSHOT_PATH,
    SNAPSHOT_PURPOSE,
    ClusterSnapshot,
    NotASnapshot,
    decode_snapshot,
    in_snapshot,
)
from octad.coordinator.schema.cluster_view import decode_record
from octad.coordinator.schema.records import CLUSTERS, KV_NAMES, LeaderRecord, StoreKeys
from octad.coordinator.store.interface import (
    ConfigStore,
    Delete,
    ModRevisionIs,
    Put,
    Revision,
    StoreOperation,
)
from octad.sharding.limits import STORE_TRANSACTION_BYTES_MAX, STORE_TRANSACTION_OPERATIONS_MAX

SNAPSHOT_S_MAX = 60.0  # A snapshot may have many megabytes.
_BYTES_PER_TRANSACTION = STORE_TRANSACTION_BYTES_MAX // 2


async def read_backup(store: ConfigStore, token: JoinToken) -> StoreBackup:
    """A backup of the store at one revision; raises RebuildRefused for an empty store."""
    keys = StoreKeys(token.cluster)
    listing = await store.range(keys.prefix)
    settings = await store.range(keys.kv, listing.revision)
    entries = {
        keys.name_of(entry.key): entry.value
        for entry in (*listing.entries, *settings.entries)
        if not entry.lease and (entry.key.startswith(keys.kv) or in_snapshot(keys, entry.key))
    }
    if not any(key.startswith("pools/") for key in entries):
        raise RebuildRefused(
            f"the store holds no cluster {token.cluster}", "correct --etcd or --join-token"
        )
    generation = msgspec.json.decode(entries.get(GENERATION_KEY, b"0"), type=int)
    header = BackupHeader(token.cluster, generation, listing.revision, len(entries), VERSION)
    return StoreBackup(header, entries)


def write_backup_file(path: Path, backup: StoreBackup) -> None:
    """The file appears complete, on disk, readable by its owner alone; raises OSError."""
    temporary = path.with_name(f"{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(encode_backup(backup))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_backup_file(path: Path) -> StoreBackup:
    """Raises RebuildRefused."""
    try:
        return decode_backup(path.read_bytes())
    except OSError as error:
        raise RebuildRefused(f"cannot read {path}: {error.strerror}", "name a backup") from error
    except BadBackup as error:
        raise RebuildRefused(f"{path}: {error}", "use another backup, or rebuild") from error


def read_snapshots(paths: Iterable[Path]) -> list[ClusterSnapshot]:
    """Reads snapshots from data directories, or copies of them; raises RebuildRefused."""
    snapshots = []
    for path in paths:
        file = path / FILE_NAME if path.is_dir() else path
        try:
            snapshots.append(decode_snapshot(file.read_bytes()))
        except OSError as error:
            raise RebuildRefused(
                f"cannot read {file}: {error.strerror}", "name a node's data directory"
            ) from error
        except NotASnapshot as error:
            raise RebuildRefused(
                f"{file} is not what a node keeps of its cluster: {error}",
                "leave it out, and its node's name goes to --without",
            ) from error
    return snapshots


async def ask_nodes(urls: str, token: JoinToken) -> list[ClusterSnapshot]:
    """Fetches snapshots from live nodes, by their admin ports' URLs; raises RebuildRefused."""
    return [await _ask_node(url, token) for url in urls.split(",")]


async def _ask_node(url: str, token: JoinToken) -> ClusterSnapshot:
    key = ServiceToken(token.cluster, token.key_for(SNAPSHOT_PURPOSE))
    try:
        node = Coordinators(url, key)
    except ValueError as error:
        raise RebuildRefused(str(error), "correct --from-nodes") from error
    try:
        return decode_snapshot(await node.write("POST", SNAPSHOT_PATH, timeout_s=SNAPSHOT_S_MAX))
    except (CoordinatorsUnreachable, CallRefused) as error:
        raise RebuildRefused(
            f"{url} does not tell what it keeps: {error}",
            "name the admin_address of a running node, or bring its file: --node-data",
        ) from error
    except NotASnapshot as error:
        raise RebuildRefused(
            f"{url} keeps nothing that is of use: {error}",
            "leave it out, and its node's name goes to --without",
        ) from error
    finally:
        await node.close()


async def check_may_fill(
    store: ConfigStore, token: JoinToken, *, force: bool, alone: bool = False
) -> None:
    """Raises RebuildRefused if the store is in use, or not empty and not `force`.

    `alone`: no one else can be using it.
    """
    keys = StoreKeys(token.cluster)
    leader = await store.get(keys.leader)
    if leader is not None and not alone:
        address = decode_record(leader, LeaderRecord).address
        raise RebuildRefused(
            f"a coordinator leads at {address}", "stop all coordinators of the cluster first"
        )
    listing = await store.range(keys.prefix)
    # Nodes that run have registered in the empty store already; that is no cluster yet.
    held = sum(in_snapshot(keys, entry.key) for entry in listing.entries)
    if held and not force:
        raise RebuildRefused(
            f"the store holds {held} keys of cluster {token.cluster}",
            "use an empty one, or replace what is there with --force",
        )


async def fill(store: ConfigStore, token: JoinToken, rebuilt: Rebuilt) -> None:
    """Replace the cluster's keys by `rebuilt`; raises StoreUnavailable (then: again)."""
    keys = StoreKeys(token.cluster)
    there = list((await store.range(keys.prefix)).entries)
    settings = (await store.range(keys.kv)).entries
    if any(name.startswith(KV_NAMES) for name in rebuilt.entries):
        there += settings
    first = [Delete(entry.key) for entry in there if entry.key.startswith(keys.pools)]
    await _do(store, first)
    wanted = {keys.of_name(name): value for name, value in rebuilt.entries.items()}
    wanted[keys.life] = new_life()
    kept = {**{e.key: e.value for e in settings if e not in there}, **wanted}
    wanted[keys.kv_usage] = msgspec.json.encode(usage_of(keys.kv, kept))
    await _do(store, [Delete(entry.key) for entry in there if entry.key not in wanted])
    puts = [Put(key, value) for key, value in sorted(wanted.items())]
    await _do(store, [put for put in puts if not put.key.startswith(keys.pools)])
    await _do(store, [put for put in puts if put.key.startswith(keys.pools)])
    await _register(store, token)


async def _register(store: ConfigStore, token: JoinToken) -> None:
    while True:
        entry = await store.get(CLUSTERS)
        known = decode_record(entry, list[str]) if entry else []
        if token.cluster in known:
            return
        value = msgspec.json.encode(sorted({*known, token.cluster}))
        unchanged = ModRevisionIs(CLUSTERS, entry.mod_revision if entry else Revision(0))
        if (await store.transact([unchanged], [Put(CLUSTERS, value)])).succeeded:
            return
        await asyncio.sleep(0)


async def _do(store: ConfigStore, operations: Sequence[StoreOperation]) -> None:
    batch: list[StoreOperation] = []
    size = 0
    for operation in operations:
        length = len(operation.key) + (len(operation.value) if isinstance(operation, Put) else 0)
        if batch and (
            len(batch) == STORE_TRANSACTION_OPERATIONS_MAX or size + length > _BYTES_PER_TRANSACTION
        ):
            await store.transact([], batch)
            batch, size = [], 0
        batch.append(operation)
        size += length
    if batch:
        await store.transact([], batch)
