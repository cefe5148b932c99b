"""The first shard map: when it is made, what is in it, and what every write of it compares."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.unit.coordinator.cluster_records import CLUSTER, POOL, incarnation, node

from octad.coordinator.placement.first_map import Transaction, first_map, nodes_missing
from octad.coordinator.schema.records import PoolRecord, StoreKeys
from octad.coordinator.store.interface import ModRevisionIs, Put, Revision
from octad.sharding.ids import ShardId, shard_id
from octad.sharding.limits import STORE_TRANSACTION_OPERATIONS_MAX
from octad.sharding.map.shard_map import ShardConfiguration, decode_configuration

KEYS = StoreKeys(CLUSTER)
LEADERSHIP = ModRevisionIs(KEYS.leader, Revision(7))
NODES = [node(number) for number in (1, 2, 3, 4)]


def configurations_of(transactions: list[Transaction]) -> dict[ShardId, ShardConfiguration]:
    configurations = {}
    for transaction in transactions:
        for operation in transaction.operations:
            assert isinstance(operation, Put)
            configurations[KEYS.shard_of_key(operation.key)] = decode_configuration(operation.value)
    return configurations


@pytest.mark.parametrize("replicas", [2, 3])
@pytest.mark.parametrize("depth", [0, 3, 8])
def test_every_shard_gets_a_configuration_at_epoch_1_on_distinct_nodes(
    replicas: int, depth: int
) -> None:
    configurations = configurations_of(
        first_map(KEYS, PoolRecord(POOL, replicas, depth), NODES, (), LEADERSHIP)
    )
    assert set(configurations) == {shard_id(POOL, number) for number in range(1 << depth)}
    for configuration in configurations.values():
        assert (configuration.epoch, configuration.depth) == (1, depth)
        assert len({member.node for member in configuration.members}) == replicas
        assert configuration.primary == configuration.members[0].node
        assert all(
            member.incarnation == incarnation(member.node) for member in configuration.members
        )
        assert all((member.base, member.base_epoch) == (0, 0) for member in configuration.members)


def test_no_map_is_made_while_there_are_fewer_nodes_than_replicas() -> None:
    pool = PoolRecord(POOL, 3, 8)
    assert first_map(KEYS, pool, NODES[:2], (), LEADERSHIP) == []
    assert nodes_missing(pool, NODES[:2], 0) == 1
    assert nodes_missing(pool, NODES, 5) == 1
    assert nodes_missing(pool, NODES, 2) == 0


def test_every_transaction_compares_the_fencing_token_and_the_absence_of_each_configuration() -> (
    None
):
    transactions = first_map(KEYS, PoolRecord(POOL, 3, 8), NODES, (), LEADERSHIP)
    for transaction in transactions:
        absent = [ModRevisionIs(operation.key, Revision(0)) for operation in transaction.operations]
        assert list(transaction.compares) == [LEADERSHIP, *absent]


def test_transactions_stay_within_what_a_store_takes_and_are_not_more_than_needed() -> None:
    transactions = first_map(KEYS, PoolRecord(POOL, 3, 8), NODES, (), LEADERSHIP)
    assert max(len(t.compares) for t in transactions) == STORE_TRANSACTION_OPERATIONS_MAX
    assert len(transactions) == 3


def test_what_a_former_leader_left_out_is_made_and_nothing_else() -> None:
    existing = {shard_id(POOL, number) for number in range(5)}
    configurations = configurations_of(
        first_map(KEYS, PoolRecord(POOL, 3, 3), NODES, existing, LEADERSHIP)
    )
    assert set(configurations) == {shard_id(POOL, number) for number in (5, 6, 7)}
    whole = existing | set(configurations)
    assert first_map(KEYS, PoolRecord(POOL, 3, 3), NODES, whole, LEADERSHIP) == []


def test_nodes_get_equal_shares_and_zones_are_kept_apart() -> None:
    nodes = [node(number, zone=f"z{number % 3}") for number in range(1, 7)]
    configurations = configurations_of(
        first_map(KEYS, PoolRecord(POOL, 3, 8), nodes, (), LEADERSHIP)
    )
    zone = {record.id: record.zone for record in nodes}
    held = Counter(
        member.node for configuration in configurations.values() for member in configuration.members
    )
    assert set(held.values()) == {128}
    assert all(
        len({zone[m.node] for m in configuration.members}) == 3
        for configuration in configurations.values()
    )


def test_fewer_zones_than_replicas_still_get_a_map() -> None:
    nodes = [node(number, zone="only") for number in (1, 2, 3)]
    assert (
        len(configurations_of(first_map(KEYS, PoolRecord(POOL, 3, 3), nodes, (), LEADERSHIP))) == 8
    )


def test_the_order_of_the_nodes_changes_nothing() -> None:
    pool = PoolRecord(POOL, 3, 8)
    backwards = first_map(KEYS, pool, NODES[::-1], (), LEADERSHIP)
    assert backwards == first_map(KEYS, pool, NODES, (), LEADERSHIP)
