"""The comparison's figures as text: tables for the terminal, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields

from octad.sharding.study.model.comparison import Measured
from octad.sharding.study.rivals.scheme import Scheme


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns, the first to the left, the others to the right; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *[c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)],
            ]
        )
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def movement_tables(rows: Sequence[Measured]) -> str:
    """For each step a table of what moved: schemes down, clusters across, the minimum on top."""
    parts = []
    for step in dict.fromkeys(row.step for row in rows):
        of_step = [row for row in rows if row.step == step]
        counts = list(dict.fromkeys((row.nodes, row.nodes_after) for row in of_step))
        minimum = {(row.nodes, row.nodes_after): row.minimum for row in of_step}
        table = [
            [f"moved at {step}", *[f"{before}→{after}" for before, after in counts]],
            ["minimum", *[f"{minimum[count]:.3f}" for count in counts]],
        ]
        for scheme in dict.fromkeys(row.scheme for row in of_step):
            moved = {(r.nodes, r.nodes_after): r.moved for r in of_step if r.scheme == scheme}
            table.append([scheme, *[f"{moved[c]:.3f}" if c in moved else "-" for c in counts]])
        parts.append(aligned(table))
    return "\n\n".join(parts)


def property_table(rows: Sequence[Measured]) -> str:
    """Properties of a scheme in the largest cluster of the comparison, after its first step."""
    largest, step = max(row.nodes for row in rows), ""
    table = [
        [
            "",
            "max/mean",
            "p99/p50",
            "lookup ns",
            "state",
            "sets",
            "primaries",
            "zones",
            "hours",
            "price",
        ]
    ]
    for scheme in dict.fromkeys(row.scheme for row in rows):
        row = next(row for row in rows if row.scheme == scheme and row.nodes == largest)
        step = row.step
        table.append(
            [
                row.scheme,
                f"{row.max_over_mean:.3f}",
                f"{row.p99_over_p50:.3f}",
                f"{row.lookup_ns:.0f}",
                f"{row.state_bytes / 1024:.1f} KiB",
                str(row.replica_sets),
                f"{row.primaries_changed:.3f}",
                "kept" if not row.zones_broken else f"{row.zones_broken:.0%} broken",
                f"{row.moving_hours:.1f}",
                f"{row.price:.0f}",
            ]
        )
    return f"{largest} nodes, {step}:\n{aligned(table)}"


def as_csv(rows: Sequence[Measured]) -> str:
    """Every figure of every row."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([field.name for field in fields(Measured)])
    writer.writerows([asdict(row).values() for row in rows])
    return out.getvalue()


def as_json(rows: Sequence[Measured], schemes: Sequence[Scheme]) -> str:
    """Every figure of every row, and where the schemes come from."""
    sources = {
        scheme.name: {
            "title": scheme.title,
            "source": scheme.source,
            "weights": scheme.weights,
            "zones": scheme.zones,
        }
        for scheme in schemes
    }
    return json.dumps({"schemes": sources, "rows": [asdict(row) for row in rows]}, indent=1) + "\n"
