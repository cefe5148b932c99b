"""Chooses the node that takes a missing copy, and the surplus copy to remove.

Primaries use it, too: they recruit a spare in the same swap that removes a silent member. The same
view always yields the same choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from octad.coordinator.placement.placement_view import PlacementView, is_live
from octad.sharding.ids import NodeId, ShardId
from octad.sharding.map.shard_map import ShardConfiguration

Domain = tuple[str, int]


def domain_of(view: PlacementView, node: NodeId) -> Domain:
    """The failure domain of `node`: its zone, or itself alone."""
    zone = view.zone_of(node)
    return (zone, 0) if zone else ("", node)


def domains_spanned(view: PlacementView, nodes: Iterable[NodeId]) -> int:
    """How many failure domains `nodes` span."""
    return len({domain_of(view, node) for node in nodes})


def loads(view: PlacementView) -> Counter[NodeId]:
    """How many replicas every node holds, or receives by a plan."""
    held = Counter(
        member.node
        for configuration in view.cluster.configurations.values()
        for member in configuration.members
    )
    for shard, stored in view.plans.items():
        add, configuration = stored.record.add, view.cluster.configurations.get(shard)
        if add is not None and (configuration is None or configuration.member(add.node) is None):
            held[add.node] += 1
    return held


def choose_spare(
    view: PlacementView,
    shard: ShardId,
    configuration: ShardConfiguration,
    held: Counter[NodeId],
    excluded: Collection[NodeId] = (),
) -> NodeId | None:
    """The node that should take another replica of `shard`; None where there is none.

    First who still has the data (a removed member of the last full set on the same disk), then who
    is to get it anyway, then another failure domain, then the emptiest by weight.
    """
    members = [member.node for member in configuration.members]
    former = {
        each.node for each in configuration.last_full if is_live(view, each.node, each.incarnation)
    }
    target = view.target_of(shard) or ()
    weights = {node.id: node.weight for node in view.usable_nodes()}
    candidates = [
        node
        for node in weights
        if node not in members
        and node not in excluded
        and not configuration.has_given_up(node, view.cluster.nodes[node].incarnation)
    ]

    def rank(node: NodeId) -> tuple[bool, bool, int, float, NodeId]:
        spread = domains_spanned(view, [*members, node])
        return node not in former, node not in target, -spread, held[node] / weights[node], node

    return min(candidates, key=rank, default=None)


def choose_surplus(
    view: PlacementView, configuration: ShardConfiguration, held: Counter[NodeId]
) -> NodeId:
    """The member to let go where a configuration has one too many: never the primary."""

    def rank(node: NodeId) -> tuple[bool, int, int, int]:
        rest = [member.node for member in configuration.members if member.node != node]
        return view.may_hold_data(node), -domains_spanned(view, rest), -held[node], -node

    return min((m.node for m in configuration.members if m.node != configuration.primary), key=rank)


def choose_replacement(
    view: PlacementView,
    configuration: ShardConfiguration,
    target: Sequence[NodeId],
    joining: Sequence[NodeId],
    leaving: Sequence[NodeId],
) -> tuple[NodeId, NodeId]:
    """The next replica to add and to remove, so that copies stay as far apart as possible."""
    members = [member.node for member in configuration.members]

    def rank(pair: tuple[NodeId, NodeId]) -> tuple[int, bool, bool]:
        joins, leaves = pair
        after = [node for node in (*members, joins) if node != leaves]
        without_heir = leaves == configuration.primary and target[0] not in after
        return -domains_spanned(view, after), without_heir, joins != target[0]

    return min(((joins, leaves) for joins in joining for leaves in leaving), key=rank)
