"""Bulk is read past the system's cache, and comes out the same wherever it lies."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import msgspec
import pytest
from tests.unit.journal.journal_site import running_journal

from octad.sharding.limits import MIB
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal_errors import CorruptRecord
from octad.storage_node.memory.unwritten_memory import unwritten


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 4096), (1, 4095), (4095, 2), (4096, MIB), (88, MIB), (2 * MIB - 3, 3), (5, 2 * MIB - 5)],
)
def test_what_is_read_past_the_cache_is_what_was_written(
    tmp_path: Path, offset: int, length: int
) -> None:
    data = random.Random(7).randbytes(2 * MIB)
    path = tmp_path / "file"
    path.write_bytes(data)
    disk = Disk()
    file = disk.open(path, os.O_RDONLY)
    try:
        assert disk.read_uncached(file, length, offset) == data[offset : offset + length]
    finally:
        disk.close(file)


def test_a_read_past_the_cache_ends_where_the_file_does(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 5000)
    disk = Disk()
    file = disk.open(path, os.O_RDONLY)
    try:
        assert disk.read_uncached(file, 8192, 4096) == b"x" * 904
        assert disk.read_uncached(file, 100, 5000) == b""
    finally:
        disk.close(file)


def test_a_system_that_cannot_read_past_its_cache_reads_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 64)
    disk = Disk()
    file = disk.open(path, os.O_RDONLY)
    opened = os.open

    def refuse(name: str, flags: int) -> int:
        if flags & getattr(os, "O_DIRECT", 0):
            raise OSError(22, "no such flag")
        return opened(name, flags)

    monkeypatch.setattr(os, "open", refuse)
    assert disk.read_uncached(file, 1000, 300) == (bytes(range(256)) * 64)[300:1300]
    disk.close(file)


def test_a_disk_with_larger_blocks_is_read_through_the_cache_and_an_error_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 5000)
    disk = Disk()
    file = disk.open(path, os.O_RDONLY)
    code = errno.EINVAL

    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "preadv", refuse)
    assert disk.read_uncached(file, 1000, 300) == b"x" * 1000
    code = errno.EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        disk.read_uncached(file, 1000, 300)
    disk.close(file)


def test_unwritten_memory_is_as_large_as_was_asked_for() -> None:
    memory = unwritten(MIB + 1)
    memory[:] = b"y" * (MIB + 1)
    assert len(memory) == MIB + 1
    assert not unwritten(0)


async def test_a_record_that_is_read_past_the_cache_is_verified_as_any_other(
    tmp_path: Path,
) -> None:
    async with running_journal(tmp_path) as site:
        locations = await site.batch([b"x" * 300_000, b"y" * MIB])
        for location, data in zip(locations, (b"x" * 300_000, b"y" * MIB), strict=True):
            assert site.journal.read(location, cached=False).data == data
        wrong = msgspec.structs.replace(locations[1], offset=locations[1].offset + 1)
        with pytest.raises(CorruptRecord):
            site.journal.read(wrong, cached=False)
