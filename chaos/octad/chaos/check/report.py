"""The results of a run as a table for people: violations, waits, errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from octad.chaos.check.stalls import NO_ANSWER, Stall, Stalls
from octad.chaos.check.verdict import Violation

_HEADINGS = ("", "longest wait s", "on key", "at s")


@dataclass(frozen=True, slots=True)
class Report:
    """`settled_s`: how long after the faults every shard was at full strength and served."""

    seconds: float
    operations: int
    faults: tuple[str, ...]
    keys: int
    violations: tuple[Violation, ...]
    undecided: tuple[str, ...]
    settled_s: float
    stalls: Stalls

    @property
    def is_sound(self) -> bool:
        return not self.violations


def as_text(report: Report) -> str:
    """Returns complete lines."""
    lines = ["faults"]
    lines += [f"  {fault}" for fault in report.faults] or ["  none"]
    lines += ["", *_waits(report.stalls), ""]
    lines.append(f"errors through sound nodes    {_errors(report.stalls.errors)}")
    lines.append(f"errors through harmed nodes   {_errors(report.stalls.errors_of_harmed)}")
    lines.append(f"at full strength after        {report.settled_s:.1f} s")
    lines.append(
        f"{report.operations} requests on {report.keys} keys in {report.seconds:.0f} s: "
        + ("sound" if report.is_sound else f"{len(report.violations)} VIOLATIONS")
    )
    if report.undecided:
        lines.append(f"too hard to decide: {', '.join(report.undecided)}")
    for violation in report.violations:
        lines += ["", f"VIOLATION: {violation.what} {violation.key}".rstrip(), violation.story]
    return "".join(f"{line}\n" for line in lines)


def _waits(stalls: Stalls) -> list[str]:
    rows = [
        _HEADINGS,
        *_rows("writes", stalls.writes),
        *_rows("reads", stalls.reads),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _rows(what: str, by_class: Mapping[str, Stall]) -> list[tuple[str, str, str, str]]:
    return [
        (f"{what}, {name}", f"{stall.seconds:.2f}", stall.key, f"{stall.begin:.1f}")
        for name, stall in sorted(by_class.items())
    ]


def _errors(errors: Counter[tuple[str, int]]) -> str:
    counts = [
        f"{count} × {kind} {status if status != NO_ANSWER else 'without an answer'}"
        for (kind, status), count in sorted(errors.items())
    ]
    return ", ".join(counts) or "none"
