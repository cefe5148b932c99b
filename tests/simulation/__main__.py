"""`make simulate SEEDS=n`: runs seeds in two processes, goes on where the last run ended.

python -m tests.simulation --seeds 500            the next 500 seeds that have not been run
python -m tests.simulation --replay 1986          one seed, with its whole story
python -m tests.simulation --mutant "no barrier" --replay 7
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.model.world import Violation
from tests.simulation.mutants import MUTANTS, planted
from tests.simulation.run import run_seed, summary

CHUNK = 25
PROGRESS = Path(".cache/simulation-next-seed")


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
    failures: list[tuple[int, str]] = []
    counts: Counter[str] = Counter()
    began = time.process_time()
    for seed in seeds:
        try:
            counts.update(summary(run_seed(seed)))
        except Exception as error:  # An assertion of the core counts as much as a Violation.
            failures.append((seed, f"{type(error).__name__}: {error}"))
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
                print(f"seed {seed}: {what.splitlines()[-1]}")
                print(f"  replay: {sys.executable} -m tests.simulation --replay {seed}", flush=True)
            if resumed and not failures:
                PROGRESS.parent.mkdir(exist_ok=True)
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


def replay(seed: int, mutant: str | None) -> int:
    """Print the story of one seed."""
    try:
        with planted(mutant) if mutant else nullcontext():
            world = run_seed(seed)
    except Violation as violation:
        print(violation)
        return 1
    print("\n".join(world.story))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--first", type=int, help="instead of where the last run ended")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--replay", type=int, metavar="SEED")
    parser.add_argument("--mutant", choices=sorted(MUTANTS))
    options = parser.parse_args()
    if options.replay is not None:
        return replay(options.replay, options.mutant)
    first = options.first
    if first is None:
        first = int(PROGRESS.read_text()) if PROGRESS.exists() else 0
    resumed = options.first is None
    return run_many(first, options.seeds, options.processes, resumed=resumed)


if __name__ == "__main__":
    sys.exit(main())
