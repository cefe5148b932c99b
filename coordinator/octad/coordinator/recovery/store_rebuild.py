"""Rebuilds a lost configuration store from nodes' snapshots and a backup.

- **Configurations: the highest epoch that anyone knows wins**, shard by shard. A node may have
  gone on long after a backup was made, and what it acknowledged since is in no one else's
  configurations. So every node that any configuration names must be heard, or be given up by name.
- **No epoch is used twice**: each configuration goes in with its epoch raised by `EPOCH_STEP`,
  beyond anything that a node which was not heard can know. Should it return, it is older.
- **Everything else** (pools, buckets, keys, settings) is taken as a whole from the node that saw
  the newest of it, so that nothing deleted comes back. Counters go forward, too.

Nothing is read or written here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from octad.client.cluster.unknown_fields import with_unknown_fields
from octad.coordinator.schema.backup_format import StoreBackup
from octad.coordinator.schema.cluster_snapshot import ClusterSnapshot
from octad.coordinator.schema.records import (
    KV_NAMES,
    FormatLevelRecord,
    IdentityRecord,
    PoolRecord,
)
from octad.sharding.ids import Epoch, NodeId, PoolId, ShardId, node_name, shard_id, shard_name
from octad.sharding.map.shard_map import Pool, ShardConfiguration, ShardMap, decode_configuration

EPOCH_STEP = 1000
BUCKET_ID_STEP = 1 << 16
GENERATION_KEY = "generation"
_SHARDS = "shards/"
_LAST_NODE = "last-node-id"
_LAST_BUCKET = "last-bucket-id"
_LEVEL = "format-level"


class RebuildRefused(Exception):
    """`what` is missing or contradictory, `fix` what to do."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}; {fix}")
        self.what = what
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """All keys, without the cluster's prefix, and notes for the operator."""

    entries: Mapping[str, bytes]
    shards: int
    newer_than_backup: int  # Configurations that nodes knew better.
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """Someone who knew the store at some time."""

    name: str
    seen: tuple[int, int]
    entries: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class _KnownConfiguration:
    """The newest configuration of a shard, as written, and the nodes that know it."""

    configuration: ShardConfiguration
    value: bytes
    source: str


def rebuild(
    cluster: str,
    snapshots: Sequence[ClusterSnapshot],
    backup: StoreBackup | None,
    without: Collection[NodeId] = (),
    *,
    trust_backup: bool = False,
    accept_loss: bool = False,
) -> Rebuilt:
    """Put it together; raises RebuildRefused. `trust_backup`: no node knows anything newer."""
    sources = [*_sources(cluster, snapshots), *_backup_source(cluster, backup)]
    if not sources:
        raise RebuildRefused("nothing to rebuild from", "name nodes: --from-nodes, --node-data")
    newest = _newest_configurations(sources)
    configurations = {shard: known.configuration for shard, known in newest.items()}
    freshest = max(sources, key=lambda source: source.seen)
    entries = {key: value for key, value in freshest.entries.items() if not key.startswith(_SHARDS)}
    if not trust_backup:
        _check_everybody_heard(configurations, entries, snapshots, without)
    missing = _missing_shards(entries, configurations)
    if missing and not accept_loss:
        raise RebuildRefused(
            f"no one who was asked knows shard {shard_name(missing[0])}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
            "name its nodes' directories, too; --accept-loss begins such shards anew, empty",
        )
    _go_forward(entries, snapshots, sources)
    if backup is not None:  # No node keeps settings.
        entries.update((k, v) for k, v in backup.entries.items() if k.startswith(KV_NAMES))
    for shard, known in newest.items():
        raised = msgspec.structs.replace(
            known.configuration, epoch=Epoch(known.configuration.epoch + EPOCH_STEP)
        )
        entries[_configuration_key(shard)] = with_unknown_fields(known.value, raised)
    notes = [f"buckets, keys and settings are those that {freshest.name} saw last"]
    if missing:
        notes.append(f"{len(missing)} shards begin anew, empty")
    return Rebuilt(
        entries, len(configurations), _newer_configurations(configurations, backup), tuple(notes)
    )


def _sources(cluster: str, snapshots: Iterable[ClusterSnapshot]) -> Iterable[_Source]:
    heard: dict[NodeId, str] = {}
    for each in snapshots:
        name = node_name(each.header.node)
        if each.header.cluster != cluster:
            raise RebuildRefused(
                f"{name}'s directory is of cluster {each.header.cluster}, not {cluster}",
                "name directories of one cluster, and give its join token",
            )
        if heard.setdefault(each.header.node, each.header.incarnation) != each.header.incarnation:
            raise RebuildRefused(f"{name} is named twice, with different disks", "name the newer")
        values = {k: entry.value for k, entry in each.entries.items() if entry.value is not None}
        yield _Source(name, each.seen, values)


def _backup_source(cluster: str, backup: StoreBackup | None) -> Iterable[_Source]:
    if backup is None:
        return
    if backup.header.cluster != cluster:
        raise RebuildRefused(
            f"the backup is of cluster {backup.header.cluster}, the join token of {cluster}",
            "give the join token that belongs to the backup",
        )
    seen = (backup.header.generation, backup.header.revision)
    yield _Source("the backup", seen, backup.entries)


