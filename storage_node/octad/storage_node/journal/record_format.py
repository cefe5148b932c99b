"""The journal's bytes: a segment's header, and the records that follow it.

A segment is a file of at most 64 MiB. All numbers are little-endian; a position is one number that
grows through the entire journal, `segment id << 32 | offset in its file`.

Segment header, 64 bytes in the first 4 KiB of the file, written twice (at 0 and at 2048) so that
one damaged sector does not cost a segment; durable before the segment's first record:

    offset  size  field
         0     8  checksum
         8     4  magic, "OCTS"
        12     1  format version
        13     3  zero
        16     8  segment id: the number in the file's name, never used twice
        24     4  generation: how often the file has been put to use
        28     4  node id
        32     8  cluster id, hex digits
        40    16  incarnation of the node's disk
        56     8  zero

Record, from offset 4096 on, one right behind the other; behind each batch, zeros fill its page:

    offset  size  field
         0     8  checksum
         8     4  magic, "OCTR"
        12     1  format version
        13     1  kind
        14     2  flags, zero
        16     4  length of the metadata
        20     4  length of the data
        24     8  shard id: pool << 32 | number
        32     8  epoch in which the entry was first appended
        40     8  seq
        48     8  commit: the shard's commit point known when this was written
        56    16  request id
        72     8  synced to: position up to which the journal was durable when this was written
        80     4  offset of this record in its file
        84     4  zero
        88        metadata, then data

- The checksum is xxh3_64 of everything behind it. A record's is seeded with its segment's id and
  generation, so that what a recycled file held before never passes; `offset` says where in the file
  the record belongs, so that one written elsewhere, or an image of one inside an object, does not.
- Damage below any record's `synced to` is corruption, what fails above all of them is a torn tail.
  In the first batch of a segment it is the end of the segment before: segments form a chain.
- A fixed field is never given a second meaning; a reader refuses a newer version.

This file knows bytes only; `journal/journal.py` does the reads, writes and syncs.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NewType

import msgspec
from xxhash import xxh3_64, xxh3_64_intdigest

from octad.sharding.ids import Epoch, NodeId, Seq, ShardId
from octad.sharding.limits import RECORD_DATA_BYTES_MAX, RECORD_METADATA_BYTES_MAX, SEGMENT_BYTES

SegmentId = NewType("SegmentId", int)
Position = NewType("Position", int)

FORMAT_VERSION = 1
RECORD_MAGIC = b"OCTR"
SEGMENT_MAGIC = b"OCTS"
SEGMENT_HEADER_COPY_OFFSET = 2048
RECORDS_OFFSET = 4096
REQUEST_ID_BYTES = 16

_CHECKSUM = struct.Struct("<Q")
_RECORD = struct.Struct("<4sBBHIIQQQQ16sQII")
_WHOLE = struct.Struct("<Q" + _RECORD.format.removeprefix("<"))  # With the checksum.
_BEGINNING = struct.Struct("<Q4sBBHII")  # Up to the lengths.
_SEGMENT = struct.Struct("<4sB3xQII8s16s8x")
MAGIC_OFFSET = _CHECKSUM.size
RECORD_HEADER_BYTES = MAGIC_OFFSET + _RECORD.size
SEGMENT_HEADER_BYTES = MAGIC_OFFSET + _SEGMENT.size
_TOO_SHORT = f"{{}} bytes are left, a header has {RECORD_HEADER_BYTES}"

_OFFSET_BITS = 32
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1
_SEGMENT_ID_MAX = (1 << 32) - 1
_GENERATION_MAX = (1 << 32) - 1

assert RECORD_HEADER_BYTES == 88, "on-disk format: changing this needs a new format version"
assert SEGMENT_HEADER_BYTES == 64, "on-disk format: changing this needs a new format version"
assert SEGMENT_BYTES <= _OFFSET_MASK


class RecordKind(IntEnum):
    """The kind of a record. A number is never reused.

    Numbers are assigned here; `operations/` declares the kinds, except the journal's own.
    """

    BARRIER = 1
    PUT_OBJECT = 2
    DELETE_OBJECT = 3
    PUT_PIECE = 4
    CREATE_UPLOAD = 5
    PUT_PART = 6
    COMPLETE_UPLOAD = 7
    ABORT_UPLOAD = 8
    QUEUE_EXTENTS = 9
    DROP_EXTENT = 10
    FORGET_EXTENTS = 11
    REFUSED = 12
    DELETE_OBJECTS = 13
    LOG_APPENDS = 14
    PRODUCER_COUNT = 15
    # Kept free for the shard's log: CONFIG = 16, CHECKPOINT = 19, LOG_REPLACE = 23.
    LOG_SPLIT = 17  # The shard is split behind this seq: no entry of it.
    LOG_APPEND = 18
    LOG_START = 20  # The shard's log begins anew after this seq; not an entry of it.
    PARTITION_STATE = 21
    LOG_TRIM = 22
    LOG_DROP = 24
    LOG_FENCE = 25
    LOG_PIN = 26
    # From here on records are the node's own: not entries of a shard, never replayed into one.
    SYNCED_MARK = 128  # Nothing but its `synced_to`.
    COPY = 129  # A record that was moved out of a segment: `operations/copy_format.py`.
    HISTORY_DELETED = 130  # Rows removed by a copy of history: `index/history_format.py`.
    HISTORY_COPIED = 131  # A copy of history is complete: there, too.


FIRST_LOCAL_KIND = RecordKind.SYNCED_MARK


class BadRecord(ValueError):
    """The bytes are not an intact record of this segment at this offset."""


class NewerRecord(BadRecord):
    """They are intact, and a newer octad has written them."""


class Location(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The location of a record, as in index rows. `length` counts the entire record."""

    segment: SegmentId
    offset: int
    length: int


