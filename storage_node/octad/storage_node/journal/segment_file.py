"""One segment on disk: its name, its making, and reading verified records out of it.

The bytes are drawn in `record_format.py`. A segment gets its header under a temporary name and
appears under its own one only when header and space are durable, so a file named like a segment
always has a header, and one without is damaged.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from octad.sharding.ids import node_name
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal_errors import (
    CorruptRecord,
    ForeignSegment,
    UnreadableRecord,
    WrittenByNewer,
)
from octad.storage_node.journal.record_format import (
    MAGIC_OFFSET,
    RECORD_HEADER_BYTES,
    RECORD_MAGIC,
    RECORDS_OFFSET,
    SEGMENT_HEADER_COPY_OFFSET,
    BadRecord,
    Identity,
    Location,
    NewerRecord,
    Record,
    SegmentHeader,
    SegmentId,
    checksum_seed,
    decode_record,
    decode_segment_header,
    encode_segment_header,
    record_length,
)

SUFFIX = ".segment"
TEMPORARY_SUFFIX = ".preparing"
SPARE_SUFFIX = ".spare"
FIRST_GENERATION = 1
_NAME = re.compile(r"([0-9]{10})\.segment")
_READ_BYTES = 4 * 1024 * 1024
_SEARCH_BYTES = 4 * 1024 * 1024


class SegmentFile:
    """An open segment. Its descriptor is closed with the last reference to it, or by `close`."""

    def __init__(self, disk: Disk, path: Path, descriptor: int, header: SegmentHeader) -> None:
        self.path = path
        self.header = header
        self.segment = header.segment
        self.seed = checksum_seed(header.segment, header.generation)
        self._disk = disk
        self._descriptor = descriptor

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> SegmentFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor, once."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._disk.close(descriptor)

    def write(self, buffers: list[bytes | memoryview], offset: int, *, cached: bool = True) -> None:
        self._disk.write(self._descriptor, buffers, offset, cached=cached)

    def sync(self) -> None:
        self._disk.sync(self._descriptor)

    def truncate(self, end: int) -> None:
        """Cut the file at `end`, durably."""
        self._disk.truncate(self._descriptor, end)
        self._disk.sync(self._descriptor)

    def next_data(self, offset: int) -> int | None:
        """The next position at or after `offset` that may be non-zero."""
        try:
            return self._disk.next_data(self._descriptor, offset)
        except OSError as error:
            raise _unreadable(self.path, offset, 0, error) from error

    def size(self) -> int:
        return self._disk.size(self._descriptor)

    def read_bytes(self, offset: int, length: int) -> bytes:
        """Fewer than `length` bytes only at the file's end. Raises UnreadableRecord."""
        try:
            return self._disk.read(self._descriptor, length, offset)
        except OSError as error:
            raise _unreadable(self.path, offset, length, error) from error

    def read(self, offset: int, length: int, *, cached: bool = True) -> Record:
        """The record at `offset`. Raises CorruptRecord."""
        read = self._disk.read if cached else self._disk.read_uncached
        try:
            data = read(self._descriptor, length, offset)
            return decode_record(memoryview(data), self.seed, offset)
        except OSError as error:
            raise _unreadable(self.path, offset, length, error) from error
        except BadRecord as error:
            raise _corrupt(self.path, offset, error) from error

    def read_if_cached(self, offset: int, length: int) -> Record | None:
        """`read`, but None where the bytes would have to come from the disk."""
        try:
            data = self._disk.read_if_cached(self._descriptor, length, offset)
        except OSError as error:
            raise _unreadable(self.path, offset, length, error) from error
        if data is None:
            return None
        try:
            return decode_record(memoryview(data), self.seed, offset)
        except BadRecord as error:
            raise _corrupt(self.path, offset, error) from error

    def records(self, start: int, end: int) -> Iterator[tuple[Location, Record]]:
        """The records of [start, end), in order. Raises CorruptRecord at the first bad one.

        The file is read in large pieces; a record's views stay good for as long as they are held.
        """
        offset = start
        piece, piece_start = memoryview(b""), start
        while offset < end:
            view = piece[offset - piece_start :]
            if self._lacks(view) and piece_start + len(piece) < end:
                piece_start = offset
                wanted = max(_READ_BYTES, self._claimed(view))
                piece = memoryview(self.read_bytes(offset, min(wanted, end - offset)))
                if len(view) >= len(piece):  # The file is shorter than `end`: nothing more came.
                    raise CorruptRecord(self.path, offset, "the file ends inside a record")
                continue
            try:
                record = decode_record(view, self.seed, offset)
            except BadRecord as error:
                raise _corrupt(self.path, offset, error) from error
            length = RECORD_HEADER_BYTES + len(record.metadata) + len(record.data)
            yield Location(self.segment, offset, length), record
            offset += length

    @staticmethod
    def _claimed(view: memoryview) -> int:
        """The length stated by the record at the start of `view`; 0 if unknown."""
        try:
            return record_length(view)
        except BadRecord:
            return 0

    def _lacks(self, view: memoryview) -> bool:
        """Whether the record at the start of `view` needs more bytes than `view` has."""
        return len(view) < RECORD_HEADER_BYTES or self._claimed(view) > len(view)


def _corrupt(path: Path, offset: int, error: BadRecord) -> CorruptRecord:
    kind = WrittenByNewer if isinstance(error, NewerRecord) else CorruptRecord
    return kind(path, offset, str(error))


