"""RocksDB, as the index uses it: one column family, without a log of its own.

Nothing else reaches rocksdict. Its errors come as they are: plain Exceptions, in RocksDB's words.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol

from rocksdict import (
    AccessType,
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DataBlockIndexType,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from octad.sharding.limits import KIB, MIB
from octad.storage_node.journal.disk_reserve import IndexRoom

# The index of a node. Filters and block indexes of all its files stay in memory, 3 bytes a small
# object. Its cache grows with it, for rows that are read again: 10 bytes a small object.
INDEX_MEMTABLE_BYTES = 16 * MIB
INDEX_MEMTABLES_MAX = 3  # One being filled, two on their way to disk.
INDEX_CACHE_BYTES_MIN = 8 * MIB
INDEX_CACHE_SHARE = 1 / 12
INDEX_OPEN_FILES = 128  # 128 MiB each; more if the limit of open files is higher.
INDEX_BLOCK_BYTES = 2 * KIB  # The unit of a get.

_BLOOM_BITS_PER_KEY = 10  # One miss in a hundred reads a block for nothing.
_MEMTABLE_FILTER_SHARE = 0.05
_HASH_RATIO = 0.75  # Rows per hash bucket: a byte a row finds it without a search in its block.
_BLOCKS_PER_RESTART = 16  # Shared prefixes make a block index a sixth as large: it stays cached.
_GETS_PER_FILL = 16  # Hot blocks are cached soon; cold ones hardly cost anything.
_FLUSHES_PER_MERGE = 2  # Each file that is not merged yet is one more for every get to ask.
_FILE_BYTES = 128 * MIB  # Few files: what a get looks at first stays in the CPU's cache.
# The number of unmerged files that stalls a flush: never. It would wait for a merge, and that for
# room on a full disk, which the journal's compaction makes only behind a flush.
_UNMERGED_MAX = 1 << 30
_BACKGROUND_JOBS = 2
_ONLY_FAMILY = "default"


class DatabaseIterator(Protocol):
    """Not valid at its end and after an error: only `status`, which raises it, tells which."""

    def valid(self) -> bool: ...
    def key(self) -> Any: ...  # bytes; None where it is not valid.
    def value(self) -> Any: ...
    def seek(self, key: bytes, /) -> None: ...
    def seek_for_prev(self, key: bytes, /) -> None: ...
    def seek_to_last(self) -> None: ...
    def next(self) -> None: ...
    def prev(self) -> None: ...
    def status(self) -> None: ...


class Database(Protocol):
    """An open database. What is not flushed is lost with the process, in whole batches."""

    get_options: Iterator[Any]  # For each `get` the next.

    @property
    def get(self) -> Callable[[bytes, None, Any], Any]:
        """(key, None, options) to the value or None."""

    @property
    def iterate(self) -> Callable[[Any], DatabaseIterator]:
        """Options (`up_to`) to an iterator, which sees everything as it is now."""

    def up_to(self, end: bytes | None, /) -> Any:
        """Options of iterators that end before `end`; to be kept as long as they are."""

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes], /) -> None:
        """All of these or none, deletes last."""

    def flush(self) -> None:
        """Everything written before is durable when this returns."""

    def room(self) -> IndexRoom: ...

    def close(self) -> None: ...

    def abandon(self) -> None:
        """Unlock it without a flush, which would fail again."""


class RocksDB:
    """See `Database`. One writer thread at a time; `flush` may run in another."""

    def __init__(self, directory: Path, open_files: int) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        _check_not_beheaded(directory)
        self._merging = _free_bytes(directory) > room_to_merge(_file_bytes(directory))
        self.cache = Cache(INDEX_CACHE_BYTES_MIN)
        options = _options(self.cache, open_files)
        options.set_disable_auto_compactions(not self._merging)
        # Named, because rocksdict opens a family not passed to it as its options file says,
        # with the default cache.
        families = {_ONLY_FAMILY: options}
        self._database = Rdict(str(directory), options, families, AccessType.read_write())
        self.get: Callable[[bytes, None, Any], Any] = self._database.get
        self.iterate: Callable[[Any], DatabaseIterator] = self._database.iter
        self._write_options = WriteOptions()
        # The stubs call this a method; it is an attribute.
        self._write_options.disable_wal = True  # type: ignore[assignment, method-assign]
        self._filling, self._sparing = ReadOptions(), ReadOptions()
        self._sparing.fill_cache(False)  # type: ignore[call-arg]  # The stubs forget the argument.
        self._fit_cache()

    def up_to(self, end: bytes | None) -> ReadOptions:
        options = ReadOptions()  # RocksDB reads the bound where it lies, in there.
        if end is not None:
            options.set_iterate_upper_bound(end)
        return options

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes]) -> None:
        batch = WriteBatch(raw_mode=True)
        put = batch.put
        for key, value in puts:
            put(key, value)
        for key in deletes:
            batch.delete(key)
        self._database.write(batch, self._write_options)

    def flush(self) -> None:
        self._database.flush(wait=True)
        self._fit_cache()
        self._merge_if_room()

    def close(self) -> None:
        self._database.close()

    def abandon(self) -> None:
        # Its own closing would flush, and keep the lock. The frames of what has failed may hold
        # this object for long, so the database goes alone.
        del self._database, self.get, self.iterate

    def room(self) -> IndexRoom:
        in_memory = self.figure("cur-size-all-mem-tables")
        return IndexRoom(
            self._room_needed(), self._stored_bytes() + in_memory, self.figure("estimate-num-keys")
        )

    def figure(self, name: str) -> int:
        """One of RocksDB's own."""
        return self._database.property_int_value(f"rocksdb.{name}") or 0

    def _room_needed(self) -> int:
        """The free space that it may need temporarily, to merge its files and flush meanwhile.

        What a merge under way has written already is not free any more, and not needed again.
        """
        being_merged = _file_bytes(self._directory) - self.figure("total-sst-files-size")
        return room_to_merge(self._stored_bytes() - max(being_merged, 0))

    def _stored_bytes(self) -> int:
        return self.figure("live-sst-files-size")

    def _merge_if_room(self) -> None:
        """A merge without room would take the last of it, fail, and leave none for a flush."""
        merging = _free_bytes(self._directory) > self._room_needed()
        if merging != self._merging:
            self._database.set_options({"disable_auto_compactions": str(not merging).lower()})
            self._merging = merging

    def _fit_cache(self) -> None:
        """Give the cache room for some of the rows; filters and indexes are not in it.

        Where it cannot hold all rows, to put a block in and another out is a third of the cost of
        a get, for a block that is in the system's cache already: most gets leave it.
        """
        stored = self._stored_bytes()
        capacity = max(INDEX_CACHE_BYTES_MIN, int(stored * INDEX_CACHE_SHARE))
        self.cache.set_capacity(capacity)
        sparing = 0 if stored <= capacity else _GETS_PER_FILL - 1
        self.get_options: Iterator[Any] = cycle([self._filling] + [self._sparing] * sparing)


def _check_not_beheaded(directory: Path) -> None:
    """Without CURRENT, which names the latest files, RocksDB would create an empty database."""
    if not (directory / "CURRENT").exists() and any(directory.glob("*[0-9].sst")):
        raise OSError("CURRENT is gone")


def _file_bytes(directory: Path) -> int:
    total = 0
    for file in directory.glob("*.sst"):
        with suppress(FileNotFoundError):  # The file has just been merged.
            total += file.stat().st_size
    return total


def _free_bytes(directory: Path) -> int:
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def room_to_merge(stored: int) -> int:
    """The free space that a merge of all files needs, and flushes meanwhile."""
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
