"""Whether an engine that is full costs what an empty one does, and what its index takes.

The first 10,000 objects and the last ones are in two engines that take turns, so that other load
hits both alike. Every row that is read lies in a file of the index, as after any restart, and no
files are being merged. Keys are taken at random: the small index is in its cache, of the large one
next to nothing is. All files are in the system's cache: waiting for a disk is no CPU, but asking it
is.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from tests.unit.engine.engine_site import BUCKET, EngineSite
from tools.engine.bench_site import (
    IN_FLIGHT,
    TINY,
    closed,
    index_file_bytes,
    opened,
    put_all,
    row,
)

from octad.sharding.limits import MIB
from octad.storage_node.index.index_format import decode_object, object_key
from octad.storage_node.index.rocksdb import INDEX_BLOCK_BYTES, RocksDB
from octad.storage_node.journal.record_format import Location
from octad.storage_node.journal.segment_file import segment_path
from octad.storage_node.shards.key_scan import scan_keys
from octad.storage_node.shards.object_store import ListQuery

FIRST = 10_000
PER_FLUSH = 50_000
PUT_TURNS, GET_ROUNDS, GET_TURNS = 20, 4, 10
GETS = FIRST // (GET_ROUNDS * GET_TURNS)  # Per turn.
PAGE = 1000
TO_REPLAY = 60_000
DEPTH, EVERY_SHARD = 0, {0}  # The pool that is listed has one shard.

T = TypeVar("T")


async def many_objects(directory: Path, options: argparse.Namespace) -> None:
    """Objects of 100 B: the first, the last, lists, memory, a restart."""
    total: int = options.objects
    name = f"{total:,} objects of 100 B"
    small, large = opened(directory / "small"), opened(directory / "large")
    before, cpu = _resident(), time.process_time()
    for start in range(0, total - FIRST, PER_FLUSH):
        numbers = range(start, min(start + PER_FLUSH, total - FIRST))
        await put_all(large, map(_key, numbers), TINY, IN_FLIGHT * 16)
        large.index.flush()
    cpu_us = (time.process_time() - cpu) / (total - FIRST) * 1e6
    row(f"{name}: put, mean of all, every thread of the process", "none", f"{cpu_us:.1f} µs")
    await _puts(name, small, large, total)
    memory = (_resident() - before) / total
    await _at_rest(large)
    _gets(name, directory, small, large, total)
    memory = max(memory, (_resident() - before) / total)
    stored = index_file_bytes(directory / "large") / total
    row("index on disk, an object", "≤ 200 B", f"{stored:.0f} B")
    row("memory, an object", "≤ 30 B", f"{memory:.0f} B ({memory * total / MIB:.0f} MiB in all)")
    _lists(large, total)
    await closed(small)
    await _restart(directory / "large", large, total)


async def _puts(name: str, small: EngineSite, large: EngineSite, total: int) -> None:
    took: list[tuple[float, float]] = []
    turn = FIRST // PUT_TURNS
    for start in range(0, FIRST, turn):
        first = await _put_us(small, range(start, start + turn))
        last = await _put_us(large, range(total - FIRST + start, total - FIRST + start + turn))
        took.append((first, last))
    small.index.flush()
    large.index.flush()
    _compared(f"{name}: put, last 10,000 to first", "≤ 2x", took)


async def _put_us(site: EngineSite, numbers: range) -> float:
    cpu = time.thread_time()
    await put_all(site, map(_key, numbers), TINY)
    return (time.thread_time() - cpu) / len(numbers) * 1e6


async def _at_rest(site: EngineSite) -> None:
    """RocksDB has merged what it wants to merge: nothing of that is a get's."""
    database = site.index._database
    assert isinstance(database, RocksDB)
    while any(map(database.figure, ("compaction-pending", "num-running-compactions"))):
        await asyncio.sleep(0.1)


def _gets(name: str, directory: Path, small: EngineSite, large: EngineSite, total: int) -> None:
    """Whole gets; then what they consist of, each part by itself."""
    rng = random.Random(1)

    def keys(count: int) -> list[bytes]:
        return [_key(number) for number in rng.sample(range(total if count else FIRST), GETS)]

    whole: list[tuple[float, float]] = []
    looked_up: list[tuple[float, float]] = []
    read: list[tuple[float, float]] = []
    bare: list[tuple[float, float]] = []
    floor = BareReads(directory / "small"), BareReads(directory / "large")
    for _ in range(GET_ROUNDS):
        _into_system_cache(directory)
        for _ in range(GET_TURNS):
            whole.append((_us(small.get, keys(0)), _us(large.get, keys(1))))
            first, last = (list(map(_index_key, keys(which))) for which in (0, 1))
            looked_up.append((_us(small.index.get, first), _us(large.index.get, last)))
            records = _locations(small, first), _locations(large, last)
            read.append((_us(small.journal.read, records[0]), _us(large.journal.read, records[1])))
            bare.append((floor[0].us(records[0], rng), floor[1].us(records[1], rng)))
    _compared(f"{name}: get, any to any of the first 10,000", "≤ 2x", whole)
    _compared("… of it the index's get", "none", looked_up)
    _compared("… of it reading and checking the record", "none", read)
    _compared("bare reads of a block of the index and of the record", "none", bare)
    for files in floor:
        files.close()


