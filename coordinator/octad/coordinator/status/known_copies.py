"""How many copies of each shard are verified, and what is being copied, from nodes' reports.

A report counts as long as the process that wrote it is registered, and what it says of a shard only
while that node leads the shard's present epoch. Of everything else nothing is known: None. Nor is
anything while a copy is still to be compared with that of the primary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from octad.client.cluster.status_document import CopyingStatus
from octad.coordinator.schema.cluster_view import ClusterView
from octad.coordinator.schema.node_report import NodeReport, VerifiedCopies
from octad.sharding.ids import NodeId, ShardId, parse_shard_name, pool_of, shard_name

Reports = Mapping[NodeId, NodeReport]


@dataclass(frozen=True, slots=True)
class CopyUnderWay:
    """A copy that `node` fetches. `waits`: it reports that no source is reachable."""

    shard: ShardId
    node: NodeId
    waits: bool
    bytes_done: int
    bytes_total: int | None

    @property
    def bytes_left(self) -> int | None:
        """None: not known."""
        if self.bytes_total is None:
            return None
        return max(0, self.bytes_total - self.bytes_done)


class DiskDamage(NamedTuple):
    """A node's report of its disk: records damaged now, and repaired or lost since its start."""

    left: int = 0  # No intact copy has come so far, but one may.
    lost: int = 0  # Every copy is damaged.
    repaired: int = 0
    passed: int = 0  # Read errors after which all could be read.


@dataclass(frozen=True, slots=True)
class KnownCopies:
    """`verified` has every configured shard. `missing`: copies that pools lack, verified or not."""

    verified: Mapping[ShardId, int | None]
    copying: tuple[CopyUnderWay, ...]
    damaged: Mapping[NodeId, DiskDamage]
    missing: int
    bytes_left: int | None  # To copy and to move; None if a size is unknown.
    void: Mapping[NodeId, tuple[ShardId, ...]] = field(default_factory=dict)
    failed: Mapping[NodeId, tuple[ShardId, ...]] = field(default_factory=dict)
    read_only: frozenset[NodeId] = frozenset()
    indexes: Mapping[NodeId, str] = field(default_factory=dict)  # Only those with a problem.
    different: Mapping[NodeId, tuple[ShardId, ...]] = field(default_factory=dict)  # From primaries.
    compared: frozenset[ShardId] = frozenset()  # Just now, or soon: nothing else is known to lack.
    # Of those: the bytes that come back to them by themselves, and within how many seconds.
    returning: Mapping[NodeId, tuple[int, float]] = field(default_factory=dict)
    # Of nodes whose journal is damaged: what is in the way of filling them anew.
    anew_wait_for: Mapping[NodeId, str] = field(default_factory=dict)
    replaced: Mapping[NodeId, NodeId] = field(default_factory=dict)  # By which: it is filled now.


NOTHING_KNOWN = KnownCopies({}, (), {}, 0, 0)


def known_copies(
    view: ClusterView, reports: Reports, shard_bytes: Mapping[ShardId, int]
) -> KnownCopies:
    """The parts of `reports` that still hold. `shard_bytes`: sizes of replicas, as far as known."""
    current = {
        node: report
        for node, report in reports.items()
        if (record := view.nodes.get(node)) is not None and record.boot == report.boot
    }
    copying = _copying(view, current)
    missing, bytes_left = _missing(view, copying, shard_bytes)
    return KnownCopies(
        verified={shard: _verified(view, shard, current) for shard in view.configurations},
        copying=copying,
        damaged={n: damage for n, said in current.items() if any(damage := _damage(said))},
        missing=missing,
        bytes_left=bytes_left,
        void=_void(view, current),
        failed={n: _shards(said.failed) for n, said in current.items() if said.failed},
        read_only=frozenset(n for n, said in current.items() if said.read_only),
        indexes={n: said.index for n, said in _told(view, reports, current) if said.index},
        different=_different(view, current),
        compared=frozenset(
            shard
            for shard in view.configurations
            if (said := _said(view, shard, current)) is not None and said.uncompared
        ),
        returning={
            n: (said.returning_bytes, said.returning_s)
            for n, said in current.items()
            if said.returning_bytes
        },
        anew_wait_for={
            n: said.anew_waits_for
            for n, said in _told(view, reports, current)
            if said.anew_waits_for
        },
        replaced={said.in_place_of: n for n, said in current.items() if said.in_place_of},
    )