class Identity(msgspec.Struct, frozen=True):
    """The owner of the data: a node's disk in a cluster. A wiped disk is a new incarnation."""

    cluster: str  # 8 hex digits.
    node: NodeId
    incarnation: str  # 32 hex digits.


class SegmentHeader(msgspec.Struct, frozen=True):
    """The journal that a segment belongs to, and which use of the file this is."""

    segment: SegmentId
    generation: int
    identity: Identity


class Record(msgspec.Struct, frozen=True, gc=False):
    """A verified record. `metadata` and `data` are views into the bytes that were read."""

    kind: RecordKind
    shard: ShardId
    epoch: Epoch
    seq: Seq
    commit: Seq
    request_id: bytes
    synced_to: Position
    metadata: memoryview
    data: memoryview


def position(segment: SegmentId, offset: int) -> Position:
    """One number for a place in the journal; later places are greater."""
    return Position(segment << _OFFSET_BITS | offset)


def segment_of(place: Position) -> SegmentId:
    """The segment that `place` is in."""
    return SegmentId(place >> _OFFSET_BITS)


def offset_of(place: Position) -> int:
    """The offset of `place` in its segment's file."""
    return place & _OFFSET_MASK


def start_of(location: Location) -> Position:
    """The position of a record's first byte."""
    return position(location.segment, location.offset)


def end_of(location: Location) -> Position:
    """The position just past a record."""
    return position(location.segment, location.offset + location.length)


def checksum_seed(segment: SegmentId, generation: int) -> int:
    """The seed of every record's checksum in this use of this segment."""
    assert 0 < segment <= _SEGMENT_ID_MAX
    assert 0 < generation <= _GENERATION_MAX
    return segment << 32 | generation


def encode_record_start(
    seed: int,
    synced_to: Position,
    offset: int,
    kind: RecordKind,
    shard: ShardId,
    epoch: Epoch,
    seq: Seq,
    commit: Seq,
    request_id: bytes,
    metadata: bytes,
    data: bytes | memoryview,
) -> bytes:
    """The record's header and `metadata`, to write before `data`, which is not copied."""
    fields = _RECORD.pack(
        RECORD_MAGIC,
        FORMAT_VERSION,
        kind,
        0,
        len(metadata),
        len(data),
        shard,
        epoch,
        seq,
        commit,
        request_id,
        synced_to,
        offset,
        0,
    )
    start = fields + metadata
    checksum = xxh3_64(start, seed)
    if data:
        checksum.update(data)
    return _CHECKSUM.pack(checksum.intdigest()) + start


