"""The simulated disk keeps what a sync covers, and of the rest any part, as a real one may."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from random import Random

import pytest
from tests.harness.simulated_disk import SECTOR, SimulatedDisk

FILE = Path("/disk/file")
OLD, NEW = b"o" * 4 * SECTOR, b"n" * 4 * SECTOR
SEEDS = range(200)


def disk_with(seed: int) -> tuple[SimulatedDisk, int]:
    """A disk with a file that is durable."""
    disk = SimulatedDisk(Random(seed))
    file = disk.open(FILE, os.O_RDWR | os.O_CREAT)
    disk.write(file, [OLD], 0)
    disk.sync(file)
    disk.sync_directory(FILE.parent)
    return disk, file


def left(disk: SimulatedDisk) -> bytes:
    after = disk.after_power_cut()
    return after.read(after.open(FILE, os.O_RDWR), 1 << 20, 0)


def test_what_was_not_synced_is_torn_at_sectors_and_any_of_them_may_be_there() -> None:
    found = set[bytes]()
    for seed in SEEDS:
        disk, file = disk_with(seed)
        disk.write(file, [NEW], 0)
        content = left(disk)
        sectors = [content[at : at + SECTOR] for at in range(0, len(content), SECTOR)]
        assert set(sectors) <= {OLD[:SECTOR], NEW[:SECTOR]}
        found.add(bytes(sector[0] for sector in sectors))
    assert len(found) == 2**4


def test_a_sync_covers_what_was_written_when_it_began() -> None:
    lost = 0
    for seed in SEEDS:
        disk, file = disk_with(seed)
        disk.write(file, [b"first"], 0)
        begun = disk.begin_sync(file)
        disk.write(file, [b"later"], len(OLD))
        disk.end_sync(file, begun)
        content = left(disk)
        assert content.startswith(b"first")
        lost += not content.endswith(b"later")
    assert 0 < lost < len(SEEDS)


def test_a_sync_that_failed_has_dropped_what_it_was_to_write() -> None:
    disk, file = disk_with(0)
    disk.write(file, [NEW], 0)
    disk.fail_at("sync", 1, errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        disk.sync(file)
    disk.sync(file)
    assert disk.read(file, len(NEW), 0) == NEW, "the system's cache has it"
    assert left(disk) == OLD


def test_names_become_durable_in_order() -> None:
    found = set[tuple[str, ...]]()
    for seed in SEEDS:
        disk, _ = disk_with(seed)
        disk.rename(FILE, FILE.with_name("second"))
        disk.open(FILE.with_name("third"), os.O_RDWR | os.O_CREAT)
        found.add(tuple(sorted(disk.after_power_cut().names(FILE.parent))))
    assert found == {("file",), ("second",), ("second", "third")}
