"""A node is killed for real: clients of the others see no error and wait a moment at most, nothing
acknowledged is lost, and the cluster is at full strength again without a command.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.cluster.faults.chaos_runs import READ_STALL_S_MAX, WRITE_STALL_S_MAX, Boto3Clients, chaos

from octad.chaos.check.report import as_text
from octad.chaos.cluster.addresses import Shape
from octad.chaos.cluster.cluster import Cluster
from octad.chaos.faults.faults import Fault, FaultKind
from octad.chaos.load.s3_requests import S3Requests

pytestmark = pytest.mark.cluster

BUCKET = "boto3"


async def test_clients_of_the_others_wait_a_moment_when_a_primary_is_killed(
    tmp_path: Path,
) -> None:
    report = await chaos(tmp_path, [Fault(FaultKind.KILL, 1.0, 3.0, node=1)], seconds=6)
    assert not report.stalls.errors, as_text(report)
    assert report.stalls.longest_write.seconds <= WRITE_STALL_S_MAX, as_text(report)
    assert report.stalls.longest_read.seconds <= READ_STALL_S_MAX, as_text(report)


async def test_boto3_sees_no_error_through_the_others_when_a_primary_is_killed(
    tmp_path: Path,
) -> None:
    cluster = Cluster(tmp_path, Shape())
    await cluster.start()
    try:
        requests = S3Requests(cluster.endpoint(2), cluster.credentials, timeout_s=10)
        await requests.make_bucket(BUCKET)
        await requests.close()
        clients = Boto3Clients(cluster, nodes=(2, 3), bucket=BUCKET)
        async with clients.working():
            await asyncio.sleep(1)
            before = clients.succeeded
            cluster.nodes[1].kill()
            await asyncio.sleep(5)
        assert not clients.errors, clients.errors
        assert clients.succeeded > before > 0
    finally:
        await cluster.stop()


async def test_a_node_that_never_comes_back_is_made_up_for_by_the_rest(tmp_path: Path) -> None:
    gone = Fault(FaultKind.KILL, 1.0, None, node=1)
    await chaos(tmp_path, [gone], seconds=2, nodes=4)


async def test_a_node_that_lost_its_disk_comes_back_and_becomes_full(tmp_path: Path) -> None:
    wiped = Fault(FaultKind.WIPE, 1.0, 2.0, node=2)
    await chaos(tmp_path, [wiped], seconds=4)