def _told(
    view: ClusterView, reports: Reports, current: Reports
) -> Iterator[tuple[NodeId, NodeReport]]:
    """A node that cannot start, or rebuilds its index first, reports without a boot."""
    for node, said in reports.items():
        if node in current or (not said.boot and node not in view.nodes):
            yield node, said


def _damage(said: NodeReport) -> DiskDamage:
    left = said.damaged_records - said.lost_records
    return DiskDamage(left, said.lost_records, said.repaired_records, said.passed_read_errors)


def _void(view: ClusterView, current: Reports) -> dict[NodeId, tuple[ShardId, ...]]:
    """Void shards by node: from configurations, which name abandoned disks, and from reports."""
    void = {node: set(_shards(said.void)) for node, said in current.items() if said.void}
    for shard, configuration in view.configurations.items():
        for node, record in view.nodes.items():
            if configuration.recovered and configuration.has_given_up(node, record.incarnation):
                void.setdefault(node, set()).add(shard)
    return {node: tuple(sorted(shards)) for node, shards in void.items()}


def _shards(names: tuple[str, ...]) -> tuple[ShardId, ...]:
    return tuple(sorted(map(parse_shard_name, names)))


def _verified(view: ClusterView, shard: ShardId, current: Reports) -> int | None:
    said = _said(view, shard, current)
    return None if said is None or said.uncompared else said.copies


def _said(view: ClusterView, shard: ShardId, current: Reports) -> VerifiedCopies | None:
    """The primary's report at the present epoch."""
    configuration = view.configurations[shard]
    report = current.get(configuration.primary)
    said = None if report is None else report.led.get(shard_name(shard))
    return said if said is not None and said.epoch == configuration.epoch else None


def _different(view: ClusterView, current: Reports) -> dict[NodeId, tuple[ShardId, ...]]:
    different: dict[NodeId, list[ShardId]] = {}
    for shard in sorted(view.configurations):
        said = _said(view, shard, current)
        for node in () if said is None else said.different:
            different.setdefault(node, []).append(shard)
    return {node: tuple(shards) for node, shards in different.items()}


def _copying(view: ClusterView, current: Reports) -> tuple[CopyUnderWay, ...]:
    """Copies of shards whose configurations have the node as a recruit or learner."""
    copies: list[CopyUnderWay] = []
    for shard, configuration in sorted(view.configurations.items()):
        nodes = [member.node for member in configuration.members if member.base]
        nodes += [learner.node for learner in configuration.learners]
        for node in nodes:
            report = current.get(node)
            said = None if report is None else report.copying.get(shard_name(shard))
            if said is None:
                copies.append(CopyUnderWay(shard, node, False, 0, None))
            else:
                copies.append(
                    CopyUnderWay(
                        shard, node, said.source is None, said.bytes_done, said.bytes_total
                    )
                )
    return tuple(copies)


def _missing(
    view: ClusterView, copying: tuple[CopyUnderWay, ...], shard_bytes: Mapping[ShardId, int]
) -> tuple[int, int | None]:
    """Copies that pools lack by their configurations, and the bytes that have to travel."""
    under_way = {copy.shard: copy for copy in copying}
    missing = left = 0
    known = True
    for shard, configuration in view.configurations.items():
        pool = view.pools.get(pool_of(shard))
        full = sum(member.base == 0 for member in configuration.members)
        lacking = max(0, pool.replicas - full) if pool is not None else 0
        missing += lacking
        copy = under_way.get(shard)
        if copy is not None:
            size = copy.bytes_left if copy.bytes_total is not None else shard_bytes.get(shard)
            known = known and size is not None
            left += size or 0
            lacking -= 1
        if lacking > 0:
            known = known and shard in shard_bytes
            left += lacking * shard_bytes.get(shard, 0)
    # Sizes lag: none at all of what is missing means that no one has counted yet.
    return missing, left if known and (left or not missing) else None


def copying_status(copies: KnownCopies, time_left_s: float | None) -> CopyingStatus:
    """The same for the status document."""
    return CopyingStatus(
        missing=copies.missing,
        under_way=len(copies.copying),
        waiting=sum(copy.waits for copy in copies.copying),
        bytes_left=copies.bytes_left,
        time_left_s=None if time_left_s is None else round(time_left_s, 1),
    )
