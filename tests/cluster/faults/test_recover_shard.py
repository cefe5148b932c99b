"""A lone survivor is gone for good: an operator puts an older copy in its place, knowingly."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from tests.cluster.deployment.test_real_machines import ACCESS_KEY, SECRET_KEY
from tests.cluster.store.etcd_process import EtcdMember
from tests.harness.cluster_process import OCTAD
from tests.harness.process_tree import ProcessTree
from tests.harness.s3_clients import client_of, put_status

from octad.chaos.cluster.free_ports import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

BUCKET = "recovered"
EARLIER = [f"earlier-{number}" for number in range(20)]
ALONE = [f"alone-{number}" for number in range(20)]
WAIT_S = 30.0
SHARDS = 256


class TwoNodes:
    """etcd, a coordinator and two nodes that keep two copies; a third may come."""

    def __init__(self, etcd: EtcdMember, directory: Path) -> None:
        self.directory = directory
        self.url = f"http://127.0.0.1:{free_port()}"
        keys = ("--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY)
        listen = ("--listen", self.url.removeprefix("http://"), "--replicas", "2")
        command = (OCTAD, "coordinator", "--etcd", etcd.url, *listen, "--nodes-expected", "2")
        self.coordinator = ProcessTree((*command, *keys), directory / "coordinator.log")
        self.first = free_port(base + node for base in (0, 1000, 2000) for node in range(3))
        self.nodes: list[ProcessTree] = []
        self.token = ""

    def start(self) -> None:
        self.coordinator.start()
        self.coordinator.wait_until_it_says("is ready at", WAIT_S)
        log = self.coordinator.said()
        token = re.search(r"^ +join token +(\S+)$", log, re.MULTILINE)
        assert token is not None, log
        self.token = token[1]
        for number in range(3):
            node: tuple[str | Path, ...] = (
                *(OCTAD, "node", "--data", self.data(number)),
                *("--listen", f"127.0.0.1:{self.first + number}", "--id", str(number + 1)),
                *("--coordinator", self.url, "--join-token", self.token),
            )
            self.nodes.append(ProcessTree(node, self.directory / f"node-{number + 1}.log"))
        for part in self.nodes[:2]:
            part.start()
        for part in self.nodes[:2]:
            part.wait_until_it_says("is ready", WAIT_S)

    def data(self, number: int) -> Path:
        return self.directory / f"node-{number + 1}"

    def octad(self, *words: str) -> tuple[int, str]:
        """A verb on this cluster: its exit code and what it said."""
        command: list[str | Path] = [OCTAD, *words, "--coordinator", self.url]
        if words[0] == "shards":
            command += ["--join-token", self.token]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, str(done.stdout + done.stderr)

    def put(self, node: int, keys: list[str]) -> set[int]:
        with client_of(f"http://127.0.0.1:{self.first + node}", ACCESS_KEY, SECRET_KEY) as client:
            return {put_status(client, BUCKET, key, key.encode()) for key in keys}

    def get(self, node: int, keys: list[str]) -> list[bytes | int]:
        found: list[bytes | int] = []
        with client_of(f"http://127.0.0.1:{self.first + node}", ACCESS_KEY, SECRET_KEY) as client:
            for key in keys:
                try:
                    found.append(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
                except ClientError as error:
                    found.append(error.response["ResponseMetadata"]["HTTPStatusCode"])
        return found

    def kill(self) -> None:
        for part in reversed([self.coordinator, *self.nodes]):
            part.kill()


@pytest.fixture
def two_nodes(etcd: EtcdMember, tmp_path: Path) -> Iterator[TwoNodes]:
    cluster = TwoNodes(etcd, tmp_path)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_an_older_copy_takes_the_place_of_a_lone_survivor_that_is_gone(
    two_nodes: TwoNodes,
) -> None:
    cluster = two_nodes
    with client_of(f"http://127.0.0.1:{cluster.first}", ACCESS_KEY, SECRET_KEY) as client:
        client.create_bucket(Bucket=BUCKET)
    assert cluster.put(0, EARLIER) == {200}
    cluster.nodes[1].kill()
    until(lambda: cluster.put(0, ALONE) == {200}, "n1 goes on alone")
    code, said = cluster.octad("shards", "recover", "--all")
    assert (code, "no shard needs it" in said) == (0, True), said

    cluster.nodes[0].kill()
    cluster.nodes[1].start()
    until(lambda: "n1 is not live" in cluster.octad("status")[1], "n1's lease ends")
    until(lambda: "n2 is not live" not in cluster.octad("status")[1], "n2 is back")
    assert unavailable(cluster) == SHARDS, "n2 does not return by itself"
    code, said = cluster.octad("doctor")
    assert code == 2, said
    assert "octad shards recover --all" in said
    assert "n1" in said

    code, said = cluster.octad("shards", "recover", "--all")
    assert (code, "nothing is done yet" in said, "n2 has everything" in said) == (0, True, True)
    assert unavailable(cluster) == SHARDS
    code, said = cluster.octad("shards", "recover", "--all", "--yes")
    assert code == 0, said
    until(lambda: cluster.get(1, EARLIER) == [key.encode() for key in EARLIER], "n2 serves")
    assert cluster.get(1, ALONE) == [404] * len(ALONE)
    assert cluster.put(1, ["later"]) == {200}

    cluster.nodes[0].start()
    cluster.nodes[0].wait_until_it_says("n1 is ready", WAIT_S)
    assert cluster.get(0, [*EARLIER, *ALONE]) == [
        *(key.encode() for key in EARLIER),
        *([404] * len(ALONE)),
    ]
    assert "is void" in cluster.nodes[0].said()
    code, said = cluster.octad("doctor")
    assert (code, "n1 has void copies" in said) == (2, True), said
    until(lambda: of_no_use(cluster, "n1", "void") == SHARDS, "n1 finds its copies void")
    assert "n1 has void copies of 256 shards (0/0, " in cluster.octad("status")[1]

    cluster.nodes[0].kill()
    shutil.rmtree(cluster.data(0))
    cluster.nodes[2].start()
    until(lambda: full_strength(cluster), "n3 takes the copies that are missing")
    assert cluster.get(2, [*EARLIER, "later"]) == [*(k.encode() for k in EARLIER), b"later"]
    assert cluster.get(2, ALONE) == [404] * len(ALONE)


def of_no_use(cluster: TwoNodes, name: str, kind: str) -> int:
    """How many of a node's copies `octad status --json` says are void, or failed."""
    nodes = json.loads(cluster.octad("status", "--json")[1])["nodes"]
    return next(len(node[kind]) for node in nodes if node["name"] == name)


def unavailable(cluster: TwoNodes) -> int:
    """How many shards have no live primary. (A read would wait for one, long.)"""
    return int(
        json.loads(cluster.octad("status", "--json")[1])["pools"][0]["shards"]["unavailable"]
    )


def full_strength(cluster: TwoNodes) -> bool:
    """Every shard has two copies that its primary has verified."""
    code, said = cluster.octad("shards", "ls", "--json")
    return code == 0 and all(shard["verified"] == 2 for shard in json.loads(said)["shards"])
