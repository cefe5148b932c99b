"""`make bench-sharding`: what sharding must reach, measured. Exit code 1 if a target is missed.

Prints the machine and the commit with the figures. Times are the best of several short runs for
look-ups and of one run for assignments.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import platform
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from octad.sharding.assignment.assignment import PlacementNode, Rows, assign, first_assignment
from octad.sharding.ids import Epoch, NodeId, PoolId, shard_id
from octad.sharding.map.compact_map import decode_map, encode_map
from octad.sharding.map.pool_lookup import PoolLookup
from octad.sharding.map.shard_map import Member, Pool, ShardConfiguration, ShardMap
from octad.sharding.study import sharding_command
from octad.sharding.study.rivals.mixing import mixed_all
from octad.sharding.study.rivals.shard_table import ShardTable

POOL = PoolId(0)
KEYS = 1 << 20
LOOKUPS = 200_000
# nodes, depth, seconds at most
ASSIGNMENTS = ((100, 12, 1.0), (1_000, 16, 5.0), (10_000, 18, 60.0))
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report; without a limit it is for information."""

    what: str
    value: float
    unit: str
    limit: float | None = None
    at_least: bool = False

    @property
    def missed(self) -> bool:
        if self.limit is None:
            return False
        return self.value < self.limit if self.at_least else self.value > self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        target = "" if self.limit is None else f"  ({sign} {self.limit:g})"
        mark = "MISSED  " if self.missed else ""
        return f"{mark}{self.what:<58} {self.value:>10.4g} {self.unit}{target}"


def main() -> int:
    print(f"machine: {platform.machine()}, {platform.python_implementation()} "
          f"{platform.python_version()}; commit: {_commit()}")  # fmt: skip
    missed = 0
    for measure in (lookups, vectorised, assignments, compact, comparison):
        for figure in measure():
            print(figure, flush=True)
            missed += figure.missed
    return 1 if missed else 0


def lookups() -> list[Figure]:
    """One key at a time, in plain Python, from its hash to its row."""
    shard_map = _map(first_assignment(_nodes(100), 3, 12), 12)
    lookup = PoolLookup(shard_map, POOL)
    hashes = mixed_all(np.arange(LOOKUPS, dtype=np.uint64), 1).tolist()
    by_pool = _per_call_ns(lookup.configuration, hashes)
    by_map = _per_call_ns(
        lambda h: shard_map.configurations[shard_map.shard_of_hash(POOL, h)], hashes
    )
    return [
        Figure("look-up, hash to row, PoolLookup", by_pool, "ns", 150),
        Figure("look-up, hash to row, ShardMap", by_map, "ns"),
    ]


def vectorised() -> list[Figure]:
    """Many keys at once, from their hashes to the nodes that hold them."""
    table = ShardTable(_nodes(100), 3)
    hashes = mixed_all(np.arange(KEYS, dtype=np.uint64), 1)
    best = min(_seconds(lambda: table.holders_of_all(hashes)) for _ in range(7))
    return [Figure("vectorised look-up, all holders", KEYS / best / 1e6, "M keys/s", 20, True)]


def assignments() -> list[Figure]:
    """Figures for an empty cluster, then one node more, one less, and twice as many."""
    figures = []
    for count, depth, limit in ASSIGNMENTS:
        name = f"assignment, {count:,} nodes x {1 << depth:,} shards"
        seconds, before = _assigned([], count, depth)
        figures.append(Figure(name, seconds, "s", limit))
        for step, after in (("+1", count + 1), ("-1", count - 1), ("x2", 2 * count)):
            seconds, rows = _assigned(before, after, depth)
            figures.append(Figure(f"{name}, {step}", seconds, "s", limit))
            extra = _moved(before, rows) - _fewest(before, after, depth)
            figures.append(Figure(f"    moves beyond the fewest, {step}", extra, "", after))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures.append(Figure("peak memory", peak / GIB, "GiB", 4))
    return figures


def compact() -> list[Figure]:
    """The map's binary form."""
    shard_map = _map(first_assignment(_nodes(100), 3, 12), 12)
    encoded = encode_map(shard_map)
    return [
        Figure("binary map, 4,096 x 3", len(encoded) / 1024, "KiB", 64),
        Figure("    encoding", _seconds(lambda: encode_map(shard_map)) * 1e3, "ms"),
        Figure("    decoding", _seconds(lambda: decode_map(encoded)) * 1e3, "ms"),
    ]


def comparison() -> list[Figure]:
    """`octad sharding compare` as it is."""
    parser = argparse.ArgumentParser()
    sharding_command.add_arguments(parser)
    arguments = parser.parse_args(["compare"])
    with contextlib.redirect_stdout(io.StringIO()):
        seconds = _seconds(lambda: sharding_command.run(arguments))
    return [Figure("octad sharding compare, defaults", seconds, "s", 60)]


def _assigned(old: Rows, nodes: int, depth: int) -> tuple[float, Rows]:
    """(seconds, rows)"""
    started = time.perf_counter()
    rows = assign(old, _nodes(nodes), 3, depth)
    return time.perf_counter() - started, rows


def _nodes(count: int) -> list[PlacementNode]:
    return [PlacementNode(NodeId(i + 1)) for i in range(count)]


def _map(rows: Rows, depth: int) -> ShardMap:
    known = {
        shard_id(POOL, number): ShardConfiguration(
            Epoch(1), depth, row[0], tuple([Member(node, f"{node:032x}") for node in row])
        )
        for number, row in enumerate(rows)
    }
    return ShardMap({POOL: Pool(POOL, 3, depth)}, known)


def _moved(old: Rows, new: Rows) -> int:
    return sum(len(set(b) - set(a)) for a, b in zip(old, new, strict=True))


def _fewest(old: Rows, nodes: int, depth: int) -> int:
    """The replicas that new nodes must receive, or leaving ones held, at the best balance."""
    share, larger = divmod(3 << depth, nodes)
    loads = Counter(node for row in old for node in row)
    held = [loads[NodeId(i + 1)] for i in range(nodes)]
    # `larger` nodes may hold one more: those that hold it already keep it.
    fuller = min(larger, sum(load > share for load in held))
    return (3 << depth) - sum(min(load, share) for load in held) - fuller


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _per_call_ns(call: Callable[[int], object], hashes: list[int]) -> float:
    def loop() -> None:
        for hash_ in hashes:
            call(hash_)

    def empty() -> None:
        for _ in hashes:
            pass

    best = min(_seconds(loop) for _ in range(7)) - min(_seconds(empty) for _ in range(7))
    return best / len(hashes) * 1e9


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
