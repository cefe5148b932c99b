"""`make bench-replication`: what two more copies cost, beside the same nodes with one copy each.

Two clusters of three nodes run side by side, one with three members a shard and one with one; the
load goes to one and the other in turns. Both have the same front door and the same way to the
primary, so that the difference is replication: two more journals, indexes and messages.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.harness.cluster_process import DevCluster
from tools.bench import machine
from tools.bench.load import REPOSITORY, Cell, Load, LoadFailed, build
from tools.bench.one_copy import OneCopyCluster

from octad.chaos.cluster.process import ProcessFailed

SIZE, CONNECTIONS, KEYS = 4096, 64, 4000
STORED = ("-prefix", "k_", "-n", str(KEYS))
OPERATIONS: dict[str, tuple[str, ...]] = {"put": ("-prefix", "p_"), "get": STORED}
LIMIT_PUT_US = 120  # CPU time, summed over all processes.


@dataclass(frozen=True, slots=True)
class Difference:
    """CPU µs an operation: medians over the rounds, and the median of each round's difference."""

    op: str
    one_copy: float
    three_copies: float
    difference: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-replication", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of every cell (default 5)")
    parser.add_argument("--rounds", type=int, default=5, help="of both clusters (default 5)")
    options = parser.parse_args()
    parent = REPOSITORY / ".cache"
    parent.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as directory:
            found = _measure(Path(directory), options.seconds, options.rounds)
    except (LoadFailed, ProcessFailed) as failure:
        print(f"octad bench-replication: {failure}", file=sys.stderr)
        return 1
    print("| 4 KiB, 64 connections | one copy, CPU µs | three copies | difference | limit |")
    print("|---|--:|--:|--:|--:|")
    for row in found:
        limit = str(LIMIT_PUT_US) if row.op == "put" else "none measurable"
        figures = f"{row.one_copy:.0f} | {row.three_copies:.0f} | {row.difference:.0f}"
        print(f"| {row.op.upper()} | {figures} | {limit} |")
    print(f"\n{options.rounds} rounds. {machine.machine()}; commit {machine.commit(REPOSITORY)}.")
    return 0


def _measure(directory: Path, seconds: float, rounds: int) -> list[Difference]:
    binary = build()
    one = OneCopyCluster(directory / "one", nodes=3)
    three = DevCluster(directory / "three", nodes=3, options=("--replicas", "3"))
    (directory / "three").mkdir()
    clusters = (one, three)
    try:
        loads = [_loaded(cluster, binary, seconds) for cluster in clusters]
        return [_difference(op, loads, rounds) for op in OPERATIONS]
    finally:
        for cluster in clusters:
            cluster.kill()


def _loaded(cluster: DevCluster, binary: Path, seconds: float) -> Load:
    cluster.start()
    endpoints = ",".join(node.s3 for node in cluster.nodes)
    pids = ",".join(map(str, cluster.pids()))
    load = Load(binary, endpoints, cluster.access_key, cluster.secret_key, pids, seconds)
    load.make_bucket()
    load.fill("k_", KEYS, SIZE)
    return load


def _difference(op: str, loads: list[Load], rounds: int) -> Difference:
    pairs = [[_cell(op, load).server_cpu_us_op for load in loads] for _ in range(rounds)]
    one, three = (statistics.median(values) for values in zip(*pairs, strict=True))
    return Difference(op, one, three, statistics.median(b - a for a, b in pairs))


def _cell(op: str, load: Load) -> Cell:
    cell = load.cell(op, SIZE, CONNECTIONS, *OPERATIONS[op])
    if cell.errors:
        raise LoadFailed(f"{op}: {cell.errors} errors")
    print(f"{op}: {cell.server_cpu_us_op:.0f} µs, {cell.ops_s:,.0f}/s", file=sys.stderr)
    return cell


if __name__ == "__main__":
    sys.exit(main())
