"""A node of `octad dev` that cannot start or go on: the others serve, and it is told what fixes it.

The errors are the kernel's own: reading /proc/self/mem from its beginning is an EIO, and a process
that may not make files larger cannot write its journal.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cluster.dev.test_data_directories import (
    expect_all,
    fill,
    puts_of,
    restart,
    start_without,
)
from tests.harness.cluster_process import OCTAD, DevCluster, Refused, StartCluster
from tests.harness.s3_clients import put_status, s3_client

from octad.chaos.cluster.free_ports import free_port
from octad.client.cluster.status_document import decode_status

pytestmark = pytest.mark.cluster

WAIT_S = 40.0
UNREADABLE = Path("/proc/self/mem")


def octad(cluster: DevCluster, *words: str) -> str:
    command: list[str | Path] = [OCTAD, *words, "--data", cluster.data]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout


def until(holds: Callable[[], bool], cluster: DevCluster, what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"{what}: {cluster.said()}"
        time.sleep(0.1)


def make_unreadable(file: Path) -> None:
    file.rename(file.with_name(f"{file.name}.whole"))
    file.symlink_to(UNREADABLE)


def make_whole(file: Path) -> None:
    file.with_name(f"{file.name}.whole").replace(file)


def test_a_damaged_journal_keeps_one_node_away_until_the_others_have_filled_it_anew(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    fill(cluster, "one-damaged")
    cluster.kill()
    record = puts_of(cluster.data / "n2")[3]
    record.flip_last_byte()
    line = start_without(cluster, "n2")
    assert f"n2 cannot start: {record.segment} is damaged at offset {record.offset}" in line
    assert "other nodes have complete copies of all its shards, so nothing is lost" in line
    assert "they fill it anew by themselves" in line
    assert "n2 cannot start: " in octad(cluster, "status")
    doctor = octad(cluster, "doctor")
    assert f"to-do: n2 cannot start: {record.segment} is damaged" in doctor
    for node in (0, 2):
        expect_all(cluster, "one-damaged", node)
        with s3_client(cluster, node) as client:
            assert put_status(client, "one-damaged", "later", b"later") == 200

    def has_all_copies() -> bool:
        status = decode_status(octad(cluster, "status", "--json").encode())
        return status.copies == {"3": 256} and status.state == "healthy"

    until(has_all_copies, cluster, "a new node has all copies, and the old one is forgotten")
    assert "the journal of n2 was damaged: n4 takes its place" in cluster.said()
    expect_all(cluster, "one-damaged", node=1)


def test_a_directory_that_cannot_be_read_is_told_in_a_sentence(
    start_cluster: StartCluster, refused: Refused
) -> None:
    cluster = start_cluster()
    fill(cluster, "unreadable")
    cluster.stop()
    locks = [cluster.data / f"n{number}" / "LOCK" for number in (1, 2, 3)]
    make_unreadable(locks[1])
    line = start_without(cluster, "n2")
    said = f"the disk under {cluster.data / 'n2'} fails (Input/output error)"
    assert f"n2: this node cannot start: {said}" in line
    expect_all(cluster, "unreadable", node=0)
    assert "Traceback" not in (cluster.data / "n2.log").read_text()
    make_whole(locks[1])
    until(lambda: "n2 serves again" in cluster.said(), cluster, "n2 comes back by itself")
    cluster.stop()

    for lock in locks:
        make_unreadable(lock)
    assert "n1: this node cannot start: the disk" in refused(*restart(cluster))
    token = json.loads((cluster.data / "cluster.json").read_bytes())["join_token"]
    listen = f"127.0.0.1:{free_port()}"
    node = refused("node", "--data", locks[1].parent, "--listen", listen, "--join-token", token)
    assert said in node


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="Linux lets one limit another process")
def test_a_running_node_whose_disk_refuses_a_write_says_so_and_is_started_again(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    fill(cluster, "refused-write")
    resource.prlimit(cluster.nodes[1].pid, resource.RLIMIT_FSIZE, (0, 0))
    with s3_client(cluster) as client:
        for number in range(20):
            put_status(client, "refused-write", f"later-{number}", b"x")
    until(lambda: "File too large" in cluster.said(), cluster, "n2 ends")
    said = next(line for line in cluster.said().splitlines() if "File too large" in line)
    assert said.startswith("n2 cannot go on: "), said
    assert "; what it has acknowledged was on the disk before; starting it again" in said
    for node in (0, 2):
        expect_all(cluster, "refused-write", node)


def test_a_node_that_keeps_failing_is_told_of_once_and_tried_less_and_less(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    fill(cluster, "failing")
    superblock = cluster.data / "n3" / "superblock.json"
    content = superblock.read_text()
    superblock.with_name("superblock.copy").write_text("{")
    superblock.write_text("{")
    os.kill(cluster.nodes[2].pid, signal.SIGKILL)
    log = cluster.data / "n3.log"
    until(lambda: log.read_text().count("is damaged (") >= 3, cluster, "it was tried three times")
    assert cluster.said().count(f"n3: {superblock} is damaged") == 1, cluster.said()
    superblock.write_text(content)
    until(lambda: "n3 serves again" in cluster.said(), cluster, "n3 comes back by itself")
    expect_all(cluster, "failing", node=2)
