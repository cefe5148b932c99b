"""The simulated RocksDB does what the real one does: whole, after a crash, and damaged.

One that shows less damage than the real one, or more, would make a lie of every simulation.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.harness.simulated_rocksdb import SimulatedDatabases
from tests.harness.simulated_tables import Table, separator
from tests.unit.index.table_file import blocks_of

from octad.storage_node.index import rocksdb
from octad.storage_node.index.rocksdb import (
    INDEX_OPEN_FILES,
    Database,
    DatabaseIterator,
    RocksDB,
)

KEYS = 60
NUMBERS = st.integers(0, KEYS - 1)
SIZES = st.integers(100, 700)
SHARES = st.floats(0, 1, exclude_max=True)
MERGED_S = 20.0
KINDS = ("checksum mismatch", "No such file", "size mismatch", "CURRENT", "Corruption")


def key_of(number: int) -> bytes:
    """Of several lengths, so that what lies between two blocks may be shorter than a key."""
    return b"k%03d" % number + b"-tail" * (number % 3)


def kind_of(error: Exception) -> str:
    return next(kind for kind in KINDS if kind in str(error))


def outcome(of: Callable[[], object]) -> object:
    try:
        return of()
    except AssertionError:
        raise
    except Exception as error:
        return kind_of(error)


def got(database: Database, key: bytes) -> object:
    return outcome(lambda: database.get(key, None, next(database.get_options)))


def placed(iterator: DatabaseIterator, start: bytes | None, reverse: bool) -> DatabaseIterator:
    if not reverse:
        iterator.seek(start or b"")
    elif start is None:
        iterator.seek_to_last()
    else:
        iterator.seek_for_prev(start)
    return iterator


def walked(iterator: DatabaseIterator, reverse: bool, count: int) -> list[object]:
    """So many entries, or fewer and how it ended."""
    seen: list[object] = []
    while iterator.valid() and len(seen) < count:
        seen.append((iterator.key(), iterator.value()))
        iterator.prev() if reverse else iterator.next()
    if not iterator.valid():
        seen.append((iterator.key(), iterator.value(), outcome(iterator.status)))
    return seen


class Both:
    """The real one and the simulated one, asked for the same; neither merges by itself."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp()) / "0"
        self._crashes = 0
        self.databases = SimulatedDatabases()
        self.databases.merges = False
        self.open()

    def open(self) -> None:
        self.twin = self.databases.open(Path("/index"), INDEX_OPEN_FILES)
        self.real = RocksDB(self.directory, INDEX_OPEN_FILES)

    @property
    def databases_of(self) -> tuple[Database, Database]:
        return self.real, self.twin

    def both(self, of: Callable[[Database], object]) -> object:
        real, twin = (outcome(partial(of, each)) for each in self.databases_of)
        assert twin == real
        return real

    def flush(self) -> object:
        flushed = self.both(lambda database: database.flush())
        self.align()
        return flushed

    def align(self) -> None:
        """Check that both have the same tables, and give the simulated ones the same blocks."""
        found = sorted(
            self.real._database.live_files(), key=lambda each: (-each["level"], each["name"])
        )
        tables = self.twin._files.tables
        assert [(each["start_key"], each["end_key"]) for each in found] == [
            (table.keys[0], table.keys[-1]) for table in tables
        ]
        for table, file in zip(tables, found, strict=True):
            if not table.damaged:
                align(table, Path(f"{self.directory}/{file['name']}"))

    def may_be_read_for_nothing(self, key: bytes) -> bool:
        """Whether a damaged block could have had the key: a filter says so of few that have not."""
        return any(
            key not in table.entries and bisect_left(table.separators, key) in table.damaged
            for table in self.twin._files.tables
        )

    def files(self) -> list[Path]:
        """The real ones, in the order of the simulated ones."""
        found = sorted(
            self.real._database.live_files(), key=lambda each: (-each["level"], each["name"])
        )
        return [Path(f"{self.directory}/{each['name']}") for each in found]

    def close(self) -> None:
        self.real.close()
        self.twin.close()
        del self.real

    def crash(self) -> None:
        """The real one goes on as a copy of what lay in its directory."""
        self._crashes += 1
        copy = self.directory.with_name(str(self._crashes))
        shutil.copytree(self.directory, copy)
        del self.real
        shutil.rmtree(self.directory)
        self.directory = copy
        self.twin.crash(0)

    def merge(self) -> None:
        real = self.real
        real._database.set_options({"disable_auto_compactions": "false"})
        until = time.monotonic() + MERGED_S
        while not real.figure("background-errors") and any(
            map(real.figure, ("compaction-pending", "num-running-compactions"))
        ):
            assert time.monotonic() < until
            time.sleep(0.001)
        real._database.set_options({"disable_auto_compactions": "true"})
        self.twin.merge()

    def end(self) -> None:
        self.__dict__.pop("real", None)
        shutil.rmtree(self.directory.parent)


