"""How long answers take, and from that when a second read is worth its cost (a hedge).

A hedge goes out once an answer is later than 95 of 100 were lately. Hedges have a budget, as
retries have: a tenth of the reads at most, so that a slow cluster is not asked twice for all.
"""

from __future__ import annotations

from typing import Final

REMEMBERED: Final = 128
KNOWN_MIN: Final = 20  # With fewer, no one knows what is late.
COUNTED_EVERY: Final = 16
LATE_SHARE: Final = 0.95
HEDGE_S_MIN: Final = 0.001
HEDGES_A_READ: Final = 0.1
HEDGES_SAVED_MAX: Final = 10.0


class Latencies:
    """A ring of the last ones, in seconds."""

    __slots__ = ("_count", "_late_s", "_ring", "_saved")

    def __init__(self) -> None:
        self._ring: list[float] = []
        self._count = 0
        self._late_s: float | None = None
        self._saved = HEDGES_SAVED_MAX

    def add(self, seconds: float) -> None:
        """An answer came after so long."""
        if len(self._ring) < REMEMBERED:
            self._ring.append(seconds)
        else:
            self._ring[self._count % REMEMBERED] = seconds
        self._count += 1
        if self._count % COUNTED_EVERY == 0 and len(self._ring) >= KNOWN_MIN:
            ordered = sorted(self._ring)
            self._late_s = ordered[int(len(ordered) * LATE_SHARE)]

    def late_after_s(self) -> float | None:
        """When a read that begins now is late; None while too few are known."""
        self._saved = min(self._saved + HEDGES_A_READ, HEDGES_SAVED_MAX)
        return None if self._late_s is None else max(self._late_s, HEDGE_S_MIN)

    def take_hedge(self) -> bool:
        """Whether one may be sent now."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True
