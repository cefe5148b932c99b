"""`make simulate-cluster SEEDS=n`: runs seeds in two processes, goes on where the last run ended.

python -m tests.simulation.cluster --seeds 500       the next 500 seeds that have not been run
python -m tests.simulation.cluster --replay 1986     one seed, with its whole story
python -m tests.simulation.cluster --shrink 1986     which faults and clients it takes to fail
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from tests.simulation.cluster.run import Failed, Shape, attempt, run_seed, shape_of, summary

CHUNK = 10
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
PROGRESS = CACHE / "octad" / "simulated-cluster-next-seed"
PROGRAM = "python -m tests.simulation.cluster"


@dataclass(frozen=True, slots=True)
class Chunk:
    """What some seeds did."""

    end: int
    seeds: int
    cpu_s: float
    counts: Counter[str]
    failures: list[tuple[int, str]]


def run_chunk(seeds: range) -> Chunk:
    """Run them one after the other, whatever fails."""
    logging.getLogger("octad").propagate = False
    failures: list[tuple[int, str]] = []
    counts: Counter[str] = Counter()
    began = time.process_time()
    for seed in seeds:
        try:
            counts.update(summary(run_seed(seed)))
        except Failed as failed:
            failures.append((seed, str(failed)))
    return Chunk(seeds.stop, len(seeds), time.process_time() - began, counts, failures)


def run_many(first: int, seeds: int, processes: int, *, resumed: bool) -> int:
    """0 when nothing failed and every history was decided."""
    began, done, cpu_s = time.monotonic(), 0, 0.0
    counts: Counter[str] = Counter()
    failures: list[tuple[int, str]] = []
    end = first + seeds
    chunks = [range(at, min(at + CHUNK, end)) for at in range(first, end, CHUNK)]
    with ProcessPoolExecutor(processes) as pool:
        for chunk in pool.map(run_chunk, chunks):
            done, cpu_s = done + chunk.seeds, cpu_s + chunk.cpu_s
            counts.update(chunk.counts)
            failures += chunk.failures
            for seed, what in chunk.failures:
                print(f"seed {seed}: {what.splitlines()[0]}")
                print(f"  {sys.executable} -m tests.simulation.cluster --replay {seed}", flush=True)
            if resumed and not failures:
                PROGRESS.parent.mkdir(parents=True, exist_ok=True)
                PROGRESS.write_text(str(chunk.end))
    for name, count in counts.items():
        print(f"{count:>12,} {name}")
    print(
        f"seeds {first}…{end - 1}: {done} run, {len(failures)} failed, "
        f"{counts['histories undecided']} histories undecided, "
        f"{counts['steps'] / cpu_s:,.0f} steps a CPU second, "
        f"{cpu_s / done * 1000:.0f} CPU ms a seed, {time.monotonic() - began:.0f} s"
    )
    return 1 if failures or counts["histories undecided"] else 0


def replay(seed: int) -> int:
    """Print the story of one seed."""
    logging.getLogger("octad").setLevel(logging.INFO)
    logging.getLogger("octad").propagate = False
    try:
        story = run_seed(seed).story
    except Failed as failed:
        print("\n".join(failed.story))
        print(failed)
        return 1
    print("\n".join(story))
    return 0


def shrink(seed: int) -> int:
    """Leave out kinds of faults and clients while it goes on failing; print what it takes."""
    logging.getLogger("octad").propagate = False
    shape = shape_of(seed)
    failed = attempt(seed, shape)
    if failed is None:
        print(f"seed {seed} does not fail")
        return 1
    shape, failed = _smallest(seed, shape, failed)
    print("\n".join(failed.story))
    print(failed)
    print(f"it takes {shape.clients} clients and these kinds of faults: {', '.join(shape.kinds)}")
    return 0


def _smallest(seed: int, shape: Shape, failed: Failed) -> tuple[Shape, Failed]:
    """One thing less at a time, for as long as it still fails."""
    while True:
        for smaller in _smaller(shape):
            again = attempt(seed, smaller)
            if again is not None:
                shape, failed = smaller, again
                break
        else:
            return shape, failed


def _smaller(shape: Shape) -> list[Shape]:
    fewer = [shape.without(kind) for kind in shape.kinds]
    return [*fewer, *([replace(shape, clients=shape.clients - 1)] if shape.clients > 1 else [])]


def next_seed() -> int:
    """Where the last run ended. Raises ValueError in words."""
    if not PROGRESS.exists():
        return 0
    text = PROGRESS.read_text().strip()
    if not text.isdecimal():
        raise ValueError(f"{PROGRESS} does not hold the number of a seed; remove it to begin at 0")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(prog=PROGRAM)
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--first", type=int, help="instead of where the last run ended")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--replay", type=int, metavar="SEED")
    parser.add_argument("--shrink", type=int, metavar="SEED")
    options = parser.parse_args()
    if options.replay is not None:
        return replay(options.replay)
    if options.shrink is not None:
        return shrink(options.shrink)
    try:
        first = next_seed() if options.first is None else options.first
    except ValueError as error:
        parser.error(str(error))
    resumed = options.first is None
    return run_many(first, options.seeds, options.processes, resumed=resumed)


if __name__ == "__main__":
    sys.exit(main())