def _newest_configurations(sources: Sequence[_Source]) -> dict[ShardId, _KnownConfiguration]:
    newest: dict[ShardId, _KnownConfiguration] = {}
    for source in sources:
        for key, value in source.entries.items():
            if not key.startswith(_SHARDS):
                continue
            shard, configuration = _shard_of(key), decode_configuration(value)
            known = newest.get(shard)
            if known is None or configuration.epoch > known.configuration.epoch:
                newest[shard] = _KnownConfiguration(configuration, value, source.name)
            elif (
                configuration.epoch == known.configuration.epoch
                and configuration != known.configuration
            ):
                raise RebuildRefused(
                    f"{known.source} and {source.name} know different configurations of shard"
                    f" {shard_name(shard)} at epoch {configuration.epoch}",
                    "leave out the one whose data is older; its name goes to --without",
                )
    return dict(sorted(newest.items()))


def _check_everybody_heard(
    configurations: Mapping[ShardId, ShardConfiguration],
    entries: Mapping[str, bytes],
    snapshots: Sequence[ClusterSnapshot],
    without: Collection[NodeId],
) -> None:
    """A node not heard may know a newer configuration, and have acknowledged writes under it."""
    named = {
        member.node for configuration in configurations.values() for member in configuration.members
    }
    named |= {
        former.node
        for configuration in configurations.values()
        for former in configuration.last_full
    }
    for key, value in entries.items():
        if key.startswith("identities/") and not _is_removed(key, entries):
            named.add(msgspec.json.decode(value, type=IdentityRecord).id)
    unheard = sorted(named - {each.header.node for each in snapshots} - set(without))
    if unheard:
        names = " ".join(node_name(node) for node in unheard)
        raise RebuildRefused(
            f"{names} {'was' if len(unheard) == 1 else 'were'} not heard,"
            " and may know newer configurations",
            f"name them with --from-nodes or --node-data, or give them up: --without {names}"
            " (what only they acknowledged is lost then)",
        )


def _is_removed(identity_key: str, entries: Mapping[str, bytes]) -> bool:
    settings = entries.get(identity_key.replace("identities/", "settings/"))
    return settings is not None and bool(msgspec.json.decode(settings).get("removed"))


def _missing_shards(
    entries: Mapping[str, bytes], configurations: Mapping[ShardId, ShardConfiguration]
) -> list[ShardId]:
    pools = [
        msgspec.json.decode(value, type=PoolRecord)
        for key, value in sorted(entries.items())
        if key.startswith("pools/")
    ]
    if not pools:
        raise RebuildRefused(
            "no one who was asked knows the pools", "name a directory of a node that served"
        )
    shard_map = ShardMap({p.id: Pool(p.id, p.replicas, p.depth) for p in pools}, configurations)
    return [
        shard
        for pool in pools
        for shard in shard_map.shards_of(pool.id)
        if shard not in configurations
    ]


def _go_forward(
    entries: dict[str, bytes], snapshots: Sequence[ClusterSnapshot], sources: Sequence[_Source]
) -> None:
    """Numbers that must never be given out twice, and disks that joined after the newest view."""
    for each in snapshots:
        header = each.header
        key = f"identities/{header.node}"
        if key not in entries:
            entries[key] = msgspec.json.encode(IdentityRecord(header.node, header.incarnation))
    nodes = [int(key.removeprefix("identities/")) for key in entries if "identities/" in key]
    entries[_LAST_NODE] = msgspec.json.encode(max([*_numbers(sources, _LAST_NODE), *nodes, 0]))
    buckets = max([*_numbers(sources, _LAST_BUCKET), 0])
    entries[_LAST_BUCKET] = msgspec.json.encode(buckets + BUCKET_ID_STEP)
    levels = [source.entries[_LEVEL] for source in sources if _LEVEL in source.entries]
    if levels:  # Nodes have written by the highest: no one may know less.
        entries[_LEVEL] = max(levels, key=lambda value: _decode_level(value).level)
    generation = max(source.seen[0] for source in sources)
    entries[GENERATION_KEY] = msgspec.json.encode(generation + 1)


_decode_level = msgspec.json.Decoder(FormatLevelRecord).decode


def _numbers(sources: Iterable[_Source], key: str) -> list[int]:
    return [
        msgspec.json.decode(source.entries[key], type=int)
        for source in sources
        if key in source.entries
    ]


def _newer_configurations(
    configurations: Mapping[ShardId, ShardConfiguration], backup: StoreBackup | None
) -> int:
    if backup is None:
        return 0
    old = {
        _shard_of(k): decode_configuration(v)
        for k, v in backup.entries.items()
        if k.startswith(_SHARDS)
    }
    return sum(
        1
        for shard, configuration in configurations.items()
        if shard not in old or configuration.epoch > old[shard].epoch
    )


def _shard_of(key: str) -> ShardId:
    pool, number = key.removeprefix(_SHARDS).split("/")
    return shard_id(PoolId(int(pool)), int(number))


def _configuration_key(shard: ShardId) -> str:
    return f"{_SHARDS}{shard_name(shard)}"
