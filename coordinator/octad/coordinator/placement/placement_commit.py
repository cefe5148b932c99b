"""How an operator's request gets into the store: targets first, then one transaction to begin it.

Targets are too much for one transaction, so they are written before, under the id of an operation
that does not exist yet. The transaction that makes it current compares that they all still stand
and that no other operation came between. Targets left by a coordinator that died before
that belong to no operation, and the leader deletes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from octad.coordinator.placement.placement_proposal import Proposal
from octad.coordinator.placement.placement_requests import PlanRefused
from octad.coordinator.placement.placement_view import PlacementView, Stored, chunk_of
from octad.coordinator.schema.placement_messages import PlanRequest
from octad.coordinator.schema.placement_records import (
    MOVES_MAX_DEFAULT,
    MOVES_PER_NODE_MAX_DEFAULT,
    SHARDS_PER_CHUNK,
    NodeSettings,
    PlacementKeys,
    PlacementOperation,
    ShardTarget,
    TargetChunk,
    encode_record,
)
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.interface import Compare, ModRevisionIs, Put, Revision
from octad.sharding.ids import NodeId, ShardId, number_of


@dataclass(frozen=True, slots=True)
class PlanChange:
    """A transaction that an operator's request comes to."""

    compares: Sequence[Compare]
    operations: Sequence[Put]


def target_chunks(
    keys: PlacementKeys, operation: str, targets: Mapping[ShardId, ShardTarget]
) -> Iterator[tuple[str, bytes]]:
    """The keys and values that hold `targets`."""
    chunks: dict[str, dict[str, ShardTarget]] = {}
    for shard, target in sorted(targets.items()):
        chunk = chunk_of(shard, SHARDS_PER_CHUNK)
        chunks.setdefault(chunk, {})[str(number_of(shard))] = target
    for chunk, shards in chunks.items():
        yield keys.target(operation, chunk), encode_record(TargetChunk(shards))


def operation_changes(
    keys: StoreKeys,
    view: PlacementView,
    proposal: Proposal,
    request: PlanRequest,
    operation: str,
    chunks_written: Sequence[ModRevisionIs] = (),
) -> PlanChange:
    """The transaction that begins the operation; raises PlanRefused while a pool is split."""
    placement = PlacementKeys(keys)
    stored = view.operation
    if proposal.has_work and stored is not None and _is_splitting(stored.record):
        raise PlanRefused(
            "splitting", "a pool is being split", "wait for it, or octad rebalance --resume"
        )
    compares: list[Compare] = [_unchanged(placement.operation, stored), *chunks_written]
    puts = []
    for node, settings in sorted(proposal.settings.items()):
        key, before = placement.node_settings(node), view.settings.get(node)
        compares.append(_unchanged(key, before))
        puts.append(Put(key, encode_record(settings, before.value if before else None)))
    if proposal.new_pool is not None:
        key = keys.pool(proposal.new_pool.id)
        compares.append(ModRevisionIs(key, Revision(0)))
        puts.append(Put(key, encode_record(proposal.new_pool)))
    if proposal.has_work:
        record = _operation(view, proposal, request, operation)
        puts.append(Put(placement.operation, encode_record(record)))
    return PlanChange(compares, puts)


def stopped(keys: StoreKeys, view: PlacementView) -> PlanChange:
    """Stop moving; copies that have arrived are completed. Raises PlanRefused."""
    stored = _current(view)
    if stored.record.state != "running":
        raise PlanRefused("not-running", f"{stored.record.what} is {stored.record.state}", "fine")
    return _changed(keys, stored, state="stopped")


def resumed(keys: StoreKeys, view: PlacementView) -> PlanChange:
    """Goes on where it stopped. Raises PlanRefused."""
    stored = _current(view)
    if stored.record.state != "stopped":
        raise PlanRefused(
            "not-stopped", f"{stored.record.what} is {stored.record.state}", "nothing to resume"
        )
    return _changed(keys, stored, state="running")


def reverted(keys: StoreKeys, view: PlacementView) -> PlanChange:
    """Restore every shard's former nodes, and the nodes' settings. Raises PlanRefused."""
    stored = _current(view)
    operation = stored.record
    if operation.depths:
        raise PlanRefused(
            "not-revertible",
            f"{operation.what}: shards that were split stay split; no byte was moved",
            "let it end: octad rebalance --resume",
        )
    if operation.backwards:
        raise PlanRefused(
            "not-revertible", f"{operation.what} was reverted", "plan anew: octad rebalance"
        )
    placement = PlacementKeys(keys)
    change = _changed(keys, stored, state="running", backwards=True)
    compares, puts = [*change.compares], [*change.operations]
    for number, before in sorted(operation.settings_before.items()):
        node = NodeId(int(number))
        now, key = view.settings.get(node), placement.node_settings(node)
        compares.append(_unchanged(key, now))
        puts.append(Put(key, encode_record(before or NodeSettings(), now.value if now else None)))
    return PlanChange(compares, puts)


def _operation(
    view: PlacementView, proposal: Proposal, request: PlanRequest, operation: str
) -> PlacementOperation:
    chunks = {chunk_of(shard, SHARDS_PER_CHUNK) for shard in proposal.targets}
    before = {
        str(node): view.settings[node].record if node in view.settings else None
        for node in proposal.settings
    }
    return PlacementOperation(
        id=operation,
        what=proposal.what,
        state="running",
        moves=proposal.moves,
        primaries=proposal.primaries,
        chunks=tuple(sorted(chunks)),
        depths=dict(proposal.depths),
        moves_max=request.moves_max or MOVES_MAX_DEFAULT,
        moves_per_node_max=request.moves_per_node_max or MOVES_PER_NODE_MAX_DEFAULT,
        settings_before=before,
    )


def _current(view: PlacementView) -> Stored[PlacementOperation]:
    if view.operation is None:
        raise PlanRefused("no-operation", "nothing was planned", "octad rebalance --dry-run")
    return view.operation


def _is_splitting(operation: PlacementOperation) -> bool:
    return bool(operation.depths) and operation.state != "done"


def _changed(keys: StoreKeys, stored: Stored[PlacementOperation], **fields: object) -> PlanChange:
    key = PlacementKeys(keys).operation
    record = msgspec.structs.replace(stored.record, **fields)
    return PlanChange(
        [ModRevisionIs(key, stored.revision)], [Put(key, encode_record(record, stored.value))]
    )


def _unchanged(
    key: str, stored: Stored[NodeSettings] | Stored[PlacementOperation] | None
) -> ModRevisionIs:
    return ModRevisionIs(key, stored.revision if stored else Revision(0))
