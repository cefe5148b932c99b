"""A shard whose full members are gone for good: which older copy takes their place.

This is the only place where anyone but a shard's own members makes a configuration of it, and only
because an operator says that no one is left to do so. Writes that were acknowledged by the lost
members alone are lost with them. Rule R19 of `docs/reference/replication.md`. Nothing is read or
written here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from octad.client.cluster.unknown_fields import with_unknown_fields
from octad.coordinator.schema.records import FenceRecord, NodeRecord, StoreKeys
from octad.coordinator.store.interface import (
    Compare,
    KeyValue,
    ModRevisionIs,
    Put,
    Revision,
    StoreOperation,
)
from octad.sharding.ids import Epoch, NodeId, ShardId, node_name
from octad.sharding.map.shard_map import (
    FormerMember,
    GivenUp,
    Member,
    Recovery,
    ShardConfiguration,
    decode_configuration,
)

Live = Mapping[NodeId, NodeRecord]


class CannotRecover(Exception):
    """The message says why, and what would do."""


@dataclass(frozen=True, slots=True)
class ForcedRecovery:
    """`chosen` leads `configuration`, the next one; `gone` had what may be lost."""

    configuration: ShardConfiguration
    chosen: FormerMember
    gone: tuple[NodeId, ...]
    given_up: tuple[NodeId, ...]


def complete_members(configuration: ShardConfiguration) -> list[Member]:
    """Full members by the configuration: a recruit leads only once it has all of history (R11)."""
    return [
        each
        for each in configuration.members
        if each.base == 0 or each.node == configuration.primary
    ]


def is_orphaned(configuration: ShardConfiguration, live: Live) -> bool:
    """Whether no member that has all of history is there."""
    return not any(
        _is_live(live, each.node, each.incarnation) for each in complete_members(configuration)
    )


def held_alone(
    configurations: Mapping[ShardId, ShardConfiguration], node: NodeId, incarnation: str
) -> list[ShardId]:
    """The shards of which this disk has all of history, and no other one."""
    disk = {(node, incarnation)}
    return [
        shard
        for shard, configuration in sorted(configurations.items())
        if {(each.node, each.incarnation) for each in complete_members(configuration)} == disk
    ]


def candidates(configuration: ShardConfiguration, live: Live) -> list[FormerMember]:
    """Former members whose disks are there, the most complete first."""
    former = [
        each
        for each in configuration.last_full
        if _is_live(live, each.node, each.incarnation)
        and not configuration.has_given_up(each.node, each.incarnation)
    ]
    return sorted(former, key=lambda each: (-each.upto, each.node))


def forced_recovery(configuration: ShardConfiguration, live: Live) -> ForcedRecovery:
    """Puts the former member with the most history in charge; raises CannotRecover."""
    if not is_orphaned(configuration, live):
        raise CannotRecover("a node that has all of it is live; let its members settle it")
    full = [member.node for member in complete_members(configuration)]
    former = candidates(configuration, live)
    if not former:
        raise CannotRecover(
            f"no live node has an older copy; start {_named(full)}, or one of"
            f" {_named(each.node for each in configuration.last_full)}"
            if configuration.last_full
            else f"no one else ever had a copy of it; start {_named(full)}"
        )
    _check_needs_it(configuration, live, former[0])
    return _forced(configuration, former[0], full)


def _check_needs_it(configuration: ShardConfiguration, live: Live, best: FormerMember) -> None:
    """A recruit that finds its history at a former member goes on by itself (rule R10)."""
    for member in configuration.members:
        alive = _is_live(live, member.node, member.incarnation)
        if alive and 0 < member.base <= best.upto + 1 and member.node != best.node:
            raise CannotRecover(
                f"{node_name(member.node)} copies what it lacks from {node_name(best.node)} and"
                " takes over without loss; wait for it"
            )


def _forced(
    configuration: ShardConfiguration, chosen: FormerMember, full: list[NodeId]
) -> ForcedRecovery:
    epoch = Epoch(configuration.epoch + 1)
    given_up = [
        GivenUp(m.node, m.incarnation) for m in configuration.members if m.node != chosen.node
    ]
    given_up += [
        GivenUp(x.node, x.incarnation) for x in configuration.learners if x.node != chosen.node
    ]
    # An absent former member may know more than the chosen one: it must not take part again.
    given_up += [
        GivenUp(f.node, f.incarnation) for f in configuration.last_full if f.upto > chosen.upto
    ]
    void = {gone.node for gone in given_up}
    recovery = Recovery(epoch, chosen.node, chosen.incarnation, chosen.upto, tuple(given_up))
    others = [f for f in configuration.last_full if f.node != chosen.node and f.node not in void]
    proposed = msgspec.structs.replace(
        configuration,
        epoch=epoch,
        primary=chosen.node,
        members=(Member(chosen.node, chosen.incarnation),),
        learners=(),
        last_full=tuple(others),
        recoveries=(*configuration.recovered, recovery),
    )
    return ForcedRecovery(proposed, chosen, tuple(full), tuple(sorted(void)))


def recovery_transaction(
    keys: StoreKeys,
    entry: KeyValue,
    recovery: ForcedRecovery,
    live: Live,
    boot: str,
) -> tuple[list[Compare], list[StoreOperation]]:
    """The transaction fails if the configuration changed, or a member taken for gone came back.

    The fences of absent members are rewritten: no swap of theirs that is under way can land.
    """
    absent = [m.node for m in decode_configuration(entry.value).members if m.node not in live]
    compares: list[Compare] = [ModRevisionIs(entry.key, entry.mod_revision)]
    compares += [ModRevisionIs(keys.node(node), Revision(0)) for node in absent]
    fence = msgspec.json.encode(FenceRecord(boot, 0))
    operations: list[StoreOperation] = [Put(keys.fence(node), fence) for node in absent]
    return compares, [
        *operations,
        Put(entry.key, with_unknown_fields(entry.value, recovery.configuration)),
    ]


def _is_live(live: Live, node: NodeId, incarnation: str) -> bool:
    record = live.get(node)
    return record is not None and record.incarnation == incarnation


def _named(nodes: Iterable[NodeId]) -> str:
    return " ".join(node_name(node) for node in nodes)
