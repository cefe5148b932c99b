"""`make simulate-cluster SEEDS=n`: runs seeds in two processes, goes on where the last run ended.

python -m tests.simulation.cluster --seeds 500       the next 500 seeds that have not been run
python -m tests.simulation.cluster --replay v2:1986  one seed, with its whole story
python -m tests.simulation.cluster --shrink v2:1986  which faults and clients it takes to fail

A seed's name begins with the version of the simulation: another version tells another story of it.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from tests.simulation.cluster.run import (
    VERSION,
    Failed,
    Shape,
    attempt,
    run_seed,
    shape_of,
    summary,
)

CHUNK = 10
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
PROGRESS = CACHE / "octad" / "simulated-cluster-next-seed"
NAME = re.compile(r"v(\d+):(\d+)")
MODULE = "tests.simulation.cluster"


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
                print(f"  {sys.executable} -m {MODULE} --replay {named(seed)}", flush=True)
            if resumed and not failures:
                PROGRESS.parent.mkdir(parents=True, exist_ok=True)
                PROGRESS.write_text(named(chunk.end))
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


def named(seed: int) -> str:
    return f"v{VERSION}:{seed}"


def seed_of(name: str) -> int:
    """The seed of that name. Raises ValueError in words."""
    found = NAME.fullmatch(name.strip())
    if found is None:
        raise ValueError(f"{name!r} is no seed of this simulation: the first of them is {named(0)}")
    if int(found[1]) != VERSION:
        raise ValueError(
            f"{name.strip()} is a seed of version {found[1]} of this simulation, which tells"
            f" another story than the present version {VERSION}: replay it at the commit that"
            " printed it"
        )
    return int(found[2])


def next_seed() -> int:
    """Where the last run ended. Raises ValueError in words."""
    if not PROGRESS.exists():
        return 0
    try:
        return seed_of(PROGRESS.read_text(errors="replace"))
    except ValueError as error:
        raise ValueError(f"{PROGRESS}: {error}; remove that file to begin at 0") from error


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}")
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--first", type=int, help="instead of where the last run ended")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--replay", metavar="SEED")
    parser.add_argument("--shrink", metavar="SEED")
    options = parser.parse_args(arguments)
    resumed = options.first is None
    try:
        one = options.replay or options.shrink
        seed = None if one is None else seed_of(one)
        first = next_seed() if resumed and one is None else options.first
    except ValueError as error:
        parser.error(str(error))
    if seed is not None:
        return shrink(seed) if options.replay is None else replay(seed)
    return run_many(first, options.seeds, options.processes, resumed=resumed)


if __name__ == "__main__":
    sys.exit(main())
