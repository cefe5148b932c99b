"""A node's own registration: one process a node, whoever else holds a copy of its directory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from tests.unit.coordinator.cluster_records import node
from tests.unit.coordinator.running_coordinator import KEYS, open_cluster, until

from octad.coordinator.schema.records import NodeRecord
from octad.coordinator.store.interface import ConfigStore, Put, StoreUnavailable
from octad.storage_node.node.membership import Membership, RegisteredElsewhere


async def registered(store: ConfigStore, number: int) -> NodeRecord | None:
    entry = await store.get(f"{KEYS.nodes}{number}")
    return msgspec.json.decode(entry.value, type=NodeRecord) if entry else None


def unexpected(error: Exception) -> None:
    raise AssertionError(error)


async def test_a_node_is_there_until_it_stops(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store:
        membership = Membership(store, KEYS, node(1), unexpected)
        await membership.start()
        assert await registered(store, 1) == node(1)
        await membership.stop()
        assert await registered(store, 1) is None


async def test_a_restarted_node_takes_its_old_registration_over_at_once(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store:
        before = msgspec.structs.replace(node(1), boot="before")
        await store.transact([], [Put(KEYS.node(before.id), msgspec.json.encode(before))])
        membership = Membership(store, KEYS, node(1), unexpected)
        await membership.start()
        assert await registered(store, 1) == node(1)
        await membership.stop()


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (msgspec.structs.replace(node(1), rpc_address="127.0.0.1:7099"), "copies of one data"),
        (node(1, disk=9), "another disk"),
    ],
)
async def test_of_two_processes_that_are_one_node_only_the_first_gets_in(
    tmp_path: Path, other: NodeRecord, why: str
) -> None:
    async with open_cluster(tmp_path) as store:
        first = Membership(store, KEYS, node(1), unexpected)
        await first.start()
        second = Membership(store, KEYS, other, unexpected)
        with pytest.raises(RegisteredElsewhere, match=f"n1 is live at 127.0.0.1:7001.*{why}"):
            await second.start()
        await second.stop()
        assert await registered(store, 1) == node(1), "the first one is untouched"
        await first.stop()


async def test_of_two_copies_that_start_at_the_same_moment_one_gets_in(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store:
        copy = msgspec.structs.replace(node(1), rpc_address="127.0.0.1:7099")
        pair = [Membership(store, KEYS, record, unexpected) for record in (node(1), copy)]
        outcomes = await asyncio.gather(*(each.start() for each in pair), return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == [
            "NoneType",
            "RegisteredElsewhere",
        ]
        for each in pair:
            await each.stop()


async def test_a_node_whose_place_was_taken_while_it_was_away_is_told_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octad.storage_node.node.membership.NODE_LEASE_S", 0.6)
    async with open_cluster(tmp_path) as store:
        failures: list[Exception] = []
        membership = Membership(store, KEYS, node(1), failures.append)
        await membership.start()
        entry = await store.get(KEYS.node(node(1).id))
        assert entry is not None
        await store.revoke_lease(entry.lease)
        copy = msgspec.structs.replace(node(1), rpc_address="127.0.0.1:7099")
        await store.transact([], [Put(KEYS.node(copy.id), msgspec.json.encode(copy))])
        await until(lambda: bool(failures), "it is told")
        assert isinstance(failures[0], RegisteredElsewhere)
        await membership.stop()
        assert await registered(store, 1) == copy


async def test_a_node_registers_again_once_the_store_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octad.storage_node.node.membership.NODE_LEASE_S", 0.6)
    async with open_cluster(tmp_path) as store:
        membership = Membership(store, KEYS, node(1), unexpected)
        await membership.start()
        entry = await store.get(KEYS.node(node(1).id))
        assert entry is not None
        keep_alive = store.keep_alive

        async def away(lease: object) -> None:
            raise StoreUnavailable("away")

        monkeypatch.setattr(store, "keep_alive", away)
        await asyncio.sleep(0.4)
        await store.revoke_lease(entry.lease)
        assert await registered(store, 1) is None
        monkeypatch.setattr(store, "keep_alive", keep_alive)
        while await registered(store, 1) is None:
            await asyncio.sleep(0.01)
        await membership.stop()


async def test_a_bug_in_the_keeping_alive_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octad.storage_node.node.membership.NODE_LEASE_S", 0.3)
    async with open_cluster(tmp_path) as store:
        reported: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context["message"])
        )
        membership = Membership(store, KEYS, node(1), unexpected)
        await membership.start()

        async def broken(lease: object) -> None:
            raise KeyError("a bug")

        monkeypatch.setattr(store, "keep_alive", broken)
        await until(lambda: bool(reported), "it is reported")
        assert reported == ["membership died"]
        with pytest.raises(KeyError):
            await membership.stop()
        assert await registered(store, 1) is None, "it left all the same"
