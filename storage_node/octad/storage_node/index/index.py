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
from itertools import cycle, takewhile
from pathlib import Path
from typing import NoReturn, cast

from rocksdict import (
    AccessType,
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DataBlockIndexType,
    DBCompressionType,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from octad.client.runtime.open_files import none_left
from octad.client.runtime.shown_command import shown_command
from octad.sharding.limits import KIB, MIB
from octad.storage_node.index.index_format import POSITION_KEY, decode_position
from octad.storage_node.journal.disk_reserve import IndexRoom
from octad.storage_node.journal.record_format import Position

# The index of a node. Filters and block indexes of all its files stay in memory, 3 bytes a small
# object. Its cache grows with it, for rows that are read again: 10 bytes a small object.
INDEX_MEMTABLE_BYTES = 16 * MIB
INDEX_MEMTABLES_MAX = 3  # One being filled, two on their way to disk.
INDEX_CACHE_BYTES_MIN = 8 * MIB
INDEX_CACHE_SHARE = 1 / 12
INDEX_OPEN_FILES = 128  # Of 128 MiB each; more where the limit of open files is higher.
INDEX_BLOCK_BYTES = 2 * KIB  # The unit of a get.

_BLOOM_BITS_PER_KEY = 10  # One miss in a hundred reads a block for nothing.
_MEMTABLE_FILTER_SHARE = 0.05
_HASH_RATIO = 0.75  # Rows per hash bucket: a byte a row finds it without a search in its block.
_BLOCKS_PER_RESTART = 16  # Of a block index: shared prefixes make it a sixth, so it stays at hand.
_GETS_PER_FILL = 16  # Hot blocks are cached soon; cold ones hardly cost anything.
_FLUSHES_PER_MERGE = 2  # Each file that is not merged yet is one more for every get to ask.
_FILE_BYTES = 128 * MIB  # Of few files, what a get looks at first stays in the CPU's cache.
# The number of unmerged files that stalls a flush: never. It would wait for a merge, and that for
# room on a full disk, which the journal's compaction makes only behind a flush.
_UNMERGED_MAX = 1 << 30
_BACKGROUND_JOBS = 2
NOTHING_READ: Mapping[bytes, bytes | None] = {}
_ONLY_FAMILY = "default"
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

    def __init__(self, index: Index, database: Rdict, end: bytes) -> None:
        self._index = index
        self._options = ReadOptions()  # Kept: RocksDB reads the bound where it lies, in there.
        self._options.set_iterate_upper_bound(end)
        self._iterator = iterator = database.iter(self._options)
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

    def __init__(self, index: Index, start: bytes, end: bytes | None, reverse: bool) -> None:
        self._index: Index | None = index
        self._start = start
        self._reverse = reverse
        self._options = ReadOptions()
        if end is not None:
            self._options.set_iterate_upper_bound(end)
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

    def __init__(self, why: str) -> None:
        self._why = why

    def property_int_value(self, _name: str) -> None:
        return None

    def __getattr__(self, _name: str) -> NoReturn:
        raise IndexDamage(self._why)


class Index:
    """An open index. One writer thread at a time; `flush` may run in another."""

    def __init__(self, directory: Path, open_files: int = INDEX_OPEN_FILES) -> None:
        self.directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _check_not_beheaded(directory)
            self._merging = _free_bytes(directory) > _room_to_merge(_file_bytes(directory))
            self._cache = Cache(INDEX_CACHE_BYTES_MIN)
            options = _options(self._cache, open_files)
            options.set_disable_auto_compactions(not self._merging)
            # Named, because rocksdict opens a family not passed to it as its options file says,
            # with the default cache.
            families = {_ONLY_FAMILY: options}
            self._database = Rdict(str(directory), options, families, AccessType.read_write())
        except Exception as error:  # rocksdict raises plain Exception for everything
            if none_left(error) or any(why in str(error) for why in _NO_ROOM):
                raise IndexFailed(f"{directory} cannot be opened now: {error}") from error
            if "/LOCK" in str(error):
                raise IndexLocked(f"{directory} is open already: {error}") from error
            raise IndexDamaged(directory, str(error)) from error
        self._write_options = WriteOptions()
        # The stubs call this a method; it is an attribute.
        self._write_options.disable_wal = True  # type: ignore[assignment, method-assign]
        self._filling, self._sparing = ReadOptions(), ReadOptions()
        self._sparing.fill_cache(False)  # type: ignore[call-arg]  # The stubs forget the argument.
        self._get_options: cycle[ReadOptions] = cycle([self._filling])
        self._scans: weakref.WeakSet[Scan] = weakref.WeakSet()
        self._fit_cache()
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
        """The value at `key`. Raises IndexDamage.

        Where the cache cannot hold all rows, to put a block in and another out is a third of the
        cost of a get, for a block that is in the system's cache already: most gets leave it.
        """
        try:
            value: bytes | None = self._database.get(key, None, next(self._get_options))
        except Exception as error:  # rocksdict raises plain Exception for everything
            return self._get_again(key, error)
        return value

    def _get_again(self, key: bytes, error: Exception) -> bytes | None:
        """Retry a failed read once: damage does not pass."""
        if none_left(error):
            raise error  # That is no statement on the file's contents.
        if not _is_damage(error):
            with suppress(Exception):
                value: bytes | None = self._database.get(key)
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
            self._write(puts, deletes)
        except Exception as error:
            failure = self._not_written(error)
            if isinstance(failure, IndexFailed):
                raise failure from error
            return
        if puts and puts[-1][0] == POSITION_KEY:  # As its writers placed it.
            self.written_position = decode_position(puts[-1][1])

    def _write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes]) -> None:
        batch = WriteBatch(raw_mode=True)
        put = batch.put
        for key, value in puts:
            put(key, value)
        for key in deletes:
            batch.delete(key)
        self._database.write(batch, self._write_options)

    def scan(self, start: bytes, end: bytes | None = None, *, reverse: bool = False) -> Scan:
        """The entries of [start, end) in order, or backwards; without `end`, to the last."""
        scan = Scan(self, start, end, reverse)
        self._scans.add(scan)
        return scan

    def cursor(self, end: bytes) -> Cursor:
        """For a loop that nothing interrupts: the index cannot be closed before it is let go."""
        return Cursor(self, self._database, end)

    def walk(
        self, key: bytes | None, options: ReadOptions, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """The basis of every scan: the entries from `key` on, as of now."""
        iterator = self._database.iter(options)
        if reverse:
            iterator.seek_to_last() if key is None else iterator.seek_for_prev(key)
        else:
            iterator.seek(key or b"")
        return self._steps(iterator, iterator.prev if reverse else iterator.next)

    def _steps(
        self, iterator: RdictIter, step: Callable[[], None]
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

    def require_end(self, iterator: RdictIter) -> None:
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
            self._database = cast("Rdict", _Unreadable(self.damage))
            self.on_damage(self.damage)
        return IndexDamage(self.damage)

    def succeed(self, successor: Index) -> None:
        """Go on as `successor`, which was made in the place of this damaged one."""
        assert self.damage is not None
        self.directory = successor.directory
        self._merging, self._cache = successor._merging, successor._cache
        self._get_options = successor._get_options
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
            self._flush()
        except Exception as error:
            raise self._not_written(error) from error
        self.flushed_position = max(self.flushed_position, position)

    def _flush(self) -> None:
        self._database.flush(wait=True)
        self._fit_cache()
        self._merge_if_room()

    def room_needed(self) -> int:
        """The free space that it may need temporarily, to merge its files and flush meanwhile.

        What a merge under way has written already is not free any more, and not needed again.
        """
        kept = self._database.property_int_value("rocksdb.total-sst-files-size") or 0
        return _room_to_merge(self._stored_bytes() - max(_file_bytes(self.directory) - kept, 0))

    def room(self) -> IndexRoom:
        """Its disk usage and temporary need, by RocksDB's estimates."""
        in_memory = self._database.property_int_value("rocksdb.cur-size-all-mem-tables") or 0
        entries = self._database.property_int_value("rocksdb.estimate-num-keys") or 0
        return IndexRoom(self.room_needed(), self._stored_bytes() + in_memory, entries)

    def _stored_bytes(self) -> int:
        return self._database.property_int_value("rocksdb.live-sst-files-size") or 0

    def _merge_if_room(self) -> None:
        """A merge without room would take the last of it, fail, and leave none for a flush."""
        merging = _free_bytes(self.directory) > self.room_needed()
        if merging != self._merging:
            self._database.set_options({"disable_auto_compactions": str(not merging).lower()})
            self._merging = merging

    def _fit_cache(self) -> None:
        """Give the cache room for some of the rows; filters and indexes are not in it."""
        stored = self._stored_bytes()
        capacity = max(INDEX_CACHE_BYTES_MIN, int(stored * INDEX_CACHE_SHARE))
        self._cache.set_capacity(capacity)
        sparing = 0 if stored <= capacity else _GETS_PER_FILL - 1
        self._get_options = cycle([self._filling] + [self._sparing] * sparing)

    def close(self) -> None:
        """Flush and unlock. Scans that are still held end: a live one would keep the lock."""
        for scan in list(self._scans):
            scan.close()
        if self.failure is not None or self.damage is not None:
            del self._database  # Its own closing would flush, fail again and keep the lock.
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


def _check_not_beheaded(directory: Path) -> None:
    """Without CURRENT, which names the latest files, RocksDB would create an empty database."""
    if not (directory / "CURRENT").exists() and any(directory.glob("*[0-9].sst")):
        raise OSError("CURRENT is gone")


def _nothing(_damage: str) -> None:
    """Opened alone, an index reports damage by raising only."""


def _file_bytes(directory: Path) -> int:
    total = 0
    for file in directory.glob("*.sst"):
        with suppress(FileNotFoundError):  # The file has just been merged.
            total += file.stat().st_size
    return total


def _free_bytes(directory: Path) -> int:
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def _room_to_merge(stored: int) -> int:
    return max(stored, 0) + INDEX_MEMTABLES_MAX * INDEX_MEMTABLE_BYTES


def _options(cache: Cache, open_files: int) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(INDEX_MEMTABLE_BYTES)
    options.set_max_write_buffer_number(INDEX_MEMTABLES_MAX)
    # One bit tells a get that its key is not in memory, instead of a search.
    options.set_memtable_prefix_bloom_ratio(_MEMTABLE_FILTER_SHARE)
    options.set_memtable_whole_key_filtering(True)
    options.set_max_background_jobs(_BACKGROUND_JOBS)
    options.set_target_file_size_base(_FILE_BYTES)
    # A quarter of them stays open for good, so that a get need not look up whether a file is; those
    # beyond are looked up; and only of more than these are some opened again and again.
    options.set_max_open_files(open_files)
    options.set_level_compaction_dynamic_level_bytes(True)  # At most a tenth of the bytes twice.
    options.set_level_zero_file_num_compaction_trigger(_FLUSHES_PER_MERGE)
    options.set_level_zero_slowdown_writes_trigger(_UNMERGED_MAX)
    options.set_level_zero_stop_writes_trigger(_UNMERGED_MAX)
    options.set_compression_type(DBCompressionType.none())  # A get of 10 M rows costs a third less.
    options.set_bytes_per_sync(MIB)  # A flush spreads its writes instead of one burst at the end.
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(MIB)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_block_based_table_factory(_table_options(cache))
    return options


def _table_options(cache: Cache) -> BlockBasedOptions:
    """Filters and block indexes stay in memory with their file, and the cache is for rows alone.

    In the cache, in pieces, their memory would be bounded; but to find a piece there costs as much
    as the search in it, and a get needs one of each file that may have its row.
    """
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_block_size(INDEX_BLOCK_BYTES)
    table.set_format_version(5)
    table.set_bloom_filter(_BLOOM_BITS_PER_KEY, False)
    table.set_data_block_index_type(DataBlockIndexType.binary_and_hash())
    table.set_data_block_hash_ratio(_HASH_RATIO)
    table.set_index_type(BlockBasedIndexType.binary_search())
    table.set_index_block_restart_interval(_BLOCKS_PER_RESTART)
    table.set_cache_index_and_filter_blocks(False)
    return table
