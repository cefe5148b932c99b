"""The status document as text for people: aligned columns, the worst first."""

from __future__ import annotations

from collections.abc import Sequence

from octad.client.cli.format_units import shown_bytes, shown_copies, shown_time
from octad.client.cluster.status_document import (
    UNVERIFIED,
    ClusterStatus,
    CopyingStatus,
    NodeStatus,
    PoolStatus,
)

_NODE_HEADINGS = ("NODE", "STATE", "S3", "RPC", "ZONE", "VERSION", "PRIMARY OF", "MEMBER OF")


def status_table(status: ClusterStatus) -> str:
    """Returns complete lines."""
    lines = [f"cluster {status.cluster}: {status.state}"]
    lines.extend(f"  ! {problem}" for problem in status.problems)
    lines.append("")
    if status.nodes:
        lines.extend(columns([_NODE_HEADINGS, *(_node_row(node) for node in status.nodes)]))
        lines.append("")
    lines.extend(_pool_line(pool) for pool in status.pools)
    lines.extend(_copying_lines(status.copying))
    store, coordinator = status.store, status.coordinator
    endpoints = ", ".join(store.endpoints)
    leader = coordinator.leader_address or "no one"
    lines.append(f"store: {store.kind} at {endpoints}, revision {store.revision}")
    lines.append(
        f"coordinator: {coordinator.address}, version {coordinator.version}; leader: {leader}"
    )
    return "".join(f"{line}\n" for line in lines)


def _node_row(node: NodeStatus) -> tuple[str, ...]:
    return (
        node.name,
        "live" if node.live else "down",
        f"https://{node.s3_address}" if node.s3_tls else node.s3_address or "?",
        node.rpc_address or "?",
        node.zone or "-",
        node.version or "?",
        str(node.primary_of),
        str(node.member_of),
    )


def _pool_line(pool: PoolStatus) -> str:
    counts = [f"{count} {state}" for state, count in pool.shards.items() if count]
    kept = f"pool {pool.id}: {shown_copies(pool.replicas)}, {1 << pool.depth} shards"
    line = f"{kept}: {', '.join(counts)}"
    return f"{line}; verified copies: {_verified(pool)}" if pool.copies else line


def _verified(pool: PoolStatus) -> str:
    if list(pool.copies) == [str(pool.replicas)]:
        return f"{pool.replicas} of each"
    counts = [
        f"{count} not yet verified" if copies == UNVERIFIED else f"{copies} of {count}"
        for copies, count in pool.copies.items()
    ]
    return ", ".join(counts)


def _copying_lines(copying: CopyingStatus) -> list[str]:
    """Empty on a healthy cluster."""
    if not copying.missing and not copying.under_way:
        return []
    waiting = f" ({copying.waiting} wait for someone who has them)" if copying.waiting else ""
    left, time_left = shown_bytes(copying.bytes_left), shown_time(copying.time_left_s)
    counts = f"{copying.missing} missing, {copying.under_way} under way{waiting}"
    return [f"copies: {counts}, {left} left, time left: {time_left}"]


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells, each column as wide as its widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