class BareReads:
    """What a get cannot do without when the index is larger than its cache: the system calls."""

    def __init__(self, directory: Path) -> None:
        self._segments = _open_all(directory / "journal", "*.segment")
        self._index = [
            (file, os.fstat(file).st_size)
            for file in _open_all(directory / "index", "*.sst").values()
        ]

    def us(self, locations: list[Location], rng: random.Random) -> float:
        """CPU of the two reads for each of `locations`, the index's at random."""
        where = [
            (*rng.choices(self._index, [size for _, size in self._index])[0], location)
            for location in locations
        ]
        reads: list[tuple[int, int, int]] = []
        for file, size, location in where:
            reads.append((file, INDEX_BLOCK_BYTES, rng.randrange(max(1, size - INDEX_BLOCK_BYTES))))
            segment = segment_path(Path(), location.segment).name
            reads.append((self._segments[segment], location.length, location.offset))
        return 2 * _us(lambda read: os.pread(*read), reads)

    def close(self) -> None:
        for file in [*self._segments.values(), *(file for file, _ in self._index)]:
            os.close(file)


def _open_all(directory: Path, pattern: str) -> dict[str, int]:
    return {path.name: os.open(path, os.O_RDONLY) for path in directory.glob(pattern)}


def _locations(site: EngineSite, index_keys: list[bytes]) -> list[Location]:
    values = [site.index.get(key) for key in index_keys]
    return [decode_object(value).location for value in values if value is not None]


def _us(do: Callable[[T], object], each: Sequence[T]) -> float:
    cpu = time.thread_time()
    for one in each:
        do(one)
    return (time.thread_time() - cpu) / len(each) * 1e6


def _compared(figure: str, wanted: str, took: Iterable[tuple[float, float]]) -> None:
    first, last = (statistics.median(times) for times in zip(*took, strict=True))
    row(figure, wanted, f"{last / first:.2f}x ({first:.1f} to {last:.1f} µs)")


def _lists(site: EngineSite, total: int) -> None:
    """A page from the middle: plain, rolled up, and rolled up over very full prefixes."""
    middle = _key(total // 2)
    for name, query in (
        ("LIST of 1,000 in the middle", ListQuery(after=middle, limit=PAGE)),
        ("… with delimiter, 10 keys a prefix", ListQuery(b"", b"/", middle, PAGE)),
        ("… with delimiter, one prefix of everything", ListQuery(b"", b"k", b"", PAGE)),
    ):
        took: list[float] = []
        for _ in range(9):
            began = time.perf_counter()
            entries, _, _ = scan_keys(site.index.cursor, BUCKET, query, PAGE, DEPTH, EVERY_SHARD)
            took.append(time.perf_counter() - began)
        measured = f"{statistics.median(took) * 1e3:.2f} ms ({len(entries)} entries)"
        row(name, "≤ 3 ms", measured)


async def _restart(directory: Path, site: EngineSite, total: int) -> None:
    """After a kill: the index is let go without a flush."""
    await put_all(site, map(_key, range(total, total + TO_REPLAY)), TINY)
    await site.journal.close()
    site.index._database.close()
    began = time.perf_counter()
    site = opened(directory)
    took = time.perf_counter() - began
    row(f"restart, {TO_REPLAY:,} records to replay", "≤ 5 s", f"{took:.2f} s")
    await closed(site)


def _key(number: int) -> bytes:
    """In an order of names that has nothing to do with the order of writing."""
    scattered = number * 2_654_435_761 % 2**32
    return b"k%08x/%02d" % (scattered, number % 100)


def _index_key(key: bytes) -> bytes:
    return object_key(BUCKET, key)


def _into_system_cache(directory: Path) -> None:
    for path in directory.rglob("*"):
        if path.suffix in (".sst", ".segment"):
            with path.open("rb", buffering=0) as file:
                while file.read(MIB):
                    pass


def _resident() -> int:
    """The process's memory now: the engines', and what the benchmark needs to drive them."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
