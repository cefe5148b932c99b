"""Maintains the node's snapshot of the configuration store, in case the store is ever lost.

Configurations of shards that it holds or held, and pools, buckets and keys, go to `cluster.kept`,
in the format of `coordinator/schema/cluster_snapshot.py`; `octad coordinator rebuild` reads it.
Concurrent changes share a write and a sync, in a thread; a file with many outdated entries is
rewritten when it is opened.

A store that lost its data must not take these with it: a configuration never gives way to one of a
lower epoch, nor the format level to a lower one, and nothing is forgotten while the store has no
pools. A disk that refuses the file is logged and does not stop the node: its journal will, if need
be.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import msgspec

from octad.coordinator.recovery.store_rebuild import GENERATION_KEY
from octad.coordinator.schema.cluster_snapshot import (
    FILE_NAME,
    NotASnapshot,
    SnapshotEntry,
    SnapshotHeader,
    decode_snapshot,
    encode_entry,
    encode_snapshot,
    in_snapshot,
)
from octad.coordinator.schema.records import FormatLevelRecord, StoreKeys
from octad.coordinator.store.interface import KeyValue
from octad.coordinator.store.mirror import Mirror
from octad.sharding.map.shard_map import decode_configuration
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.record_format import Identity

log = logging.getLogger(__name__)


class StoreSnapshot:
    """`start()` once the mirror of the whole cluster has listed; `await close()` syncs the last."""

    def __init__(
        self,
        directory: Path,
        identity: Identity,
        mirror: Mirror,
        disk: Disk | None = None,
    ) -> None:
        """Raises OSError."""
        self._keys = StoreKeys(identity.cluster)
        self._identity = identity
        self._mirror = mirror
        self._disk = disk or Disk()
        self._path = directory / FILE_NAME
        self._generation = 0
        self._entries: dict[str, SnapshotEntry] = {}
        self._waiting: list[bytes] = []
        self._task: asyncio.Task[None] | None = None
        self._failed = False
        self._end = self._open()
        self._file = self._disk.open(self._path, os.O_RDWR)

    def start(self) -> None:
        """Follow the mirror from now on, after deletions made while this node was away."""
        for name in list(self._entries):
            key = self._keys.prefix + name
            if key not in self._mirror.entries:
                self._note(key, None)
        self._mirror.subscribe(self._note)

    def _note(self, key: str, entry: KeyValue | None) -> None:
        """The store has `entry` under `key` now (None: it is deleted there)."""
        if self._failed or not in_snapshot(self._keys, key):
            return
        name = key.removeprefix(self._keys.prefix)
        value = entry.value if entry is not None else None
        if name == GENERATION_KEY and value is not None:
            self._generation = msgspec.json.decode(value, type=int)
        known = self._entries.get(name)
        if value == (known.value if known else None):
            return
        if key.startswith(self._keys.shards):
            if not self._concerns(name, value):
                return
        elif key == self._keys.format_level:
            if _level_of(value) < self.format_level():
                return
        elif value is None and not self._has_pools():
            return
        revision = entry.mod_revision if entry is not None else self._mirror.revision
        change = SnapshotEntry(name, value, self._generation, revision)
        if value is None:
            del self._entries[name]
        else:
            self._entries[name] = change
        self._waiting.append(encode_entry(change))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write(), name="configuration keeper")

    def format_level(self) -> int:
        """The highest format level that this node has seen in use."""
        known = self._entries.get(self._keys.format_level.removeprefix(self._keys.prefix))
        return _level_of(None if known is None else known.value)

    async def synced(self) -> None:
        """Returns once everything noted so far is on stable storage."""
        while self._task is not None and not self._task.done():
            await asyncio.shield(self._task)

    async def content(self) -> bytes:
        """The file as it is once everything noted so far is in it."""
        await self.synced()
        return await asyncio.to_thread(self._read)

    async def close(self) -> None:
        await self.synced()
        self._disk.close(self._file)

    def _concerns(self, name: str, value: bytes | None) -> bool:
        """Whether to keep a configuration: of this node's shards, and newer than the known."""
        if value is None:
            return False
        configuration, known = decode_configuration(value), self._entries.get(name)
        if known is not None and known.value is not None:
            newest = decode_configuration(known.value).epoch
            if configuration.epoch < newest:
                log.error("the store's configuration of %s is older than epoch %d", name, newest)
            return configuration.epoch > newest
        holders = {member.node for member in configuration.members}
        holders |= {learner.node for learner in configuration.learners}
        return self._identity.node in holders | {former.node for former in configuration.last_full}

    def _has_pools(self) -> bool:
        return any(key.startswith(self._keys.pools) for key in self._mirror.entries)

    async def _write(self) -> None:
        while self._waiting and not self._failed:
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._append, batch)
            except OSError as error:
                log.error("%s is no longer updated: %s", self._path, error)
                self._failed = True

    def _append(self, batch: list[bytes]) -> None:
        data = b"".join(batch)
        self._disk.write(self._file, [data], self._end)
        self._disk.sync(self._file)
        self._end += len(data)

    def _open(self) -> int:
        """Read the file, and rewrite it if it is damaged; returns where it ends."""
        header = SnapshotHeader(
            self._identity.cluster, self._identity.node, self._identity.incarnation
        )
        data = self._read()
        try:
            found = decode_snapshot(data) if data else None
        except NotASnapshot as error:
            log.warning("%s is begun anew: %s", self._path, error)
            found = None
        if found is not None and found.header == header:
            self._entries = dict(found.entries)
            self._generation = found.seen[0]
            if not found.torn_bytes and found.superseded <= len(found.entries):
                return found.valid_bytes
        seen = found.seen if found is not None and self._entries else (0, 0)
        content = encode_snapshot(header, self._entries.values(), seen)
        self._replace(content)
        return len(content)

    def _read(self) -> bytes:
        try:
            descriptor = self._disk.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return b""
        try:
            return self._disk.read(descriptor, self._disk.size(descriptor), 0)
        finally:
            self._disk.close(descriptor)

    def _replace(self, content: bytes) -> None:
        temporary = self._path.with_name(f"{FILE_NAME}.new")
        descriptor = self._disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            self._disk.write(descriptor, [content], 0)
            self._disk.sync(descriptor)
        finally:
            self._disk.close(descriptor)
        self._disk.rename(temporary, self._path)
        self._disk.sync_directory(self._path.parent)


def _level_of(value: bytes | None) -> int:
    return 1 if value is None else msgspec.json.decode(value, type=FormatLevelRecord).level
