"""Nodes come, go and lose their disks under load: clients of the others see no error, and what the
cluster says of itself meanwhile is true. Nodes that start seconds apart keep what they have.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from tests.cluster.faults.chaos_runs import Boto3Clients

from octad.chaos.cluster.addresses import Shape
from octad.chaos.cluster.cluster import Cluster
from octad.chaos.load.s3_requests import S3Requests
from octad.client.cluster.doctor_document import DoctorDocument, Finding
from octad.client.cluster.join_token import encode_join_token
from octad.client.cluster.status_document import ClusterStatus, decode_status
from octad.coordinator.schema.placement_messages import PlacedNodes, PlanStatus

pytestmark = pytest.mark.cluster

BUCKET = "moving"
WAIT_S_MAX = 120.0
NOTICED_S_MAX = 5.0  # A grace, a swap, and a report, on a machine that has other things to do.
FAST = ("--moves", "32", "--moves-per-node", "16")


class Asked:
    """`octad` verbs on a cluster under test."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def verb(self, *words: str, token: bool = True) -> bytes:
        command = ["-m", "octad", *words, "--coordinator", self._cluster.addresses.coordinator_url]
        if token:
            command += ["--join-token", encode_join_token(self._cluster.token)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
        return said

    async def status(self) -> ClusterStatus:
        return decode_status(await self.verb("status", "--json", token=False))

    async def problems(self) -> dict[str, Finding]:
        said = await self.verb("doctor", "--json", token=False)
        document = msgspec.json.decode(said, type=DoctorDocument)
        return {finding.code: finding for finding in document.findings}

    async def replicas(self) -> dict[str, int]:
        said = await self.verb("node", "ls", "--json")
        return {n.name: n.replicas for n in msgspec.json.decode(said, type=PlacedNodes).nodes}

    async def until(self, holds: Callable[[ClusterStatus], bool], what: str) -> ClusterStatus:
        """Asked until it is so; "all is well" is not said for long of a cluster that is not."""
        clock = asyncio.get_running_loop().time
        deadline, true_at = clock() + WAIT_S_MAX, clock()
        while True:
            status = await self.status()
            if not is_at_full_strength(status) or not await self._cluster.shards_below_strength():
                true_at = clock()
            assert clock() - true_at < NOTICED_S_MAX, status
            if holds(status):
                return status
            assert clock() < deadline, f"{what}: {status}"
            await asyncio.sleep(0.2)

    async def until_planned(self) -> None:
        """What was asked for is done."""
        deadline = asyncio.get_running_loop().time() + WAIT_S_MAX
        while True:
            said = await self.verb("rebalance", "--status", "--json")
            plan = msgspec.json.decode(said, type=PlanStatus)
            if plan.state == "done":
                return
            assert asyncio.get_running_loop().time() < deadline, plan
            await asyncio.sleep(0.2)


def is_at_full_strength(status: ClusterStatus) -> bool:
    """What it says: every shard has all its copies, and each is verified."""
    return all(
        {state for state, count in pool.shards.items() if count} <= {"ok"}
        and {copies for copies, count in pool.copies.items() if count} == {str(pool.replicas)}
        for pool in status.pools
    )


@asynccontextmanager
async def cluster_of(directory: Path, nodes: int) -> AsyncIterator[Cluster]:
    cluster = Cluster(directory, Shape(nodes=nodes))
    await cluster.start()
    try:
        requests = S3Requests(cluster.endpoint(1), cluster.credentials, timeout_s=20)
        await requests.make_bucket(BUCKET)
        await requests.close()
        yield cluster
    finally:
        await cluster.stop()


@asynccontextmanager
async def load_at(cluster: Cluster, *nodes: int) -> AsyncIterator[None]:
    """Clients without retries there; no request of theirs may fail."""
    clients = Boto3Clients(cluster, nodes=nodes, bucket=BUCKET)
    async with clients.working():
        await asyncio.sleep(1)
        yield
    assert not clients.errors, clients.errors
    assert clients.succeeded > 0


async def test_nodes_that_start_seconds_apart_remove_nobody(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 3) as cluster:
        await Asked(cluster).until(is_at_full_strength, "at full strength at first")
        for process in cluster.nodes.values():
            process.kill()
        before = await cluster.configurations()
        for number in cluster.numbers:
            cluster.nodes[number].start()
            await asyncio.sleep(3)
        await Asked(cluster).until(is_at_full_strength, "at full strength again")
        after = await cluster.configurations()
    assert [configuration.members for configuration in after] == [
        configuration.members for configuration in before
    ]
    changes = [new.epoch - old.epoch for old, new in zip(before, after, strict=True)]
    assert max(changes) == 1, "a new epoch of the same primary, and nothing more"


@pytest.mark.long
async def test_a_fifth_node_is_drained_wiped_added_and_filled_under_load(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 5) as cluster, load_at(cluster, 1, 2, 3):
        asked = Asked(cluster)
        await asked.until(is_at_full_strength, "at full strength at first")
        await asked.verb("node", "drain", "n5", "--no-wait", *FAST)
        await asked.until_planned()
        await asked.until(is_at_full_strength, "at full strength without n5")
        assert (await asked.replicas())["n5"] == 0
        cluster.nodes[5].kill()
        cluster.wipe(5)
        await cluster.start_node(5)
        held = await asked.replicas()
        (new,) = held.keys() - {f"n{number}" for number in cluster.numbers}
        await asked.verb("node", "add", new, "--no-wait", *FAST)
        await asked.until_planned()
        await asked.until(is_at_full_strength, "at full strength with the new node")
        assert (await asked.replicas())[new] > 0
        await asked.verb("rebalance", "--no-wait", *FAST)
        await asked.until_planned()
        await asked.until(is_at_full_strength, "at full strength after the rebalance")


@pytest.mark.long
async def test_what_is_said_while_one_of_four_nodes_loses_its_disk_is_true(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 4) as cluster, load_at(cluster, 1, 2, 3):
        asked = Asked(cluster)
        await asked.until(is_at_full_strength, "at full strength at first")
        assert not await asked.problems()
        cluster.nodes[4].kill()
        cluster.wipe(4)
        away = await asked.until(lambda status: not is_at_full_strength(status), "a node is missed")
        assert away.state == "degraded", away
        assert away.copying.missing or away.problems, away
        await asked.until(lambda s: any(not n.live for n in s.nodes), "n4's lease ends")
        found = await asked.problems()
        assert "n4" in found["node-away"].what
        assert "octad node remove n4" in found["node-away"].fix
        await asked.until(is_at_full_strength, "the other three have everything")
        assert set(await asked.problems()) == {"node-away"}
        await cluster.start_node(4)
        await asked.until(
            lambda s: sum(n.live for n in s.nodes) == 4 and is_at_full_strength(s),
            "it is back as a new node",
        )
        await asked.verb("rebalance", "--no-wait", *FAST)
        await asked.until_planned()
        await asked.until(is_at_full_strength, "at full strength after the rebalance")
        held = await asked.replicas()
        assert all(held[f"n{number}"] for number in (1, 2, 3))
