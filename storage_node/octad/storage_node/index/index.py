"""The index of one node: an ordered map of bytes to bytes in RocksDB, without a log of its own.

The journal is its log: what RocksDB has not flushed is lost with the process and comes back by
replay from `position()`, which each batch carries with its rows. So a batch is atomic and cheap,
and only `flush` makes anything durable.

It knows nothing of tables, rows or shards (`index/index_format.py`), and nothing of the journal.
"""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import repeat, takewhile
from pathlib import Path
from typing import Any, NoReturn

from octad.client.runtime.open_files import none_left
from octad.client.runtime.shown_command import shown_command
from octad.storage_node.index.index_format import POSITION_KEY, decode_position
from octad.storage_node.index.rocksdb import (
    INDEX_OPEN_FILES,
    Database,
    DatabaseIterator,
    RocksDB,
    room_to_merge,
)
from octad.storage_node.journal.disk_reserve import IndexRoom
from octad.storage_node.journal.record_format import Position

NOTHING_READ: Mapping[bytes, bytes | None] = {}
_NO_ROOM = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
_GONE = os.strerror(errno.ENOENT)
_CORRUPTION = "Corruption:"  # The start of RocksDB's errors that mean damage.


class IndexLocked(Exception):
    """Another process, or a scan that is still alive in this one, holds the index open."""


class IndexDamaged(Exception):
    """RocksDB cannot open it: it is damaged, or was copied while a node was running."""

    def __init__(self, directory: Path, why: str) -> None:
        self.what = f"{directory} cannot be opened ({_one_line(why)})"
        rebuild = shown_command("octad", "index", "rebuild", directory.parent)
        self.fix = f"run `{rebuild}` to make it anew from the journal"
        super().__init__(f"{self.what}; {self.fix}")


class IndexFailed(Exception):
    """The index takes no more writes, or cannot be opened now: the disk is full, for example.

    A restart replays what it lacks from the journal.
    """


class IndexDamage(Exception):
    """Data read is not what was written: nothing of the index is trusted any more.

    It is rebuilt from the journal, which has everything.
    """


class Cursor:
    """Keys up to `end`, in order, from any requested start; values only on demand.

    It sees the index as it was when it was made, and costs half of what a `Scan` does.
    """

    __slots__ = ("_index", "_iterator", "_options", "value")

    def __init__(self, index: Index, database: Database, end: bytes) -> None:
        self._index = index
        self._options = database.up_to(end)
        self._iterator = iterator = database.iterate(self._options)
        self.value: Callable[[], bytes] = iterator.value  # The last key.

    def keys_from(self, start: bytes) -> Iterator[bytes]:
        """Raises IndexDamage where the index cannot be read on: an iterator just ends there."""
        index, iterator = self._index, self._iterator
        iterator.seek(start)
        key_here, step = iterator.key, iterator.next
        while (key := key_here()) is not None:
            yield key
            if index.damage is not None:
                raise IndexDamage(index.damage)
            step()
        index.require_end(iterator)


