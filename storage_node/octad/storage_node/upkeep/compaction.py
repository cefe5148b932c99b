"""Chooses the segment to compact next, and how much that may cost.

A segment qualifies when at most `NEEDED_MAX` of its bytes are still needed: making a byte free then
costs at most one byte of copying, so that the journal writes at most twice what its users write,
and holds at most twice what they keep. On a disk that is nearly full, fuller segments qualify: the
bound is 1 / (1 - needed) each time. Records that no row shows but that make older ones void are
carried along; once they are more than `KEPT_MAX` of what is live, the oldest segments are renewed
instead, in any state, because only that makes such records superfluous.

At its base rate compaction hardly disturbs clients, but is slower than they can write.
So its rate grows with the fourth power of the dead share beyond half the bound: steady overwriting
reaches a balance there, and does not fill the disk.
"""

from __future__ import annotations

from collections.abc import Collection

from octad.storage_node.index.space_ledger import SpaceLedger
from octad.storage_node.journal.record_format import RECORDS_OFFSET, Position, SegmentId, segment_of

NEEDED_MAX = 0.5
NEEDED_MAX_NEARLY_FULL = 0.85
KEPT_MAX = 0.25
HURRY_MAX = 25.0


def choose(
    ledger: SpaceLedger,
    flushed: Position,
    nearly_full: bool,
    room: int,
    damaged: Collection[SegmentId] = (),
) -> SegmentId | None:
    """The segment to compact; only one that no replay reads, all of it below `flushed`.

    Its live records must fit into `room` bytes: the segment goes only after they are copied.
    """
    candidates = [
        segment
        for segment, use in ledger.segments.items()
        if use.end
        and segment < segment_of(flushed)
        and segment not in damaged
        and ledger.needed(segment) <= max(room, 0)
    ]
    if not candidates:
        return None
    needed_max = NEEDED_MAX_NEARLY_FULL if nearly_full else NEEDED_MAX
    best = min(candidates, key=lambda segment: needed_share(ledger, segment))
    if needed_share(ledger, best) <= needed_max:
        return best
    kept = sum(use.kept for use in ledger.segments.values())
    if kept > KEPT_MAX * ledger.live_bytes():
        return min(candidates)
    return None


def hurry(ledger: SpaceLedger, few_segments_bytes: int) -> float:
    """The speed-up over the base rate, which is 1."""
    live = ledger.live_bytes()
    over = 2 * (ledger.written_bytes() - live) / (live + few_segments_bytes)
    return min(max(1.0, over**4), HURRY_MAX)


def needed_share(ledger: SpaceLedger, segment: SegmentId) -> float:
    """The share of a segment's records still needed; an empty segment is the first to go."""
    written = ledger.segments[segment].end - RECORDS_OFFSET
    return ledger.needed(segment) / written if written > 0 else 0.0
