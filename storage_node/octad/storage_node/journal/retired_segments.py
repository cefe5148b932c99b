"""The journal's note of the segments that are gone on purpose: `DIR/journal/retired.json`.

    {"checksum": xxh3_64 of `content` as it stands, in hex,
     "content": {"format_version": 1,
                 "ranges": [[first id, last id], ...],   retired, oldest first
                 "ends": [[id, end], ...],               of what lies before a retired one
                 "states": [[shard, applied, epoch], ...],   or all fields of a ShardState
                 "reaches": position}}

A segment's end is known from the first record of the next one; where that is gone the note has it.
`states` are the shards' at the time of writing: the entries that they come from may be gone too.
`reaches` is up to where the journal was durable then: one that is shorter has lost its end.
The note is replaced as a whole, and is durable before the file of a segment is given away. It is
needed only to read the entire journal without the index.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
from xxhash import xxh3_64_hexdigest

from octad.sharding.ids import ShardId
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal_errors import DamagedNote, JournalDamage
from octad.storage_node.journal.record_format import Position, SegmentId
from octad.storage_node.journal.shard_state import ShardState

NAME = "retired.json"
_TEMPORARY_NAME = "retired.json.new"
_FORMAT_VERSION = 1


class _Content(msgspec.Struct):
    format_version: int = _FORMAT_VERSION
    ranges: list[tuple[SegmentId, SegmentId]] = []
    ends: list[tuple[SegmentId, int]] = []
    states: list[list[int | None]] = []  # A shard, and the fields of its ShardState but one.
    reaches: Position = Position(0)


class _Note(msgspec.Struct):
    checksum: str
    content: msgspec.Raw


class RetiredSegments:
    """See the module. A value in memory; `write_retired` makes it durable."""

    def __init__(self, content: _Content | None = None) -> None:
        content = content or _Content()
        self._ranges = content.ranges
        self.ends = dict(content.ends)
        self.states = dict(_decoded(fields) for fields in content.states)
        self.reaches = content.reaches

    def has(self, segment: SegmentId) -> bool:
        return any(first <= segment <= last for first, last in self._ranges)

    def last(self) -> SegmentId:
        """The latest that was retired; 0 when none was."""
        return self._ranges[-1][1] if self._ranges else SegmentId(0)

    def retire(
        self,
        segment: SegmentId,
        survivors: Iterable[tuple[SegmentId, int]],
        states: dict[ShardId, ShardState],
        reaches: Position,
    ) -> None:
        """`segment` is about to go. `survivors` are all others that have ended, with their ends.

        One that the note has already is none, though its retirement was not carried through.
        """
        self.ends.pop(segment, None)
        left = (each for each in survivors if each[0] < segment and not self.has(each[0]))
        before = max(left, default=None)
        if before is not None:
            self.ends[before[0]] = before[1]
        self._ranges = _merged([*self._ranges, (segment, segment)])
        self.states = states
        self.reaches = reaches

    def encode(self) -> bytes:
        states = [_encoded(shard, state) for shard, state in self.states.items()]
        content = _Content(
            _FORMAT_VERSION, self._ranges, sorted(self.ends.items()), states, self.reaches
        )
        encoded = msgspec.json.encode(content)
        return msgspec.json.encode(_Note(xxh3_64_hexdigest(encoded), msgspec.Raw(encoded)))


def read_retired(disk: Disk, directory: Path) -> RetiredSegments:
    """The note in a journal's directory; an empty one where none is. Raises JournalDamage."""
    path = directory / NAME
    try:
        descriptor = disk.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return RetiredSegments()
    try:
        data = disk.read(descriptor, disk.size(descriptor), 0)
    finally:
        disk.close(descriptor)
    return decode_retired(path, data)


def decode_retired(path: Path, data: bytes) -> RetiredSegments:
    """The inverse of `encode`; `path` is named in what it raises."""
    try:
        note = msgspec.json.decode(data, type=_Note)
        if xxh3_64_hexdigest(note.content) != note.checksum:
            raise DamagedNote(path, "its checksum does not match")
        content = msgspec.json.decode(note.content, type=_Content)
    except msgspec.DecodeError as error:
        raise DamagedNote(path, str(error)) from error
    if content.format_version > _FORMAT_VERSION:
        raise JournalDamage(
            f"{path} has format {content.format_version}, this octad knows {_FORMAT_VERSION}",
            "install the octad that wrote it, or a newer one",
        )
    return RetiredSegments(content)


def write_retired(disk: Disk, directory: Path, retired: RetiredSegments) -> None:
    """Replace the note, durably. Raises OSError; the old note then remains."""
    temporary = directory / _TEMPORARY_NAME
    descriptor = disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        disk.write(descriptor, [retired.encode()], 0)
        disk.sync(descriptor)
    finally:
        disk.close(descriptor)
    disk.rename(temporary, directory / NAME)
    disk.sync_directory(directory)


def _encoded(shard: ShardId, state: ShardState) -> list[int | None]:
    """Three numbers, for a shard whose log has all of history and was never split."""
    fields: list[int | None] = [shard, state.applied, state.applied_epoch]
    history: list[int | None] = [state.start, state.start_epoch]
    rest = [*history, state.complete_to, state.copied_as_of, state.depth]
    return fields if rest == [0, 0, None, None, None] else fields + rest


def _decoded(fields: list[int | None]) -> tuple[ShardId, ShardState]:
    shard, applied, epoch, *rest = fields
    state = msgspec.convert([applied, epoch, epoch, *rest], ShardState)
    return msgspec.convert(shard, ShardId), state


def _merged(ranges: list[tuple[SegmentId, SegmentId]]) -> list[tuple[SegmentId, SegmentId]]:
    merged: list[tuple[SegmentId, SegmentId]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged
