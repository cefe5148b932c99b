"""A bug in one replica: the node's other shards go on, and people are told what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.deployment.test_real_machines import ACCESS_KEY, SECRET_KEY, WAIT_S
from tests.cluster.faults.test_recover_shard import (
    BUCKET,
    TwoNodes,
    full_strength,
    of_no_use,
    until,
)
from tests.cluster.store.etcd_process import EtcdMember
from tests.harness.s3_clients import client_of

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

SHARD = "0/7"
KEYS = [f"key-{number}" for number in range(600)]  # Some of them are in any shard.
# A node that meets a bug in its replica of one shard, as soon as the file in argv[1] is there.
PROGRAM = f"""
import pathlib, sys
from octad.client.cli.command_line import main
from octad.sharding.ids import shard_name
from octad.storage_node.replication.replica.shard_replica import ShardReplica

trigger, sound = pathlib.Path(sys.argv.pop(1)), ShardReplica.on_timer

def on_timer(self, now):
    if shard_name(self.shard) == {SHARD!r} and trigger.exists():
        raise RuntimeError("a planted bug")
    return sound(self, now)

ShardReplica.on_timer = on_timer
sys.exit(main())
"""


@pytest.fixture
def two_nodes(etcd: EtcdMember, tmp_path: Path) -> Iterator[TwoNodes]:
    cluster = TwoNodes(etcd, tmp_path)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


def test_a_replica_that_met_a_bug_is_named_until_its_node_restarts(
    two_nodes: TwoNodes, tmp_path: Path
) -> None:
    cluster, trigger, program = two_nodes, tmp_path / "trigger", tmp_path / "with_a_bug.py"
    program.write_text(PROGRAM)
    with client_of(f"http://127.0.0.1:{cluster.first}", ACCESS_KEY, SECRET_KEY) as client:
        client.create_bucket(Bucket=BUCKET)
    first = cluster.nodes[0]
    assert first.stop(WAIT_S) == 0
    first.command = (sys.executable, program, trigger, *first.command[1:])
    first.start()
    first.wait_until_it_says("n1 is ready", WAIT_S)
    until(lambda: full_strength(cluster), "nothing is wrong yet")

    trigger.touch()
    until(lambda: of_no_use(cluster, "n1", "failed") == 1, "n1 says that a replica failed")
    assert f"n1 failed in 1 shard ({SHARD}): restart it" in cluster.octad("status")[1]
    code, said = cluster.octad("doctor")
    assert (code, f"1 shard ({SHARD}) hit a bug on n1" in said) == (2, True), said
    assert "restart n1" in said
    until(lambda: cluster.put(1, KEYS) == {200}, "n2 goes on alone in that shard")
    assert "a planted bug" in first.said()

    trigger.unlink()
    assert first.stop(WAIT_S) == 0
    first.start()
    first.wait_until_it_says("n1 is ready", WAIT_S)
    until(lambda: full_strength(cluster), "n1 has caught up")
    until(lambda: "hit a bug" not in cluster.octad("doctor")[1], "there is no failed replica")
    assert cluster.get(0, KEYS[:20]) == [key.encode() for key in KEYS[:20]]
