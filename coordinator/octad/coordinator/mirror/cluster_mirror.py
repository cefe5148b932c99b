"""The cluster as the coordinator's mirror shows it, decoded when someone asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

import msgspec

from octad.coordinator.schema.cluster_view import (
    BadRecord,
    ClusterView,
    Departure,
    cluster_view,
    decode_record,
)
from octad.coordinator.schema.records import NodeRecord, StoreKeys
from octad.coordinator.store.interface import KeyValue, Revision
from octad.coordinator.store.mirror import Mirror
from octad.sharding.ids import NodeId
from octad.sharding.map.compact_map import encode_map
from octad.sharding.map.shard_map import Pool, ShardMap

MAP_FORMAT_VERSION = 1
_NS_PER_MS = 1_000_000


class ClusterMirror:
    """Use: `start()` once the mirror has started, then `view()` at any time."""

    def __init__(self, mirror: Mirror, keys: StoreKeys, on_change: Callable[[], None]) -> None:
        self._mirror = mirror
        self._keys = keys
        self._on_change = on_change
        self._kinds = (keys.nodes, keys.identities, keys.pools, keys.shards)
        self._changed_at = dict.fromkeys(self._kinds, Revision(0))
        self._view: ClusterView | None = None
        self._map: bytes | None = None
        self._map_binary: bytes | None = None
        self._last_seen: dict[str, NodeRecord] = {}
        self._gone_since_ms: dict[str, int] = {}

    def start(self) -> None:
        """Follow it from now on."""
        for kind in self._kinds:
            self._mirror.subscribe(partial(self._changed, kind), kind)
            self._changed_at[kind] = self._mirror.revision

    async def refresh(self) -> None:
        """Returns once `view()` is as new as a linearizable read; raises StoreUnavailable."""
        await self._mirror.refresh()

    def view(self) -> ClusterView:
        """Returns the decoded store; raises BadRecord."""
        if self._view is None:
            kinds = map(self._mirror.of, self._kinds)
            entries = (entry for kind in kinds for entry in kind.values())
            self._view = cluster_view(self._keys, self._mirror.revision, entries)
        return self._view

    def departures(self) -> dict[NodeId, Departure]:
        """The nodes that were seen live and are not now."""
        records = ((self._last_seen[key], since) for key, since in self._gone_since_ms.items())
        return {record.id: Departure(record, since_ms) for record, since_ms in records}

    @property
    def map_tag(self) -> str:
        """Changes whenever `map_document` does: the revisions of the last changes to its parts."""
        parts = (self._keys.pools, self._keys.nodes, self._keys.shards)
        return ".".join(str(self._changed_at[kind]) for kind in parts)

    def map_document(self) -> bytes:
        """Pools, live nodes and shard configurations as JSON, each value as the store has it."""
        if self._map is None:
            document = {
                "format": MAP_FORMAT_VERSION,
                "revision": self._mirror.revision,
                "pools": _values(self._mirror.of(self._keys.pools).values()),
                "nodes": _values(self._mirror.of(self._keys.nodes).values()),
                "shards": {
                    key.removeprefix(self._keys.shards): msgspec.Raw(entry.value)
                    for key, entry in self._mirror.of(self._keys.shards).items()
                },
            }
            self._map = msgspec.json.encode(document)
        return self._map

    def map_binary(self) -> bytes:
        """Pools and shard configurations in the compact form; raises BadRecord."""
        if self._map_binary is None:
            view = self.view()
            pools = {p.id: Pool(p.id, p.replicas, p.depth) for p in view.pools.values()}
            self._map_binary = encode_map(ShardMap(pools, view.configurations))
        return self._map_binary

    def _changed(self, kind: str, key: str, entry: KeyValue | None) -> None:
        self._changed_at[kind] = self._mirror.revision
        self._view = self._map = self._map_binary = None
        if kind == self._keys.nodes:
            self._note_liveness(key, entry)
        self._on_change()

    def _note_liveness(self, key: str, entry: KeyValue | None) -> None:
        if entry is not None:
            self._gone_since_ms.pop(key, None)
            with suppress(BadRecord):  # `view()` reports it for as long as it is there.
                self._last_seen[key] = decode_record(entry, NodeRecord)
        elif key in self._last_seen:
            self._gone_since_ms[key] = time.time_ns() // _NS_PER_MS


def _values(entries: Iterable[KeyValue]) -> list[msgspec.Raw]:
    return [msgspec.Raw(entry.value) for entry in entries]
