"""The configuration store's records of a cluster at one revision, decoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from octad.coordinator.schema.records import IdentityRecord, NodeRecord, PoolRecord, StoreKeys
from octad.coordinator.store.interface import KeyValue, Revision
from octad.sharding.ids import NodeId, PoolId, ShardId
from octad.sharding.map.shard_map import Pool, ShardConfiguration, ShardMap, decode_configuration

_Record = TypeVar("_Record")


class BadRecord(Exception):
    """A value in the store is not what its key promises: someone else wrote there."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"the configuration store's key {key} makes no sense: {why}")
        self.key = key


@dataclass(frozen=True, slots=True)
class ClusterView:
    """`nodes` are the live ones, `identities` all that ever joined; what is missing is absent."""

    revision: Revision
    pools: Mapping[PoolId, PoolRecord]
    identities: Mapping[NodeId, IdentityRecord]
    nodes: Mapping[NodeId, NodeRecord]
    configurations: Mapping[ShardId, ShardConfiguration]

    def shard_map(self) -> ShardMap:
        """All shards, also while a pool is being split."""
        pools = {pool.id: Pool(pool.id, pool.replicas, pool.depth) for pool in self.pools.values()}
        return ShardMap(pools, self.configurations)


def cluster_view(keys: StoreKeys, revision: Revision, entries: Iterable[KeyValue]) -> ClusterView:
    """The view that `entries` make; keys of other kinds are passed over. Raises BadRecord."""
    pools: dict[PoolId, PoolRecord] = {}
    identities: dict[NodeId, IdentityRecord] = {}
    nodes: dict[NodeId, NodeRecord] = {}
    configurations: dict[ShardId, ShardConfiguration] = {}
    for entry in entries:
        if entry.key.startswith(keys.shards):
            try:
                configurations[keys.shard_of_key(entry.key)] = decode_configuration(entry.value)
            except ValueError as error:  # Also a newer format, and errors of msgspec.
                raise BadRecord(entry.key, str(error)) from error
        elif entry.key.startswith(keys.nodes):
            node = decode_record(entry, NodeRecord)
            nodes[node.id] = node
        elif entry.key.startswith(keys.identities):
            identity = decode_record(entry, IdentityRecord)
            identities[identity.id] = identity
        elif entry.key.startswith(keys.pools):
            pool = decode_record(entry, PoolRecord)
            pools[pool.id] = pool
    return ClusterView(revision, pools, identities, nodes, configurations)


def decode_record(entry: KeyValue, kind: type[_Record]) -> _Record:
    """The record of type `kind` under the entry's key; raises BadRecord."""
    try:
        return msgspec.json.decode(entry.value, type=kind)
    except msgspec.DecodeError as error:  # The base of ValidationError, too.
        raise BadRecord(entry.key, str(error)) from error


@dataclass(frozen=True, slots=True)
class Departure:
    """A node that is no longer live: its last record, and when its lease ended."""

    record: NodeRecord
    gone_since_ms: int
