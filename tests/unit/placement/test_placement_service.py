"""Placement in a running coordinator: over HTTP, from the command line, with another leader."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from tests.unit.coordinator.cluster_records import incarnation, join_request
from tests.unit.coordinator.running_coordinator import (
    KEYS,
    TOKEN,
    open_cluster,
    register,
    running,
    until,
)

from octad.client.cli.command_line import main
from octad.client.cluster.join_token import JoinToken, encode_join_token
from octad.coordinator.membership.admission import JoinRefused
from octad.coordinator.placement.plan_steps import ChangeConfiguration, DropLearner, next_step
from octad.coordinator.schema.placement_messages import PLAN_STATUS_PATH
from octad.coordinator.schema.placement_records import PlacementKeys, ShardPlan
from octad.coordinator.schema.records import NodeRecord
from octad.coordinator.server.coordinator import Coordinator
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import ModRevisionIs, Put
from octad.coordinator.store.mirror import Mirror
from octad.sharding.assignment.move_plan import Step
from octad.sharding.ids import Epoch, NodeId
from octad.sharding.map.shard_map import (
    Learner,
    Member,
    ShardConfiguration,
    decode_configuration,
    encode_configuration,
)

PLACEMENT = PlacementKeys(KEYS)
TOKEN_TEXT = encode_join_token(TOKEN)


def stepped(configuration: ShardConfiguration, plan: ShardPlan | None) -> ShardConfiguration | None:
    """The configuration after the next step, as a primary would swap it in."""
    changed: dict[str, object]
    match next_step(configuration, plan):
        case ChangeConfiguration(step=Step.ADD_LEARNER, node=node, incarnation=disk):
            changed = {"learners": (*configuration.learners, Learner(node, disk))}
        case ChangeConfiguration(step=Step.PROMOTE, node=node, incarnation=disk):
            changed = {"learners": (), "members": (*configuration.members, Member(node, disk))}
        case ChangeConfiguration(step=Step.HAND_OVER, node=node):
            changed = {"primary": node}
        case ChangeConfiguration(step=Step.REMOVE, node=node):
            changed = {"members": tuple(m for m in configuration.members if m.node != node)}
        case DropLearner():
            changed = {"learners": ()}
        case _:
            return None
    return msgspec.structs.replace(configuration, epoch=Epoch(configuration.epoch + 1), **changed)


async def primaries(store: EmbeddedStore) -> None:
    """Carries out plans for as long as it runs."""
    mirror = Mirror(store, KEYS.prefix)
    await mirror.start()
    try:
        while True:
            for key, entry in list(mirror.entries.items()):
                if not key.startswith(KEYS.shards):
                    continue
                shard = KEYS.shard_of_key(key)
                stored = mirror.entries.get(PLACEMENT.plan(shard))
                plan = msgspec.json.decode(stored.value, type=ShardPlan) if stored else None
                after = stepped(decode_configuration(entry.value), plan)
                if after is not None:
                    unchanged = ModRevisionIs(key, entry.mod_revision)
                    await store.transact([unchanged], [Put(key, encode_configuration(after))])
            await asyncio.sleep(0.01)
    finally:
        await mirror.stop()


class Site:
    """A coordinator, four nodes to connect to, and primaries that do as they are told."""

    def __init__(self, store: EmbeddedStore, coordinator: Coordinator, url: str) -> None:
        self.store = store
        self.coordinator = coordinator
        self.url = url

    async def octad(self, *words: str) -> int:
        """The command line, with a log-in."""
        return await asyncio.to_thread(
            main, [*words, "--coordinator", self.url, "--join-token", TOKEN_TEXT]
        )

    def shards_of_pool(self, number: int) -> int:
        pools = self.coordinator.placement.pools().pools
        return next((pool.shards for pool in pools if pool.id == number), 0)

    def held(self) -> dict[str, int]:
        return {n.name: n.replicas for n in self.coordinator.placement.nodes().nodes}


@asynccontextmanager
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_cluster(tmp_path, replicas=2) as store:
        servers = [await asyncio.start_server(_nothing, "127.0.0.1", 0) for _ in range(8)]
        working = asyncio.create_task(primaries(store))
        try:
            async with running(store, nodes_expected=3) as (coordinator, url):
                addresses = [f"127.0.0.1:{s.sockets[0].getsockname()[1]}" for s in servers]
                for number in (1, 2, 3):
                    await start_node(store, coordinator, number, *addresses[2 * number :][:2])
                await until(lambda: coordinator.status().state == "healthy", "the map stands")
                await start_node(store, coordinator, 4, *addresses[:2])
                await until(lambda: len(coordinator.status().nodes) == 4, "n4 is seen")
                yield Site(store, coordinator, url)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            for server in servers:
                server.close()


async def _nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def start_node(
    store: EmbeddedStore, coordinator: Coordinator, number: int, rpc: str, s3: str
) -> None:
    await coordinator.join(join_request(number, rpc_address=rpc, s3_address=s3))
    record = NodeRecord(NodeId(number), incarnation(number), rpc, s3, "", 1.0, "0.1.0", "boot")
    await register(store, record)


async def ended(site: Site, what: str) -> None:
    await until(lambda: site.coordinator.placement.status().state in ("done", "reverted"), what)


async def test_a_node_is_added_drained_and_given_back_from_the_command_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with site(tmp_path) as here:
        assert await here.octad("node", "add", "n4", "--dry-run", "--json") == 0
        promised = json.loads(capfd.readouterr().out)
        assert (promised["dry_run"], promised["moves"], promised["moves_bytes"]) == (True, 8, None)
        assert here.coordinator.placement.status().state == "idle"
        assert await here.octad("node", "add", "n4") == 0
        assert "add n4: 8 copies will move (unknown)" in capfd.readouterr().out
        await ended(here, "n4 has its share")
        assert here.held() == {"n1": 8, "n2": 8, "n3": 8, "n4": 8}
        assert await here.octad("node", "drain", "n1", "--json") == 0
        drained = json.loads(capfd.readouterr().out)["moves"]
        await ended(here, "n1 is empty")
        assert here.held()["n1"] == 0
        capfd.readouterr()
        assert await here.octad("node", "ls") == 0
        assert "n1    drained" in capfd.readouterr().out
        assert await here.octad("rebalance", "--revert") == 0
        assert f"revert drain n1: {drained} copies will move" in capfd.readouterr().out
        await ended(here, "n1 has its share again")
        assert here.held()["n1"] == 8
        assert await here.octad("rebalance", "--status") == 0
        assert "drain n1: reverted" in capfd.readouterr().out


async def test_pools_and_shards_are_listed_and_made(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with site(tmp_path) as here:
        assert await here.octad("pool", "create", "--replicas", "3", "--depth", "2") == 0
        assert "pool 1 is made" in capfd.readouterr().out
        await until(lambda: here.shards_of_pool(1) == 4, "its shards stand")
        assert await here.octad("pool", "ls", "--json") == 0
        pools = json.loads(capfd.readouterr().out)["pools"]
        assert [(p["id"], p["replicas"], p["shards"]) for p in pools] == [(0, 2, 16), (1, 3, 4)]
        assert await here.octad("shards", "ls") == 0
        assert "1/3  ok  unverified  epoch 1" in capfd.readouterr().out
        assert await here.octad("shards", "split") == 1
        assert "there are pools 0, 1; say which with --pool" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["node", "drain", "n9"], "no node n9 ever joined; octad node ls names those that did"),
        (["node", "drain", "--zone", "rack"], "no node is in zone 'rack'; zones: there are none"),
        (["node", "drain", "n1", "n2", "n3"], "2 replicas need 2 nodes, there are 1"),
        (["node", "remove", "n1"], "drain it and wait: octad node drain n1"),
        (["rebalance", "--stop"], "nothing was planned; octad rebalance --dry-run"),
    ],
)
async def test_a_refusal_is_one_line_with_the_way_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    async with site(tmp_path) as here:
        assert await here.octad(*words) == 1
        error = capfd.readouterr().err
        assert error.startswith("octad: ")
        assert said in error
        assert error.count("\n") == 1


async def test_a_node_at_an_address_that_nobody_can_reach_gets_no_data(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with site(tmp_path) as here:
        await start_node(here.store, here.coordinator, 5, "127.0.0.1:1", "127.0.0.1:2")
        await until(lambda: len(here.coordinator.status().nodes) == 5, "n5 is seen")
        assert await here.octad("node", "add", "n5") == 1
        assert "no one answers at 127.0.0.1:1, where n5 says it is; start it with --advertise" in (
            capfd.readouterr().err
        )


async def test_a_clock_an_hour_off_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path) as here:
        now_ns = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: now_ns() + 3_600_000_000_000)
        assert await here.octad("rebalance", "--dry-run") == 0


async def test_nothing_is_changed_without_the_right_token(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OCTAD_JOIN_TOKEN", raising=False)
    async with site(tmp_path) as here:
        bare: Callable[..., int] = main
        words = ["node", "drain", "n1", "--coordinator", here.url]
        assert await asyncio.to_thread(bare, words) == 2
        assert "must show the cluster's join token" in capfd.readouterr().err
        other = encode_join_token(JoinToken(TOKEN.cluster, os.urandom(32)))
        assert await asyncio.to_thread(bare, [*words, "--join-token", other]) == 1
        assert "does not know the secret of this join token" in capfd.readouterr().err
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{here.url}/cluster/v1/plan/rebalance", data=b"{}") as response,
        ):
            assert response.status == 401
        async with (
            aiohttp.ClientSession() as session,
            session.get(here.url + PLAN_STATUS_PATH) as response,
        ):
            assert (response.status, (await response.json())["state"]) == (200, "idle")


async def test_another_leader_goes_on_with_what_the_first_began(tmp_path: Path) -> None:
    async with site(tmp_path) as here, running(here.store) as (second, _):
        assert await here.octad("node", "add", "n4", "--moves", "1") == 0
        await here.coordinator.placement.stop()
        await here.coordinator._leadership.stop()
        await until(lambda: second.is_leading, "the second leads")
        await until(lambda: second.placement.status().state == "done", "it ended")
        assert {n.replicas for n in second.placement.nodes().nodes} == {8}


async def test_a_removed_node_is_not_let_in_again(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        record = here.coordinator.placement.view().cluster.nodes[NodeId(4)]
        entry = await here.store.get(KEYS.node(NodeId(4)))
        assert entry is not None
        await here.store.revoke_lease(entry.lease)
        await until(lambda: not here.coordinator.status().nodes[3].live, "n4 is gone")
        assert await here.octad("node", "remove", "n4") == 0
        with pytest.raises(JoinRefused, match="n4 was removed, so other nodes"):
            await here.coordinator.join(
                join_request(4, rpc_address=record.rpc_address, s3_address=record.s3_address)
            )
