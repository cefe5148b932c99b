"""The needed bytes of each segment, counted while the index changes.

A row that is added, removed or moved changes the live bytes of the segments that it pointed at and
points at now. The counts are written in the same batch as the rows, so they agree with them after
any crash, and a restart reads one small entry a segment instead of counting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from octad.storage_node.index.index_format import (
    ROW_TABLES,
    SegmentUse,
    decode_located,
    decode_segment_use,
    decode_segment_use_key,
    encode_value,
    segment_use_key,
)
from octad.storage_node.journal.record_format import RECORDS_OFFSET, Location, SegmentId

NOT_KNOWN = b""  # No row's value is empty.


class SpaceLedger:
    """See the module. `segments` has the entries in the index, oldest first."""

    def __init__(self, entries: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.segments: dict[SegmentId, SegmentUse] = {
            decode_segment_use_key(key): decode_segment_use(value) for key, value in entries
        }
        self._changed: set[SegmentId] = set()

    def count(
        self,
        puts: Sequence[tuple[bytes, bytes]],
        deletes: Sequence[bytes],
        stored: Callable[[bytes], bytes | None],
        known: Mapping[bytes, bytes | None],
    ) -> None:
        """These rows are about to replace the `stored` ones, some of which are `known` already."""
        more: dict[SegmentId, int] = {}
        replaced: list[bytes] = [key for key in deletes if key[0] in ROW_TABLES]
        for key, value in puts:
            if key[0] in ROW_TABLES:
                replaced.append(key)
                location = decode_located(value).location
                more[location.segment] = more.get(location.segment, 0) + location.length
        for key in replaced:
            before = known.get(key, NOT_KNOWN)
            if before is NOT_KNOWN:
                before = stored(key)
            if before is not None:
                location = decode_located(before).location
                more[location.segment] = more.get(location.segment, 0) - location.length
        for segment, length in more.items():
            use = self._use(segment)
            use.live += length
            assert use.live >= 0, f"segment {segment} has {use.live} live bytes"

    def entries(self) -> list[tuple[bytes, bytes]]:
        """The changes since the last call, to be written with the rows."""
        changed, self._changed = self._changed, set()
        segments = self.segments
        return [
            (segment_use_key(segment), encode_value(segments[segment]))
            for segment in changed
            if segment in segments
        ]

    def keep(self, location: Location, origin: SegmentId) -> None:
        """A copy that no row shows lies at `location`."""
        use = self._use(location.segment)
        use.kept += location.length
        use.kept_origin = max(use.kept_origin, origin)

    def seal(self, segment: SegmentId, end: int) -> None:
        """`segment` is full, or will not be written any more."""
        self._use(segment).end = end

    def drop(self, segment: SegmentId) -> bytes:
        """Forget `segment`, of which nothing is needed; returns the entry to delete."""
        del self.segments[segment]
        self._changed.discard(segment)
        return segment_use_key(segment)

    def needed(self, segment: SegmentId) -> int:
        """Bytes of `segment` that compaction would have to copy, as far as is known."""
        use = self.segments[segment]
        oldest = next(iter(self.segments))
        return use.live + (use.kept if oldest < use.kept_origin else 0)

    def dead(self, segment: SegmentId) -> int:
        """Bytes of a sealed segment that nothing needs."""
        use = self.segments[segment]
        return max(0, use.end - RECORDS_OFFSET) - self.needed(segment) if use.end else 0

    def live_bytes(self) -> int:
        return sum(use.live for use in self.segments.values())

    def written_bytes(self) -> int:
        """The bytes of all records in sealed segments, dead ones included."""
        return sum(max(0, use.end - RECORDS_OFFSET) for use in self.segments.values())

    def _use(self, segment: SegmentId) -> SegmentUse:
        self._changed.add(segment)
        use = self.segments.get(segment)
        if use is None:
            use = self.segments[segment] = SegmentUse()
        return use
