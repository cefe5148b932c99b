"""Strangers take every connection they can get, on every port, and say nothing: nothing ends."""

from __future__ import annotations

import json
import resource
import selectors
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.harness.cluster_process import DevCluster
from tests.harness.s3_clients import s3_client

from octad.client.runtime.longest_idle import IDLE_S_MIN
from octad.client.runtime.open_files import OPEN_FILES_MIN

pytestmark = pytest.mark.cluster

TOO_MANY = {"s3": 1300, "rpc": 300, "admin": 100, "coordinator": 700, "store": 400}
WRITES = 20
LINES_MAX = 20


class LimitedCluster(DevCluster):
    """One whose processes may have 1,024 files open each, and no more."""

    def command(self) -> list[str | Path]:
        limited = f'ulimit -n {OPEN_FILES_MIN} && exec "$@"'
        return ["sh", "-c", limited, "sh", *super().command()]


@pytest.fixture
def limited_cluster(tmp_path: Path) -> Iterator[LimitedCluster]:
    cluster = LimitedCluster(tmp_path)
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture
def many_sockets() -> Iterator[None]:
    """For the crowd, which is in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sum(TOO_MANY.values()) + OPEN_FILES_MIN
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, hard)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        body: bytes = answer.read()
        return body


def crowd(address: str, count: int) -> list[socket.socket]:
    """So many connections; some may be refused, or cut again."""
    host, _, port = address.rpartition(":")
    sockets = []
    for _ in range(count):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex((host, int(port)))
        sockets.append(one)
    with selectors.DefaultSelector() as connecting:
        for one in sockets:
            connecting.register(one, selectors.EVENT_WRITE)
        deadline = time.monotonic() + 10
        while connecting.get_map() and time.monotonic() < deadline:
            for key, _ in connecting.select(0.2):
                connecting.unregister(key.fileobj)
    return sockets


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.usefixtures("many_sockets")
def test_a_silent_crowd_on_every_port_ends_no_process_and_stops_no_write(
    limited_cluster: LimitedCluster,
) -> None:
    cluster = limited_cluster
    pids = cluster.pids()
    first = cluster.nodes[0]
    running = json.loads((cluster.data / "dev.json").read_bytes())
    status = json.loads(get(f"{cluster.coordinator}/cluster/v1/status"))
    admin = status["nodes"][0]["admin_address"]
    ports = {
        "s3": first.s3,
        "rpc": first.rpc,
        "admin": admin,
        "coordinator": cluster.coordinator.removeprefix("http://"),
        "store": running["store_url"].removeprefix("http://"),
    }
    with ExitStack() as crowds:
        for name, address in ports.items():
            for one in crowd(address, TOO_MANY[name]):
                crowds.callback(one.close)
        assert open_files(first.pid) > OPEN_FILES_MIN // 3, "they are there"
        time.sleep(2 * IDLE_S_MIN)  # From then on they count as idle.
        with s3_client(cluster) as client:
            client.create_bucket(Bucket="crowd")
        for number in range(len(cluster.nodes)):
            for turn in range(WRITES):
                with s3_client(cluster, number) as client:  # A connection of its own.
                    client.put_object(Bucket="crowd", Key=f"{number}-{turn}", Body=bytes(2000))
        assert len(json.loads(get(f"{cluster.coordinator}/cluster/v1/status"))["nodes"]) == 3
        assert b"process_open_fds" in get(f"http://{admin}/metrics")
        assert all(open_files(pid) < OPEN_FILES_MIN for pid in cluster.pids())
        assert cluster.pids() == pids, "no process has ended"
    for number in range(1, 4):
        said = (cluster.data / f"n{number}.log").read_text()
        assert "Traceback" not in said
        assert "look at the disk" not in said
        lines = [line for line in said.splitlines() if "refused" in line or "connections" in line]
        assert len(lines) <= LINES_MAX, said
    assert "Traceback" not in cluster.log.read_text()
    cluster.stop()
