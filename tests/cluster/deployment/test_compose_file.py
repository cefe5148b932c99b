"""What `docker-compose.yml` starts, started without containers: the same commands, the same ports.

Every service gets a loopback address of its own in place of its name, so that ports stay as they
are; `/data` becomes a directory each. One etcd stands for the three, which have tests of their own.
HAProxy, in front of it all, runs with the very file that is mounted.
"""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.deployment.deployment_tools import tool
from tests.cluster.store.etcd_process import etcd_binary
from tests.harness.process_tree import ProcessTree
from tests.harness.s3_clients import client_of
from tests.unit.deployment.deployment_files import (
    HAPROXY_FILE,
    HEALTHCHECK,
    PROMETHEUS_FILE,
    services,
)

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

OCTAD = Path(sys.executable).with_name("octad")
ACCESS_KEY, SECRET_KEY = "octad-compose", "octad-compose-secret"
START_S_MAX = 60.0
NODES = [f"node{number}" for number in range(1, 6)]
ALL_ETCD = re.compile(r"http://etcd1:2379,http://etcd2:2379,http://etcd3:2379")


class ComposedCluster:
    """The processes, by service."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        block = f"127.{random.randrange(2, 250)}.{random.randrange(1, 250)}"
        names = ["etcd1", "coordinator1", "coordinator2", *NODES, "haproxy"]
        self.addresses = {name: f"{block}.{number}" for number, name in enumerate(names, 1)}
        new_token = [str(OCTAD), "coordinator", "new-token"]
        token = subprocess.run(new_token, check=True, capture_output=True, text=True).stdout
        self.environment = {
            "OCTAD_JOIN_TOKEN": token.strip(),
            "OCTAD_ACCESS_KEY": ACCESS_KEY,
            "OCTAD_SECRET_KEY": SECRET_KEY,
        }
        self.services = services(self.environment)
        self.running: dict[str, ProcessTree] = {}

    def placed(self, text: str) -> str:
        """`text` with addresses in place of names."""
        text = ALL_ETCD.sub("http://etcd1:2379", text)
        return re.sub(
            r"\b(etcd1|coordinator\d|node\d)(?=:\d)", lambda found: self.addresses[found[1]], text
        )

    def start(self, name: str) -> None:
        data = self.directory / name
        data.mkdir(exist_ok=True)
        words = [self.placed(w).replace("/data", str(data)) for w in self.services[name]["command"]]
        program: list[str | Path] = [OCTAD]
        if name == "etcd1":
            alone = f"etcd1=http://{self.addresses[name]}:2380"
            words = [w.replace("0.0.0.0", self.addresses[name]) for w in words]
            words = [
                re.sub(r"^--initial-cluster=.*", f"--initial-cluster={alone}", w) for w in words
            ]
            program = [etcd_binary()]
        environment = {"PATH": f"{OCTAD.parent}:/usr/bin:/bin"}
        environment |= self.services[name].get("environment", {})
        self.running[name] = ProcessTree(
            [*program, *words], self.directory / f"{name}.log", environment=environment
        ).start()

    def start_haproxy(self) -> None:
        text = self.placed(HAPROXY_FILE.read_text()).replace(
            "bind :", f"bind {self.addresses['haproxy']}:"
        )
        placed = self.directory / "haproxy.cfg"
        placed.write_text(text)
        command: list[str | Path] = [tool("haproxy"), "-db", "-f", placed]
        log = self.directory / "haproxy.log"
        self.running["haproxy"] = ProcessTree(command, log).start()

    def is_healthy(self, name: str) -> bool:
        """What the container's health check would say."""
        _, program, *words = self.services[name]["healthcheck"]["test"]
        assert program == "healthcheck"
        command = [sys.executable, str(HEALTHCHECK), *map(self.placed, words)]
        return subprocess.run(command, capture_output=True).returncode == 0

    def wait_until_healthy(self, *names: str) -> None:
        deadline = time.monotonic() + START_S_MAX
        for name in names:
            while not self.is_healthy(name):
                tree = self.running[name]
                assert tree.runs, f"{name} ended:\n{tree.said()}"
                assert time.monotonic() < deadline, f"{name} is not healthy:\n{tree.said()}"
                time.sleep(0.2)

    def kill(self) -> None:
        for tree in self.running.values():
            tree.kill()


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposedCluster]:
    cluster = ComposedCluster(tmp_path_factory.mktemp("compose"))
    try:
        for name in ("etcd1", "coordinator1", "coordinator2", *NODES):
            cluster.start(name)
            if name == "etcd1":
                time.sleep(1.0)
        cluster.wait_until_healthy("coordinator1", "coordinator2", *NODES)
        yield cluster
    finally:
        cluster.kill()


