"""The effects of an operator's request: settings, targets, moves and bytes, or a refusal.

Nothing is written here. A proposal is made from the configurations as they are, so that its number
of moves is the minimum from there; the commit checks that nothing else began meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from octad.coordinator.placement.placement_requests import (
    PlanRefused,
    check_fields,
    checked_addition,
    checked_drain,
    checked_new_pool,
    checked_removal,
    checked_split,
)
from octad.coordinator.placement.placement_view import (
    PlacementView,
    Stored,
    is_split_half_way,
    shards_of,
)
from octad.coordinator.placement.spares import Domain, domain_of
from octad.coordinator.schema.placement_messages import NodeTraffic, PlanAnswer, PlanRequest
from octad.coordinator.schema.placement_records import NodeSettings, ShardTarget
from octad.coordinator.schema.records import PoolRecord
from octad.coordinator.store.interface import Revision
from octad.sharding.assignment.assignment import ImpossibleAssignment, assign
from octad.sharding.ids import NodeId, ShardId, node_name, shard_id


@dataclass(frozen=True, slots=True)
class Proposal:
    """The writes of an operation, and their effects."""

    what: str
    settings: Mapping[NodeId, NodeSettings] = field(default_factory=dict)
    targets: Mapping[ShardId, ShardTarget] = field(default_factory=dict)
    depths: Mapping[str, int] = field(default_factory=dict)
    new_pool: PoolRecord | None = None
    splits: int = 0
    received: Counter[NodeId] = field(default_factory=Counter)
    given: Counter[NodeId] = field(default_factory=Counter)
    received_bytes: Mapping[NodeId, int] | None = None  # None: sizes are not known.
    warnings: tuple[str, ...] = ()

    @property
    def moves(self) -> int:
        return self.received.total()

    @property
    def primaries(self) -> int:
        return sum(1 for target in self.targets.values() if target.old[0] != target.new[0])

    @property
    def has_work(self) -> bool:
        return bool(self.targets or self.depths)

    def answer(self, *, dry_run: bool, operation: str | None) -> PlanAnswer:
        """Returns the proposal as shown to the operator."""
        sizes = self.received_bytes
        busy = sorted({*self.received, *self.given})
        return PlanAnswer(
            what=self.what,
            dry_run=dry_run,
            operation=operation,
            moves=self.moves,
            moves_bytes=None if sizes is None else sum(sizes.values()),
            shards=len(self.targets) + self.splits,
            primaries=self.primaries,
            splits=self.splits,
            nodes=tuple(
                NodeTraffic(
                    node_name(node),
                    self.received[node],
                    self.given[node],
                    None if sizes is None else sizes.get(node, 0),
                )
                for node in busy
            ),
            warnings=self.warnings,
            pool=self.new_pool.id if self.new_pool else None,
        )


def propose(action: str, request: PlanRequest, view: PlacementView) -> Proposal:
    """Returns the proposal for `action`; raises PlanRefused."""
    check_fields(action, request)
    match action:
        case "add":
            settings, warnings = checked_addition(request, view)
        case "drain":
            settings, warnings = checked_drain(request, view)
        case "rebalance":
            settings, warnings = {}, ()
        case "remove":
            return Proposal(
                _what(action, request), settings=checked_removal(request, view), received_bytes={}
            )
        case "split":
            return _split(request, view)
        case "create-pool":
            return Proposal(_what(action, request), new_pool=checked_new_pool(request, view))
        case _:
            raise PlanRefused("no-such-action", f"no action {action!r}", "see the documentation")
    proposal = Proposal(_what(action, request), settings=settings, warnings=warnings)
    return _with_targets(proposal, request, view)


def _what(action: str, request: PlanRequest) -> str:
    zone = f" zone {request.zone}" if action == "drain" and request.zone is not None else ""
    return f"{action}{zone}{''.join(f' {name}' for name in request.nodes)}"


def _with_targets(proposal: Proposal, request: PlanRequest, view: PlacementView) -> Proposal:
    after = with_settings(view, proposal.settings)
    _check_configurations(after)
    _check_presence(after)
    if not request.fewer_zones:
        _check_zones(view, after)
    targets: dict[ShardId, ShardTarget] = {}
    for pool in after.cluster.pools.values():
        targets.update(_targets_of(pool, after))
    received: Counter[NodeId] = Counter()
    given: Counter[NodeId] = Counter()
    for shard, target in targets.items():
        members = [member.node for member in view.cluster.configurations[shard].members]
        received.update(node for node in target.new if node not in members)
        given.update(node for node in members if node not in target.new)
    sizes = _sizes(view, targets)
    if sizes is not None:
        _check_room(view, targets, sizes)
    return replace(proposal, targets=targets, received=received, given=given, received_bytes=sizes)


def with_settings(view: PlacementView, changed: Mapping[NodeId, NodeSettings]) -> PlacementView:
    """`view` as it will be with these settings."""
    stored = {node: Stored(record, Revision(0), b"") for node, record in changed.items()}
    return replace(view, settings={**view.settings, **stored})


def _targets_of(pool: PoolRecord, view: PlacementView) -> dict[ShardId, ShardTarget]:
    configurations = view.cluster.configurations
    old = []
    for number in range(1 << pool.depth):
        configuration = configurations[shard_id(pool.id, number)]
        others = [
            member.node for member in configuration.members if member.node != configuration.primary
        ]
        old.append((configuration.primary, *others))
    nodes = view.usable_nodes()
    domains = len({domain_of(view, node.id) for node in nodes})
    zones_min = max(1, min(domains, pool.replicas))
    try:
        new = assign(old, nodes, pool.replicas, pool.depth, zones_min=zones_min)
    except ImpossibleAssignment as error:
        raise PlanRefused(
            "does-not-fit", f"pool {pool.id}: {error}", "add nodes first, or drain fewer"
        ) from error
    return {
        shard_id(pool.id, number): ShardTarget(_whole(before, after, pool.replicas), after)
        for number, (before, after) in enumerate(zip(old, new, strict=True))
        if set(before) != set(after) or before[0] != after[0]
    }


def _whole(
    before: tuple[NodeId, ...], after: tuple[NodeId, ...], replicas: int
) -> tuple[NodeId, ...]:
    """The targets of a revert: `before`, with as many copies as the pool has now."""
    others = [node for node in before[1:] if node in after]
    others += [node for node in before[1:] if node not in after]
    others += [node for node in after if node not in before]
    return (before[0], *others[: replicas - 1])


def _check_configurations(view: PlacementView) -> None:
    for pool in view.cluster.pools.values():
        if is_split_half_way(pool, view.cluster.configurations):
            raise PlanRefused(
                "splitting",
                f"pool {pool.id} is being split",
                "wait for it, or let it go on: octad rebalance --resume",
            )
        if len(shards_of(pool, view.cluster.configurations)) < 1 << pool.depth:
            raise PlanRefused(
                "forming", f"pool {pool.id} has no shard map yet", "wait until it has nodes enough"
            )


def _check_presence(view: PlacementView) -> None:
    """A node that is away for a moment must not be planned away by the way."""
    holders = {
        member.node
        for configuration in view.cluster.configurations.values()
        for member in configuration.members
    }
    away = [
        node
        for node in sorted(holders - view.cluster.nodes.keys())
        if not view.settings_of(node).draining
    ]
    if away:
        names = " ".join(node_name(node) for node in away)
        raise PlanRefused(
            "not-live",
            f"{names} holds data and is not live",
            f"start it, or give it up: octad node drain {names}",
        )


def _check_zones(before: PlacementView, after: PlacementView) -> None:
    had, has = _domains(before), _domains(after)
    for pool in before.cluster.pools.values():
        enough_nodes = len(after.usable_nodes()) >= pool.replicas
        if enough_nodes and len(has) < min(len(had), pool.replicas):
            lost = ", ".join(sorted(name or "(a node of its own)" for name, _ in had - has))
            raise PlanRefused(
                "fewer-zones",
                f"without zone {lost} the {pool.replicas} copies of pool {pool.id} would stand in"
                f" {len(has)} zone{'' if len(has) == 1 else 's'}",
                "add a node in another zone first, or allow it with --fewer-zones",
            )


def _domains(view: PlacementView) -> set[Domain]:
    return {domain_of(view, node.id) for node in view.usable_nodes()}


def _sizes(view: PlacementView, targets: Mapping[ShardId, ShardTarget]) -> dict[NodeId, int] | None:
    """Bytes that every node receives; None unless the size of every moved shard is known."""
    sizes = view.shard_bytes()
    received: Counter[NodeId] = Counter()
    for shard, target in targets.items():
        joining = [node for node in target.new if node not in target.old]
        if joining and shard not in sizes:
            return None
        for node in joining:
            received[node] += sizes[shard]
    return dict(received)


def _check_room(
    view: PlacementView, targets: Mapping[ShardId, ShardTarget], received: Mapping[NodeId, int]
) -> None:
    """Received data must fit beside the node's own, which leaves only later."""
    for node, size in sorted(received.items()):
        usage = view.usage.get(node)
        if usage is not None and size > usage.free_bytes:
            raise PlanRefused(
                "does-not-fit",
                f"{node_name(node)} would receive {size} bytes and has {usage.free_bytes} free",
                "add a node first, or lower its weight: octad node add NODE --weight W",
            )


def _split(request: PlanRequest, view: PlacementView) -> Proposal:
    pool = checked_split(request, view)
    todo = [
        shard for shard in shards_of(pool, view.cluster.configurations)
        if view.cluster.configurations[shard].depth == pool.depth
    ]  # fmt: skip
    return Proposal(
        f"split pool {pool.id} into {2 << pool.depth} shards",
        depths={str(pool.id): pool.depth + 1},
        splits=len(todo),
        received_bytes={},
    )
