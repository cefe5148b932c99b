"""`make bench-engine`: what the storage engine does on this machine, in one process and one node.

    python -m tools.engine.bench [--directory DIR] [--objects N] [--seconds S]

Prints a Markdown table: figure, what it must reach, measured. The journal's appends and the bare
`pwritev` + `fdatasync` of the same batches take turns on one disk, so that other load hits both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import uvloop
from tests.unit.engine.engine_site import EngineSite
from tests.unit.journal.journal_site import REQUEST_ID, SHARD, JournalSite, running_journal
from tools.bench import machine
from tools.engine import one_node
from tools.engine.bench_site import IN_FLIGHT, SMALL, index_file_bytes, opened, put_all, row
from tools.engine.many_objects import many_objects
from tools.engine.space_back import space_back

from octad.sharding.ids import Epoch, Seq
from octad.sharding.limits import MIB, SEGMENT_BYTES
from octad.storage_node.journal.record_format import (
    RECORD_HEADER_BYTES,
    RECORDS_OFFSET,
    RecordKind,
)
from octad.storage_node.upkeep.compactor import COMPACTION_POLL_S, Compactor

REPOSITORY = Path(__file__).resolve().parents[2]
TURN_S = 0.1
PAIRS_MIN = 40
NODE_S = 2.0  # How long each operation is measured through one node.
OVERWRITTEN = 60_000
COMPACTION_WINDOWS = 10  # With compaction, and as many without.


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
        for measure in (
            appends,
            small_objects,
            through_one_node,
            compaction,
            space_back,
            many_objects,
        ):
            uvloop.run(measure(Path(directory), options))  # As a node does.
            shutil.rmtree(directory)
            Path(directory).mkdir()


async def appends(directory: Path, options: argparse.Namespace) -> None:
    """Synced 4 KiB appends, 64 in flight, and the bare system calls with the same batches.

    They take turns of a fraction of a second, so that both meet the same disk and the same
    neighbours, and each pair gives one ratio. Both write into files that were made alike.
    """
    data, metadata = os.urandom(SMALL), os.urandom(100)
    turns = max(PAIRS_MIN, round(options.seconds / TURN_S))
    shares: list[float] = []
    rates: list[float] = []
    cpu: list[float] = []
    loop_cpu: list[float] = []
    bare = BareAppends(directory / "bare", len(metadata) + RECORD_HEADER_BYTES)
    async with running_journal(directory / "journal") as site:
        for _ in range(turns):
            journal = await _append_for(site, metadata, data)
            rate = bare.run(TURN_S, journal.per_batch)
            shares.append(journal.rate / rate)
            rates.append(journal.rate)
            cpu.append(journal.cpu_us)
            loop_cpu.append(journal.loop_cpu_us)
    bare.close()
    low, middle, high = statistics.quantiles(shares, n=4)
    row(
        "4 KiB appends, 64 in flight",
        "≥ 70 % of bare",
        f"{middle:.0%} of bare (quartiles of {turns} pairs: {low:.0%} to {high:.0%}; "
        f"{statistics.median(rates):,.0f}/s)",
    )
    row(
        "CPU of an append",
        "≤ 25 µs",
        f"{statistics.median(cpu):.1f} µs, {statistics.median(loop_cpu):.1f} of them on the loop",
    )


@dataclass(frozen=True, slots=True)
class Turn:
    """What the journal did in one turn."""

    rate: float
    per_batch: float
    cpu_us: float
    loop_cpu_us: float


async def _append_for(site: JournalSite, metadata: bytes, data: bytes) -> Turn:
    append = site.journal.append
    kind, epoch, seq, commit = RecordKind.PUT_OBJECT, Epoch(1), Seq(1), Seq(0)
    done, batches = 0, site.journal.batches_synced
    cpu, loop_cpu, began = time.process_time(), time.thread_time(), time.perf_counter()
    while time.perf_counter() - began < TURN_S:
        for _ in range(IN_FLIGHT):
            append(kind, SHARD, epoch, seq, commit, REQUEST_ID, metadata, data)
        await site.journal.durable(site.journal.position())
        done += IN_FLIGHT
    wall = time.perf_counter() - began
    return Turn(
        done / wall,
        done / max(1, site.journal.batches_synced - batches),
        (time.process_time() - cpu) / done * 1e6,
        (time.thread_time() - loop_cpu) / done * 1e6,
    )


class BareAppends:
    """The same bytes with the same calls, into segments made as the journal makes its own.

    None is removed before the end: what a file system does then would count against it.
    """

    def __init__(self, directory: Path, more: int) -> None:
        directory.mkdir()
        self._directory = directory
        self._made = 0
        self._more = more
        self._descriptor = -1
        self._next = self._prepared()
        self._offset = SEGMENT_BYTES

    def run(self, seconds: float, per_batch: float) -> float:
        """Appends a second."""
        count = max(1, round(per_batch))
        buffers = [os.urandom(self._more), os.urandom(SMALL)] * count
        length = count * (self._more + SMALL)
        done = 0
        spent = 0.0
        while spent < seconds:
            if self._offset + length > SEGMENT_BYTES:
                self._enter()
            began = time.perf_counter()
            os.pwritev(self._descriptor, buffers, self._offset)
            os.fdatasync(self._descriptor)
            spent += time.perf_counter() - began
            self._offset += length
            done += count
        return done / spent

    def close(self) -> None:
        os.close(self._descriptor)
        os.close(self._next)

    def _enter(self) -> None:
        """Go on in the next segment, which is made meanwhile, as the journal's is."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._next = self._next, self._prepared()
        self._offset = RECORDS_OFFSET

    def _prepared(self) -> int:
        self._made += 1
        descriptor = os.open(self._directory / str(self._made), os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(descriptor, 0, SEGMENT_BYTES)
        os.pwrite(descriptor, bytes(RECORDS_OFFSET), 0)
        os.fsync(descriptor)
        return descriptor


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
    index_bytes = index_file_bytes(directory)
    await site.journal.close()
    site.index.close()
    row("put of 4 KiB, CPU of the loop's thread", "≤ 25 µs", f"{put_us:.1f} µs")
    row("get of 4 KiB", "≤ 10 µs", f"{get_us:.1f} µs")
    share = (journal_bytes + index_bytes) / (count * SMALL)
    row("disk bytes of a 4 KiB object", "≤ 1.1x", f"{share:.3f}x")


async def through_one_node(directory: Path, _options: argparse.Namespace) -> None:
    """The same through S3 and a process of its own: what is not the engine's is the rest of it."""
    for figure in one_node.figures(directory, NODE_S):
        row(f"through one node: {figure.name}", "none", figure.measured())


async def compaction(directory: Path, options: argparse.Namespace) -> None:
    """What users notice while half of the journal is given back."""
    site = opened(directory)
    for number in range(OVERWRITTEN * 2):
        site.put(b"key/%08d" % (number % OVERWRITTEN), bytes(SMALL))
        if number % 256 == 255:
            await site.settled()
    await site.settled()
    site.index.flush()
    alone: list[float] = []
    beside: list[float] = []
    going = asyncio.Event()
    _hold(site.compactor, going)
    task = asyncio.create_task(_compact(site.compactor))
    for _ in range(COMPACTION_WINDOWS):
        going.clear()
        alone += await _put_times_ms(site, options.seconds)
        going.set()
        beside += await _put_times_ms(site, options.seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    freed = site.compactor.freed_bytes / MIB / (options.seconds * COMPACTION_WINDOWS)
    await site.journal.close()
    site.index.close()
    row(
        "p99 of 16 PUTs at once while compaction runs",
        "≤ 2x",
        f"{_p99(beside) / _p99(alone):.2f}x ({_p99(alone):.1f} to {_p99(beside):.1f} ms; "
        f"medians {statistics.median(alone):.2f} and {statistics.median(beside):.2f}; windows of "
        f"{options.seconds:g} s in turn), {freed:.0f} MiB/s given back",
    )


def _hold(compactor: Compactor, going: asyncio.Event) -> None:
    """Let it take its next step only while `going` is set."""
    settle = compactor._settle

    async def settle_when_going(copied: int, faster: float, step_s: float | None) -> None:
        await going.wait()
        await settle(copied, faster, step_s)

    compactor._settle = settle_when_going  # type: ignore[method-assign]


async def _compact(compactor: Compactor) -> None:
    while True:
        if not await compactor.compact():
            await asyncio.sleep(COMPACTION_POLL_S)
        await compactor.let_go()


async def _put_times_ms(site: EngineSite, seconds: float) -> list[float]:
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
    return took


def _p99(took: list[float]) -> float:
    return sorted(took)[len(took) * 99 // 100]


if __name__ == "__main__":
    main()
