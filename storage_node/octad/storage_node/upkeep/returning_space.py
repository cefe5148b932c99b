"""Space that a full disk recovers by itself, and when: an estimate for people.

Extents in the queue wait for their readers; then they are dead, as deleted small objects are at
once. Compaction frees the dead bytes of segments that it would take.
"""

from __future__ import annotations

from typing import NamedTuple

from octad.storage_node.index.space_ledger import SpaceLedger
from octad.storage_node.upkeep.compaction import NEEDED_MAX_NEARLY_FULL, needed_share

BYTES_PER_S = 64 << 20  # Scanned by compaction in a hurry; up to twice that is measured.
_ROUND_S = 5.0  # Until compaction has noticed it, and removed the first file.


class Returning(NamedTuple):
    """The bytes that return, and within how many seconds."""

    size: int
    within_s: float


def returning_space(ledger: SpaceLedger, waiting_bytes: int, wait_s: float) -> Returning:
    """`waiting_bytes` are in the queue, for at most `wait_s`."""
    dead = sum(
        ledger.dead(segment)
        for segment, use in ledger.segments.items()
        if use.end and needed_share(ledger, segment) <= NEEDED_MAX_NEARLY_FULL
    )
    size = dead + waiting_bytes
    return Returning(size, wait_s + _ROUND_S + size / BYTES_PER_S)
