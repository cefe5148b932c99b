"""What the coordinator keeps in memory of the configuration store: current, decoded when asked for.

Only the kinds of keys it decides on: buckets and access keys, of which there may be many, stay out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import msgspec

from octad.coordinator.schema.cluster_view import (
    BadRecord,
    ClusterView,
    Departure,
    cluster_view,
    decode_record,
)
from octad.coordinator.schema.records import NodeRecord, StoreKeys
from octad.coordinator.store.interface import ConfigStore, KeyValue, Revision
from octad.coordinator.store.mirror import Mirror
from octad.sharding.ids import NodeId
from octad.sharding.map.compact_map import encode_map
from octad.sharding.map.shard_map import Pool, ShardMap

MAP_FORMAT_VERSION = 1
_NS_PER_MS = 1_000_000


class ClusterMirror:
    """Use: `await start()`, then `view()` at any time, `await stop()`."""

    def __init__(self, store: ConfigStore, keys: StoreKeys, on_change: Callable[[], None]) -> None:
        self._keys = keys
        self._on_change = on_change
        self._nodes = Mirror(store, keys.nodes)
        self._identities = Mirror(store, keys.identities)
        self._pools = Mirror(store, keys.pools)
        self._shards = Mirror(store, keys.shards)
        self._mirrors = (self._nodes, self._identities, self._pools, self._shards)
        self._changed_at = dict.fromkeys(self._mirrors, Revision(0))
        self._view: ClusterView | None = None
        self._map: bytes | None = None
        self._map_binary: bytes | None = None
        self._last_seen: dict[str, NodeRecord] = {}
        self._gone_since_ms: dict[str, int] = {}

    async def start(self) -> None:
        """Returns once everything has been listed."""
        await asyncio.gather(*(mirror.start() for mirror in self._mirrors))
        for mirror in self._mirrors:
            self._follow(mirror)

    async def stop(self) -> None:
        for mirror in self._mirrors:
            await mirror.stop()

    async def refresh(self) -> None:
        """Returns once `view()` is as new as a linearizable read; raises StoreUnavailable."""
        await asyncio.gather(*(mirror.refresh() for mirror in self._mirrors))

    async def reach(self, revision: Revision) -> Revision:
        """As a mirror does, for all of them."""
        return min(await asyncio.gather(*(mirror.reach(revision) for mirror in self._mirrors)))

    @property
    def confirmed_at(self) -> float:
        """Loop time at which all of this was last known to be current."""
        return min(mirror.last_confirmed for mirror in self._mirrors)

    def view(self) -> ClusterView:
        """What the store says; raises BadRecord."""
        if self._view is None:
            revision = Revision(max(mirror.revision for mirror in self._mirrors))
            entries = (e for mirror in self._mirrors for e in mirror.entries.values())
            self._view = cluster_view(self._keys, revision, entries)
        return self._view

    def departures(self) -> dict[NodeId, Departure]:
        """The nodes that were seen live and are not now."""
        records = ((self._last_seen[key], since) for key, since in self._gone_since_ms.items())
        return {record.id: Departure(record, since_ms) for record, since_ms in records}

    @property
    def map_tag(self) -> str:
        """Changes whenever `map_document` does: the revisions of the last changes to its parts."""
        parts = (self._pools, self._nodes, self._shards)
        return ".".join(str(self._changed_at[mirror]) for mirror in parts)

    def map_document(self) -> bytes:
        """Pools, live nodes and shard rows, in JSON, with the values as the store has them."""
        if self._map is None:
            document = {
                "format": MAP_FORMAT_VERSION,
                "revision": max(mirror.revision for mirror in self._mirrors),
                "pools": _values(self._pools.entries.values()),
                "nodes": _values(self._nodes.entries.values()),
                "shards": {
                    key.removeprefix(self._keys.shards): msgspec.Raw(entry.value)
                    for key, entry in self._shards.entries.items()
                },
            }
            self._map = msgspec.json.encode(document)
        return self._map

    def map_binary(self) -> bytes:
        """Pools and shard rows in the compact form; raises BadRecord."""
        if self._map_binary is None:
            view = self.view()
            pools = {p.id: Pool(p.id, p.replicas, p.depth) for p in view.pools.values()}
            self._map_binary = encode_map(ShardMap(pools, view.rows))
        return self._map_binary

    def _follow(self, mirror: Mirror) -> None:
        def changed(key: str, entry: KeyValue | None) -> None:
            self._changed_at[mirror] = mirror.revision
            self._view = self._map = self._map_binary = None
            if mirror is self._nodes:
                self._note_liveness(key, entry)
            self._on_change()

        mirror.subscribe(changed)
        self._changed_at[mirror] = mirror.revision

    def _note_liveness(self, key: str, entry: KeyValue | None) -> None:
        if entry is not None:
            self._gone_since_ms.pop(key, None)
            with suppress(BadRecord):  # `view()` tells of it for as long as it is there.
                self._last_seen[key] = decode_record(entry, NodeRecord)
        elif key in self._last_seen:
            self._gone_since_ms[key] = time.time_ns() // _NS_PER_MS


def _values(entries: Iterable[KeyValue]) -> list[msgspec.Raw]:
    return [msgspec.Raw(entry.value) for entry in entries]
