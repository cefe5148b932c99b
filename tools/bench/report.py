"""The benchmark's results as a Markdown table for people, or as one JSON object a row."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from tools.bench.load import Cell
from tools.bench.reference import Reference

KIB, MIB = 1024, 1024 * 1024
FOREIGN_CORES_FAIR = 0.3
HEAD = "| operation | connections | per second | MB/s | p50 ms | p99 ms | server CPU µs | errors |"
RULE = "|---|--:|--:|--:|--:|--:|--:|--:|"


@dataclass(frozen=True, slots=True)
class Run:
    """What holds for all rows of a run."""

    machine: str
    commit: str
    seconds: float
    ready_s: float
    idle_mib: tuple[float, ...]  # Each node, before any request.
    reference: Reference


def as_json(run: Run, cells: list[Cell]) -> str:
    """One object a line; each stands for itself."""
    common = {
        "machine": run.machine,
        "commit": run.commit,
        "seconds": run.seconds,
        "ready_s": round(run.ready_s, 2),
        "idle_mib": [round(mib, 1) for mib in run.idle_mib],
        "reference": run.reference.as_json(),
    }
    return "\n".join(json.dumps({**asdict(cell), **common}) for cell in cells)


def as_table(run: Run, cells: list[Cell]) -> str:
    """The table, and below it what it was measured on and beside."""
    lines = [HEAD, RULE, *(_row(cell) for cell in cells), ""]
    reference = run.reference
    lines.append(
        f"Server CPU is that of all processes together. {run.seconds:g} s a row; ready after "
        f"{run.ready_s:.1f} s; {max(run.idle_mib):.0f} MiB a node when idle.\n"
        "The machine alone, in the same run: "
        f"{reference.loopback_round_trips_s:,.0f} loopback round trips/s, "
        f"{reference.loopback_bulk_mb_s:,.0f} MB/s one way, "
        f"{reference.fdatasync_s:,.0f} fdatasync/s of 4 KiB.\n"
        f"{run.machine}; commit {run.commit}."
    )
    if any(cell.foreign_cores > FOREIGN_CORES_FAIR for cell in cells):
        lines.append("* other programs were busy meanwhile: per second is understated.")
    return "\n".join(lines)


def _row(cell: Cell) -> str:
    busy = "*" if cell.foreign_cores > FOREIGN_CORES_FAIR else ""
    megabytes = f"{cell.mb_s:,.0f}" if cell.size >= MIB else ""
    return (
        f"| {cell.op.upper()}{_size(cell)} | {cell.connections} | {cell.ops_s:,.0f}{busy} | "
        f"{megabytes} | {cell.p50_ms:.2f} | {cell.p99_ms:.2f} | {cell.server_cpu_us_op:,.0f} | "
        f"{cell.errors} |"
    )


def _size(cell: Cell) -> str:
    if cell.op in ("list", "deleteobjects"):
        return " of 1,000"
    return f" {cell.size // MIB} MiB" if cell.size >= MIB else f" {cell.size // KIB} KiB"
