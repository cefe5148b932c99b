"""`make simulate SEEDS=n`: runs seeds in two processes, goes on where the last run ended.

python -m tests.simulation --seeds 500            the next 500 seeds that have not been run
python -m tests.simulation --replay 1986          one seed, with its whole story
python -m tests.simulation --mutant "no barrier" --replay 7
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path

from tests.simulation.mutants import MUTANTS, planted
from tests.simulation.run import run_seed
from tests.simulation.world import Violation

PROCESSES = 2
CHUNK = 25
PROGRESS = Path(".cache/simulation-next-seed")


def run_chunk(first: int, end: int) -> tuple[int, int, float, int, list[tuple[int, str]]]:
    """(seeds, steps, CPU seconds, answered operations, what failed)."""
    failures: list[tuple[int, str]] = []
    steps = answered = 0
    began = time.process_time()
    for seed in range(first, end):
        try:
            world = run_seed(seed)
        except Exception as error:  # An assertion of the core counts as much as a Violation.
            failures.append((seed, f"{type(error).__name__}: {error}"))
        else:
            steps += world.steps
            answered += world.clients.answered
    return end - first, steps, time.process_time() - began, answered, failures


def run_many(first: int, seeds: int) -> int:
    """0 when nothing failed."""
    began = time.monotonic()
    done = steps = answered = 0
    cpu = 0.0
    failures: list[tuple[int, str]] = []
    ends = range(first, first + seeds, CHUNK)
    with ProcessPoolExecutor(PROCESSES) as pool:
        chunks = [pool.submit(run_chunk, at, min(at + CHUNK, first + seeds)) for at in ends]
        for chunk in as_completed(chunks):
            counts = chunk.result()
            done, steps, cpu = done + counts[0], steps + counts[1], cpu + counts[2]
            answered += counts[3]
            failures += counts[4]
            for seed, what in counts[4]:
                print(f"seed {seed}: {what.splitlines()[-1]}")
                print(f"  replay: {sys.executable} -m tests.simulation --replay {seed}")
    print(
        f"seeds {first}…{first + seeds - 1}: {done} run, {len(failures)} failed, {steps} steps, "
        f"{answered} operations, {steps / cpu:.0f} steps a CPU second, "
        f"{cpu / done * 1000:.0f} CPU ms a seed, {time.monotonic() - began:.0f} s"
    )
    return 1 if failures else 0


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
    parser.add_argument("--replay", type=int, metavar="SEED")
    parser.add_argument("--mutant", choices=sorted(MUTANTS))
    options = parser.parse_args()
    if options.replay is not None:
        return replay(options.replay, options.mutant)
    first = options.first
    if first is None:
        first = int(PROGRESS.read_text()) if PROGRESS.exists() else 0
    result = run_many(first, options.seeds)
    if result == 0 and options.first is None:
        PROGRESS.parent.mkdir(exist_ok=True)
        PROGRESS.write_text(str(first + options.seeds))
    return result


if __name__ == "__main__":
    sys.exit(main())