def decode_record(view: memoryview, seed: int, offset: int) -> Record:
    """The record that `view` holds from its start; more bytes may follow. Raises BadRecord."""
    available = len(view)
    if available < RECORD_HEADER_BYTES:
        raise BadRecord(_TOO_SHORT.format(available))
    (
        checksum,
        magic,
        version,
        kind,
        _flags,
        metadata_bytes,
        data_bytes,
        shard,
        epoch,
        seq,
        commit,
        request_id,
        synced_to,
        own_offset,
        _zero,
    ) = _WHOLE.unpack_from(view)
    data_start = RECORD_HEADER_BYTES + metadata_bytes
    length = data_start + data_bytes
    if magic != RECORD_MAGIC or length > available:
        length = _checked_length(magic, metadata_bytes, data_bytes)
        raise BadRecord(f"{available} of the record's {length} bytes are there")
    if xxh3_64_intdigest(view[MAGIC_OFFSET:length], seed) != checksum:
        raise BadRecord("its checksum does not match")
    if own_offset != offset:
        raise BadRecord(f"it belongs at offset {own_offset}")
    if version != FORMAT_VERSION:
        raise NewerRecord(
            f"it has format version {version}, this octad reads {FORMAT_VERSION}:"
            " upgrade this node, nothing is lost"
        )
    return Record(
        RECORD_KINDS[kind],
        shard,
        epoch,
        seq,
        commit,
        request_id,
        synced_to,
        view[RECORD_HEADER_BYTES:data_start],
        view[data_start:length],
    )


def record_length(view: memoryview) -> int:
    """The length in the header of the record at the start of `view`. Raises BadRecord."""
    if len(view) < RECORD_HEADER_BYTES:
        raise BadRecord(_TOO_SHORT.format(len(view)))
    _, magic, _, _, _, metadata_bytes, data_bytes = _BEGINNING.unpack_from(view)
    return _checked_length(magic, metadata_bytes, data_bytes)


def _checked_length(magic: bytes, metadata_bytes: int, data_bytes: int) -> int:
    if magic != RECORD_MAGIC:
        raise BadRecord("no record starts here")
    if metadata_bytes > RECORD_METADATA_BYTES_MAX or data_bytes > RECORD_DATA_BYTES_MAX:
        raise BadRecord(f"it claims {metadata_bytes} and {data_bytes} bytes, past the limits")
    return RECORD_HEADER_BYTES + metadata_bytes + data_bytes


def encode_segment_header(header: SegmentHeader) -> bytes:
    """One copy of the header; it is written at 0 and at SEGMENT_HEADER_COPY_OFFSET."""
    fields = _SEGMENT.pack(
        SEGMENT_MAGIC,
        FORMAT_VERSION,
        header.segment,
        header.generation,
        header.identity.node,
        header.identity.cluster.encode("ascii"),
        bytes.fromhex(header.identity.incarnation),
    )
    return _CHECKSUM.pack(xxh3_64_intdigest(fields)) + fields


def decode_segment_header(first_page: bytes) -> SegmentHeader:
    """The header from a segment's first 4 KiB, by whichever copy is intact. Raises BadRecord."""
    for start in (0, SEGMENT_HEADER_COPY_OFFSET):
        copy = first_page[start : start + SEGMENT_HEADER_BYTES]
        if len(copy) == SEGMENT_HEADER_BYTES and copy[8:12] == SEGMENT_MAGIC:
            fields = copy[MAGIC_OFFSET:]
            if _CHECKSUM.unpack_from(copy)[0] == xxh3_64_intdigest(fields):
                return _segment_header(fields)
    raise BadRecord("neither copy of the segment's header is intact")


def _segment_header(fields: bytes) -> SegmentHeader:
    _magic, version, segment, generation, node, cluster, incarnation = _SEGMENT.unpack(fields)
    if version != FORMAT_VERSION:
        raise NewerRecord(
            f"the segment has format version {version}, this octad reads {FORMAT_VERSION}"
        )
    identity = Identity(cluster.decode("ascii"), node, incarnation.hex())
    return SegmentHeader(segment, generation, identity)


class _KnownKinds(dict[int, RecordKind]):
    """Kind by number without an enum call a record; an unknown one is a newer octad's."""

    def __missing__(self, number: int) -> RecordKind:
        raise NewerRecord(
            f"its kind {number} was written by a newer octad: upgrade this node, nothing is lost"
        )


RECORD_KINDS = _KnownKinds({int(kind): kind for kind in RecordKind})
