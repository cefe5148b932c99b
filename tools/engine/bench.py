"""`make bench-engine`: what the storage engine does on this machine, in one process and one node.

    python -m tools.engine.bench [--directory DIR] [--objects N] [--seconds S]

Prints a Markdown table: figure, what it must reach, measured. The journal's appends and the bare
`pwritev` + `fdatasync` of the same batches take turns on one disk, so that other load hits both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path
from typing import cast

from tests.unit.engine.engine_site import BUCKET, EngineSite
from tests.unit.engine.journal_site import REQUEST_ID, SHARD, JournalSite, running_journal
from tools.bench import machine

from octad.sharding.ids import Epoch, PoolId, Seq
from octad.sharding.limits import (
    INDEX_CACHE_BYTES,
    INDEX_MEMTABLE_BYTES,
    INDEX_MEMTABLES_MAX,
    MIB,
    SEGMENT_BYTES,
)
from octad.sharding.shard_map import Pool
from octad.storage_node.core.object_store import ListQuery
from octad.storage_node.core.record_format import RECORD_HEADER_BYTES, RecordKind
from octad.storage_node.shell.bucket_directory import BucketDirectory
from octad.storage_node.shell.counted_index import CountedIndex
from octad.storage_node.shell.disk import Disk
from octad.storage_node.shell.shard_host import ShardHost
from octad.storage_node.shell.shard_service import ShardService

REPOSITORY = Path(__file__).resolve().parents[2]
IN_FLIGHT = 64
SMALL, TINY = 4096, 100
ROUNDS = 6
FIRST = 10_000
PAGE = 1000
OVERWRITTEN = 60_000
COMPACTION_TIMES = 10
ZEROS = bytes(1 << 20)
POOL = PoolId(1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-engine", description=__doc__)
    parser.add_argument("--directory", type=Path, default=REPOSITORY / ".cache")
    parser.add_argument("--objects", type=int, default=1_000_000, help="of 100 B (default 1 M)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn of appends")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    print(f"{machine.machine()}, commit {machine.commit(REPOSITORY)}\n")
    print("| figure | must reach | measured |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="bench-engine-", dir=options.directory) as directory:
        for measure in (appends, small_objects, compaction, many_objects):
            asyncio.run(measure(Path(directory), options))
            shutil.rmtree(directory)
            Path(directory).mkdir()


def row(figure: str, wanted: str, measured: str) -> None:
    print(f"| {figure} | {wanted} | {measured} |", flush=True)


async def appends(directory: Path, options: argparse.Namespace) -> None:
    """Synced 4 KiB appends, 64 in flight, against the bare system calls."""
    data = os.urandom(SMALL)
    metadata = os.urandom(100)
    shares: list[float] = []
    shares_zeroed: list[float] = []
    rates: list[float] = []
    cpu: list[float] = []
    async with running_journal(directory / "journal") as site:
        for _ in range(ROUNDS):
            batches = site.journal.batches_synced
            done, cpu_s, wall = await _append_for(
                site.journal.append, site, options, metadata, data
            )
            per_batch = done / max(1, site.journal.batches_synced - batches)
            more = len(metadata) + RECORD_HEADER_BYTES
            for zeroed, of in ((False, shares), (True, shares_zeroed)):
                bare = _bare_for(directory / "bare", options.seconds, per_batch, more, zeroed)
                of.append(done / wall / bare)
            rates.append(done / wall)
            cpu.append(cpu_s / done * 1e6)
    row(
        "4 KiB appends, 64 in flight",
        "≥ 70 % of bare",
        f"{statistics.median(shares):.0%} of bare into reserved space, as here, and "
        f"{statistics.median(shares_zeroed):.0%} into space written before "
        f"({statistics.median(rates):,.0f}/s, {statistics.median(cpu):.1f} µs CPU of the process "
        "each, system calls included)",
    )


async def _append_for(
    append: Callable[..., object],
    site: JournalSite,
    options: argparse.Namespace,
    metadata: bytes,
    data: bytes,
) -> tuple[int, float, float]:
    done = 0
    cpu, began = time.process_time(), time.perf_counter()
    while time.perf_counter() - began < options.seconds:
        for _ in range(IN_FLIGHT):
            append(
                RecordKind.PUT_OBJECT, SHARD, Epoch(1), Seq(1), Seq(0), REQUEST_ID, metadata, data
            )
        await site.until_durable(site.journal.position())
        done += IN_FLIGHT
    return done, time.process_time() - cpu, time.perf_counter() - began


def _bare_for(path: Path, seconds: float, per_batch: float, more: int, zeroed: bool) -> float:
    """Appends a second of the same bytes in batches of the same size, with nothing around them.

    Into space that was written before, or into reserved space, as that of a new segment.
    """
    descriptor = _space(path, zeroed)
    count = max(1, round(per_batch))
    buffers = [os.urandom(more), os.urandom(SMALL)] * count
    length = count * (more + SMALL)
    offset = done = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        if offset + length > SEGMENT_BYTES:
            offset = 0
            if not zeroed:
                os.close(descriptor)
                descriptor = _space(path, zeroed)
        os.pwritev(descriptor, buffers, offset)
        os.fdatasync(descriptor)
        offset += length
        done += count
    wall = time.perf_counter() - began
    os.close(descriptor)
    path.unlink()
    return done / wall


def _space(path: Path, zeroed: bool) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.posix_fallocate(descriptor, 0, SEGMENT_BYTES)
    if zeroed:
        for offset in range(0, SEGMENT_BYTES, len(ZEROS)):
            os.pwrite(descriptor, ZEROS, offset)
    os.fsync(descriptor)
    return descriptor


def opened(directory: Path) -> EngineSite:
    return EngineSite(
        directory / "journal", Disk(), CountedIndex(directory / "index"), SEGMENT_BYTES
    )


async def put_all(
    site: EngineSite, keys: Iterator[bytes], size: int, in_flight: int = IN_FLIGHT
) -> None:
    value = os.urandom(size)
    for count, key in enumerate(keys):
        site.put(key, value, md5(key).hexdigest())
        if count % in_flight == in_flight - 1:
            await site.settled()
    await site.settled()


async def small_objects(directory: Path, _options: argparse.Namespace) -> None:
    """4 KiB: CPU of a put and a get, and what an object takes on disk."""
    site = opened(directory)
    count = 20_000
    cpu = time.thread_time()
    await put_all(site, (b"key/%08d" % number for number in range(count)), SMALL)
    put_us = (time.thread_time() - cpu) / count * 1e6
    cpu = time.thread_time()
    for number in range(0, count, 2):
        site.get(b"key/%08d" % number)
    get_us = (time.thread_time() - cpu) / (count / 2) * 1e6
    site.index.flush()
    journal_bytes = site.journal.position() & 0xFFFFFFFF
    journal_bytes += ((site.journal.position() >> 32) - 1) * SEGMENT_BYTES
    index_bytes = _size(directory / "index")
    await site.journal.close()
    site.index.close()
    row("put of 4 KiB, CPU of the loop's thread", "≤ 25 µs", f"{put_us:.1f} µs")
    row("get of 4 KiB", "≤ 10 µs", f"{get_us:.1f} µs")
    share = (journal_bytes + index_bytes) / (count * SMALL)
    row("disk bytes of a 4 KiB object", "≤ 1.1x", f"{share:.3f}x")


async def compaction(directory: Path, options: argparse.Namespace) -> None:
    """What users notice while half of the journal is given back."""
    site = opened(directory)
    for number in range(OVERWRITTEN * 2):
        site.put(b"key/%08d" % (number % OVERWRITTEN), bytes(SMALL))
        if number % 256 == 255:
            await site.settled()
    await site.settled()
    site.index.flush()
    alone = await _p99_ms(site, options.seconds * COMPACTION_TIMES)
    task = asyncio.create_task(site.compactor.run())
    beside = await _p99_ms(site, options.seconds * COMPACTION_TIMES)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    freed = site.compactor.freed_bytes / MIB / (options.seconds * COMPACTION_TIMES)
    await site.journal.close()
    site.index.close()
    row(
        "p99 of 16 PUTs at once while compaction runs",
        "≤ 2x",
        f"{beside / alone:.2f}x ({alone:.1f} to {beside:.1f} ms), {freed:.0f} MiB/s given back",
    )


async def _p99_ms(site: EngineSite, seconds: float) -> float:
    took: list[float] = []
    began = time.perf_counter()
    number = 0
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        for _ in range(16):
            number = (number + 7919) % OVERWRITTEN
            site.put(b"key/%08d" % number, bytes(SMALL))
        await site.settled()
        took.append((time.perf_counter() - start) * 1e3)
    took.sort()
    return took[len(took) * 99 // 100]


async def many_objects(directory: Path, options: argparse.Namespace) -> None:
    """Many of 100 B: whether the last cost what the first did, and what the index takes."""
    site = opened(directory)
    total: int = options.objects
    before = _resident()
    first = await _timed_puts(site, 0, FIRST)
    first_get = _timed_gets(site, FIRST)
    for start in range(FIRST, total - FIRST, 50_000):
        keys = (_key(number) for number in range(start, min(start + 50_000, total - FIRST)))
        await put_all(site, keys, TINY, IN_FLIGHT * 16)
        site.index.flush()
    last = await _timed_puts(site, total - FIRST, total)
    last_get = _timed_gets(site, total)
    memory = (_resident() - before) / total
    site.index.flush()
    index_bytes = _size(directory / "index") / total
    name = f"{total:,} objects of 100 B"
    row(f"{name}: put, last 10,000 to first", "≤ 2x", f"{last / first:.2f}x ({last:.1f} µs)")
    ratio = last_get / first_get
    row(f"{name}: get", "≤ 2x", f"{ratio:.2f}x ({last_get:.1f} µs)")
    row("index on disk, an object", "≤ 200 B", f"{index_bytes:.0f} B")
    fixed = (INDEX_MEMTABLE_BYTES * INDEX_MEMTABLES_MAX + INDEX_CACHE_BYTES) / total
    row(
        "memory, an object",
        "≤ 30 B",
        f"{memory:.0f} B, of which up to {fixed:.0f} B are the index's fixed buffers",
    )
    _lists(site, total)
    await _timed_puts(site, total, total + 60_000)
    await site.journal.close()
    site.index._database.close()  # Without a flush: what a kill leaves, 60,000 records to replay.
    began = time.perf_counter()
    site = opened(directory)
    row("restart, 60,000 records to replay", "≤ 5 s", f"{time.perf_counter() - began:.2f} s")
    await site.journal.close()
    site.index.close()


def _lists(site: EngineSite, total: int) -> None:
    """A page from the middle: plain, rolled up, and rolled up over very full prefixes."""
    service = listing_service(site.index)
    middle = _key(total // 2)
    for name, query in (
        ("LIST of 1,000 in the middle", ListQuery(after=middle, limit=PAGE)),
        ("… with delimiter, 10 keys a prefix", ListQuery(b"", b"/", _key(total // 2), PAGE)),
        ("… with delimiter, one prefix of everything", ListQuery(b"", b"k", b"", PAGE)),
    ):
        took: list[float] = []
        for _ in range(9):
            began = time.perf_counter()
            entries, _, _ = service.list_keys(POOL, BUCKET, query)
            took.append(time.perf_counter() - began)
        measured = f"{statistics.median(took) * 1e3:.2f} ms ({len(entries)} entries)"
        row(name, "≤ 3 ms", measured)


def listing_service(index: CountedIndex) -> ShardService:
    """One that serves all shards of a pool of one shard, without a host behind it."""

    class Everything:
        def __getattr__(self, name: str) -> object:
            return {} if name == "replicas" else None

    pools = {POOL: Pool(POOL, 3, 0)}
    host = cast("ShardHost", Everything())
    site_journal = cast("object", None)
    service = ShardService(host, index, site_journal, cast("BucketDirectory", None), pools)  # type: ignore[arg-type]
    service._served_numbers = lambda pool: {0}  # type: ignore[method-assign]
    return service


async def _timed_puts(site: EngineSite, start: int, end: int) -> float:
    cpu = time.thread_time()
    await put_all(site, (_key(number) for number in range(start, end)), TINY)
    return (time.thread_time() - cpu) / (end - start) * 1e6


def _timed_gets(site: EngineSite, total: int) -> float:
    step = max(1, total // FIRST)
    for number in range(0, total, step):  # What the system has to fetch from disk is not CPU.
        site.get(_key(number))
    cpu = time.thread_time()
    for number in range(0, total, step):
        site.get(_key(number))
    return (time.thread_time() - cpu) / (total / step) * 1e6


def _key(number: int) -> bytes:
    """In an order of names that has nothing to do with the order of writing."""
    scattered = number * 2_654_435_761 % 2**32
    return b"k%08x/%02d" % (scattered, number % 100)


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir() if path.suffix == ".sst")


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
