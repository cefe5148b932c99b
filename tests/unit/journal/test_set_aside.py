"""What a node had is set aside complete, and a crash at any step is finished by the next start."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

import pytest
from tests.harness.watched_disk import WatchedDisk

from octad.sharding.ids import NodeId
from octad.storage_node.journal import set_aside
from octad.storage_node.journal.data_directory import DataDirectory, DataDirectoryError
from octad.storage_node.journal.disk import Disk

CLUSTER, NODE = "0123abcd", NodeId(3)
INCARNATION = "00112233445566778899aabbccddeeff"
HELD = {
    "journal/0000000001.segment": b"records",
    "index/CURRENT": b"rows",
    "index.damaged": b"why",
    "cluster.kept": b"rows of shards",
}


def node_at(data: Path) -> None:
    directory = DataDirectory.open(data, CLUSTER)
    directory.initialize(CLUSTER, NODE, INCARNATION)
    directory.close()
    for name, content in HELD.items():
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_bytes(content)


def expect_set_aside(data: Path) -> None:
    there = set_aside.place(data, INCARNATION)
    assert {name: (there / name).read_bytes() for name in HELD} == HELD
    assert (there / "superblock.json").exists()
    assert {each.name for each in data.iterdir()} == {"LOCK", there.name}


def start(data: Path, disk: Disk | None = None) -> bool:
    """Whether it is a new node's."""
    directory = DataDirectory.open(data, CLUSTER, disk=disk)
    try:
        return directory.identity is None
    finally:
        directory.close()


def test_the_superblock_goes_last_when_all_else_is_durable(tmp_path: Path) -> None:
    node_at(tmp_path)
    set_aside.decide(Disk(), tmp_path, INCARNATION)
    disk = WatchedDisk()
    assert start(tmp_path, disk)
    moves = [call for call in disk.calls if call.startswith(("rename", "sync_directory"))]
    here, there = tmp_path.name, f"set-aside-{INCARNATION}"
    assert moves == [
        *(f"rename {name} {name}" for name in ("cluster.kept", "index", "index.damaged")),
        *(f"rename {name} {name}" for name in ("journal", "superblock.copy")),
        *(f"sync_directory {there}", f"sync_directory {here}"),
        "rename superblock.json superblock.json",
        *(f"sync_directory {there}", f"sync_directory {here}"),
    ]
    expect_set_aside(tmp_path)
    assert start(tmp_path), "it stays a new node's"


@pytest.mark.parametrize("call", ["rename", "sync_directory"])
@pytest.mark.parametrize("time", [1, 2, 3, 4, 5])
def test_a_crash_at_any_step_is_finished_by_the_next_start(
    tmp_path: Path, call: str, time: int
) -> None:
    node_at(tmp_path)
    set_aside.decide(Disk(), tmp_path, INCARNATION)
    disk = WatchedDisk()
    disk.fail_at(call, time, errno.EIO)
    with suppress(OSError):
        start(tmp_path, disk)
    assert disk.count(call) == time or not (tmp_path / "superblock.json").exists()
    assert start(tmp_path)
    expect_set_aside(tmp_path)


def test_until_it_is_decided_nothing_is_moved(tmp_path: Path) -> None:
    node_at(tmp_path)
    disk = WatchedDisk()
    disk.fail_at("sync_directory", 1, errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        set_aside.decide(disk, tmp_path, INCARNATION)
    assert all((tmp_path / name).exists() for name in HELD)
    other = tmp_path / f"{set_aside.PREFIX}ffeeddccbbaa99887766554433221100"
    set_aside.place(tmp_path, INCARNATION).rmdir()
    other.mkdir()
    assert not start(tmp_path), "that is of an earlier disk"
    assert all((tmp_path / name).exists() for name in HELD)


def test_a_journal_without_its_superblock_is_still_refused(tmp_path: Path) -> None:
    node_at(tmp_path)
    set_aside.decide(Disk(), tmp_path, INCARNATION)
    (tmp_path / "superblock.json").unlink()
    (tmp_path / "superblock.copy").unlink()
    with pytest.raises(DataDirectoryError, match="has a node's journal, and its"):
        start(tmp_path)


def test_a_deletion_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    node_at(tmp_path)
    set_aside.decide(Disk(), tmp_path, INCARNATION)
    assert start(tmp_path)
    there = set_aside.place(tmp_path, INCARNATION)
    (there / "superblock.json").unlink()
    assert start(tmp_path)
    assert set_aside.places(tmp_path) == [there]
    set_aside.delete(Disk(), there)
    assert set_aside.places(tmp_path) == []
