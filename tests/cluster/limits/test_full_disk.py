"""A disk full of small objects, where the index takes as much as the journal, can be emptied.

The index merges its files, for which it needs as much again for a moment, and the journal gives a
segment back only behind a flush of the index: neither may leave the other without room.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.engine.engine_site import EngineSite

from octad.sharding.limits import MIB
from octad.storage_node.index import rocksdb
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal_errors import JournalFull

DISK_BYTES, SEGMENT_BYTES, MEMTABLE_BYTES = 64 * MIB, 2 * MIB, MIB  # A thirtieth of a small disk.
BATCH, FLUSH_AFTER = 500, 10_000  # Objects.

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk"),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


async def test_a_disk_full_of_small_objects_can_be_emptied(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rocksdb, "INDEX_MEMTABLE_BYTES", MEMTABLE_BYTES)
    index = CountedIndex(disk / "index")
    site = EngineSite(disk / "journal", Disk(), index, SEGMENT_BYTES)
    objects = await filled(site)
    assert free_bytes(disk) > index.room().to_merge, "it can merge all its files"
    for number in range(objects):
        site.delete(b"%08d" % number)
        if number % BATCH == 0:
            await site.settled()
        if number % FLUSH_AFTER == 0:
            await site.compacted()
    await site.settled()
    await site.compacted()
    assert free_bytes(disk) > DISK_BYTES // 2
    site.put(b"new", b"there is room")
    await site.settled()
    assert site.get(b"new") == b"there is room"
    assert site.failure is None
    await site.journal.close()
    index.close()


async def filled(site: EngineSite) -> int:
    """Puts small objects until no more are taken; gives how many."""
    number = 0
    while True:
        for _ in range(BATCH):
            try:
                site.put(b"%08d" % number, b"x")
            except JournalFull:
                await site.settled()
                site.index.flush()
                return number
            number += 1
        await site.settled()
        if number % FLUSH_AFTER == 0:
            site.index.flush()


def free_bytes(disk: Path) -> int:
    state = os.statvfs(disk)
    return state.f_bavail * state.f_frsize
