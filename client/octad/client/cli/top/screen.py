"""What `octad top` prints of two readings: a table for people, a document for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from octad.client.cli.format_units import counted, shown_bytes
from octad.client.cli.status_table import columns
from octad.client.cli.top.figures import Rates, sum_of_operations
from octad.client.cluster.status_document import ClusterStatus

OPERATIONS_MAX: Final = 12
_HEADINGS = ("NODE", "REQUESTS/S", "FAILED/S", "MEAN MS", "OPEN", "IN/S", "OUT/S", "FREE")


def table(status: ClusterStatus, nodes: Mapping[str, Rates | None]) -> str:
    """None: a node whose metrics could not be read."""
    known = [rates for rates in nodes.values() if rates is not None]
    lines = [
        (
            f"cluster {status.cluster}: {status.state}, {counted(len(status.nodes), 'node')},"
            f" {sum(each.requests for each in known):.0f} requests/s"
        ),
        *(f"  ! {problem}" for problem in status.problems[:3]),
        "",
        *columns([_HEADINGS, *(_row(name, rates) for name, rates in nodes.items())]),
    ]
    operations = list(sum_of_operations(known).items())[:OPERATIONS_MAX]
    if operations:
        rows = [(name, f"{rate:.1f}", _ms(mean)) for name, (rate, mean) in operations]
        lines += ["", *columns([("OPERATION", "REQUESTS/S", "MEAN MS"), *rows])]
    return "\n".join(lines) + "\n"


def document(status: ClusterStatus, nodes: Mapping[str, Rates | None]) -> dict[str, Any]:
    return {
        "cluster": status.cluster,
        "state": status.state,
        "problems": status.problems,
        "nodes": {name: rates and rates._asdict() for name, rates in nodes.items()},
    }


def _row(name: str, rates: Rates | None) -> tuple[str, ...]:
    if rates is None:
        return (name, "no metrics", "", "", "", "", "", "")
    return (
        name,
        f"{rates.requests:.1f}",
        f"{rates.failed:.1f}",
        _ms(rates.mean_ms),
        f"{rates.in_flight:.0f}",
        shown_bytes(int(rates.received_bytes)),
        shown_bytes(int(rates.sent_bytes)),
        "-" if rates.free_bytes is None else shown_bytes(int(rates.free_bytes)),
    )


def _ms(mean_ms: float | None) -> str:
    return "-" if mean_ms is None else f"{mean_ms:.1f}"
