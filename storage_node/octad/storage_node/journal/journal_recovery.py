"""Reads a journal from a position to its end, and finds that end.

Segments form a chain: the first batch of each says where the one before ended, so every segment
but the last has a known end, and any damage before it is corruption. In the last one the first bad
record is the end, unless something proves that it was durable: the `synced to` of any intact record
behind it. What lies above the end was never acknowledged; `cut` removes it, so that nothing written
later can make it look like part of the journal.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from octad.sharding.limits import MIB
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal_errors import (
    CorruptRecord,
    IndexBehind,
    SegmentMissing,
    UnreadableRecord,
    WrittenByNewer,
)
from octad.storage_node.journal.record_format import (
    FIRST_LOCAL_KIND,
    RECORD_HEADER_BYTES,
    RECORDS_OFFSET,
    BadRecord,
    Identity,
    Location,
    Position,
    Record,
    SegmentId,
    end_of,
    offset_of,
    position,
    record_length,
    segment_of,
    start_of,
)
from octad.storage_node.journal.retired_segments import read_retired
from octad.storage_node.journal.segment_file import (
    SegmentFile,
    open_segment,
    record_candidates,
    remove_temporaries,
    segment_path,
    segments_in,
)

_WRITE_BYTES = 4 * MIB


class JournalRecovery:
    """One pass. `end` and `next_segment` are valid once `records` is exhausted.

    `until`: reads a journal that is being written only up to there, where it is durable.
    """

    def __init__(
        self,
        disk: Disk,
        directory: Path,
        identity: Identity | None,
        start: Position,
        until: Position | None = None,
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._identity = identity
        self._start = start
        self._start_segment = segment_of(start)
        self._until = until
        self._whole = False
        there = segments_in(disk, directory)
        if until is not None:
            there = [each for each in there if each <= segment_of(until)]
        self._retired = read_retired(disk, directory)
        # The file of a retired segment may still wait for readers, or be half way to another name.
        self._segments = [each for each in there if not self._retired.has(each)]
        self._beyond: list[SegmentId] = []  # Segments above the end: prepared, or torn.
        self.end = Position(0) if offset_of(start) == RECORDS_OFFSET else start
        self.ends: list[tuple[SegmentId, int]] = []  # Where each segment that was read ends.
        self.finished = False
        self._proven = start  # That was durable: the index says so, or some record.

    @property
    def oldest(self) -> SegmentId:
        """The first segment that is part of the journal; 0 when none is."""
        return next(iter(self._segments), SegmentId(0))

    @property
    def next_segment(self) -> SegmentId:
        """An id that no segment had before."""
        retired = self._retired.last()
        return SegmentId(max([self._start_segment, retired, *self._segments]) + 1)

    def records(self, *, local: bool = False) -> Iterator[tuple[Location, Record]]:
        """Yields every record from the start to the end; the node's own only with `local`."""
        chain = self._chain()
        self._check_beyond()
        start = self._start
        if self._whole:
            self.end = start = Position(0)
        for segment, end in chain:
            offset = offset_of(start) if segment == self._start_segment else RECORDS_OFFSET
            with self._open(segment) as file:
                walk = self._sealed(file, offset, end) if end else self._last(file, offset)
                for location, record in walk:
                    self.end = end_of(location)
                    self._proven = max(self._proven, record.synced_to)
                    wanted = local or record.kind < FIRST_LOCAL_KIND
                    if wanted and start_of(location) >= start:
                        yield location, record
            self.ends.append((segment, end or max(offset, self._end_in(segment))))
        self._check_reach()
        self.finished = True

    def _check_reach(self) -> None:
        """Intact records are no proof that none is missing behind them; the note may have one."""
        reaches = self._retired.reaches
        if self.end >= reaches:
            return
        path = segment_path(self._directory, segment_of(reaches))
        if segment_of(reaches) not in self._segments:
            raise SegmentMissing(path, "the journal once reached it")
        why = f"the journal once reached offset {offset_of(reaches)} of it"
        raise CorruptRecord(path, offset_of(self.end), why)

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
                self._write_again(file)

    def _write_again(self, file: SegmentFile) -> None:
        """What no record proves to have been durable: it was replayed, so it counts as that now.

        A process that was killed may have left it in memory only. Where a sync has failed, memory
        still shows what was to be written, and another sync does not write it: only a write does.
        """
        proven = self._proven
        at = offset_of(proven) if segment_of(proven) == file.segment else RECORDS_OFFSET
        end = offset_of(self.end)
        while at < end:
            piece = file.read_bytes(at, min(_WRITE_BYTES, end - at))
            file.write([piece], at)
            at += len(piece)
        file.sync()

    def _end_in(self, segment: SegmentId) -> int:
        return offset_of(self.end) if segment_of(self.end) == segment else RECORDS_OFFSET

    def _chain(self) -> list[tuple[SegmentId, int]]:
        """The segments to read with the end of each; 0 for the last, whose end is to be found."""
        segments = self._to_read()
        links = [self._link(segment) for segment in segments]
        used = max((i + 1 for i, link in enumerate(links) if link is not None), default=0)
        self._beyond = segments[used:]
        if offset_of(self._start) > RECORDS_OFFSET and segments[:1] != [self._start_segment]:
            start = self._start_segment
            if self._retired.has(start):
                raise IndexBehind(self._directory.parent, f"what segment {start} held")
            path = segment_path(self._directory, start)
            raise SegmentMissing(path, "the index refers to it")
        chain: list[tuple[SegmentId, int]] = []
        for i, segment in enumerate(segments[:used]):
            link = links[i]
            if link is None:
                path = segment_path(self._directory, segment)
                raise CorruptRecord(path, RECORDS_OFFSET, "its first record is damaged")
            before = SegmentId(0) if i == 0 else segments[i - 1]
            end = self._end_of(before, link, segment) if i or self._whole else 0
            if chain:
                chain[-1] = (chain[-1][0], end)
            chain.append((segment, 0))
        if self._until is not None:
            chain = self._bounded(chain, self._until)
        if self._whole:
            self._check_survivors()
        return chain

    def _bounded(
        self, chain: list[tuple[SegmentId, int]], until: Position
    ) -> list[tuple[SegmentId, int]]:
        """The last segment ends where it is durable; prepared ones behind it do not count."""
        self._beyond = []
        last = segment_of(until)
        if chain and chain[-1][0] == last:
            return [*chain[:-1], (last, offset_of(until))]
        return chain

    def _to_read(self) -> list[SegmentId]:
        """Yields segments from the start's on. Sets `_whole` when that is the journal's first.

        A start at the very beginning of a segment may be of a record that was never written,
        in a segment that a restart has removed since. Then the journal's end is in the one before.
        """
        segments = [each for each in self._segments if each >= self._start_segment]
        self._whole = not self._start
        if offset_of(self._start) == RECORDS_OFFSET and (
            segments[:1] != [self._start_segment] or self._link(segments[0]) is None
        ):
            before = [each for each in self._segments if each < self._start_segment]
            self._whole = not before
            segments = before[-1:] + segments
        return segments

    def _end_of(self, before: SegmentId, link: Position, segment: SegmentId) -> int:
        """The end of `before`, if `segment`, whose first record has `link`, comes next."""
        linked = segment_of(link)
        if linked == before:
            return offset_of(link)
        if self._retired.has(linked) and (not before or before in self._retired.ends):
            return self._retired.ends.get(before, 0)
        path = segment_path(self._directory, linked)
        raise SegmentMissing(path, f"the journal goes on from it in segment {segment}")

    def _check_survivors(self) -> None:
        """A segment between two that were retired is linked to by nothing that is left."""
        for segment in self._retired.ends:
            if segment not in self._segments:
                path = segment_path(self._directory, segment)
                raise SegmentMissing(path, "it was not retired")

    def _link(self, segment: SegmentId) -> Position | None:
        """The journal's position before `segment`, by its first record; None if that is torn."""
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
        except (UnreadableRecord, WrittenByNewer):
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
        """For each segment above the end, the highest durable position that it states."""
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
    """The highest `synced to` of the intact records at or behind `start`, wherever they begin."""
    highest = Position(0)
    for offset in record_candidates(file, start):
        try:
            header = file.read_bytes(offset, RECORD_HEADER_BYTES)
            record = file.read(offset, record_length(memoryview(header)))
        except UnreadableRecord:
            raise
        except (BadRecord, CorruptRecord):
            continue
        highest = max(highest, record.synced_to)
    return highest
