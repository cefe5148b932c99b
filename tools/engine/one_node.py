"""The engine's operations through one real node: a process of its own, S3, one copy of everything.

What is measured is one node and not its peers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.bench.load import Cell, Load, build
from tools.bench.one_copy import OneCopyCluster

IN_FLIGHT = 64
KEYS = 5_000
SMALL, TINY = 4096, 100


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: what was done, and what the load generator saw."""

    name: str
    cell: Cell

    def measured(self) -> str:
        cell = self.cell
        failed = f", {cell.errors} FAILED" if cell.errors else ""
        return (
            f"{cell.server_cpu_us_op:.0f} µs CPU of the node ({cell.ops_s:,.0f}/s, "
            f"p50 {cell.p50_ms:.1f} ms, p99 {cell.p99_ms:.1f} ms; "
            f"other programs took {cell.foreign_cores:.1f} cores){failed}"
        )


def figures(directory: Path, seconds: float) -> Iterator[Figure]:
    """Each operation for `seconds`, one after the other. Raises LoadFailed, ProcessFailed."""
    binary = build()
    cluster = OneCopyCluster(directory, nodes=1)
    try:
        cluster.start()
        (node,) = cluster.nodes
        keys = (cluster.access_key, cluster.secret_key)
        load = Load(binary, node.s3, *keys, str(node.pid), seconds)
        load.make_bucket()
        load.fill("tiny_", KEYS, TINY)
        load.fill("small_", KEYS, SMALL)
        put = load.cell("put", SMALL, IN_FLIGHT, "-prefix", "put_")
        yield Figure(f"put of 4 KiB, synced, {IN_FLIGHT} in flight", put)
        for name, prefix, size in (("100 B", "tiny_", TINY), ("4 KiB", "small_", SMALL)):
            cell = load.cell("get", size, IN_FLIGHT, "-prefix", prefix, "-n", str(KEYS))
            yield Figure(f"get of {name}, {IN_FLIGHT} in flight", cell)
        yield Figure("LIST of 1,000", load.cell("list", TINY, 1, "-prefix", "tiny_"))
        cluster.stop()
    finally:
        cluster.kill()