def url_of(cluster: ComposedCluster, name: str, port: int) -> str:
    return f"http://{cluster.addresses[name]}:{port}"


def test_what_one_node_stores_every_other_one_gives_back(composed: ComposedCluster) -> None:
    with client_of(url_of(composed, "node1", 9000), ACCESS_KEY, SECRET_KEY) as first:
        first.create_bucket(Bucket="composed")
        first.put_object(Bucket="composed", Key="key", Body=b"bytes")
    for name in NODES:
        with client_of(url_of(composed, name, 9000), ACCESS_KEY, SECRET_KEY) as client:
            assert client.get_object(Bucket="composed", Key="key")["Body"].read() == b"bytes"


def test_both_coordinators_made_one_cluster_with_copies_in_every_zone(
    composed: ComposedCluster,
) -> None:
    command = [
        str(OCTAD),
        "status",
        "--json",
        "--coordinator",
        url_of(composed, "coordinator2", 9400),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    status = json.loads(done.stdout)
    assert (done.returncode, status["state"]) == (0, "healthy"), status["problems"]
    zones = {node["name"]: node["zone"] for node in status["nodes"]}
    assert len(zones) == 5
    with urllib.request.urlopen(
        url_of(composed, "coordinator1", 9400) + "/cluster/v1/shards", timeout=5
    ) as answer:
        shards = json.load(answer)["shards"]
    assert all(len({zones[member] for member in shard["members"]}) == 3 for shard in shards)


def test_behind_haproxy_a_stopped_node_is_missed_by_no_client(composed: ComposedCluster) -> None:
    composed.start_haproxy()
    health = f"http://{composed.addresses['haproxy']}:8404/"
    deadline = time.monotonic() + START_S_MAX
    while not answers(health):
        assert time.monotonic() < deadline, composed.running["haproxy"].said()
        time.sleep(0.1)
    with client_of(url_of(composed, "haproxy", 9000), ACCESS_KEY, SECRET_KEY) as client:
        client.create_bucket(Bucket="in-front")
        for number in range(10):
            client.put_object(Bucket="in-front", Key=f"{number}", Body=b"before")
        composed.running["node2"].signal(signal.SIGTERM)
        assert composed.running["node2"].wait(30) == 0
        for number in range(20):
            client.put_object(Bucket="in-front", Key=f"{number}", Body=b"after")
            found = client.get_object(Bucket="in-front", Key=f"{number}")["Body"].read()
            assert found == b"after"
    composed.start("node2")
    composed.wait_until_healthy("node2")


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_what_prometheus_asks_is_answered_in_a_form_that_it_likes(
    composed: ComposedCluster,
) -> None:
    for target in re.findall(r'"((?:coordinator|node|etcd1)\w*:\d+)"', PROMETHEUS_FILE.read_text()):
        with urllib.request.urlopen(f"http://{composed.placed(target)}/metrics", timeout=5) as got:
            metrics = got.read()
        assert b"# TYPE " in metrics
        if not target.startswith("etcd"):
            check = [tool("promtool"), "check", "metrics"]
            done = subprocess.run(check, input=metrics, capture_output=True)
            assert done.returncode == 0, (target, done.stderr)


def test_a_coordinator_that_is_lost_is_missed_by_nobody(composed: ComposedCluster) -> None:
    composed.running["coordinator1"].kill()
    assert not composed.is_healthy("coordinator1")
    composed.wait_until_healthy("coordinator2", *NODES)
    composed.start("coordinator1")
    composed.wait_until_healthy("coordinator1")


def test_a_stopped_node_is_seen_by_its_health_check(composed: ComposedCluster) -> None:
    composed.running["node5"].signal(signal.SIGTERM)
    assert composed.running["node5"].wait(30) == 0
    assert not composed.is_healthy("node5")
    composed.start("node5")
    composed.wait_until_healthy("node5")
