"""Durations as counts by upper bounds: a Prometheus histogram.

Writer and reader may be different threads: a reading may miss the newest.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

# From what a GET of a small object takes to what a client waits for an answer at most.
BOUNDS_S: Final = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
_BOUNDS_NS: Final = [round(bound * 1e9) for bound in BOUNDS_S]
_LABELS: Final = (*map(str, BOUNDS_S), "+Inf")


class TimeHistogram:
    """Counts since it was made."""

    __slots__ = ("_counts", "_sum_ns")

    def __init__(self) -> None:
        self._counts = [0] * len(_LABELS)
        self._sum_ns = 0

    def add(self, ns: int) -> None:
        """Count a duration in nanoseconds."""
        self._counts[bisect_left(_BOUNDS_NS, ns)] += 1
        self._sum_ns += ns

    @property
    def sum_s(self) -> float:
        """The sum of all durations, in seconds."""
        return self._sum_ns / 1e9

    def cumulative(self) -> list[tuple[str, float]]:
        """The count up to each bound, by the bound in seconds as a Prometheus label."""
        total, buckets = 0, list[tuple[str, float]]()
        for label, count in zip(_LABELS, self._counts, strict=True):
            total += count
            buckets.append((label, total))
        return buckets
