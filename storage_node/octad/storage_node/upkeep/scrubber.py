"""Reads every record again within a period, so that damage is found while good copies exist.

A round goes through all ended segments, oldest first, at the rate that ends it in time; how far it
is stands in the index and survives restarts. What cannot be read is *quarantined*: it is logged
with file and offset, never served (reads check the same checksum) and its segment not given up. The
rows that point there are handed to `DamagedRecords`, one by one (`damaged_records.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time

import msgspec

from octad.client.runtime.logs.seldom_log import SeldomLog
from octad.client.runtime.open_files import none_left
from octad.sharding.limits import KIB, SCRUB_PERIOD_S
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index_format import (
    ROW_TABLES,
    SCRUBBED_KEY,
    ScrubState,
    decode_located,
    decode_scrub_state,
    encode_value,
)
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import CorruptRecord, UnreadableRecord
from octad.storage_node.journal.record_format import (
    RECORDS_OFFSET,
    Position,
    SegmentId,
    offset_of,
    position,
    segment_of,
)
from octad.storage_node.journal.segment_file import SegmentFile, next_intact_record, open_segment
from octad.storage_node.upkeep.damaged_records import DamagedRecords, Outcome

SCRUB_STEP_BYTES = 256 * KIB
SCRUB_BYTES_PER_S_MIN = 256 * KIB

log = logging.getLogger(__name__)

_IDLE_S = 5.0  # Between checks whether a segment has ended.


class Scrubber:
    """See the module. `run` until cancelled; `read_on` does one step."""

    def __init__(
        self,
        journal: Journal,
        index: CountedIndex,
        damaged_records: DamagedRecords,
        period_s: float = SCRUB_PERIOD_S,
    ) -> None:
        self._journal = journal
        self._index = index
        self._damaged_records = damaged_records
        self._period_s = period_s
        self._waits_log = SeldomLog(log)
        stored = index.get(SCRUBBED_KEY)
        begin = ScrubState(Position(0), int(time.time()))
        self.state = begin if stored is None else decode_scrub_state(stored)
        self.bytes_read = 0

    async def run(self) -> None:
        """Round after round, for ever."""
        while True:
            try:
                await asyncio.sleep(await self.read_on())
            except OSError as error:
                if not none_left(error):
                    raise
                self._waits_log.warning("scrubbing waits: %s", error)
                await asyncio.sleep(_IDLE_S)

    async def read_on(self) -> float:
        """Read and verify one step; returns how long to pause before the next."""
        segment = self._segment()
        use = self._index.ledger.segments.get(segment)
        if use is None or not use.end:
            return self._end_of_round()
        place = self.state.position
        start = offset_of(place) if segment_of(place) == segment else RECORDS_OFFSET
        journal = self._journal
        following = position(SegmentId(segment + 1), RECORDS_OFFSET)
        try:
            file = open_segment(journal.disk, journal.directory, segment, journal.identity)
        except CorruptRecord as error:  # Its header: nothing of it can be read in order.
            await self._quarantine(segment, 0, use.end, error)
            self._go_to(following)
            return 0.0
        with file:
            at, bad = await asyncio.to_thread(_read, file, start, use.end)
        self.bytes_read += at - start
        if bad is not None:
            await self._quarantine(segment, bad.offset, at, bad)
        self._go_to(position(segment, at) if at < use.end else following)
        return (at - start) / self.rate()

    def rate(self) -> float:
        """Bytes a second that end a round in time, with a tenth to spare."""
        needed = 1.1 * self._index.ledger.written_bytes() / max(self._period_s, 1.0)
        return max(needed, SCRUB_BYTES_PER_S_MIN)

    def _segment(self) -> SegmentId:
        """The first ended segment at or behind the position; 0 when there is none."""
        first = segment_of(self.state.position)
        ended = (
            each for each, use in self._index.ledger.segments.items() if each >= first and use.end
        )
        return min(ended, default=SegmentId(0))

    def _end_of_round(self) -> float:
        """Segments that end from now on still belong to it; the next begins with the period."""
        now = int(time.time())
        if now - self.state.began_s < self._period_s:
            return _IDLE_S
        self.state = ScrubState(Position(0), now, self.state.rounds + 1)
        self._note()
        return _IDLE_S

    def _go_to(self, place: Position) -> None:
        self.state = msgspec.structs.replace(self.state, position=place)
        self._note()

    def _note(self) -> None:
        self._index.write([(SCRUBBED_KEY, encode_value(self.state))])

    async def _quarantine(
        self, segment: SegmentId, start: int, end: int, error: CorruptRecord
    ) -> None:
        """Records in [start, end) of `segment` may be damaged: handle those still needed."""
        log.error("quarantined: %s", error)
        outcomes = [
            await self._damaged_records.look_at(key)
            for key in await asyncio.to_thread(_rows_in, self._index, segment, start, end)
        ]
        if isinstance(error, UnreadableRecord) and set(outcomes) == {Outcome.SOUND}:
            self._damaged_records.note_passed()


def _read(file: SegmentFile, start: int, end: int) -> tuple[int, CorruptRecord | None]:
    """Verify about one step of records: where to go on, and the first bad one."""
    at = start
    try:
        for location, _record in file.records(start, end):
            at = location.offset + location.length
            if at - start >= SCRUB_STEP_BYTES:
                break
    except UnreadableRecord as error:
        return _next_readable(file, error.offset + error.length, end), error
    except CorruptRecord as error:
        return _next_readable(file, error.offset + 1, end), error
    return at, None


def _next_readable(file: SegmentFile, at: int, end: int) -> int:
    """The first valid record at or after `at`, past read errors; or `end`."""
    while at < end:
        try:
            return next_intact_record(file, at, end)
        except UnreadableRecord as error:
            at = max(at, error.offset) + max(error.length, 1)
    return end


def _rows_in(index: CountedIndex, segment: SegmentId, start: int, end: int) -> list[bytes]:
    """Keys of the rows whose records begin in [start, end) of `segment`; all rows are looked at."""
    found: list[bytes] = []
    for table in sorted(ROW_TABLES):
        for key, value in index.scan(bytes([table]), bytes([table + 1])):
            location = decode_located(value).location
            if location.segment == segment and start <= location.offset < end:
                found.append(key)
    return found
