"""RocksDB's damage: nothing that reads it ends early without an error, in any direction."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

import pytest
from tests.unit.engine.engine_site import EngineSite
from tests.unit.journal.journal_site import IDENTITY
from tests.unit.rebuild.test_index_repair import files_of_at_most

from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index import Index, IndexDamage, IndexDamaged, IndexFailed
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import IndexBehind
from octad.storage_node.upkeep.compactor import check_segments

ROWS = 2_000
VALUE = bytes(range(256)) * 2
ROOT = Path(__file__).parents[3]
Read = Callable[[Index], object]


def key(number: int) -> bytes:
    return b"k%06d" % number


def filled(directory: Path) -> None:
    index = Index(directory)
    index.write([(key(number), VALUE) for number in range(ROWS)])
    index.close()


def flip_a_bit(directory: Path, share: float) -> None:
    """In the only table file, this far into it."""
    (table,) = directory.glob("*.sst")
    content = bytearray(table.read_bytes())
    content[int(len(content) * share)] ^= 8
    table.write_bytes(content)


READS: dict[str, Read] = {
    "a scan": lambda index: list(index.scan(b"k", b"l")),
    "a scan without an end": lambda index: list(index.scan(b"k")),
    "a scan backwards": lambda index: list(index.scan(b"k", b"l", reverse=True)),
    "a scan backwards from the last": lambda index: list(index.scan(b"k", reverse=True)),
    "a short scan": lambda index: [
        list(index.scan(key(number), key(number + 3))) for number in range(0, ROWS, 3)
    ],
    "a cursor": lambda index: list(index.cursor(b"l").keys_from(b"k")),
    "gets": lambda index: [index.get(key(number)) for number in range(ROWS)],
}


@pytest.mark.parametrize("share", [0.05, 0.33, 0.6])
@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_what_meets_a_flipped_bit_raises(tmp_path: Path, read: Read, share: float) -> None:
    filled(tmp_path)
    flip_a_bit(tmp_path, share)
    index = Index(tmp_path)
    with pytest.raises(IndexDamage, match="checksum mismatch"):
        read(index)
    index.close()


def test_a_damaged_index_gives_nothing_more_and_takes_nothing(tmp_path: Path) -> None:
    filled(tmp_path)
    flip_a_bit(tmp_path, 0.3)
    index = Index(tmp_path)
    told: list[str] = []
    index.on_damage = told.append
    whole = index.scan(b"k", b"l")
    assert next(whole) == (key(0), VALUE)
    with pytest.raises(IndexDamage):
        list(whole)
    for read in READS.values():
        with pytest.raises(IndexDamage):
            read(index)
    with pytest.raises(IndexDamage):
        index.get(key(0))
    index.write([(b"x", b"y")])
    with pytest.raises(IndexDamage):
        index.flush()
    assert len(told) == 1
    index.close()


class FailsOnce:
    """A database whose disk fails to read, so many times."""

    get_options = repeat(None)

    def __init__(self, times: int) -> None:
        self.times = times

    def get(self, *_: object) -> bytes:
        self.times -= 1
        if self.times >= 0:
            raise Exception("IO error: While pread: Input/output error")
        return b"value"


def test_a_read_error_that_passes_is_no_damage_and_one_that_stays_is(tmp_path: Path) -> None:
    index = Index(tmp_path)
    database = index._database
    index._database = FailsOnce(1)  # type: ignore[assignment]
    assert index.get(b"k") == b"value"
    assert index.damage is None
    index._database = FailsOnce(2)  # type: ignore[assignment]
    with pytest.raises(IndexDamage, match="Input/output error"):
        index.get(b"k")
    del database
    index.close()


def test_a_seek_into_damage_raises(tmp_path: Path) -> None:
    filled(tmp_path)
    flip_a_bit(tmp_path, 0.3)
    index = Index(tmp_path)
    with pytest.raises(IndexDamage):
        sought_everywhere(index)
    index.close()


def sought_everywhere(index: Index) -> None:
    scan = index.scan(b"k", b"l")
    for number in range(ROWS):
        scan.seek(key(number))
        next(scan)


def test_one_whose_files_nobody_names_any_more_is_not_begun_anew(tmp_path: Path) -> None:
    filled(tmp_path)
    for name in ("CURRENT", "*.log", "MANIFEST-*", "OPTIONS-*", "rocksdict-config.json"):
        for file in tmp_path.glob(name):
            file.unlink()
    with pytest.raises(IndexDamaged, match="CURRENT is gone"):
        Index(tmp_path)


def test_an_index_that_is_removed_while_it_is_open_is_damaged(tmp_path: Path) -> None:
    filled(tmp_path / "index")
    index = Index(tmp_path / "index")
    index.write([(b"x", b"y")])
    shutil.rmtree(tmp_path / "index")
    with pytest.raises(IndexDamage, match="No such file"):
        index.flush()
    assert index.failure is None
    index.close()


def test_a_full_disk_is_not_taken_for_damage(tmp_path: Path) -> None:
    filled(tmp_path)
    with files_of_at_most(0), pytest.raises(IndexFailed, match="cannot be opened now"):
        Index(tmp_path)
    index = Index(tmp_path)
    assert index.get(key(ROWS - 1)) == VALUE
    index.close()


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    filled(tmp_path)
    for table in tmp_path.glob("*.sst"):
        table.write_bytes(table.read_bytes()[:-9])
    with pytest.raises(IndexDamaged) as raised:
        Index(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_block_that_is_damaged_is_never_taken_for_a_lock(tmp_path: Path) -> None:
    """RocksDB calls it a block checksum mismatch."""
    filled(tmp_path)
    for table in tmp_path.glob("*.sst"):
        table.write_bytes(table.read_bytes()[: table.stat().st_size // 2])
    with pytest.raises(IndexDamaged):
        list(Index(tmp_path).scan(b"k"))


def test_the_bare_iterators_of_rocksdict_are_nowhere_used() -> None:
    """`items`, `keys` and `values` of a database end on damage as they do at a range's end."""
    bare = re.compile(r"(database|snapshot)\w*\.(items|keys|values|columns|entities)\(")
    used = [
        f"{path}:{number}"
        for part in ("storage_node", "chaos", "coordinator")
        for path in (ROOT / part).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if bare.search(line) or ("RdictIter" in line and path.name != "rocksdb.py")
    ]
    assert used == []


async def test_an_index_of_before_a_compaction_is_not_taken_for_the_one_of_now(
    tmp_path: Path,
) -> None:
    """RocksDB opens an older state without a word when the end of its manifest is gone."""
    index_at, older = tmp_path / "index", tmp_path / "older"
    index = CountedIndex(index_at)
    site = EngineSite(tmp_path / "journal", Disk(), index)
    site.put(b"cold", bytes(6000))
    for number in range(40):
        site.put(b"hot", bytes([number]) * 6000)
        await site.settled()
    index.flush()
    shutil.copytree(index_at, older)
    assert await site.compacted() > 0
    await site.journal.close()
    index.close()
    shutil.rmtree(index_at)
    old = CountedIndex(older)
    with pytest.raises(IndexBehind, match="rows of segment"):
        check_segments(Journal.open(tmp_path / "journal", IDENTITY), old)
    old.close()
