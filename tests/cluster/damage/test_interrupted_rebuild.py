"""An index is made anew while its node is killed, or finds no room: it goes on once it can."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.cluster.dev.test_data_directories import expect_all, fill
from tests.cluster.dev.test_dev_lost_disk import octad, status
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.s3_clients import put_status, s3_client

from octad.sharding.limits import MIB

pytestmark = pytest.mark.cluster

BUCKET = "interrupted"
WAIT_S = 60.0
DISK_BYTES = 1024 * MIB
ROOM_BYTES = 24 * 1024  # For the lock's file, and not for an index.


def until(found: Callable[[], bool], cluster: DevCluster, what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not found():
        assert time.monotonic() < deadline, f"{what}:\n{octad(cluster, 'doctor')[1]}"
        time.sleep(0.05)


def is_at_full_strength(cluster: DevCluster) -> bool:
    seen = status(cluster)
    return seen.state == "healthy" and seen.copies == {"3": 256}


def rebuilding(cluster: DevCluster) -> list[int]:
    """The processes that make an index."""
    found = []
    for pid in cluster.pids():
        try:
            if b"index_rebuild_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def is_gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_node_that_is_killed_while_its_index_is_made_makes_it_after_its_restart(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    fill(cluster, BUCKET)
    data = cluster.data / "n2"
    os.kill(cluster.nodes[1].pid, signal.SIGSTOP)  # It puts nothing back meanwhile.
    (data / "index" / "CURRENT").unlink()
    os.kill(cluster.nodes[1].pid, signal.SIGKILL)
    for _ in range(2):
        until(lambda: bool(rebuilding(cluster)), cluster, "an index is being made")
        (process,) = rebuilding(cluster)
        node = parent_of(process)
        os.kill(process, signal.SIGSTOP)  # Stopped midway, however fast it is.
        os.kill(node, signal.SIGKILL)
        os.kill(process, signal.SIGCONT)
        for other in (0, 2):
            expect_all(cluster, BUCKET, other)
        has_ended = partial(is_gone, process)
        until(has_ended, cluster, "it ends without its node")
    until(lambda: is_at_full_strength(cluster), cluster, "at full strength again")
    expect_all(cluster, BUCKET, node=1)
    assert not (data / "index.damaged").exists()
    assert not (data / "index.rebuilding").exists()


@pytest.fixture
def small_disk(start_cluster: StartCluster, tmp_path: Path) -> Iterator[Path]:
    """Mounted where the data of n2 are going to be."""
    disk = tmp_path / "n2"
    disk.mkdir()
    size = f"size={DISK_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_node_without_room_for_an_index_waits_for_it_while_the_others_serve(
    start_cluster: StartCluster, small_disk: Path
) -> None:
    cluster = start_cluster()
    cluster.stop()
    data = cluster.data / "n2"
    moved = small_disk / "n2"
    data.rename(data.with_name("n2.moved"))
    subprocess.run(["cp", "-a", data.with_name("n2.moved"), moved], check=True)
    data.symlink_to(moved)
    cluster.start()
    fill(cluster, BUCKET)
    os.kill(cluster.nodes[1].pid, signal.SIGSTOP)
    (moved / "index.damaged").write_text("as one leaves it that has met damage\n")
    ballast = small_disk / "ballast"
    state = os.statvfs(small_disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - ROOM_BYTES)
    os.kill(cluster.nodes[1].pid, signal.SIGKILL)
    room = "make room on the disk of n2"
    until(lambda: room in octad(cluster, "doctor")[1], cluster, "it waits")
    for node in (0, 2):
        expect_all(cluster, BUCKET, node)
        with s3_client(cluster, node) as client:
            assert put_status(client, BUCKET, f"later-{node}", b"later") == 200
    ballast.unlink()
    until(lambda: is_at_full_strength(cluster), cluster, "at full strength again")
    expect_all(cluster, BUCKET, node=1)
