"""Whatever an operator has done to a cluster, `octad dev` and its `octad node`s start on it again.

The verbs are those of the command line itself, so a new one fails here until it has its place.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.harness.cluster_process import OCTAD, DevCluster, StartCluster
from tests.harness.process_tree import ProcessTree
from tests.harness.s3_clients import put_status, s3_client

from octad import Checkpoints, Client
from octad.client.cli.verb_parser import parser_of
from octad.client.cli.verbs import VERBS
from octad.client.cluster.status_document import ClusterStatus, decode_status

pytestmark = pytest.mark.cluster

BUCKET, KEY, BODY = "restarted", "precious", b"precious"
WAIT_S = 60.0
CORS = {"CORSRules": [{"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]}]}
FAST = ("--moves", "64", "--moves-per-node", "64")
SERVERS = {"coordinator", "dev", "node"}  # What is started again, or needs an etcd.
CHANGE_NOTHING = {
    *("coordinator backup", "coordinator new-token", "doctor", "journal dump", "journal verify"),
    *(
        "bucket ls",
        "key ls",
        "kv get",
        "kv ls",
        "kv watch",
        "lock ls",
        "node ls",
        "pool ls",
        "rebalance --status",
        "service ls",
        "service token",
        "shards ls",
    ),
    *("sharding compare", "sharding simulate", "status", "top", "watch"),
    *("completion bash", "completion fish", "completion zsh", "config check", "config show"),
    *("cat", "consume", "du", "find", "ls", "presign", "stat", "trace"),
    *(f"topic {verb}" for verb in ("describe", "fences", "ls", "pins", "why")),
    *(f"checkpoint {verb}" for verb in ("audit", "diff", "ls", "restore", "show")),
}


def verbs() -> Iterator[str]:
    """Every verb that the command line knows, with its sub-verbs and what steers."""
    for verb, entry in VERBS.items():
        _, parser = parser_of(verb, *entry)
        choices: list[str] = []
        for action in parser._actions:
            if not action.option_strings and action.choices:
                choices += action.choices
        for group in parser._mutually_exclusive_groups:
            choices += [action.option_strings[0] for action in group._group_actions]
        if verb in SERVERS | {"rebalance"} or not choices:
            yield verb
        yield from (f"{verb} {choice}" for choice in choices)


class Operator:
    """Runs verbs on a cluster and notes which."""

    def __init__(self, cluster: DevCluster) -> None:
        self.cluster = cluster
        self.done: set[str] = set()

    def octad(self, verb: str, *words: str | Path, given: str = "") -> str:
        """`words` follow the verb, and it reads what is given; it must succeed."""
        self.done.add(verb)
        command: list[str | Path] = [OCTAD, *verb.split(), *words]
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (verb, words, done.stdout, done.stderr)
        return done.stdout

    def on_data(self, verb: str, *words: str | Path, given: str = "") -> str:
        return self.octad(verb, *words, "--data", self.cluster.data, given=given)

    def status(self) -> ClusterStatus:
        command: list[str | Path] = [OCTAD, "status", "--json", "--data", self.cluster.data]
        return decode_status(subprocess.run(command, capture_output=True, check=False).stdout)

    def rests(self) -> bool:
        """Nothing is being moved or split."""
        said = json.loads(self.on_data("rebalance --status", "--json"))
        return said["state"] in ("done", "reverted")

    def until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < deadline, f"{what}: {self.status()}"
            time.sleep(0.1)

    def start_again(self) -> None:
        """Stop all of it, start it, read what was written before, write."""
        self.cluster.stop()
        self.start()

    def start(self) -> None:
        self.cluster.start()
        for node in range(len(self.cluster.nodes)):
            with s3_client(self.cluster, node) as client:
                assert client.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == BODY
                assert put_status(client, BUCKET, KEY, BODY) == 200

    def lose_disk(self, node: int) -> None:
        """Its directory is moved away and its process killed: a new node takes its place."""
        place = self.cluster.data / f"n{node}"
        os.kill(self.pid(node), signal.SIGSTOP)  # It puts nothing back meanwhile.
        place.rename(self.cluster.data.parent / f"lost-n{node}")
        os.kill(self.pid(node), signal.SIGKILL)

    def pid(self, node: int) -> int:
        running = json.loads((self.cluster.data / "dev.json").read_bytes())
        return next(int(each["pid"]) for each in running["nodes"] if each["id"] == node)


def operator_of(cluster: DevCluster) -> Operator:
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key=KEY, Body=BODY)
    return Operator(cluster)


def change_shape(operator: Operator, tmp_path: Path) -> None:
    register: list[str | Path] = [OCTAD, "service", "register", "web", "--addr", "127.0.0.1:8080"]
    register += ["--data", operator.cluster.data]
    service = ProcessTree(register, tmp_path / "service.log").start()
    try:
        operator.done.add("service register")
        operator.until(lambda: "web" in operator.on_data("service ls"), "the service is there")
        operator.on_data("pool create", "--replicas", "2", "--depth", "3")
        operator.on_data("shards split", "--pool", "0")
        operator.until(operator.rests, "the split is done")
    finally:
        service.kill()


def change_access(operator: Operator) -> None:
    keys = [json.loads(operator.on_data("key create", "alice", "--json")) for _ in range(2)]
    operator.on_data("key disable", keys[0]["access_key"])
    operator.on_data("key rm", keys[1]["access_key"])
    operator.on_data("bucket create", "made-here")
    operator.on_data("bucket rm", "made-here")
    operator.on_data("cp", f"s3://{BUCKET}/{KEY}", f"s3://{BUCKET}/copy")
    operator.on_data("mv", f"s3://{BUCKET}/copy", f"s3://{BUCKET}/d/moved")
    operator.on_data("sync", f"s3://{BUCKET}/d", f"s3://{BUCKET}/e")
    operator.on_data("rm", f"s3://{BUCKET}/d/moved")
    operator.on_data("bucket quota", BUCKET, "1GiB")
    operator.on_data("bucket public", BUCKET)
    operator.on_data("bucket cors", "set", BUCKET, "-", given=json.dumps(CORS))
    operator.on_data("kv put", "kept", "on")
    operator.on_data("kv put", "gone", "off")
    operator.on_data("kv rm", "gone")
    operator.octad("lock run", "--data", operator.cluster.data, "deploy", "--", "true")
    operator.start_again()


def change_topics(operator: Operator) -> None:
    for name in ("kept", "gone"):
        operator.on_data("topic create", name, "--partitions", "2")
        operator.on_data("produce", name, "--partition", "0", given="one\ntwo\n")
    operator.on_data("topic trim", "kept", "--partition", "0", "--before", "1")
    operator.on_data("topic rm", "gone")
    operator.on_data("topic alter", "kept", "--config", "retention.ms=86400000")
    there = ("kept", "--partition", "0")
    operator.on_data("topic fence", *there, "--job", "job", "--token", "2")
    for id_ in ("1", "2"):
        operator.on_data("topic pin", *there, "--owner", "job", "--id", id_, "--offset", "1")
    operator.on_data("topic unpin", *there, "--owner", "job", "--id", "1")
    operator.start_again()
    assert operator.on_data("consume", "kept") == "two\n"


def change_checkpoints(operator: Operator) -> None:
    cluster, url = operator.cluster, f"s3://{BUCKET}/state"
    with Client(cluster.endpoint(), cluster.access_key, cluster.secret_key) as client:
        job = Checkpoints(url, "job", client=client).begin()
        made = []
        for number in range(2):
            job.put("state", f"{number}".encode())
            made.append(job.commit().id)
    operator.on_data("checkpoint pin", url, "job", made[0])
    operator.on_data("checkpoint keep", url, "job", "1")
    operator.on_data("checkpoint gc", url)
    operator.start_again()
    for id_ in made:
        assert id_ in operator.on_data("checkpoint ls", url, "job")


def move_data(operator: Operator) -> None:
    operator.on_data("node add", "n3", "--weight", "1.1", "--zone", "shelf", "--no-wait")
    operator.on_data("rebalance --stop")
    operator.on_data("rebalance --resume", "--no-wait")
    operator.on_data("rebalance --revert", *FAST)
    operator.until(operator.rests, "all is back")
    operator.on_data("rebalance", *FAST)


def replace_node(operator: Operator) -> None:
    operator.on_data("node drain", "n3", *FAST)
    operator.until(operator.rests, "n3 is empty")
    operator.lose_disk(3)
    operator.until(lambda: any(n.name == "n4" and n.live for n in operator.status().nodes), "n4")
    operator.on_data("node remove", "n3")
    operator.cluster.options.clear()  # As most people start it again.
    operator.start_again()


def make_anew(operator: Operator, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    operator.on_data("coordinator backup", backup)
    operator.cluster.stop()
    operator.on_data("coordinator restore", backup, "--force")
    operator.on_data("coordinator rebuild", "--force")
    operator.octad("index rebuild", operator.cluster.data / "n2")
    operator.start()


def recover_shards(operator: Operator) -> None:
    """Of two nodes: n1 goes on alone and is lost, n2 takes its place with what it had."""
    superblock = operator.cluster.data / "n2" / "superblock.json"
    content = superblock.read_text()
    superblock.with_name("superblock.copy").write_text("{}")
    superblock.write_text("{}")
    os.kill(operator.pid(2), signal.SIGKILL)
    with s3_client(operator.cluster) as client:
        operator.until(lambda: put_status(client, BUCKET, "alone", b"x") == 200, "n1 is alone")
    operator.lose_disk(1)
    superblock.write_text(content)
    operator.until(lambda: all(n.live for n in operator.status().nodes if n.name != "n1"), "n2")
    operator.until(lambda: operator.status().pools[0].shards["unavailable"] > 0, "n1 is missed")
    operator.on_data("shards recover", "--all", "--yes")
    operator.start_again()


def test_it_starts_again_after_every_verb_that_changes_something(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    operator = operator_of(start_cluster(options=("--replicas", "2")))
    change_shape(operator, tmp_path)
    change_access(operator)
    change_topics(operator)
    change_checkpoints(operator)
    move_data(operator)
    replace_node(operator)
    make_anew(operator, tmp_path)
    operator.cluster.stop()
    pair = operator_of(start_cluster(nodes=2))
    recover_shards(pair)
    assert set(verbs()) - SERVERS == operator.done | pair.done | CHANGE_NOTHING
