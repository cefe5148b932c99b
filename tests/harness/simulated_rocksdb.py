"""RocksDB as the index uses it, in memory: what is flushed survives a crash, and may be damaged.

While nothing is damaged, everything is in one dictionary and one sorted list, so that a get or a
step of a walk costs next to nothing. Damage makes reads go block by block through the files
(`simulated_tables.py`). A crash leaves what was flushed and any of the batches after it in order,
for RocksDB may have flushed them by itself. It syncs what it names, so a power cut is no worse.

`tests/unit/index/test_simulated_rocksdb.py` compares it with the real one.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path
from random import Random
from sys import getrefcount
from typing import Any, Literal, NamedTuple

from tests.harness.simulated_tables import BlockwiseIterator, Table, check_blocks, newest

from octad.storage_node.index.rocksdb import DatabaseIterator
from octad.storage_node.journal.disk_reserve import IndexRoom

Batch = tuple[Sequence[tuple[bytes, bytes]], Sequence[bytes]]
Call = Literal["open", "read", "flush"]

BLOCK_BYTES = 2048
_TABLES_PER_MERGE = 2
_OWN_REFERENCES = 3  # To the sorted keys, while no iterator has any: the database's, and two here.
_GONE, _NO_ROOM = os.strerror(errno.ENOENT), os.strerror(errno.ENOSPC)


class _Version(NamedTuple):
    """A state of the manifest."""

    tables: tuple[Table, ...] = ()  # Oldest first.
    merged: int = 0  # How many of them a merge has made: none, or the oldest.


class DatabaseFiles:
    """What is in one directory, and what damages it. A file that is open can still be read."""

    def __init__(self, fails: Mapping[Call, str]) -> None:
        self._fails = fails
        self.now = _Version()
        self.careful = False  # Whether something can only be met by reading block by block.
        self.opened: SimulatedRocksDB | None = None
        self._versions = [self.now]  # Since the last open, which begins another manifest.
        self._found: _Version | None = None  # By the next open.
        self._refused: str | None = None  # Why there is none.

    @property
    def tables(self) -> tuple[Table, ...]:
        return self.now.tables

    @property
    def size(self) -> int:
        return sum(table.size for table in self.tables)

    def begin(self) -> None:
        """They are opened. Raises what rocksdict does."""
        now = self._found or self.now
        for refused in filter(None, (self._refused, *(table.refused for table in now.tables))):
            raise Exception(refused)
        self._versions, self._found = [], None
        self.become(now)

    def become(self, version: _Version) -> None:
        self.now = version
        self._versions.append(version)
        self.look()

    def look(self) -> None:
        """Whether reads have to go block by block."""
        self.careful = "read" in self._fails or any(table.damaged for table in self.tables)

    def flip(self, table: int, share: float) -> None:
        """A bit of the table's file, so far into it; behind the blocks lies what an open needs."""
        file = self.tables[table]
        block = int(share * (file.blocks + 1))
        if block < file.blocks:
            self.flip_block(table, block)
        else:
            file.refused = f"Corruption: block checksum mismatch in {file.name}"

    def flip_block(self, table: int, block: int) -> None:
        self.tables[table].damaged.add(block)
        self.careful = True

    def cut(self, table: int, share: float) -> None:
        """The table's file ends there."""
        file = self.tables[table]
        file.damaged.update(range(int(share * file.blocks), file.blocks))
        file.refused = f"Corruption: Sst file size mismatch: {file.name}"
        self.careful = True

    def remove(self, table: int) -> None:
        """The table's file."""
        self.tables[table].refused = _missing(self.tables[table])

    def cut_manifest(self, versions: int) -> None:
        """Its last so many changes are gone: RocksDB opens what was before without a word."""
        found = self._versions[max(0, len(self._versions) - 1 - versions)]
        for table in set(found.tables) - set(self.tables):
            self._refused = _missing(table)  # A merge has deleted it.
        self._found = found

    def flip_manifest(self) -> None:
        self._refused = "Corruption: checksum mismatch in file MANIFEST"

    def remove_current(self) -> None:
        if self.tables:
            self._refused = "CURRENT is gone"


