"""A cluster from its parts, as on real machines: etcd, `octad coordinator`, `octad node`s."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.cluster.store.etcd_process import EtcdMember
from tests.harness.cluster_process import OCTAD
from tests.harness.process_tree import ProcessTree
from tests.harness.s3_clients import client_of, put_status

from octad.chaos.cluster.free_ports import free_port
from octad.client.cluster.join_token import JoinToken, encode_join_token

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

WAIT_S = 30.0
ACCESS_KEY, SECRET_KEY = "octad-machines", "octad-machines-secret"


@dataclass(slots=True)
class Machines:
    """A coordinator and three nodes."""

    coordinator: ProcessTree
    coordinator_url: str
    token: str
    nodes: list[ProcessTree]
    endpoints: list[str]

    @contextmanager
    def client(self, node: int) -> Iterator[S3Client]:
        with client_of(self.endpoints[node], ACCESS_KEY, SECRET_KEY) as client:
            yield client

    def expect(self, key: str, body: bytes) -> None:
        """Every node has it."""
        for node in range(len(self.nodes)):
            with self.client(node) as client:
                assert client.get_object(Bucket="machines", Key=key)["Body"].read() == body


@pytest.fixture
def machines(etcd: EtcdMember, tmp_path: Path) -> Iterator[Machines]:
    address = f"127.0.0.1:{free_port()}"
    keys = ("--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY)
    command = (OCTAD, "coordinator", "--etcd", etcd.url, "--listen", address, *keys)
    coordinator = ProcessTree(command, tmp_path / "coordinator.log")
    started = [coordinator]
    try:
        coordinator.start()
        coordinator.wait_until_it_says("is ready at", WAIT_S)
        token = re.search(r"^ +join token +(\S+)$", coordinator.said(), re.MULTILINE)
        assert token is not None, coordinator.said()
        first = free_port((0, 1, 2, 1000, 1001, 1002, 2000, 2001, 2002))
        for number in range(3):
            node: tuple[str | Path, ...] = (
                *(OCTAD, "node", "--data", tmp_path / f"node-{number + 1}"),
                *("--listen", f"127.0.0.1:{first + number}", "--zone", f"rack-{number + 1}"),
                *("--coordinator", f"http://{address}", "--join-token", token[1]),
                *("--s3-access-log", tmp_path / f"access-{number + 1}.json"),
            )
            started.append(ProcessTree(node, tmp_path / f"node-{number + 1}.log").start())
        for part in started[1:]:
            part.wait_until_it_says("is ready", WAIT_S)
        endpoints = [f"http://127.0.0.1:{first + number}" for number in range(3)]
        yield Machines(coordinator, f"http://{address}", token[1], started[1:], endpoints)
    finally:
        for part in started:
            part.kill()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S:.0f} s: {what}"
        time.sleep(0.1)


def test_nodes_started_one_by_one_are_a_cluster(machines: Machines) -> None:
    with machines.client(0) as client:
        client.create_bucket(Bucket="machines")
        client.put_object(Bucket="machines", Key="a", Body=b"one by one")
    machines.expect("a", b"one by one")
    status = ProcessTree(
        [OCTAD, "status", "--coordinator", machines.coordinator_url],
        machines.coordinator.log.with_name("status.log"),
    ).start()
    assert status.wait(WAIT_S) == 0, status.said()
    assert "healthy" in status.said()

    assert machines.nodes[1].stop(WAIT_S) == 0
    lines = machines.nodes[1].log.with_name("access-2.json").read_text().splitlines()
    assert [json.loads(line)["operation"] for line in lines] == ["GetObject"], "all is written"
    with machines.client(0) as client:
        assert put_status(client, "machines", "b", b"without it") == 200
        assert client.get_object(Bucket="machines", Key="a")["Body"].read() == b"one by one"
    machines.nodes[1].start()
    machines.nodes[1].wait_until_it_says("is ready", WAIT_S)
    with machines.client(1) as client:
        assert client.get_object(Bucket="machines", Key="b")["Body"].read() == b"without it"
        assert put_status(client, "machines", "b", b"with it") == 200
    machines.expect("b", b"with it")


def test_data_flows_without_the_coordinator_and_etcd(machines: Machines, etcd: EtcdMember) -> None:
    with machines.client(0) as client:
        client.create_bucket(Bucket="machines")
        client.put_object(Bucket="machines", Key="before", Body=b"all up")
    machines.expect("before", b"all up")  # Every node has heard of the bucket.
    machines.coordinator.kill()
    etcd.freeze()
    try:
        for node in range(3):
            with machines.client(node) as client:
                statuses = [
                    put_status(client, "machines", f"{node}-{n}", b"alone") for n in range(20)
                ]
                assert set(statuses) == {200}
        machines.expect("0-0", b"alone")
    finally:
        etcd.thaw()


def test_a_lost_etcd_is_filled_again_from_what_running_nodes_keep(
    machines: Machines, etcd: EtcdMember, tmp_path: Path
) -> None:
    with machines.client(0) as client:
        client.create_bucket(Bucket="machines")
        client.put_object(Bucket="machines", Key="a", Body=b"kept")
    machines.expect("a", b"kept")
    assert machines.coordinator.stop(WAIT_S) == 0
    etcd.kill()
    shutil.rmtree(tmp_path / "etcd" / "m0")
    etcd.start()
    etcd.wait_until_ready()

    ports = [int(url.rpartition(":")[2]) + 2000 for url in machines.endpoints]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    code, said = rebuild(etcd, machines.token, ",".join(urls[:2]))
    assert (code, "was not heard" in said) == (1, True), said
    code, said = rebuild(etcd, encode_join_token(JoinToken("5c5c5c5c", bytes(32))), urls[0])
    assert (code, "does not tell what it keeps" in said) == (1, True), said
    code, said = rebuild(etcd, machines.token, ",".join(urls))
    assert (code, "256 shards" in said) == (0, True), said

    machines.coordinator.command = (*machines.coordinator.command, "--join-token", machines.token)
    machines.coordinator.start()
    for node in machines.nodes:
        node.kill()
        node.start()
    for node in machines.nodes:
        node.wait_until_it_says("is ready", WAIT_S)
    machines.expect("a", b"kept")
    with machines.client(2) as client:
        assert put_status(client, "machines", "b", b"and on") == 200


def rebuild(etcd: EtcdMember, token: str, urls: str) -> tuple[int, str]:
    """`octad coordinator rebuild --from-nodes`: its exit code and what it said."""
    command: list[str | Path] = [OCTAD, "coordinator", "rebuild", "--etcd", etcd.url]
    command += ["--join-token", token, "--from-nodes", urls]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr
