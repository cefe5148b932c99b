"""Gives the space of dead records back: copies what a segment still holds, then lets it go.

The rules are in `operations/copy_format.py`, the choice of segments in `compaction.py`. The order
of the steps is what makes it safe at any moment of a crash:

    copies appended ─ synced ─ rows moved, in one batch with the counts ─ index flushed
      ─ note of retired segments durable ─ entry of the segment gone ─ a pause for readers ─ file

It reads in a thread and works in small steps at a limited rate, so that clients hardly notice, and
faster the more space is dead.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import msgspec

from octad.client.runtime.logs.seldom_log import SeldomLog
from octad.sharding.ids import ShardId
from octad.sharding.limits import FULL_REMEMBERED_S, KIB, MIB, READER_PIN_S
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.history_format import copied_to_key, decode_copied_to
from octad.storage_node.index.index_format import (
    SHARD_STATES,
    decode_located,
    decode_shard_state,
    decode_shard_state_key,
)
from octad.storage_node.index.key_ranges import past
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import (
    CorruptRecord,
    IndexBehind,
    JournalFull,
    SegmentMissing,
)
from octad.storage_node.journal.record_format import (
    RECORDS_OFFSET,
    Location,
    Position,
    Record,
    RecordKind,
    SegmentId,
)
from octad.storage_node.journal.retired_segments import (
    RetiredSegments,
    read_retired,
    write_retired,
)
from octad.storage_node.journal.segment_file import open_segment, segment_path, segments_in
from octad.storage_node.journal.shard_state import ShardState
from octad.storage_node.operations.copy_format import (
    FROM_ANOTHER_NODE,
    Copied,
    Original,
    encode_copied,
    kept_form,
    moved,
    original_of,
    row_key_of,
)
from octad.storage_node.operations.registry import kind_numbered, records_in
from octad.storage_node.upkeep.compaction import HURRY_MAX, choose, hurry

# Giving space back. One step is what may stand between two requests: a third of a millisecond.
COMPACTION_STEP_BYTES = 64 * KIB
COMPACTION_STEP_RECORDS = 32
COMPACTION_STEP_GROWTH_MAX = 4  # When it hurries.
COMPACTION_STEP_S_MIN = 0.005
COMPACTION_BYTES_PER_S = 8 * MIB  # Copied, so that clients keep most of the disk.
COMPACTION_POLL_S = 2.0
FULL_READER_PIN_S = 1.0  # READER_PIN_S on a full disk.
SPARE_SEGMENTS_MAX = 4

log = logging.getLogger(__name__)

# Space may come, and files be closed; any other error is the disk's own.
_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)


class Compactor:
    """See the module. `run` until cancelled, or `compact` one segment at a time."""

    def __init__(
        self,
        journal: Journal,
        index: CountedIndex,
        is_dirty: Callable[[ShardId, bytes], bool],
        on_damage: Callable[[CorruptRecord], None],
        reader_pin_s: float = READER_PIN_S,
    ) -> None:
        self._journal = journal
        self._index = index
        self._is_dirty = is_dirty  # Whether an entry for this row is prepared and not applied.
        self._on_damage = on_damage
        self._reader_pin_s = reader_pin_s
        self._damaged: set[SegmentId] = set()  # Not compacted before a restart or a repair.
        self._pinned: list[tuple[float, SegmentId]] = []  # Since when.
        self._hurried_until = 0.0
        # Copies not yet durable: their end, the row's key, old and new location, original segment.
        self._moves: list[tuple[Position, bytes | None, Location, Location, SegmentId]] = []
        self._waits_log = SeldomLog(log)
        self.copied_bytes = 0
        self.freed_bytes = 0
        self.segments_freed = 0

    async def run(self) -> None:
        """Compact every segment worth it, for ever."""
        begun = False
        self._moves = []  # Of an index that is given up: what they copied stays as it was.
        while True:
            try:
                if not begun:
                    self.finish_earlier_work()
                    begun = True
                if not await self.compact():
                    await asyncio.sleep(COMPACTION_POLL_S)
            except (JournalFull, OSError) as error:
                if isinstance(error, OSError) and error.errno not in _PASSING:
                    raise
                self._waits_log.warning("compaction waits: %s", error)
                await asyncio.sleep(COMPACTION_POLL_S)
            await self.let_go()

    def finish_earlier_work(self) -> None:
        """Let go of segments that were retired before: by a process that died before their files
        went, or with an index that is given up.
        """
        journal, ledger = self._journal, self._index.ledger
        pinned = {segment for _, segment in self._pinned}
        retired = read_retired(journal.disk, journal.directory)
        entries = [ledger.drop(each) for each in list(ledger.segments) if retired.has(each)]
        if entries:
            self._index.write([], entries)
        for segment in segments_in(journal.disk, journal.directory):
            if retired.has(segment) and segment not in pinned:
                journal.release(segment, SPARE_SEGMENTS_MAX)

    async def compact(self, step_s: float | None = None) -> bool:
        """Compact the segment that is worth it most; False when none is.

        Flushes the index and writes the note. Raises JournalFull, OSError.
        """
        index = self._index
        segment = await self._chosen()
        if segment is None:
            return False
        before = index.ledger.segments[segment].end - RECORDS_OFFSET
        try:
            copied = await self._copy_all(segment, step_s)
        except CorruptRecord as error:
            self._damaged.add(segment)  # Nothing of it is discarded.
            self._on_damage(error)
            return False
        if copied is None or index.ledger.segments[segment].live:
            return False  # A row was being written meanwhile: later.
        await index.flush_in_thread()
        await self._retire(segment)
        self.copied_bytes += copied
        self.freed_bytes += before - copied
        self.segments_freed += 1
        return True

    async def _chosen(self) -> SegmentId | None:
        """The segment that is worth it most. In a hurry the index is flushed for it.

        Deletes write so little that it would not be for long.
        """
        index, disk = self._index, self._journal.room
        hurried, nearly_full, room = self._in_a_hurry(), disk.nearly_full(), disk.room_to_copy()
        segment = choose(index.ledger, index.flushed_position, nearly_full, room, self._damaged)
        if segment is None and hurried:
            segment = choose(index.ledger, index.written_position, nearly_full, room, self._damaged)
            if segment is not None:
                await index.flush_in_thread()
        return segment

    def _in_a_hurry(self) -> bool:
        """Whether the disk is, or was recently, nearly full: dead space is needed soon."""
        time = asyncio.get_running_loop().time()
        if self._journal.room.nearly_full():
            self._hurried_until = time + FULL_REMEMBERED_S
        return time < self._hurried_until

    async def _copy_all(self, segment: SegmentId, step_s: float | None) -> int | None:
        """Copy the needed records of `segment`; returns the bytes, None if some had to be left."""
        end = self._index.ledger.segments[segment].end
        journal = self._journal
        copied = 0
        complete = True
        few = SPARE_SEGMENTS_MAX * journal.segment_bytes
        faster = HURRY_MAX if self._in_a_hurry() else hurry(self._index.ledger, few)
        larger = min(int(faster), COMPACTION_STEP_GROWTH_MAX)  # The loop has few turns when busy.

        def rowless() -> bool:
            """No row points into the segment, so that a record of it costs much less."""
            return not self._index.ledger.segments[segment].live

        with open_segment(journal.disk, journal.directory, segment, journal.identity) as file:
            records = file.records(RECORDS_OFFSET, end)
            while step := await asyncio.to_thread(
                _next_step, records, COMPACTION_STEP_GROWTH_MAX if rowless() else larger
            ):
                began, dead = copied, rowless()
                for location, record in step:
                    for each in records_in(location, record):
                        taken = self._copy(*each, dead=dead)
                        complete = complete and taken is not None
                        copied += taken or 0
                await self._settle(copied - began, faster, step_s)
        return copied if complete else None

    def _copy(self, location: Location, record: Record, *, dead: bool) -> int | None:
        """Copy one record if it is needed: the bytes written, or None when it has to wait.

        `dead`: it is known that no row points at it.
        """
        if record.kind is RecordKind.SYNCED_MARK:
            return 0
        original = original_of(location, record)
        key = None if dead else row_key_of(original)
        if key is not None:
            value = self._index.get(key)
            if value is not None and decode_located(value).location == location:
                if self._is_dirty(record.shard, key):
                    return None
                return self._append(location, record, original, key)
        if kind_numbered(original.kind).kept:
            # A record that came with a copy of history may be void by one written long before.
            copied_to = decode_copied_to(self._index.get(copied_to_key(record.shard)))
            origin = max(original.origin, copied_to)
            kept = msgspec.structs.replace(kept_form(original), origin=origin)
            if self._makes_void(kept):
                return self._append(location, record, kept, None)
        return 0

    def _makes_void(self, original: Original) -> bool:
        """Whether a segment is left that is older than the record."""
        return min(self._index.ledger.segments) < original.origin

    def _append(
        self, location: Location, record: Record, original: Original, key: bytes | None
    ) -> int:
        source = FROM_ANOTHER_NODE if original.from_another_node else location
        copied = Copied(source, original.origin, original.kind, original.metadata)
        appended = self._journal.append(
            RecordKind.COPY,
            record.shard,
            record.epoch,
            record.seq,
            record.commit,
            record.request_id,
            encode_copied(copied),
            record.data if key is not None else b"",
        )
        self._moves.append((appended.lsn, key, location, appended.location, original.origin))
        return appended.location.length

    async def _settle(self, copied: int, faster: float, step_s: float | None) -> None:
        """Wait until the copies are durable, move the rows, and pause in proportion."""
        moves, self._moves = self._moves, []
        if moves:
            await self._journal.durable(moves[-1][0])
            index = self._index
            puts: list[tuple[bytes, bytes]] = []
            for _, key, source, target, origin in moves:
                if key is None:
                    index.ledger.keep(target, origin)
                    continue
                value = index.get(key)
                row = None if value is None else moved(value, source, target)
                if row is not None:
                    puts.append((key, row))
            index.write(puts)
        pause = max(COMPACTION_STEP_S_MIN, copied / COMPACTION_BYTES_PER_S)
        await asyncio.sleep(pause / faster if step_s is None else step_s)

    async def _retire(self, segment: SegmentId) -> None:
        """Say durably that the segment is gone on purpose, then forget it."""
        journal, index = self._journal, self._index
        survivors = [
            (each, use.end)
            for each, use in index.ledger.segments.items()
            if use.end and each != segment
        ]
        states = {
            decode_shard_state_key(key): decode_shard_state(value)
            for key, value in index.scan(SHARD_STATES, past(SHARD_STATES))
        }
        await asyncio.to_thread(_note, journal, segment, survivors, states)
        index.write([], [index.ledger.drop(segment)])
        self._pinned.append((asyncio.get_running_loop().time(), segment))

    async def let_go(self, *, now: bool = False) -> None:
        """Recycle the files that no reader can still use.

        In a hurry they are removed sooner, and never recycled: a late reader finds no file, and
        reads the row again, which has the record's new location.
        """
        time = asyncio.get_running_loop().time()
        hurried = bool(self._pinned) and self._in_a_hurry()
        pin_s = min(self._reader_pin_s, FULL_READER_PIN_S) if hurried else self._reader_pin_s
        spares_max = 0 if hurried else SPARE_SEGMENTS_MAX
        while self._pinned and (now or self._pinned[0][0] + pin_s <= time):
            _, segment = self._pinned.pop(0)
            await asyncio.to_thread(self._journal.release, segment, spares_max)


def check_segments(journal: Journal, index: CountedIndex) -> None:
    """Check that every segment that rows point or pointed at exists, at its full length.

    Raises SegmentMissing, CorruptRecord; and IndexBehind if rows point at a retired segment: the
    index was flushed when none did any more.
    """
    there = set(segments_in(journal.disk, journal.directory))
    retired = read_retired(journal.disk, journal.directory)
    for segment, use in index.ledger.segments.items():
        path = segment_path(journal.directory, segment)
        if retired.has(segment) and use.live:
            raise IndexBehind(journal.directory.parent, f"where the rows of segment {segment} went")
        if segment in there:
            size = _file_bytes(journal.disk, path)
            if size < use.end:
                raise CorruptRecord(path, size, f"the file ends here, its records at {use.end}")
        elif not retired.has(segment):
            raise SegmentMissing(path, "the index refers to it")


def _file_bytes(disk: Disk, path: Path) -> int:
    descriptor = disk.open(path, os.O_RDONLY)
    try:
        return disk.size(descriptor)
    finally:
        disk.close(descriptor)


def _note(
    journal: Journal,
    segment: SegmentId,
    survivors: list[tuple[SegmentId, int]],
    states: dict[ShardId, ShardState],
) -> None:
    retired: RetiredSegments = read_retired(journal.disk, journal.directory)
    retired.retire(segment, survivors, states, journal.durable_to)
    write_retired(journal.disk, journal.directory, retired)


def _next_step(
    records: Iterator[tuple[Location, Record]], larger: int
) -> list[tuple[Location, Record]]:
    """A few records: little enough to look at between two requests."""
    step: list[tuple[Location, Record]] = []
    size = 0
    for location, record in islice(records, COMPACTION_STEP_RECORDS * larger):
        step.append((location, record))
        size += location.length
        if size >= COMPACTION_STEP_BYTES * larger:
            break
    return step
