"""Reads a journal from a position to its end, and finds that end.

Segments form a chain: the first batch of each says where the one before ended, so every segment
but the last has a known end, and any damage before it is corruption. In the last one the first bad
record is the end, unless something proves that it was durable: the `synced to` of any whole record
behind it. What lies above the end was never acknowledged; `cut` removes it, so that nothing written
later can make it look like part of the journal.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from octad.sharding.limits import MIB
from octad.storage_node.core.record_format import (
    MAGIC_OFFSET,
    RECORD_HEADER_BYTES,
    RECORD_MAGIC,
    RECORDS_OFFSET,
    BadRecord,
    Identity,
    Location,
    Position,
    Record,
    RecordKind,
    SegmentId,
    end_of,
    offset_of,
    position,
    record_length,
    segment_of,
)
from octad.storage_node.shell.disk import Disk
from octad.storage_node.shell.journal_errors import (
    CorruptRecord,
    SegmentMissing,
    UnreadableRecord,
)
from octad.storage_node.shell.segment_file import (
    SegmentFile,
    open_segment,
    remove_temporaries,
    segment_path,
    segments_in,
)

_SEARCH_BYTES = 4 * MIB


class JournalRecovery:
    """One reading. `end` and `next_segment` stand once `records` is exhausted."""

    def __init__(
        self, disk: Disk, directory: Path, identity: Identity | None, start: Position
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._identity = identity
        self._start = start
        self._segments = segments_in(disk, directory)
        self._beyond: list[SegmentId] = []  # Segments above the end: prepared, or torn.
        self.end = start
        self.finished = False

    @property
    def next_segment(self) -> SegmentId:
        """An id that no segment had before."""
        return SegmentId(max([segment_of(self._start), *self._segments]) + 1)

    def records(self) -> Iterator[tuple[Location, Record]]:
        """Every record from the start to the end, without the journal's own marks."""
        chain = self._chain()
        self._check_beyond()
        offset = offset_of(self._start) if self._start else RECORDS_OFFSET
        for segment, end in chain:
            with self._open(segment) as file:
                walk = self._sealed(file, offset, end) if end else self._last(file, offset)
                for location, record in walk:
                    self.end = end_of(location)
                    if record.kind is not RecordKind.SYNCED_MARK:
                        yield location, record
            offset = RECORDS_OFFSET
        self.finished = True

    def cut(self) -> None:
        """Remove what lies above the end, durably."""
        assert self.finished
        remove_temporaries(self._disk, self._directory)
        for segment in self._beyond:
            self._disk.unlink(segment_path(self._directory, segment))
        self._disk.sync_directory(self._directory)
        last = segment_of(self.end)
        if last:
            with self._open(last, write=True) as file:
                if file.size() > offset_of(self.end):
                    file.truncate(offset_of(self.end))

    def _chain(self) -> list[tuple[SegmentId, int]]:
        """The segments to read with the end of each; 0 for the last, whose end is to be found."""
        segments = [each for each in self._segments if each >= segment_of(self._start)]
        links = [self._link(segment) for segment in segments]
        used = max((i + 1 for i, link in enumerate(links) if link is not None), default=0)
        self._beyond = segments[used:]
        if self._start and not (segments and segments[0] == segment_of(self._start)):
            path = segment_path(self._directory, segment_of(self._start))
            raise SegmentMissing(path, "the index refers to it")
        chain: list[tuple[SegmentId, int]] = []
        for i, segment in enumerate(segments[:used]):
            link = links[i]
            if link is None:
                path = segment_path(self._directory, segment)
                raise CorruptRecord(path, RECORDS_OFFSET, "its first record is damaged")
            before = SegmentId(0) if i == 0 else segments[i - 1]
            if segment_of(link) != before and not (i == 0 and self._start):
                path = segment_path(self._directory, segment_of(link))
                raise SegmentMissing(path, f"the journal goes on from it in segment {segment}")
            if chain:
                chain[-1] = (chain[-1][0], offset_of(link))
            chain.append((segment, 0))
        return chain

    def _link(self, segment: SegmentId) -> Position | None:
        """Where the journal was before `segment`, by its first record; None without a whole one."""
        with self._open(segment) as file:
            try:
                header = file.read_bytes(RECORDS_OFFSET, RECORD_HEADER_BYTES)
                return file.read(RECORDS_OFFSET, record_length(memoryview(header))).synced_to
            except UnreadableRecord:
                raise
            except (BadRecord, CorruptRecord):
                return None

    def _sealed(
        self, file: SegmentFile, offset: int, end: int
    ) -> Iterator[tuple[Location, Record]]:
        if offset > end:
            why = f"the journal goes on from offset {end}, the index from {offset}"
            raise CorruptRecord(file.path, end, why)
        return file.records(offset, end)

    def _last(self, file: SegmentFile, offset: int) -> Iterator[tuple[Location, Record]]:
        """Records up to the first bad one, unless something proves that it was durable."""
        size = file.size()
        if size < offset:
            why = f"the file ends here, the index refers to {offset}"
            raise CorruptRecord(file.path, size, why)
        at = offset
        try:
            for location, record in file.records(offset, size):
                at = location.offset + location.length
                yield location, record
        except UnreadableRecord:
            raise
        except CorruptRecord as error:
            proven = max([_highest_mark(file, at + 1), *self._marks_beyond()])
            if proven > position(file.segment, at):
                raise CorruptRecord(file.path, at, error.why) from error

    def _check_beyond(self) -> None:
        """A segment that looks unused must not hold anything that was once durable."""
        for segment, proven in zip(self._beyond, self._marks_beyond(), strict=True):
            if segment_of(proven) >= segment:
                path = segment_path(self._directory, segment)
                raise CorruptRecord(path, RECORDS_OFFSET, "its first record is damaged")

    def _marks_beyond(self) -> list[Position]:
        """For each segment above the end, the highest position that it says was durable."""
        marks: list[Position] = []
        for segment in self._beyond:
            with self._open(segment) as file:
                marks.append(_highest_mark(file, RECORDS_OFFSET))
        return marks

    def _open(self, segment: SegmentId, *, write: bool = False) -> SegmentFile:
        try:
            return open_segment(self._disk, self._directory, segment, self._identity, write=write)
        except FileNotFoundError as error:
            path = segment_path(self._directory, segment)
            raise SegmentMissing(path, "the journal goes through it") from error


def _highest_mark(file: SegmentFile, start: int) -> Position:
    """The highest `synced to` of the whole records at or behind `start`, wherever they begin."""
    highest = Position(0)
    for offset in _candidates(file, start):
        try:
            header = file.read_bytes(offset, RECORD_HEADER_BYTES)
            record = file.read(offset, record_length(memoryview(header)))
        except UnreadableRecord:
            raise
        except (BadRecord, CorruptRecord):
            continue
        highest = max(highest, record.synced_to)
    return highest


def _candidates(file: SegmentFile, start: int) -> Iterator[int]:
    """Offsets at or behind `start` where a record's magic stands."""
    size = file.size()
    overlap = len(RECORD_MAGIC) - 1
    for piece_start in range(start + MAGIC_OFFSET, size, _SEARCH_BYTES):
        piece = file.read_bytes(piece_start, min(_SEARCH_BYTES + overlap, size - piece_start))
        found = piece.find(RECORD_MAGIC)
        while found >= 0:
            yield piece_start + found - MAGIC_OFFSET
            found = piece.find(RECORD_MAGIC, found + 1)
