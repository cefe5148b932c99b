"""A node whose journal is damaged is filled anew by the others: when it may be, and when it was.

What it has is set aside, not deleted, and a node without data comes in its place. That may begin
when every shard that the disk has a part of has enough other copies that are verified; it has ended
when every shard of the cluster has all of its copies verified and no configuration names the old
disk. One node at a time is set aside: the next may be while the place of the first is still being
filled, which else waits for a copy on the next, and that for its turn. Nothing is read or written
here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from octad.coordinator.schema.cluster_view import ClusterView, cluster_view, decode_record
from octad.coordinator.schema.node_report import NodeReport
from octad.coordinator.schema.placement_records import NodeSettings, PlacementKeys, encode_record
from octad.coordinator.schema.records import StoreKeys, TurnRecord
from octad.coordinator.status.cluster_health import copies_min, named_shards
from octad.coordinator.status.known_copies import KnownCopies, known_copies
from octad.coordinator.store.interface import (
    Compare,
    Delete,
    KeyValue,
    ModRevisionIs,
    Put,
    Revision,
    StoreOperation,
)
from octad.sharding.ids import NodeId, ShardId, node_name, pool_of
from octad.sharding.map.shard_map import ShardConfiguration

Transaction = tuple[list[Compare], list[StoreOperation]]


class OldDisk(NamedTuple):
    """The disk of a node whose journal is damaged."""

    node: NodeId
    incarnation: str


@dataclass(frozen=True, slots=True)
class Seen:
    """The store's relevant records at one revision."""

    cluster: ClusterView
    copies: KnownCopies
    settings: dict[NodeId, KeyValue]
    turn: KeyValue | None

    def settings_of(self, node: NodeId) -> NodeSettings:
        entry = self.settings.get(node)
        return NodeSettings() if entry is None else decode_record(entry, NodeSettings)


def seen(keys: StoreKeys, revision: Revision, entries: Iterable[KeyValue]) -> Seen:
    """Decodes all keys of the cluster. Raises BadRecord."""
    entries = list(entries)
    cluster = cluster_view(keys, revision, entries)
    settings_prefix = PlacementKeys(keys).settings
    reports: dict[NodeId, NodeReport] = {}
    settings: dict[NodeId, KeyValue] = {}
    turn = None
    for entry in entries:
        if entry.key.startswith(keys.reports):
            report = decode_record(entry, NodeReport)
            reports[report.node] = report
        elif entry.key.startswith(settings_prefix):
            settings[NodeId(int(entry.key.removeprefix(settings_prefix)))] = entry
        elif entry.key == keys.filled_anew:
            turn = entry
    return Seen(cluster, known_copies(cluster, reports, {}), settings, turn)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a node is not filled anew. `passes`: by itself, or once other nodes are there."""

    why: str
    passes: bool = True


def obstacle(now: Seen, disk: OldDisk, *, runs: bool) -> Obstacle | None:
    """Returns the obstacle to setting aside the contents of `disk`, if any.

    A node that `runs` has reported to the primaries that its copies are void. One that does not may
    still be counted where a configuration has it as a member, from before its end.
    """
    if not _knows_all(now.cluster, disk):
        return Obstacle("the configuration store does not know all of its shards")
    void = [
        s
        for s, configuration in sorted(now.cluster.configurations.items())
        if configuration.has_given_up(*disk)
    ]
    if void:
        what = f"{named_shards(void)} recovered by force without this disk"
        return Obstacle(f"{what}: what was lost may still be here", passes=False)
    needed = [
        shard
        for shard in sorted(now.cluster.configurations)
        if _is_needed(now, shard, disk, runs=runs)
    ]
    if needed:
        enough = max(_copies_min(now, shard) for shard in needed)
        copies = f"{enough} other cop{'y' if enough == 1 else 'ies'}"
        return Obstacle(f"{named_shards(needed)} not known to have {copies} that are verified")
    turn = whose_turn(now)
    if turn is not None and (turn.node, turn.incarnation) != disk and not _is_set_aside(now, turn):
        return Obstacle(f"{node_name(turn.node)} is filled anew first: one node at a time")
    return None


def _knows_all(cluster: ClusterView, disk: OldDisk) -> bool:
    """Whether the store knows the disk and every shard; one that was lost knows of no copies."""
    identity = cluster.identities.get(disk.node)
    shards = cluster.shard_map()
    return (
        identity is not None
        and identity.incarnation == disk.incarnation
        and bool(cluster.pools)
        and all(
            s in cluster.configurations for pool in cluster.pools for s in shards.shards_of(pool)
        )
    )


def _is_needed(now: Seen, shard: ShardId, disk: OldDisk, *, runs: bool) -> bool:
    """Whether the disk has a part of the shard of which too few others have verified copies."""
    configuration = now.cluster.configurations[shard]
    is_member = any((m.node, m.incarnation) == disk for m in configuration.members)
    if not is_member and not any((f.node, f.incarnation) == disk for f in configuration.last_full):
        return False
    if configuration.primary == disk.node or (is_member and not runs):
        return True
    return (now.copies.verified.get(shard) or 0) < _copies_min(now, shard)


def _is_set_aside(now: Seen, turn: TurnRecord) -> bool:
    """Whether another node is in that one's place, and no configuration counts on its disk."""
    disk = turn.node, turn.incarnation
    members = (
        member
        for configuration in now.cluster.configurations.values()
        for member in configuration.members
    )
    return turn.node in now.copies.replaced and disk not in {
        (member.node, member.incarnation) for member in members
    }


