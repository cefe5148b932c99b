"""Files that are damaged: the simulated RocksDB opens what the real one opens, and no more.

What each damaged block does to reads is in `test_simulated_rocksdb.py`.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import TypeAlias

import pytest
from tests.harness.simulated_rocksdb import DatabaseFiles, SimulatedDatabases
from tests.unit.index.table_file import blocks_of

from octad.storage_node.index import rocksdb
from octad.storage_node.index.index import (
    Index,
    IndexDamage,
    IndexDamaged,
    IndexFailed,
    IndexLocked,
)

TABLES, ROWS = 3, 60
AT = Path("/data/index")


@pytest.fixture(autouse=True)
def merges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rocksdb, "_free_bytes", lambda _: 0)


def key(number: int) -> bytes:
    return b"k%03d" % number


def fill(index: Index) -> None:
    """Each table has every key; the value tells which table it is from."""
    for table in range(TABLES):
        index.write([(key(number), b"%d" % table * 300) for number in range(ROWS)])
        index.flush()


def files_of(directory: Path, pattern: str) -> list[Path]:
    return sorted(directory.glob(pattern))


def change(file: Path, content: bytes | bytearray) -> None:
    """As a disk does: it is the same file, for those that have it open, too."""
    with file.open("r+b") as opened:
        opened.truncate(len(content))
        opened.write(content)


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 8
    change(file, content)


def cut(file: Path, length: int) -> None:
    change(file, file.read_bytes()[:length])


def edits(directory: Path) -> list[int]:
    """Where each change of the manifest ends that adds a table, which no other is as long as."""
    (manifest,) = directory.glob("MANIFEST-*")
    content = manifest.read_bytes()
    ends, at = [], 0
    while at < len(content):
        length = int.from_bytes(content[at + 4 : at + 6], "little")
        at += 7 + length
        if length > 80:
            ends.append(at)
    assert len(ends) == TABLES
    return ends


def last_block(directory: Path) -> int:
    file = files_of(directory, "*.sst")[-1]
    block = blocks_of(file)[-1]
    return block.offset + block.size + 5


def newest(directory: Path) -> Path:
    return files_of(directory, "*.sst")[-1]


def manifest(directory: Path) -> Path:
    return files_of(directory, "MANIFEST-*")[-1]


Real: TypeAlias = Callable[[Path], object]
Twin: TypeAlias = Callable[[SimulatedDatabases, DatabaseFiles], object]
STOPPED: dict[str, tuple[Real, Twin, str]] = {
    "nothing": (lambda _: None, lambda *_: None, "2"),
    "a block flipped": (
        lambda at: flip(newest(at), 100),
        lambda _, files: files.flip(-1, 0.01),
        "damaged",
    ),
    "a block index flipped": (
        lambda at: flip(newest(at), last_block(at) + 150),
        lambda _, files: files.flip(-1, 0.999),
        "refused",
    ),
    "a table cut": (
        lambda at: cut(newest(at), 5000),
        lambda _, files: files.cut(-1, 0.5),
        "refused",
    ),
    "a table removed": (
        lambda at: newest(at).unlink(),
        lambda _, files: files.remove(-1),
        "refused",
    ),
    "the manifest's last change cut": (
        lambda at: cut(manifest(at), edits(at)[-1] - 1),
        lambda _, files: files.cut_manifest(1),
        "1",
    ),
    "all of the manifest's changes cut": (
        lambda at: cut(manifest(at), edits(at)[0] - 1),
        lambda _, files: files.cut_manifest(TABLES),
        "empty",
    ),
    "the manifest flipped": (
        lambda at: flip(manifest(at), edits(at)[0] + 9),
        lambda _, files: files.flip_manifest(),
        "refused",
    ),
    "CURRENT removed": (
        lambda at: (at / "CURRENT").unlink(),
        lambda _, files: files.remove_current(),
        "refused",
    ),
    "all of it removed": (
        shutil.rmtree,
        lambda databases, _: databases.remove(AT),
        "empty",
    ),
}
RUNNING: dict[str, tuple[Real, Twin, str]] = {
    "a block flipped": STOPPED["a block flipped"],
    "a table cut": (*STOPPED["a table cut"][:2], "damaged"),
    "a table removed": (*STOPPED["a table removed"][:2], "2"),
    "the manifest flipped": (*STOPPED["the manifest flipped"][:2], "2"),
}


def state(opened: Callable[[], Index]) -> str:
    """Which table the rows are from, which are all from one; or what hides them."""
    try:
        index = opened()
        found = {value[:1].decode() for _, value in index.scan(b"k")}
        found |= {value[:1].decode() for at in range(ROWS) if (value := index.get(key(at)))}
    except IndexDamaged:
        return "refused"
    except IndexDamage:
        return "damaged"
    (table,) = found or {"empty"}
    return table


@pytest.mark.parametrize("name", STOPPED)
def test_what_was_damaged_is_opened_as_the_real_one_is(tmp_path: Path, name: str) -> None:
    damage_real, damage_twin, expected = STOPPED[name]
    databases = SimulatedDatabases()
    databases.merges = False
    for opened in (partial(Index, tmp_path), partial(Index, AT, opens=databases.open)):
        index = opened()
        fill(index)
        index.close()
    damage_real(tmp_path)
    damage_twin(databases, databases.files[AT])
    assert state(partial(Index, tmp_path)) == expected
    assert state(partial(Index, AT, opens=databases.open)) == expected


@pytest.mark.parametrize("name", RUNNING)
def test_what_is_damaged_while_it_is_open_is_read_as_the_real_one_is(
    tmp_path: Path, name: str
) -> None:
    damage_real, damage_twin, expected = RUNNING[name]
    databases = SimulatedDatabases()
    databases.merges = False
    real, twin = Index(tmp_path), Index(AT, opens=databases.open)
    fill(real)
    fill(twin)
    damage_real(tmp_path)
    damage_twin(databases, databases.files[AT])
    assert state(lambda: real) == expected
    assert state(lambda: twin) == expected


def test_a_directory_that_is_removed_while_it_is_open_fails_the_next_flush(tmp_path: Path) -> None:
    databases = SimulatedDatabases()
    real, twin = Index(tmp_path), Index(AT, opens=databases.open)
    fill(real)
    fill(twin)
    shutil.rmtree(tmp_path)
    databases.remove(AT)
    for index in (real, twin):
        index.write([(b"x", b"y")])
        with pytest.raises(IndexDamage, match="No such file"):
            index.flush()


def test_a_disk_without_room_fails_a_flush_and_everything_after_it() -> None:
    databases = SimulatedDatabases()
    index = Index(AT, opens=databases.open)
    databases.free_bytes = lambda: 10
    index.write([(b"x", b"y" * 100)])
    for _ in range(2):
        with pytest.raises(IndexFailed, match="No space left"):
            index.flush()
    with pytest.raises(IndexFailed):
        index.write([])


def test_without_descriptors_nothing_is_taken_for_damage() -> None:
    databases = SimulatedDatabases()
    index = Index(AT, opens=databases.open)
    fill(index)
    index.close()
    databases.fail("open", os.strerror(errno.EMFILE))
    with pytest.raises(IndexFailed, match="cannot be opened now"):
        Index(AT, opens=databases.open)
    databases.fail("open", None)
    databases.fail("read", os.strerror(errno.EMFILE))
    index = Index(AT, opens=databases.open)
    with pytest.raises(Exception, match="Too many open files"):
        index.get(key(0))
    assert index.damage is None
    databases.fail("read", None)
    assert index.get(key(0)) is not None


@pytest.mark.parametrize("seed", range(30))
def test_a_crash_leaves_the_first_batches_and_never_less_than_what_was_flushed(seed: int) -> None:
    databases = SimulatedDatabases()
    index = Index(AT, opens=databases.open)
    for number in range(20):
        index.write([(b"last", b"%d" % number), (key(number), b"")], [key(number - 5)])
        if number == 10:
            index.flush()
    databases.crash(Random(seed))
    index = Index(AT, opens=databases.open)
    last = int(index.get(b"last") or b"")
    assert last >= 10
    expected = [key(number) for number in range(last - 4, last + 1)]
    assert [found for found, _ in index.scan(b"k", b"l")] == expected
    with pytest.raises(IndexLocked):
        Index(AT, opens=databases.open)