def align(table: Table, file: Path) -> None:
    blocks = blocks_of(file)
    begins = [bisect_right(table.keys, block.separator) for block in blocks]
    table.begins = [0, *begins]
    expected = [separator(table.keys[at - 1], table.keys[at]) for at in begins[:-1]]
    assert [*expected, table.keys[-1]] == [block.separator for block in blocks]
    table.separators = [block.separator for block in blocks]


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 8
    file.write_bytes(content)


class SameAsReal(RuleBasedStateMachine):
    """Whatever is asked, both give the same."""

    def __init__(self) -> None:
        super().__init__()
        self.both = Both()
        self.held: tuple[bool, DatabaseIterator, DatabaseIterator] | None = None
        self.options: list[Any] = []

    def teardown(self) -> None:
        self.held, self.options = None, []
        self.both.end()

    @initialize(first=NUMBERS, size=SIZES)
    def begin(self, first: int, size: int) -> None:
        """With two tables, each of several blocks."""
        self.write(0, KEYS, size, b"1", [])
        self.both.flush()
        self.write(first, KEYS, size, b"2", [KEYS - first])
        self.both.flush()

    @rule(
        first=NUMBERS,
        count=st.integers(0, 30),
        size=SIZES,
        fill=st.binary(min_size=1, max_size=1),
        gone=st.lists(NUMBERS, max_size=6),
    )
    def write(self, first: int, count: int, size: int, fill: bytes, gone: list[int]) -> None:
        puts = [(key_of(number), fill * size) for number in range(first, min(first + count, KEYS))]
        deletes = [key_of(number) for number in gone]
        self.both.both(lambda database: database.write(puts, deletes))

    @rule()
    def get_each(self) -> None:
        for number in range(KEYS):
            real, twin = (got(database, key_of(number)) for database in self.both.databases_of)
            assert twin == real or self.both.may_be_read_for_nothing(key_of(number))

    @rule(end=st.none() | NUMBERS, reverse=st.booleans(), count=st.integers(0, KEYS))
    def walk_from_each(self, end: int | None, reverse: bool, count: int) -> None:
        for start in (None, *range(KEYS)):
            real, twin = self.iterators(start, end, reverse)
            assert walked(twin, reverse, count) == walked(real, reverse, count)

    def iterators(
        self, start: int | None, end: int | None, reverse: bool
    ) -> list[DatabaseIterator]:
        iterators = []
        for database in self.both.databases_of:
            options = database.up_to(None if end is None else key_of(end))
            self.options.append(options)
            key = None if start is None else key_of(start)
            iterators.append(placed(database.iterate(options), key, reverse))
        return iterators

    @rule(reverse=st.booleans(), first=NUMBERS, flushed=st.booleans())
    def hold(self, reverse: bool, first: int, flushed: bool) -> None:
        """Iterators that see everything as it was, whatever is written beside them."""
        real, twin = self.iterators(None, None, reverse)
        assert walked(twin, reverse, 5) == walked(real, reverse, 5)
        self.write(first, KEYS // 2, 100, b"3", [first // 2])
        if flushed:
            self.flush()
        self.held = reverse, real, twin

    @precondition(lambda self: self.held is not None)
    @rule(count=st.integers(1, KEYS))
    def walk_on(self, count: int) -> None:
        assert self.held is not None
        reverse, real, twin = self.held
        assert walked(twin, reverse, count) == walked(real, reverse, count)

    @rule()
    def flush(self) -> None:
        self.both.flush()

    @precondition(
        lambda self: len(self.both.twin._files.tables) - self.both.twin._files.now.merged > 1
    )
    @rule()
    def merge(self) -> None:
        """A merge that meets damage fails what is written after it."""
        self.both.merge()
        if not self.both.real.figure("background-errors"):
            self.both.align()

    @rule()
    def crash(self) -> None:
        self.held, self.options = None, []
        self.both.crash()
        self.both.open()

    @rule()
    def reopen(self) -> None:
        self.held, self.options = None, []
        if self.both.flush() is None:
            self.both.close()
            self.both.open()

    @precondition(lambda self: self.both.twin._files.tables)
    @rule(data=st.data(), share=SHARES)
    def damage(self, data: st.DataObject, share: float) -> None:
        self.held, self.options = None, []
        tables = self.both.twin._files.tables
        table = data.draw(st.integers(0, len(tables) - 1))
        block = data.draw(st.integers(0, tables[table].blocks - 1))
        file = self.both.files()[table].name
        self.both.crash()
        if block not in tables[table].damaged:  # Another flip might mend it.
            there = blocks_of(self.both.directory / file)[block]
            flip(self.both.directory / file, there.offset + int(share * (there.size + 5)))
            self.both.databases.files[Path("/index")].flip_block(table, block)
        self.both.open()


@pytest.fixture(autouse=True)
def _merges_only_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rocksdb, "_free_bytes", lambda _: 0)


TestSameAsReal = SameAsReal.TestCase
TestSameAsReal.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