class SimulatedDatabases:
    """Those of one machine. `open` stands in for RocksDB, in the place of its `__init__`."""

    def __init__(self, block_bytes: int = BLOCK_BYTES) -> None:
        self.files: dict[Path, DatabaseFiles] = {}
        self.free_bytes: Callable[[], int] | None = None  # None: there is always room.
        self.merges = True
        self._fails: dict[Call, str] = {}
        self._block_bytes = block_bytes
        self._tables = 0

    def open(self, directory: Path, _open_files: int) -> SimulatedRocksDB:
        """Raises what rocksdict does."""
        files = self.files.setdefault(directory, DatabaseFiles(self._fails))
        self.check("open", directory)
        if files.opened is not None:
            raise Exception(f"IO error: lock hold by current process: {directory}/LOCK")
        files.begin()
        files.opened = SimulatedRocksDB(self, directory, files)
        return files.opened

    def crash(self, random: Random) -> None:
        """Their processes are gone: killed, or the power was cut."""
        for files in self.files.values():
            if files.opened is not None:
                unflushed = len(files.opened.unflushed)
                files.opened.crash(random.choice((0, random.randint(0, unflushed))))

    def rename(self, source: Path, target: Path) -> None:
        self.files[target] = self.files.pop(source)

    def remove(self, directory: Path) -> None:
        """With all that is in it; a process that has it open notices that when it flushes."""
        self.files.pop(directory, None)

    @property
    def size(self) -> int:
        return sum(files.size for files in self.files.values())

    def fail(self, call: Call, why: str | None) -> None:
        """From now on: the system's words for why, or None. Only damaged files are really read."""
        self._fails.pop(call, None)
        if why is not None:
            self._fails[call] = why
        for files in self.files.values():
            files.look()

    def check(self, call: Call, place: Path) -> None:
        if call in self._fails:
            raise Exception(f"IO error: {self._fails[call]}: {place}")

    def new_table(self, directory: Path, entries: Mapping[bytes, bytes | None]) -> Table:
        self._tables += 1
        table = Table(f"{directory}/{self._tables:06}.sst", entries, self._block_bytes)
        if self.free_bytes is not None and self.free_bytes() < table.size:
            raise Exception(f"IO error: {_NO_ROOM}: {table.name}")
        return table


