"""Coordinators on one store: who leads, who makes the map, what joining does to the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path

import msgspec
import pytest
from tests.unit.coordinator.cluster_records import join_request, node
from tests.unit.coordinator.running_coordinator import (
    KEYS,
    STORE_ADDRESS,
    open_cluster,
    register,
    running,
    until,
)

from octad.client.runtime.listener import listen_on
from octad.coordinator.membership.admission import JoinRefused
from octad.coordinator.placement.first_map import first_map
from octad.coordinator.schema.cluster_view import BadRecord
from octad.coordinator.schema.records import IdentityRecord, PoolRecord
from octad.coordinator.store.interface import (
    Compare,
    Delete,
    EventBatch,
    Outcome,
    Put,
    Revision,
    StoreOperation,
)
from octad.sharding.ids import NodeId, PoolId
from octad.storage_node.node.join_proof import saying_who_joins


async def test_the_map_is_made_once_there_are_as_many_nodes_as_replicas(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, _):
        for number in (1, 2):
            await register(store, node(number))
        await until(lambda: len(coordinator.status().nodes) == 2, "two nodes are seen")
        assert coordinator.status().state == "forming"
        assert (await store.range(KEYS.shards)).entries == []
        await register(store, node(3))
        await until(lambda: coordinator.status().state == "healthy", "the map stands")
        assert len((await store.range(KEYS.shards)).entries) == 16


async def test_the_map_waits_for_the_nodes_that_are_expected(tmp_path: Path) -> None:
    async with (
        open_cluster(tmp_path, replicas=2) as store,
        running(store, nodes_expected=3) as (coordinator, _),
    ):
        for number in (1, 2):
            await register(store, node(number))
        await until(lambda: len(coordinator.status().nodes) == 2, "two nodes are seen")
        assert coordinator.status().pools[0].nodes_missing == 1
        await register(store, node(3))
        await until(lambda: coordinator.status().state == "healthy", "the map stands")
        assert all(status.member_of for status in coordinator.status().nodes)


async def test_one_of_two_leads_and_the_other_takes_over_at_once_when_it_stops(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path) as store, AsyncExitStack() as leading:
        first, _ = await leading.enter_async_context(running(store))
        await until(lambda: first.status().coordinator.leading, "the only one leads")
        async with running(store) as (second, _):
            leader = first.status().coordinator.address
            assert second.status().coordinator.leader_address == leader
            assert not second.status().coordinator.leading
            await leading.aclose()
            await until(lambda: second.status().coordinator.leading, "the other leads", 2)


async def test_what_a_leader_writes_late_does_not_land(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store:
        async with running(store) as (first, _):
            await until(lambda: first.status().coordinator.leading, "the first leads")
            old_token = first._leadership.token
            assert old_token is not None
        async with running(store) as (second, _):
            await until(lambda: second.status().coordinator.leading, "the second leads")
            pool = PoolRecord(PoolId(0), 3, 4)
            nodes = [node(number) for number in (1, 2, 3)]
            late = first_map(KEYS, pool, nodes, (), old_token)
            for transaction in late:
                outcome = await store.transact(transaction.compares, transaction.operations)
                assert not outcome.succeeded
            assert (await store.range(KEYS.shards)).entries == []


async def test_a_leader_whose_key_was_taken_away_gives_up_and_is_elected_anew(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, _):
        await until(lambda: coordinator.status().coordinator.leading, "it leads")
        await store.transact([], [Delete(KEYS.leader)])
        for number in (1, 2, 3):
            await register(store, node(number))
        await until(lambda: coordinator.status().state == "healthy", "the map stands")
        assert await store.get(KEYS.leader) is not None


async def test_configurations_that_stand_are_not_touched_when_nodes_come_and_go(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, _):
        for number in (1, 2, 3, 4):
            await coordinator.join(join_request(number))
        leases = [await register(store, node(number)) for number in (1, 2, 3)]
        await until(lambda: not coordinator.status().pools[0].shards["forming"], "the map stands")
        before = (await store.range(KEYS.shards)).entries
        await store.revoke_lease(leases[0])
        await register(store, node(4))
        await until(lambda: not coordinator.status().nodes[0].live, "n1 is seen to be gone")
        await until(lambda: coordinator.status().nodes[3].live, "n4 is seen")
        gone = coordinator.status().nodes[0]
        assert gone.gone_since_ms is not None
        assert gone.s3_address == "127.0.0.1:9001"
        assert (await store.range(KEYS.shards)).entries == before


async def test_a_node_that_joins_is_recorded_and_may_ask_again(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, _):
        joined = await coordinator.join(join_request(1))
        assert (joined.node, joined.region, joined.store) == (1, "us-east-1", STORE_ADDRESS)
        entry = await store.get(KEYS.identity(joined.node))
        assert entry is not None
        assert msgspec.json.decode(entry.value, type=IdentityRecord).incarnation == "incarnation-1"
        assert (await coordinator.join(join_request(1))).node == 1
        assert (await coordinator.join(join_request(2, wants=5))).node == 5
        assert (await coordinator.join(join_request(3))).node == 6


async def test_nodes_that_join_at_once_through_two_coordinators_get_an_id_each(
    tmp_path: Path,
) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(store) as (first, _),
        running(store) as (second, _),
    ):
        requests = [join_request(number) for number in range(1, 5)]
        joins = [c.join(request) for request in requests for c in (first, second)]
        ids = [joined.node for joined in await asyncio.gather(*joins)]
        assert ids[::2] == ids[1::2], "the same disk is the same node wherever it asks"
        assert sorted(ids[::2]) == [1, 2, 3, 4]


async def test_a_coordinator_that_lags_behind_gives_a_known_disk_its_own_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(prefix: str, after: Revision) -> AsyncIterator[EventBatch]:
        await asyncio.get_running_loop().create_future()
        yield EventBatch(after, ())

    async with open_cluster(tmp_path) as store, running(store) as (first, _):
        monkeypatch.setattr(store, "watch", silent)
        async with running(store) as (lagging, _):
            for number in (1, 2):
                joined = await first.join(join_request(number))
                assert await lagging.join(join_request(number)) == joined


async def test_a_disk_that_is_given_an_id_elsewhere_meanwhile_does_not_get_a_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(store) as (first, _),
        running(store) as (second, _),
    ):
        transact = store.transact

        async def overtaken(
            compares: Sequence[Compare], operations: Sequence[StoreOperation]
        ) -> Outcome:
            if any(step.key.startswith(KEYS.identities) for step in operations):
                monkeypatch.setattr(store, "transact", transact)
                assert (await second.join(join_request(1, wants=9))).node == 9
            return await transact(compares, operations)

        monkeypatch.setattr(store, "transact", overtaken)
        assert (await first.join(join_request(1))).node == 9
        assert [e.key for e in (await store.range(KEYS.identities)).entries] == [
            KEYS.identity(NodeId(9))
        ]


async def test_an_empty_node_at_the_address_of_a_lost_one_need_not_wait_for_its_lease(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, _):
        listener = listen_on("127.0.0.1:0", "--rpc-port")
        here = f"127.0.0.1:{listener.getsockname()[1]}"
        await coordinator.join(join_request(1))
        await register(store, msgspec.structs.replace(node(1), rpc_address=here))
        request = join_request(2, rpc_address=here)
        with closing(listener), pytest.raises(JoinRefused) as refused:
            async with saying_who_joins(listener, "another-disk"):
                await coordinator.join(request)
        assert (refused.value.code, refused.value.passes) == ("address-in-use", True)
        assert await store.get(KEYS.node(NodeId(1))) is not None
        listener = listen_on(here, "--rpc-port")
        with closing(listener):
            async with saying_who_joins(listener, request.incarnation):
                assert (await coordinator.join(request)).node != 1
        assert await store.get(KEYS.node(NodeId(1))) is None, "it cannot be there any more"


async def test_an_address_that_the_asking_node_does_not_have_stays_another_s(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, _):
        await coordinator.join(join_request(1))
        with closing(listen_on("127.0.0.1:0", "--s3")) as listener:
            here = f"127.0.0.1:{listener.getsockname()[1]}"
            await register(store, msgspec.structs.replace(node(1), s3_address=here))
            with pytest.raises(JoinRefused, match="n1 is live at"):
                await coordinator.join(join_request(2, s3_address=here))
        with pytest.raises(JoinRefused, match="n1 is live at"):  # No one answers there.
            await coordinator.join(join_request(2, rpc_address=node(1).rpc_address))
        assert await store.get(KEYS.node(NodeId(1))) is not None


async def test_a_refused_node_leaves_nothing_in_the_store(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, _):
        with pytest.raises(JoinRefused):
            await coordinator.join(join_request(1, weight=-1))
        assert (await store.range(KEYS.identities)).entries == []
        assert await store.get(KEYS.last_node_id) is None


async def test_a_record_that_makes_no_sense_is_named_and_the_leader_recovers_from_it(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, _):
        await store.transact([], [Put(f"{KEYS.nodes}9", b"{")])
        with pytest.raises(BadRecord, match="nodes/9"):
            await coordinator.join(join_request(1))
        await store.transact([], [Delete(f"{KEYS.nodes}9")])
        for number in (1, 2, 3):
            await register(store, node(number))
        await until(lambda: coordinator.status().state == "healthy", "the map stands")


async def test_the_status_names_the_store_without_its_password(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, _):
        assert coordinator.status().store.endpoints == ("http://127.0.0.1:2379",)
