"""Reads every record again within a period, so that damage is found while good copies exist.

A round goes through all ended segments, oldest first, at the rate that ends it in time; how far it
is stands in the index and survives restarts. A bad record is *quarantined*: it is logged with file
and offset, counted, never served (reads check the same checksum) and its segment not given up. The
rows that point at it are handed to `repair`, which brings the record from another member; it is
appended as a copy and the rows move there (`record_repair.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time

import msgspec

from octad.client.shell.open_files import none_left
from octad.client.shell.seldom_log import SeldomLog
from octad.sharding.ids import Epoch, Seq, ShardId
from octad.sharding.limits import SCRUB_BYTES_PER_S_MIN, SCRUB_PERIOD_S, SCRUB_STEP_BYTES
from octad.storage_node.core.index_format import (
    ROW_TABLES,
    SCRUBBED_KEY,
    Ordered,
    ScrubState,
    decode_ordered,
    decode_scrub_state,
    encode_value,
)
from octad.storage_node.core.record_format import (
    RECORDS_OFFSET,
    Position,
    SegmentId,
    offset_of,
    position,
    segment_of,
    start_of,
)
from octad.storage_node.shell.counted_index import CountedIndex
from octad.storage_node.shell.journal import Journal
from octad.storage_node.shell.journal_errors import CorruptRecord, JournalFull
from octad.storage_node.shell.record_repair import (
    IsDirty,
    Repair,
    Repaired,
    replace_record,
)
from octad.storage_node.shell.segment_file import SegmentFile, next_whole_record, open_segment

log = logging.getLogger(__name__)

_IDLE_S = 5.0  # Until it looks again whether a segment has ended.


async def no_repair(_key: bytes, _epoch: Epoch, _seq: Seq) -> Repaired | None:
    """Of a node that is alone: what is damaged stays damaged, and is never served."""
    return None


def never_dirty(_shard: ShardId, _key: bytes) -> bool:
    """Of a node at which nothing is prepared."""
    return False


class Scrubber:
    """See the module. `run` until cancelled; `read_on` does one step."""

    def __init__(
        self,
        journal: Journal,
        index: CountedIndex,
        repair: Repair = no_repair,
        is_dirty: IsDirty = never_dirty,
        period_s: float = SCRUB_PERIOD_S,
    ) -> None:
        self._journal = journal
        self._index = index
        self._repair = repair
        self._is_dirty = is_dirty
        self._period_s = period_s
        self._waits_log = SeldomLog(log)
        stored = index.get(SCRUBBED_KEY)
        begin = ScrubState(Position(0), int(time.time()))
        self.state = begin if stored is None else decode_scrub_state(stored)
        self.quarantined: dict[Position, CorruptRecord] = {}
        self.bytes_read = 0
        self.damaged_records = 0
        self.repaired_records = 0

    async def run(self) -> None:
        """Round after round, for ever."""
        while True:
            try:
                await asyncio.sleep(await self.read_on())
            except CorruptRecord as error:  # The segment's header: nothing of it can be read.
                await self._quarantine(position(self._segment(), 0), error)
                self._go_to(position(SegmentId(self._segment() + 1), RECORDS_OFFSET))
            except OSError as error:
                if not none_left(error):
                    raise
                self._waits_log.warning("scrubbing waits: %s", error)
                await asyncio.sleep(_IDLE_S)

    async def read_on(self) -> float:
        """Read and verify one step; gives how long to pause before the next."""
        segment = self._segment()
        use = self._index.ledger.segments.get(segment)
        if use is None or not use.end:
            return self._end_of_round()
        place = self.state.position
        start = offset_of(place) if segment_of(place) == segment else RECORDS_OFFSET
        journal = self._journal
        with open_segment(journal.disk, journal.directory, segment, journal.identity) as file:
            at, bad = await asyncio.to_thread(_read, file, start, use.end)
        self.bytes_read += at - start
        if bad is not None:
            await self._quarantine(position(segment, bad.offset), bad)
        following = position(SegmentId(segment + 1), RECORDS_OFFSET)
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

    async def _quarantine(self, place: Position, error: CorruptRecord) -> None:
        if place in self.quarantined:
            return
        self.quarantined[place] = error
        self.damaged_records += 1
        log.error("quarantined: %s", error)
        for key, row in await asyncio.to_thread(_rows_at, self._index, place):
            repaired = await self._repair(key, row.epoch, row.seq)
            if repaired is None:
                log.error("no other copy of %s (seq %d) was found", key.hex(), row.seq)
                continue
            try:
                self.repaired_records += await replace_record(
                    self._journal, self._index, self._is_dirty, key, row, repaired
                )
            except JournalFull as full:
                log.error("no room to repair %s: %s", key.hex(), full)


def _read(file: SegmentFile, start: int, end: int) -> tuple[int, CorruptRecord | None]:
    """Verify about a step's worth of records: where to go on, and the first bad one."""
    at = start
    try:
        for location, _record in file.records(start, end):
            at = location.offset + location.length
            if at - start >= SCRUB_STEP_BYTES:
                break
    except CorruptRecord as error:
        return next_whole_record(file, error.offset + 1, end), error
    return at, None


def _rows_at(index: CountedIndex, place: Position) -> list[tuple[bytes, Ordered]]:
    """The rows that point at the record at `place`; all rows are looked at."""
    found: list[tuple[bytes, Ordered]] = []
    for table in sorted(ROW_TABLES):
        for key, value in index.scan(bytes([table]), bytes([table + 1])):
            row = decode_ordered(value)
            if start_of(row.location) == place:
                found.append((key, row))
    return found
