"""What a cluster logs is bounded, whatever repeats itself or strangers send, and still says why."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.harness.cluster_process import DevCluster, StartCluster

from octad.client.runtime.logs.log_file import LOG_FILE_BYTES_MAX
from octad.client.runtime.logs.log_limit import LINES_MAX
from octad.storage_node.journal.record_format import RECORDS_OFFSET

pytestmark = pytest.mark.cluster

WAIT_S = 30.0
GARBAGE = (b"\x16\x03\x01\x02\x00 no HTTP\r\n\r\n", b"GET / HTTP/9.9\r\nHost\r\n\r\n", b"\0" * 64)
ROUNDS = 40


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def fill(log: Path) -> None:
    """As something in its process that prints and prints."""
    with log.open("ab") as file:
        file.write(b"the same again\n" * (LOG_FILE_BYTES_MAX // 15 + 1))


def test_a_node_that_ends_again_and_again_says_why_once_a_start_in_a_log_that_is_bounded(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(nodes=1)  # No other node has a copy: it is not filled anew.
    log, older = cluster.data / "n1.log", cluster.data / "n1.log.1"
    fill(log)
    until(older.exists, "a running node begins a new log when its own is full")
    until(log.exists, "and goes on there")
    older.unlink()

    os.kill(cluster.nodes[0].pid, signal.SIGSTOP)
    with min((cluster.data / "n1" / "journal").iterdir()).open("r+b") as segment:
        segment.write(bytes(RECORDS_OFFSET))  # Both copies of its header.
    os.kill(cluster.nodes[0].pid, signal.SIGKILL)
    until(lambda: says_why(log) > 1, "it is started again, and ends again")
    fill(log)
    until(lambda: older.exists() and says_why(log) > 0, "its next start does so in a new log")
    assert says_why(older) > 1, "and what was said before is beside it"
    assert log.stat().st_size < 10_000
    said = [line for line in cluster.log.read_text().splitlines() if line.startswith("n1 ")]
    assert 0 < len(said) <= LINES_MAX, said


def says_why(log: Path) -> int:
    """How many starts have said it; each in one line, and no more than that."""
    lines = [line for line in log.read_text().splitlines() if line.startswith("octad: ")]
    assert all("damaged" in line for line in lines), lines
    return len(lines)


def test_strangers_who_send_what_is_no_request_write_no_log(start_cluster: StartCluster) -> None:
    cluster = start_cluster(nodes=2)
    logs = [cluster.log, *(cluster.data / f"n{number}.log" for number in (1, 2))]
    before = [log.stat().st_size for log in logs]
    ports = listening(cluster)
    assert len(ports) >= 2 + 3 * len(cluster.nodes), "store, coordinator; S3, peers, admin"
    for _ in range(ROUNDS):
        for port in ports:
            for garbage in GARBAGE:
                send(port, garbage)
    said = [log.read_bytes()[size:].decode() for log, size in zip(logs, before, strict=True)]
    for text in said:
        assert "Traceback" not in text, text
        assert len(text.splitlines()) <= 2 * LINES_MAX, text


def listening(cluster: DevCluster) -> list[int]:
    """The ports of 127.0.0.1 on which its processes listen."""
    inodes = set()
    for pid in cluster.pids():
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            inodes.add(str(descriptor.readlink()))
    ports = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            ports.append(int(fields[1].rpartition(":")[2], 16))
    return ports


def send(port: int, garbage: bytes) -> None:
    """Until the other side has answered or closed, or does neither for a moment."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(0.02)
        try:
            connection.sendall(garbage)
            connection.recv(1024)
        except OSError:
            pass