class SimulatedRocksDB:
    """See `Database` in the index."""

    get_options: Iterator[Any] = repeat(None)

    def __init__(
        self, databases: SimulatedDatabases, directory: Path, files: DatabaseFiles
    ) -> None:
        self._databases = databases
        self._directory = directory
        self._files = files
        values = newest(files.tables)
        self._values = {key: value for key, value in values.items() if value is not None}
        self._keys = sorted(self._values)
        self.unflushed: list[Batch] = []
        self._sized = self._batch_bytes = 0  # How many of the batches have been added up.
        self._failure: str | None = None  # Why it takes no more writes.

    def get(self, key: bytes, _default: None, _options: object) -> bytes | None:
        if self._files.careful:
            return self._get_carefully(key)
        return self._values.get(key)

    def up_to(self, end: bytes | None) -> bytes | None:
        return end

    def iterate(self, end: bytes | None) -> DatabaseIterator:
        if self._files.careful:
            return BlockwiseIterator(self._newest_first(), end, self._reads)
        return _SortedIterator(self._keys, self._values, end)

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes]) -> None:
        if self._failure is not None:
            raise Exception(self._failure)
        keys, values = self._keys, self._values
        if getrefcount(keys) > _OWN_REFERENCES:  # An iterator sees it as it was.
            keys, values = self._keys, self._values = keys.copy(), values.copy()
        for key, value in puts:
            if key not in values:
                insort(keys, key)
            values[key] = value
        for key in deletes:
            if key in values:
                del values[key]
                del keys[bisect_left(keys, key)]
        self.unflushed.append((tuple(puts), tuple(deletes)))

    def flush(self) -> None:
        if self._failure is not None:
            raise Exception(self._failure)
        if self.unflushed:
            self._flush(self.unflushed)
            self.unflushed = []
            self._sized = self._batch_bytes = 0
        now = self._files.now
        if self._databases.merges and len(now.tables) - now.merged >= _TABLES_PER_MERGE:
            self.merge()

    def merge(self) -> None:
        """All tables to one; where one cannot be read, later writes and flushes say so."""
        files = self._files
        try:
            if files.careful:
                check_blocks(files.tables, self._reads)
            every = newest(files.tables)
            entries = {key: value for key, value in every.items() if value is not None}
            merged = self._databases.new_table(self._directory, entries)
        except Exception as error:
            if _NO_ROOM not in str(error):  # It merges when there is room.
                self._failure = str(error)
            return
        files.become(_Version((merged,), merged=1) if entries else _Version())

    def room(self) -> IndexRoom:
        for puts, deletes in self.unflushed[self._sized :]:
            self._batch_bytes += sum(map(len, chain(chain.from_iterable(puts), deletes)))
        self._sized = len(self.unflushed)
        stored = self._files.size
        return IndexRoom(stored, stored + self._batch_bytes, len(self._values))

    def close(self) -> None:
        self._files.opened = None

    abandon = close

    def crash(self, kept: int) -> None:
        """So many of the batches that were not flushed, it has flushed by itself."""
        if kept and self._failure is None:
            with suppress(Exception):
                self._flush(self.unflushed[:kept])
        self._failure = "IO error: the process is gone"
        self._files.opened = None

    def _flush(self, batches: Iterable[Batch]) -> None:
        databases, files = self._databases, self._files
        if databases.files.get(self._directory) is not files:
            raise Exception(f"IO error: {_GONE}: While open a file for appending")
        databases.check("flush", self._directory)
        entries = _entries(batches)
        if entries:
            table = databases.new_table(self._directory, entries)
            files.become(_Version((*files.tables, table), files.now.merged))

    def _newest_first(self) -> list[Table]:
        return [Table("memory", _entries(self.unflushed), None), *reversed(self._files.tables)]

    def _get_carefully(self, key: bytes) -> bytes | None:
        for table in self._newest_first():
            if table.keys:
                found, value = table.get(key, self._reads)
                if found:
                    return value
        return None

    def _reads(self) -> None:
        self._databases.check("read", self._directory)


class _SortedIterator:
    """Through everything as it was when this was made."""

    __slots__ = ("_at", "_ends", "_keys", "_values")

    def __init__(self, keys: list[bytes], values: dict[bytes, bytes], end: bytes | None) -> None:
        self._keys = keys
        self._values = values
        self._ends = len(keys) if end is None else bisect_left(keys, end)
        self._at = -1

    def valid(self) -> bool:
        return 0 <= self._at < self._ends

    def key(self) -> bytes | None:
        return self._keys[self._at] if 0 <= self._at < self._ends else None

    def value(self) -> bytes | None:
        return self._values[self._keys[self._at]] if 0 <= self._at < self._ends else None

    def seek(self, key: bytes) -> None:
        self._at = bisect_left(self._keys, key)

    def seek_for_prev(self, key: bytes) -> None:
        self._at = min(bisect_right(self._keys, key), self._ends) - 1

    def seek_to_last(self) -> None:
        self._at = self._ends - 1

    def next(self) -> None:
        self._at += 1

    def prev(self) -> None:
        self._at -= 1

    def status(self) -> None:
        """It never fails."""


def _entries(batches: Iterable[Batch]) -> dict[bytes, bytes | None]:
    """What they amount to, with the keys that they delete."""
    entries: dict[bytes, bytes | None] = {}
    for puts, deletes in batches:
        entries.update(puts)
        entries.update(dict.fromkeys(deletes))
    return entries


def _missing(table: Table) -> str:
    return f"Corruption: Can't access {table.name}: IO error: {_GONE}"