class Scan:
    """Entries of a range in order: iterate, or `seek` to leave out a stretch.

    It sees the index as it was when it was made or last sought. Letting it go is enough to end it.
    Raises IndexDamage where the index cannot be read on: the iterators that RocksDB's bindings have
    for Python end there as they do at a range's end.
    """

    def __init__(
        self, index: Index, database: Database, start: bytes, end: bytes | None, reverse: bool
    ) -> None:
        self._index: Index | None = index
        self._start = start
        self._reverse = reverse
        self._options = database.up_to(end)
        self._items = self._items_from(end if reverse else start)

    def __iter__(self) -> Scan:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        return next(self._items)

    def seek(self, key: bytes) -> None:
        """Go on at `key`, or behind it in the scan's direction when it is absent."""
        self._items = self._items_from(key)

    def close(self) -> None:
        """Let go of the index; what was not read is not read any more."""
        self._items, self._index = iter(()), None

    def _items_from(self, key: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        if self._index is None:
            return iter(())
        start = self._start
        if not self._reverse:
            return self._index.walk(max(key or b"", start), self._options)
        items = self._index.walk(key, self._options, reverse=True)
        # The lower bound is kept here: rocksdict 0.3 sets the upper one when asked to set it.
        return takewhile(lambda item: item[0] >= start, items)


class _Unreadable:
    """Replaces a database that is damaged."""

    get_options: Iterator[Any] = repeat(None)

    def __init__(self, why: str) -> None:
        self._why = why

    def room(self) -> IndexRoom:
        return IndexRoom(room_to_merge(0), 0, 0)

    def _refuse(self, *_: object) -> NoReturn:
        raise IndexDamage(self._why)

    get = iterate = up_to = write = flush = close = _refuse

    def abandon(self) -> None:
        """It is let go of already."""


class Index:
    """An open index. One writer thread at a time; `flush` may run in another.

    `opens` is RocksDB everywhere but in simulations.
    """

    def __init__(
        self,
        directory: Path,
        open_files: int = INDEX_OPEN_FILES,
        opens: Callable[[Path, int], Database] = RocksDB,
    ) -> None:
        self.directory = directory
        try:
            self._database: Database = opens(directory, open_files)
        except Exception as error:  # rocksdict raises plain Exception for everything
            if none_left(error) or any(why in str(error) for why in _NO_ROOM):
                raise IndexFailed(f"{directory} cannot be opened now: {error}") from error
            if "/LOCK" in str(error):
                raise IndexLocked(f"{directory} is open already: {error}") from error
            raise IndexDamaged(directory, str(error)) from error
        self._scans: weakref.WeakSet[Scan] = weakref.WeakSet()
        self._begin()

    def _begin(self) -> None:
        self.damage: str | None = None  # The place and kind of the damage.
        self.on_damage: Callable[[str], None] = _nothing
        stored = self.get(POSITION_KEY)
        self._position = Position(0) if stored is None else decode_position(stored)
        self.failure: IndexFailed | None = None
        self.written_position = self.flushed_position = self._position

    def position(self) -> Position:
        """The start of replay: the position that was durable with the rows at open."""
        return self._position

    def get(self, key: bytes) -> bytes | None:
        """The value at `key`. Raises IndexDamage."""
        database = self._database
        try:
            value: bytes | None = database.get(key, None, next(database.get_options))
        except Exception as error:  # rocksdict raises plain Exception for everything
            return self._get_again(key, error)
        return value

    def _get_again(self, key: bytes, error: Exception) -> bytes | None:
        """Retry a failed read once: damage does not pass."""
        if none_left(error):
            raise error  # That is no statement on the file's contents.
        if not _is_damage(error):
            with suppress(Exception):
                value: bytes | None = self._database.get(key, None, None)
                return value
        raise self.note_damage(str(error)) from error

    def write(
        self,
        puts: Sequence[tuple[bytes, bytes]],
        deletes: Sequence[bytes] = (),
        before: Mapping[bytes, bytes | None] = NOTHING_READ,
    ) -> None:
        """Change all of these or none. Visible at once, durable with the next flush.

        Raises IndexFailed, and so does everything after it: a missing write must not be followed
        by later ones. Writes to a damaged index are dropped: its replacement takes them from
        the journal.
        `before`: values that the caller has just read under some of the keys, to save a look-up.
        """
        self._check()
        if self.damage is not None:
            return
        try:
            self._database.write(puts, deletes)
        except Exception as error:
            failure = self._not_written(error)
            if isinstance(failure, IndexFailed):
                raise failure from error
            return
        if puts and puts[-1][0] == POSITION_KEY:  # As its writers placed it.
            self.written_position = decode_position(puts[-1][1])

    def scan(self, start: bytes, end: bytes | None = None, *, reverse: bool = False) -> Scan:
        """The entries of [start, end) in order, or backwards; without `end`, to the last."""
        scan = Scan(self, self._database, start, end, reverse)
        self._scans.add(scan)
        return scan

    def cursor(self, end: bytes) -> Cursor:
        """For a loop that nothing interrupts: the index cannot be closed before it is let go."""
        return Cursor(self, self._database, end)

    def walk(
        self, key: bytes | None, options: Any, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """The basis of every scan: the entries from `key` on, as of now."""
        iterator = self._database.iterate(options)
        if reverse:
            iterator.seek_to_last() if key is None else iterator.seek_for_prev(key)
        else:
            iterator.seek(key or b"")
        return self._steps(iterator, iterator.prev if reverse else iterator.next)

    def _steps(
        self, iterator: DatabaseIterator, step: Callable[[], None]
    ) -> Iterator[tuple[bytes, bytes]]:
        """An iterator is invalid at its end and after an error: only its status tells which."""
        valid, key, value = iterator.valid, iterator.key, iterator.value
        database = self._database
        while valid():
            yield key(), value()
            if self._database is not database:
                raise IndexDamage("the index was given up while it was read")
            step()
        self.require_end(iterator)

    def require_end(self, iterator: DatabaseIterator) -> None:
        """Raises IndexDamage where `iterator` has ended because it cannot go on."""
        try:
            iterator.status()
        except Exception as error:  # rocksdict raises plain Exception for everything
            if none_left(error):
                raise
            raise self.note_damage(str(error)) from error

    def note_damage(self, why: str) -> IndexDamage:
        """Mark the index as damaged: nothing is read any more, since readable rows may be older
        than unreadable ones. Returns the error to raise; any thread may call it."""
        if self.damage is None:
            self.damage = f"{self.directory} is damaged ({_one_line(why)})"
            self._database = _Unreadable(self.damage)
            self.on_damage(self.damage)
        return IndexDamage(self.damage)

    def succeed(self, successor: Index) -> None:
        """Go on as `successor`, which was made in the place of this damaged one."""
        assert self.damage is not None
        self.directory = successor.directory
        self._position = self.written_position = successor.written_position
        self.flushed_position = successor.flushed_position
        self._database = successor._database
        self.damage = None

    def flush(self) -> None:
        """Make everything written so far durable. Blocks: for a thread, or before closing.

        Raises IndexFailed, IndexDamage.
        """
        self._check()
        if self.damage is not None:
            raise IndexDamage(self.damage)
        position = self.written_position
        try:
            self._database.flush()
        except Exception as error:
            raise self._not_written(error) from error
        self.flushed_position = max(self.flushed_position, position)

    def room(self) -> IndexRoom:
        """Its disk usage and temporary need, by RocksDB's estimates."""
        return self._database.room()

    def close(self) -> None:
        """Flush and unlock. Scans that are still held end: a live one would keep the lock."""
        for scan in list(self._scans):
            scan.close()
        if self.failure is not None or self.damage is not None:
            self._database.abandon()
            return
        self.flush()
        self._database.close()

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _not_written(self, error: Exception) -> IndexFailed | IndexDamage:
        """A merge that has met damage fails the flushes and writes after it."""
        if _is_damage(error):
            return self.note_damage(str(error))
        self.failure = IndexFailed(f"the index cannot be written: {error}")
        return self.failure


def _one_line(why: str) -> str:
    return " ".join(why.split())


def _is_damage(error: Exception) -> bool:
    said = str(error)  # Files that are gone do not come back either.
    return isinstance(error, IndexDamage) or said.startswith(_CORRUPTION) or _GONE in said


def _nothing(_damage: str) -> None:
    """Opened alone, an index reports damage by raising only."""