def written_by_newer(directory: Path, location: Location, error: NewerRecord) -> WrittenByNewer:
    """The error for a record at `location` that a newer octad wrote."""
    return WrittenByNewer(segment_path(directory, location.segment), location.offset, str(error))


def _unreadable(path: Path, offset: int, length: int, error: OSError) -> UnreadableRecord:
    return UnreadableRecord(path, offset, f"it cannot be read: {error}", length)


def segment_path(directory: Path, segment: SegmentId) -> Path:
    """The path of a segment of the journal in `directory`."""
    return directory / f"{segment:010d}{SUFFIX}"


def segments_in(disk: Disk, directory: Path) -> list[SegmentId]:
    """The segments that lie in `directory`, oldest first."""
    found = (_NAME.fullmatch(name) for name in disk.names(directory))
    return sorted(SegmentId(int(match[1])) for match in found if match)


def open_segment(
    disk: Disk,
    directory: Path,
    segment: SegmentId,
    identity: Identity | None,
    *,
    write: bool = False,
) -> SegmentFile:
    """An existing segment; its identity is compared with `identity` when one is given."""
    path = segment_path(directory, segment)
    descriptor = disk.open(path, os.O_RDWR if write else os.O_RDONLY)
    try:
        header = decode_segment_header(disk.read(descriptor, RECORDS_OFFSET, 0))
        if header.segment != segment:
            raise BadRecord(f"it is segment {header.segment} under another name")
    except BadRecord as error:
        disk.close(descriptor)
        raise _corrupt(path, 0, error) from error
    except OSError as error:
        disk.close(descriptor)
        raise _unreadable(path, 0, RECORDS_OFFSET, error) from error
    file = SegmentFile(disk, path, descriptor, header)
    if identity is not None and identity != header.identity:
        file.close()
        raise ForeignSegment(path, _name(header.identity), _name(identity))
    return file


def create_segment(
    disk: Disk,
    directory: Path,
    segment: SegmentId,
    identity: Identity,
    length: int,
    spare: Path | None = None,
) -> SegmentFile:
    """A new segment, durable with its space and its name. Raises OSError, leaving no segment.

    Out of a `spare` file it is one generation further; what the file held before stays behind the
    header, where the seed of the checksums keeps it out.
    """
    temporary = directory / f"{segment:010d}{TEMPORARY_SUFFIX}"
    path = segment_path(directory, segment)
    flags = os.O_RDWR | os.O_CREAT
    if spare is not None:
        disk.rename(spare, temporary)
    else:
        flags |= os.O_TRUNC
    descriptor = disk.open(temporary, flags)
    try:
        generation = _generation(disk, descriptor) if spare else FIRST_GENERATION
        header = SegmentHeader(segment, generation, identity)
        encoded = encode_segment_header(header)
        disk.preallocate(descriptor, length)
        disk.write(descriptor, [encoded], 0)
        disk.write(descriptor, [encoded], SEGMENT_HEADER_COPY_OFFSET)
        disk.sync(descriptor)
        disk.rename(temporary, path)
        disk.sync_directory(directory)
    except BaseException:
        disk.close(descriptor)
        _remove(disk, temporary)
        raise
    return SegmentFile(disk, path, descriptor, header)


def _generation(disk: Disk, descriptor: int) -> int:
    """One more than that of the use before, as far as that can be read."""
    try:
        return decode_segment_header(disk.read(descriptor, RECORDS_OFFSET, 0)).generation + 1
    except BadRecord:
        return FIRST_GENERATION


def spare_segment(disk: Disk, directory: Path, segment: SegmentId) -> Path:
    """Take a segment's name away and keep its file for another one."""
    path = segment_path(directory, segment)
    spare = path.with_suffix(SPARE_SUFFIX)
    disk.rename(path, spare)
    return spare


def spares_in(disk: Disk, directory: Path) -> list[Path]:
    """Files that new segments can be made of."""
    return [directory / name for name in disk.names(directory) if name.endswith(SPARE_SUFFIX)]


def remove_temporaries(disk: Disk, directory: Path) -> None:
    """Segments that were being made when the process died."""
    for name in disk.names(directory):
        if name.endswith(TEMPORARY_SUFFIX):
            disk.unlink(directory / name)


def _remove(disk: Disk, path: Path) -> None:
    """Give back what a file took; the error that led here is the one to report."""
    with suppress(OSError):
        disk.unlink(path)


def _name(identity: Identity) -> str:
    return f"{node_name(identity.node)} ({identity.incarnation}) of cluster {identity.cluster}"


def next_intact_record(file: SegmentFile, start: int, end: int) -> int:
    """The offset of the first intact record at or behind `start`; `end` when there is none."""
    for offset in record_candidates(file, start):
        if offset >= end:
            break
        try:
            header = file.read_bytes(offset, RECORD_HEADER_BYTES)
            file.read(offset, record_length(memoryview(header)))
        except UnreadableRecord:
            raise
        except (BadRecord, CorruptRecord):
            continue
        return offset
    return end


def record_candidates(file: SegmentFile, start: int) -> Iterator[int]:
    """Offsets at or behind `start` where a record's magic stands."""
    overlap = len(RECORD_MAGIC) - 1
    size = file.size()
    at = start + MAGIC_OFFSET
    while at < size:
        data = file.next_data(at)
        if data is None:
            return
        piece = file.read_bytes(data, min(_SEARCH_BYTES + overlap, size - data))
        found = piece.find(RECORD_MAGIC)
        while found >= 0:
            yield data + found - MAGIC_OFFSET
            found = piece.find(RECORD_MAGIC, found + 1)
        at = data + _SEARCH_BYTES
