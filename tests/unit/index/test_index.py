"""The index keeps order, changes in whole batches, and forgets only what replay brings back."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octad.sharding.limits import MIB
from octad.storage_node.index import rocksdb
from octad.storage_node.index.index import Index, IndexDamaged, IndexLocked
from octad.storage_node.index.index_format import POSITION_KEY, encode_position
from octad.storage_node.journal.record_format import Position

FLUSHES = 40  # RocksDB as it comes holds up a flush at twenty files that are not merged.
FILES_MERGED_MAX = 4
KEYS = st.binary(min_size=1, max_size=4)


def test_a_batch_puts_and_deletes_at_once(tmp_path: Path) -> None:
    index = Index(tmp_path / "index")
    index.write([(b"a", b"1"), (b"b", b"2")])
    index.write([(b"c", b"")], [b"a", b"never there"])
    assert [index.get(key) for key in (b"a", b"b", b"c")] == [None, b"2", b""]
    index.close()


def test_what_was_flushed_is_there_after_a_kill_and_the_position_agrees_with_it(
    tmp_path: Path,
) -> None:
    killed = subprocess.run([sys.executable, "-c", WRITER, str(tmp_path / "index")], check=False)
    assert killed.returncode == -signal.SIGKILL
    index = Index(tmp_path / "index")
    position = index.position()
    keys = [int(key) for key, _ in index.scan(b"0", b":")]
    assert position >= 50
    assert sorted(keys) == list(range(position))
    index.close()


WRITER = """
import os, signal, sys
from pathlib import Path
from octad.storage_node.index.index_format import POSITION_KEY, encode_position
from octad.storage_node.index.index import Index
index = Index(Path(sys.argv[1]))
for number in range(100):
    index.write([(b"%d" % number, b"row"), (POSITION_KEY, encode_position(number + 1))])
    if number == 50:
        index.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_not_flushed_is_not_logged_elsewhere(tmp_path: Path) -> None:
    index = Index(tmp_path / "index")
    for number in range(1000):
        index.write([(b"%d" % number, bytes(1000))])
    logs = [path for path in (tmp_path / "index").iterdir() if path.suffix == ".log"]
    assert sum(path.stat().st_size for path in logs) == 0
    index.close()


def test_rocksdb_tells_of_no_more_than_two_starts_however_many_fail(tmp_path: Path) -> None:
    index = Index(tmp_path)
    index.write([(b"a", b"1")])
    index.close()
    for manifest in tmp_path.glob("MANIFEST-*"):
        manifest.write_bytes(bytes(100))
    for _ in range(10):
        with pytest.raises(IndexDamaged):
            Index(tmp_path)
    logs = list(tmp_path.glob("LOG*"))
    assert len(logs) == 2
    assert sum(log.stat().st_size for log in logs) < 3 * MIB


def test_a_new_index_replays_from_the_beginning_and_a_closed_one_from_its_position(
    tmp_path: Path,
) -> None:
    index = Index(tmp_path / "index")
    assert index.position() == 0
    index.write([(POSITION_KEY, encode_position(Position(7 << 32 | 4096)))])
    assert index.position() == 0
    index.close()
    index = Index(tmp_path / "index")
    assert index.position() == 7 << 32 | 4096
    index.close()


def test_an_index_can_be_opened_once(tmp_path: Path) -> None:
    index = Index(tmp_path / "index")
    with pytest.raises(IndexLocked, match="index is open already"):
        Index(tmp_path / "index")
    index.close()


def test_closing_unlocks_even_while_scans_are_held(tmp_path: Path) -> None:
    index = Index(tmp_path / "index")
    index.write([(b"a", b""), (b"b", b"")])
    scan = index.scan(b"a")
    assert next(scan) == (b"a", b"")
    index.close()
    assert list(scan) == []
    Index(tmp_path / "index").close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index(tmp_path_factory.mktemp("scans") / "index")


@settings(max_examples=60, deadline=None)
@given(
    content=st.dictionaries(KEYS, st.binary(max_size=3), max_size=15),
    start=KEYS,
    end=st.none() | KEYS,
    reverse=st.booleans(),
)
def test_a_scan_gives_a_range_in_order(
    shared: Index, content: dict[bytes, bytes], start: bytes, end: bytes | None, reverse: bool
) -> None:
    shared.write([], [key for key, _ in shared.scan(b"")])
    shared.write(list(content.items()))
    expected = [(k, v) for k, v in content.items() if k >= start and (end is None or k < end)]
    assert list(shared.scan(start, end, reverse=reverse)) == sorted(expected, reverse=reverse)


@settings(max_examples=60, deadline=None)
@given(keys=st.sets(KEYS, max_size=15), start=KEYS, end=st.none() | KEYS, to=KEYS)
def test_a_seek_goes_on_within_the_range(
    shared: Index, keys: set[bytes], start: bytes, end: bytes | None, to: bytes
) -> None:
    shared.write([], [key for key, _ in shared.scan(b"")])
    shared.write([(key, b"") for key in keys])
    in_range = sorted(k for k in keys if k >= start and (end is None or k < end))
    forwards = shared.scan(start, end)
    forwards.seek(to)
    assert [key for key, _ in forwards] == [k for k in in_range if k >= to]
    backwards = shared.scan(start, end, reverse=True)
    backwards.seek(to)
    assert [key for key, _ in backwards] == [k for k in reversed(in_range) if k <= to]


def test_a_cursor_ends_at_its_bound_although_no_one_else_keeps_that(tmp_path: Path) -> None:
    index = Index(tmp_path)
    index.write([(b"n%03d" % number, b"%d" % number) for number in range(100)])
    for _ in range(50):
        cursor = index.cursor(bytes(bytearray(b"n050")))
        others = [b"n%03d" % number for number in range(100)]  # Where the bound would have lain.
        read = [(key, cursor.value()) for key in cursor.keys_from(b"n040")]
        assert read == [(b"n%03d" % number, b"%d" % number) for number in range(40, 50)]
        assert list(cursor.keys_from(b"n048")) == others[48:50]
    index.close()


def test_a_scan_does_not_see_what_is_written_after_it_was_made(tmp_path: Path) -> None:
    index = Index(tmp_path / "index")
    index.write([(b"a", b"old"), (b"c", b"")])
    scan = index.scan(b"a")
    index.write([(b"a", b"new"), (b"b", b"")])
    assert list(scan) == [(b"a", b"old"), (b"c", b"")]
    index.close()


async def test_without_room_nothing_is_merged_and_no_flush_waits_for_a_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a full disk could not be emptied: what gives space back flushes the index first."""
    index = Index(tmp_path / "index")
    with monkeypatch.context() as full:
        full.setattr(rocksdb, "_free_bytes", lambda _: 0)
        for number in range(FLUSHES):
            index.write([(b"%d" % number, b"row"), (b"again", b"%d" % number)])
            index.flush()
        assert len(files_of(index)) >= FLUSHES - FILES_MERGED_MAX
        index.close()
        index = Index(tmp_path / "index")
        index.write([(b"again", b"last")])
        index.flush()
        assert len(files_of(index)) > FLUSHES - FILES_MERGED_MAX, "nor when it is opened again"
    index.write([(b"more", b"room")])
    index.flush()
    async with asyncio.timeout(20):
        while len(files_of(index)) > FILES_MERGED_MAX:
            await asyncio.sleep(0.01)
    assert index.get(b"again") == b"last"
    assert all(index.get(b"%d" % number) == b"row" for number in range(FLUSHES))
    index.close()


def files_of(index: Index) -> list[Path]:
    return list(index.directory.glob("*.sst"))
