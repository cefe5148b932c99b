"""`octad coordinator --dns`, asked by a resolver of others."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from tests.cluster.clients.client_environment import PROGRAMS, SECONDS_MAX, client_python
from tests.cluster.coordinator.coordinator_site import Start, forget_clusters, store_of
from tests.cluster.store.etcd_process import EtcdMember

from octad.chaos.cluster.free_ports import free_port
from octad.client.cluster.join_token import decode_join_token
from octad.client.cluster.service_records import ServiceInstance
from octad.client.membership import open_session

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]


def one(service: str, number: int, **fields: object) -> ServiceInstance:
    address = f"10.0.0.{number}:{8000 + number}"
    return ServiceInstance(service=service, instance=str(number), address=address, **fields)  # type: ignore[arg-type]


def looked_up(port: int) -> subprocess.CompletedProcess[bytes]:
    program: list[str | Path] = [
        client_python(),
        "-I",
        PROGRAMS / "dns_lookups.py",
        "127.0.0.1",
        str(port),
    ]
    return subprocess.run(program, capture_output=True, timeout=SECONDS_MAX, check=False)


async def test_a_resolver_finds_who_is_well_and_takes_tcp_for_many(
    etcd: EtcdMember, start: Start
) -> None:
    port = free_port()
    coordinator = start("--dns", f"127.0.0.1:{port}")
    token = coordinator.printed("join token")
    async with open_session(coordinator.url, token, ttl_s=60) as session:
        await session.register(one("web", 1))
        await session.register(one("web", 2))
        await session.register(one("web", 3, drain=True))
        for number in range(1, 101):
            await session.register(one("many", number))
        done = await asyncio.to_thread(looked_up, port)
    async with store_of(etcd, decode_join_token(token)) as store:
        await forget_clusters(store)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == {
        "ports": [8001, 8002],
        "addresses": ["10.0.0.1", "10.0.0.2"],
        "missing": True,
        "many": [100, True],
    }
