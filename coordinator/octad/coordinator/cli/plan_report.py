"""Output of the placement verbs: what will happen, progress, and a progress bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TextIO

import msgspec

from octad.client.cli.format_units import bar, shown_bytes, shown_time
from octad.client.cluster.view_age import shown_old_view
from octad.coordinator.cli.plan_client import PlanClient
from octad.coordinator.placement.remaining_time import WorkLeft
from octad.coordinator.schema.placement_messages import (
    PlacedNodes,
    PlacedPools,
    PlanAnswer,
    PlanStatus,
)

EXIT_STOPPED = 3
_POLL_S = 1.0


def print_answer(answer: PlanAnswer, *, as_json: bool) -> None:
    """Print the request and its effects."""
    if as_json:
        print(msgspec.json.encode(answer).decode())
        return
    if answer.pool is not None:
        print(f"pool {answer.pool} {'would be' if answer.dry_run else 'is'} made")
        return
    will = "would" if answer.dry_run else "will"
    size = shown_bytes(answer.moves_bytes)
    print(f"{answer.what}: {answer.moves} copies {will} move ({size}), "
          f"{answer.primaries} primaries change, {answer.splits} shards split")  # fmt: skip
    for node in answer.nodes:
        received = shown_bytes(node.receives_bytes)
        print(f"  {node.name}: receives {node.receives} ({received}), gives {node.gives}")
    for warning in answer.warnings:
        print(f"  ! {warning}")


def print_status(status: PlanStatus, *, as_json: bool) -> None:
    """Print the status once."""
    if as_json:
        print(msgspec.json.encode(status).decode())
        return
    print(f"{status.what or 'placement'}: {status.state}")
    print(f"  {_left(status)}")
    for plan in status.under_way:
        moved = f"{plan.remove or '-'} -> {plan.add or '-'}"
        size = f"{shown_bytes(plan.bytes_done)} of {shown_bytes(plan.bytes_total)}"
        print(f"  {plan.shard}: {plan.reason} {moved}, {plan.state}, {size} {plan.detail}".rstrip())
    for problem in status.problems:
        print(f"  ! {problem}")


def follow(client: PlanClient, answer: PlanAnswer, out: TextIO) -> int:
    """Show a bar until the operation ends, on a terminal; elsewhere return at once."""
    if answer.operation is None or answer.dry_run or not out.isatty():
        return 0
    work = WorkLeft()
    try:
        while True:
            status = client.status()
            if status.operation != answer.operation:
                out.write("\nanother operation replaced this one\n")
                return EXIT_STOPPED
            out.write(f"\r\x1b[K{progress_line(status, work, time.monotonic())}")
            out.flush()
            if status.state in ("done", "reverted", "stopped"):
                out.write("\n")
                return 0 if status.state != "stopped" else EXIT_STOPPED
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        out.write("\nit goes on without you; octad rebalance --stop stops it\n")
        return 0


def progress_line(status: PlanStatus, work: WorkLeft, now_s: float) -> str:
    """Returns one line: share done, what is left, how long it takes at the recent rate."""
    steps_left = status.moves_left + status.splits_left + status.primaries_left
    steps = max(status.moves, status.moves_left) + status.splits_left + status.primaries_left
    by_bytes = status.bytes_left if status.moves_left else None
    eta = shown_time(work.seconds(by_bytes, steps_left, now_s))
    share = 1.0 if not steps_left else 1.0 - steps_left / max(1, steps)
    problem = f"  ! {status.problems[0]}" if status.problems else ""
    return f"{bar(share)} {status.state}, {_left(status)}, time left: {eta}{problem}"


def _left(status: PlanStatus) -> str:
    parts = [f"{status.moves_left} of {status.moves} copies left"]
    if status.moves_left:
        parts.append(f"{shown_bytes(status.bytes_left)} left")
    if status.splits_left:
        parts.append(f"{status.splits_left} splits left")
    if status.primaries_left:
        parts.append(f"{status.primaries_left} hand-overs left")
    if status.repairs_left:
        parts.append(f"{status.repairs_left} copies missing")
    return ", ".join(parts)


def print_nodes(nodes: PlacedNodes, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(nodes).decode())
        return
    rows = [("NODE", "STATE", "ZONE", "WEIGHT", "REPLICAS", "PRIMARY OF", "USED", "FREE")]
    for node in nodes.nodes:
        weight = "?" if node.weight is None else f"{node.weight:g}"
        numbers = (str(node.replicas), str(node.primary_of))
        sizes = (shown_bytes(node.used_bytes), shown_bytes(node.free_bytes))
        rows.append((node.name, node.state, node.zone or "-", weight, *numbers, *sizes))
    _print_columns(rows)
    if (warning := shown_old_view(nodes.age_s)) is not None:
        print(warning)


def print_pools(pools: PlacedPools, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(pools).decode())
        return
    rows = [("POOL", "NAME", "COPIES", "SHARDS", "DEPTH", "DATA", "")]
    for pool in pools.pools:
        note = "being split" if pool.splitting else ""
        numbers = (str(pool.id), pool.name, str(pool.replicas), str(pool.shards), str(pool.depth))
        rows.append((*numbers, shown_bytes(pool.bytes), note))
    _print_columns(rows)


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
