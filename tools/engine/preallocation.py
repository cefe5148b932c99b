"""What preparing a segment is worth on a disk: synced writes into new, reserved and zeroed space.

    python tools/engine/preallocation.py DIR

Three processes write at once, as three nodes on one disk do. Prints a Markdown table.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import sys
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

WRITERS = 3
FILE_BYTES = 64 * 1024 * 1024
SLICE = bytes(1024 * 1024)
BATCHES = ((4_300, 1000), (86_000, 500), (275_200, 200))
SPACES = ("new", "reserved", "zeroed")


def main() -> None:
    directory = Path(sys.argv[1])
    print(f"{platform.platform()}, {os.cpu_count()} cores, {WRITERS} writers\n")
    print("| batch bytes | space | p50 ms | p99 ms | mean ms | CPU µs | preparing ms |")
    print("|---|---|---|---|---|---|---|")
    for batch_bytes, count in BATCHES:
        for space in SPACES:
            p50, p99, mean, cpu, preparing = measure(directory, space, batch_bytes, count)
            print(
                f"| {batch_bytes:,} | {space} | {p50:.3f} | {p99:.2f} | {mean:.3f} | {cpu:.0f} "
                f"| {preparing:.1f} |",
                flush=True,
            )


def measure(directory: Path, space: str, batch_bytes: int, count: int) -> list[float]:
    """The mean of each figure over the writers."""
    results: Queue[list[float]] = multiprocessing.Queue()
    barrier = multiprocessing.Barrier(WRITERS)
    writers = [
        multiprocessing.Process(
            target=write,
            args=(directory / f".preallocation-{i}", space, batch_bytes, count, barrier, results),
        )
        for i in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    figures = [results.get() for _ in writers]
    for writer in writers:
        writer.join()
    return [sum(column) / WRITERS for column in zip(*figures, strict=True)]


def write(
    path: Path,
    space: str,
    batch_bytes: int,
    count: int,
    barrier: Barrier,
    results: Queue[list[float]],
) -> None:
    """One writer: `count` batches, each synced; milliseconds, and CPU microseconds a batch."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    started = time.perf_counter()
    prepare(descriptor, space)
    preparing = time.perf_counter() - started
    batch = os.urandom(batch_bytes)
    took: list[float] = []
    barrier.wait()
    cpu = time.process_time()
    for i in range(count):
        started = time.perf_counter()
        os.pwrite(descriptor, batch, i * batch_bytes)
        os.fdatasync(descriptor)
        took.append((time.perf_counter() - started) * 1e3)
    cpu = (time.process_time() - cpu) / count * 1e6
    os.close(descriptor)
    path.unlink()
    took.sort()
    mean = sum(took) / count
    results.put([took[count // 2], took[count * 99 // 100], mean, cpu, preparing * 1e3])


def prepare(descriptor: int, space: str) -> None:
    if space != "new":
        os.posix_fallocate(descriptor, 0, FILE_BYTES)
    if space == "zeroed":
        for offset in range(0, FILE_BYTES, len(SLICE)):
            os.pwrite(descriptor, SLICE, offset)
    os.fsync(descriptor)


if __name__ == "__main__":
    main()
