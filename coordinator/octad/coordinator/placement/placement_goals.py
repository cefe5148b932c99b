"""The next goal of a shard: a copy more, a copy less, a move towards its target, or a split.

A goal replaces one replica at most, so no two replicas of a shard are ever being copied at once;
the next one is chosen when the configuration shows that this one has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from octad.coordinator.placement.placement_view import PlacementView, is_live
from octad.coordinator.placement.spares import choose_replacement, choose_spare, choose_surplus
from octad.coordinator.schema.placement_records import Replica, ShardPlan
from octad.sharding.ids import NodeId, ShardId, node_name
from octad.sharding.map.shard_map import ShardConfiguration

NO_SPARE = "a copy is missing and no other node can take it; add a node"


@dataclass(frozen=True, slots=True)
class Blocked:
    """No step is possible now; `reason` is for people."""

    reason: str


Wish = ShardPlan | Blocked | None


def reached(configuration: ShardConfiguration, target: Sequence[NodeId]) -> bool:
    """Whether `configuration` matches `target` (primary first)."""
    return configuration.primary == target[0] and {m.node for m in configuration.members} == set(
        target
    )


def repair_wish(
    view: PlacementView,
    shard: ShardId,
    configuration: ShardConfiguration,
    replicas: int,
    held: Counter[NodeId],
    refused: Collection[NodeId],
) -> Wish:
    """For a configuration with too few members: one more."""
    spare = choose_spare(view, shard, configuration, held, refused)
    if spare is None:
        return Blocked(NO_SPARE)
    return ShardPlan("repair", replicas, add=_replica(view, spare))


def surplus_wish(
    view: PlacementView,
    shard: ShardId,
    configuration: ShardConfiguration,
    replicas: int,
    held: Counter[NodeId],
) -> Wish:
    """The goal for a configuration with too many members: remove one that its target lacks."""
    weak = _weakness(view, configuration)
    if weak is not None:
        return weak
    target = view.target_of(shard)
    leaving = [m.node for m in configuration.members if target is not None and m.node not in target]
    spared = [node for node in leaving if node != configuration.primary]
    if target is not None and leaving and not spared:
        heir = target[0] if configuration.member(target[0]) is not None else None
        heir = heir or next(node for node in target if configuration.member(node) is not None)
        return ShardPlan(
            "repair", replicas, primary=heir, remove=_member(configuration, configuration.primary)
        )
    gone = spared[0] if spared else choose_surplus(view, configuration, held)
    return ShardPlan("repair", replicas, remove=_member(configuration, gone))


def move_wish(
    view: PlacementView, configuration: ShardConfiguration, target: Sequence[NodeId], replicas: int
) -> Wish:
    """The next replacement, or hand-over, on the way to `target`; None once it is reached."""
    if reached(configuration, target):
        return None
    weak = _weakness(view, configuration)
    if weak is not None:
        return weak
    members = [member.node for member in configuration.members]
    joining = [node for node in target if node not in members]
    leaving = [node for node in members if node not in target]
    if not joining:
        return ShardPlan("primary", replicas, primary=target[0])
    present = [node for node in joining if node in view.cluster.nodes]
    if not present:
        return Blocked(f"{node_name(joining[0])} is not live; start it, or plan anew without it")
    joins, leaves = choose_replacement(view, configuration, target, present, leaving)
    after = [node for node in (*members, joins) if node != leaves]
    heir: NodeId | None = None
    if target[0] in after and target[0] != configuration.primary:
        heir = target[0]
    elif leaves == configuration.primary:
        heir = next((node for node in target if node in after), after[0])
    return ShardPlan(
        "move",
        replicas,
        add=_replica(view, joins),
        primary=heir,
        remove=_member(configuration, leaves),
    )


def depth_wish(
    view: PlacementView, configuration: ShardConfiguration, replicas: int, depth: int
) -> Wish:
    """The next split on the way to `depth`."""
    if configuration.depth >= depth:
        return None
    weak = _weakness(view, configuration)
    return weak or ShardPlan("split", replicas, depth=configuration.depth + 1)


def _weakness(view: PlacementView, configuration: ShardConfiguration) -> Blocked | None:
    """Why this shard had better be left alone for now."""
    for member in configuration.members:
        if not is_live(view, member.node, member.incarnation):
            return Blocked(f"{node_name(member.node)}, which holds a copy, is not live")
        if member.base:
            return Blocked(f"{node_name(member.node)} still copies history")
    return None


def _replica(view: PlacementView, node: NodeId) -> Replica:
    return Replica(node, view.cluster.nodes[node].incarnation)


def _member(configuration: ShardConfiguration, node: NodeId) -> Replica:
    member = configuration.member(node)
    assert member is not None
    return Replica(node, member.incarnation)
