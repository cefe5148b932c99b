"""The first shard map: what the coordinator's leader writes once enough nodes have joined.

Configurations are created at epoch 1 and never touched here again: from then on a configuration
changes only by its own primary or a full member. So every write compares that the configuration is
absent, and, like all that the leader writes, that it still leads (`leadership`, its fencing token).
A leader that died half-way leaves some configurations out; the next one creates exactly those.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from octad.coordinator.schema.records import NodeRecord, PoolRecord, StoreKeys
from octad.coordinator.store.interface import (
    Compare,
    ModRevisionIs,
    Put,
    Revision,
    StoreOperation,
)
from octad.sharding.assignment.assignment import PlacementNode, first_assignment
from octad.sharding.ids import Epoch, NodeId, ShardId, shard_id
from octad.sharding.limits import STORE_TRANSACTION_OPERATIONS_MAX
from octad.sharding.map.shard_map import Member, ShardConfiguration, encode_configuration

FIRST_EPOCH = Epoch(1)
# One compare of each transaction is the fencing token.
_CONFIGURATIONS_PER_TRANSACTION = STORE_TRANSACTION_OPERATIONS_MAX - 1


@dataclass(frozen=True, slots=True)
class Transaction:
    """Operations that happen together, if all compares hold."""

    compares: Sequence[Compare]
    operations: Sequence[StoreOperation]


def nodes_missing(pool: PoolRecord, nodes: Sequence[NodeRecord], nodes_expected: int) -> int:
    """How many more nodes must join before the map of `pool` is made."""
    return max(0, max(pool.replicas, nodes_expected) - len(nodes))


def first_map(
    keys: StoreKeys,
    pool: PoolRecord,
    nodes: Sequence[NodeRecord],
    existing: Collection[ShardId],
    leadership: ModRevisionIs,
) -> list[Transaction]:
    """The transactions that create the configurations of `pool` not in `existing`, on live `nodes`.

    Empty while there are fewer nodes than replicas. Raises ImpossibleAssignment.
    """
    missing = [
        number for number in range(1 << pool.depth) if shard_id(pool.id, number) not in existing
    ]
    if not missing or nodes_missing(pool, nodes, 0):
        return []
    configurations = _configurations(pool, nodes, missing)
    transactions = []
    for start in range(0, len(configurations), _CONFIGURATIONS_PER_TRANSACTION):
        batch = configurations[start : start + _CONFIGURATIONS_PER_TRANSACTION]
        absent = [ModRevisionIs(keys.shard(shard), Revision(0)) for shard, _ in batch]
        puts = [
            Put(keys.shard(shard), encode_configuration(configuration))
            for shard, configuration in batch
        ]
        transactions.append(Transaction([leadership, *absent], puts))
    return transactions


def _configurations(
    pool: PoolRecord, nodes: Sequence[NodeRecord], numbers: Sequence[int]
) -> list[tuple[ShardId, ShardConfiguration]]:
    placed = [PlacementNode(node.id, node.weight, node.zone) for node in nodes]
    # A node without a zone is a failure domain of its own. Fewer domains than replicas is no reason
    # to refuse service: replicas share a zone only because they must.
    domains = len({node.zone or node.id for node in nodes})
    assignment = first_assignment(
        placed, pool.replicas, pool.depth, zones_min=min(domains, pool.replicas)
    )
    incarnations = {node.id: node.incarnation for node in nodes}

    def member(node: NodeId) -> Member:
        return Member(node, incarnations[node])

    return [
        (
            shard_id(pool.id, number),
            ShardConfiguration(
                epoch=FIRST_EPOCH,
                depth=pool.depth,
                primary=assignment[number][0],
                members=tuple(member(node) for node in assignment[number]),
            ),
        )
        for number in numbers
    ]
