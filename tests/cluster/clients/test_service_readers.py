"""Programs that look for services elsewhere find octad's: Consul's client, and Prometheus."""

from __future__ import annotations

import asyncio
import json
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import yaml
from tests.cluster.clients.client_environment import PROGRAMS, SECONDS_MAX, client_python
from tests.cluster.coordinator.coordinator_site import until
from tests.cluster.deployment.deployment_tools import tool
from tests.harness.cluster_process import DevCluster
from tests.harness.process_tree import ProcessTree

from octad.client.cli.coordinator_option import DEV_CLUSTER_FILE, DEV_TOKEN_FIELD
from octad.client.cluster.service_records import ServiceInstance
from octad.client.membership import Session, open_session

pytestmark = pytest.mark.cluster


def one(name: str, service: str = "web", **labels: str) -> ServiceInstance:
    address = f"10.0.0.5:{80 + ord(name)}"
    return ServiceInstance(service=service, instance=name, address=address, labels=labels)


@pytest.fixture
async def session(cluster: DevCluster) -> Any:
    token = json.loads((cluster.data / DEV_CLUSTER_FILE).read_bytes())[DEV_TOKEN_FIELD]
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(open_session(cluster.coordinator, token, ttl_s=60))


async def test_consuls_client_follows_a_service_by_blocking_queries(
    cluster: DevCluster, session: Session, tmp_path: Path
) -> None:
    coordinator = urlsplit(cluster.coordinator)
    program = PROGRAMS / "py_consul_services.py"
    command = [client_python(), "-I", program, coordinator.hostname, coordinator.port]
    following = ProcessTree([str(word) for word in command], tmp_path / "consul.log").start()

    def told() -> list[Any]:
        return [json.loads(line) for line in following.said().splitlines()]

    try:
        await until(lambda: len(told()) == 1, "it asks", SECONDS_MAX)
        await session.register(one("b", tier="back"))
        await session.register(one("a", tier="front"))
        there = [["10.0.0.5", 80 + ord("a")]]
        await until(lambda: told()[-1][1] == there, "it sees the one", SECONDS_MAX)
        await session.register(one("a", "other"))
        await session.register(msgspec.structs.replace(one("a", tier="front"), drain=True))
        assert following.wait(SECONDS_MAX) == 0, following.said()
    finally:
        following.kill()
    *answers, services = told()
    seen = [bool(found) for _, found in answers]
    assert seen[:-1] == sorted(seen[:-1]), "it came once"
    indexes = [int(index) for index, _ in answers]
    assert indexes == sorted(indexes)
    assert services.keys() >= {"other", "web"}


def promtool(directory: Path, *words: str) -> str:
    done = subprocess.run(
        [tool("promtool"), *words], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_prometheus_finds_what_to_scrape(
    cluster: DevCluster, session: Session, tmp_path: Path
) -> None:
    await session.register(one("p", "scraped", tier="front"))
    found_at = f"{cluster.coordinator}/cluster/v1/sd/prometheus?service=scraped"
    job = {"job_name": "services", "http_sd_configs": [{"url": found_at}]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
    words = ["check", "service-discovery", "--timeout=10s", "prometheus.yml", "services"]
    groups = json.loads(await asyncio.to_thread(promtool, tmp_path, *words))
    labels = [group["discoveredLabels"] for group in groups]
    assert [each["__address__"] for each in labels] == [f"10.0.0.5:{80 + ord('p')}"]
    assert labels[0]["__meta_octad_label_tier"] == "front"