def _copies_min(now: Seen, shard: ShardId) -> int:
    return copies_min(now.cluster.pools[pool_of(shard)].replicas)


def is_over(now: Seen, old: NodeId) -> bool:
    """Whether every shard has all its copies, verified, and no configuration counts on `old`."""
    shards = now.cluster.shard_map()
    return all(
        (configuration := now.cluster.configurations.get(shard)) is not None
        and not _names(configuration, old)
        and (now.copies.verified.get(shard) or 0) >= pool.replicas
        for pool in now.cluster.pools.values()
        for shard in shards.shards_of(pool.id)
    )


def _names(configuration: ShardConfiguration, node: NodeId) -> bool:
    nodes = {each.node for each in configuration.members} | {
        each.node for each in configuration.learners
    }
    return node in nodes | {each.node for each in configuration.last_full}


# -- transactions ------------------------------------------------------------------------------


def whose_turn(now: Seen) -> TurnRecord | None:
    """The node that is being refilled, unless an operator has removed it meanwhile."""
    if now.turn is None:
        return None
    turn = decode_record(now.turn, TurnRecord)
    return None if now.settings_of(turn.node).removed else turn


def taking_turn(keys: StoreKeys, now: Seen, disk: OldDisk) -> Transaction:
    """The transaction fails if another node was faster."""
    revision = Revision(0) if now.turn is None else now.turn.mod_revision
    taken = Put(keys.filled_anew, msgspec.json.encode(TurnRecord(*disk)))
    return [ModRevisionIs(keys.filled_anew, revision)], [taken]


def giving_turn_back(keys: StoreKeys, now: Seen, disk: OldDisk) -> Transaction | None:
    """None: it is not that disk's turn."""
    if now.turn is None or decode_record(now.turn, TurnRecord) != TurnRecord(*disk):
        return None
    return [ModRevisionIs(keys.filled_anew, now.turn.mod_revision)], [Delete(keys.filled_anew)]


def inheriting(keys: StoreKeys, now: Seen, old: NodeId, new: NodeId) -> Transaction | None:
    """Copies the operators' settings of `old` to `new`; None if there is nothing to write."""
    if old not in now.settings or new in now.settings or now.settings_of(old).removed:
        return None
    key = PlacementKeys(keys).node_settings(new)
    compares: list[Compare] = [ModRevisionIs(key, Revision(0))]
    return compares, [Put(key, encode_record(now.settings_of(old), now.settings[old].value))]


def ending(keys: StoreKeys, now: Seen, disk: OldDisk) -> Transaction:
    """The old node is forgotten, as by `octad node remove`, and it is another one's turn."""
    key, known = PlacementKeys(keys).node_settings(disk.node), now.settings.get(disk.node)
    gone = msgspec.structs.replace(now.settings_of(disk.node), draining=True, removed=True)
    compares: list[Compare] = [ModRevisionIs(key, known.mod_revision if known else Revision(0))]
    changes: list[StoreOperation] = [Put(key, encode_record(gone, known.value if known else None))]
    turn = giving_turn_back(keys, now, disk)
    if turn is None:
        return compares, changes
    return [*compares, *turn[0]], [*changes, *turn[1]]
