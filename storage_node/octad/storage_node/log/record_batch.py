"""Record batches: the bytes of Kafka's format v2, which are kept as they came.

    offset  size  field                       offset  size  field
         0     8  base offset                     27     8  base timestamp
         8     4  length of what follows          35     8  max timestamp
        12     4  partition leader epoch          43     8  producer id
        16     1  magic, 2                        51     2  producer epoch
        17     4  CRC32C of all from 21 on        53     4  base sequence
        21     2  attributes                      57     4  number of records
        23     4  last offset delta               61        records

Numbers are big-endian. The base offset and the leader epoch lie outside the checksum: the primary
writes them into a batch that is otherwise as its producer made it. Bits of the attributes: 0–2 the
compression, 3 whose timestamps they are, 4 transactional, 5 control, 6 a delete horizon.

A batch that is not right raises a BadBatch that says what is wrong. Of compressed records only the
header is looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec
from awscrt.checksums import crc32c

from octad.sharding.limits import FRAME_BODY_BYTES_MAX, KIB
from octad.storage_node.index.partition_rows import NO_PRODUCER

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_PATCHED: Final = struct.Struct(">qii")  # Base offset, length, leader epoch.
HEADER_BYTES: Final = _HEADER.size
_ATTRIBUTES: Final = struct.Struct(">h")
_TIME: Final = struct.Struct(">q")
_MAX_TIMESTAMP_OFFSET: Final = 35
_COUNTED_FROM: Final = 12  # What the length counts.
_SUMMED_FROM: Final = 21
_MAGIC: Final = 2
_VARINT_BITS_MAX: Final = 63
BATCH_BYTES_MAX: Final = FRAME_BODY_BYTES_MAX - 4 * KIB  # It is sent in one frame.

COMPRESSION: Final = 0b111
APPEND_TIME: Final = 1 << 3
TRANSACTIONAL: Final = 1 << 4
CONTROL: Final = 1 << 5
_DELETE_HORIZON: Final = 1 << 6
_ATTRIBUTES_KNOWN: Final = 0b1111111
CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")

assert HEADER_BYTES == 61, "the format is Kafka's"


class BadBatch(ValueError):
    """The bytes are no batch that may be appended. `code` is stable, for programs."""

    code = "bad-batch"


class BatchCutShort(BadBatch):
    """They end before the batch does."""

    code = "batch-cut-short"


class BatchTooLarge(BadBatch):
    """It has more bytes than a batch may have."""

    code = "batch-too-large"


class WrongMagic(BadBatch):
    """It is of another version of the format."""

    code = "wrong-magic"


class WrongChecksum(BadBatch):
    """Its bytes are not those that were summed."""

    code = "wrong-checksum"


class WrongCount(BadBatch):
    """Its header and its records do not agree on how many these are."""

    code = "wrong-count"


class UnknownCodec(BadBatch):
    """Its records are compressed in a way that has no name."""

    code = "unknown-codec"


class WrongProducer(BadBatch):
    """It has a part of what names its producer, and not all."""

    code = "wrong-producer"


class WrongTime(BadBatch):
    """Its header's greatest time is not that of its records."""

    code = "wrong-time"


class NotForClients(BadBatch):
    """It is a marker, or has attributes that this octad does not take from anyone yet."""

    code = "not-for-clients"


class BatchHeader(msgspec.Struct, frozen=True, gc=False):
    """A batch's header; `size` counts all of its bytes."""

    base: int
    size: int
    leader_epoch: int
    crc: int
    attributes: int
    last_delta: int
    base_timestamp: int
    max_timestamp: int
    producer: int
    producer_epoch: int
    sequence: int
    records: int

    @property
    def codec(self) -> int:
        """An index of CODECS."""
        return self.attributes & COMPRESSION


def read_header(batch: bytes | memoryview) -> BatchHeader:
    """The header of the batch that `batch` begins with; raises BatchCutShort or WrongMagic."""
    if len(batch) < HEADER_BYTES:
        raise BatchCutShort(f"{len(batch)} bytes, a header has {HEADER_BYTES}")
    base, length, leader_epoch, magic, *rest = _HEADER.unpack_from(batch)
    if magic != _MAGIC:
        raise WrongMagic(f"its magic is {magic}, only {_MAGIC} is taken")
    size = _COUNTED_FROM + length
    if size < HEADER_BYTES:
        raise BatchCutShort(f"it says that it has {size} bytes, a header has {HEADER_BYTES}")
    return BatchHeader(base, size, leader_epoch, *rest)


def split_batches(data: memoryview) -> Iterator[tuple[BatchHeader, memoryview]]:
    """The batches that fill `data`, one behind the other, as far as they are right."""
    while data:
        header = read_header(data)
        if header.size > len(data):
            raise BatchCutShort(f"it has {header.size} bytes and {len(data)} are there")
        yield header, data[: header.size]
        data = data[header.size :]


def check_batch(header: BatchHeader, batch: memoryview, bytes_max: int) -> None:
    """Raises the BadBatch that it is, if it may not be appended by a client."""
    if header.size > bytes_max:
        raise BatchTooLarge(f"it has {header.size} bytes, the topic takes {bytes_max}")
    if crc32c(batch[_SUMMED_FROM:]) != header.crc:
        raise WrongChecksum("its CRC32C is another")
    if header.attributes & ~_ATTRIBUTES_KNOWN or header.attributes & _DELETE_HORIZON:
        raise NotForClients(f"its attributes are {header.attributes:#x}")
    if header.attributes & APPEND_TIME:
        raise NotForClients("its time is said to be that of its append")
    if header.attributes & CONTROL:
        raise NotForClients("it is a control batch")
    if header.attributes & TRANSACTIONAL:
        raise NotForClients("it is of a transaction: this octad has none yet")
    if header.codec >= len(CODECS):
        raise UnknownCodec(f"codec {header.codec}")
    if header.records < 1 or header.last_delta != header.records - 1:
        raise WrongCount(f"{header.records} records, the last at {header.last_delta}")
    named = header.producer >= 0, header.producer_epoch >= 0, header.sequence >= 0
    if len(set(named)) > 1:
        numbers = f"{header.producer}, {header.producer_epoch}, {header.sequence}"
        raise WrongProducer(f"producer, its epoch and its sequence are {numbers}")
    if not header.codec:
        _check_records(header, batch)


def patched(header: BatchHeader, batch: memoryview, base: int, leader_epoch: int) -> bytes:
    """The batch at the offset `base`."""
    start = _PATCHED.pack(base, header.size - _COUNTED_FROM, leader_epoch)
    return b"".join((start, batch[_PATCHED.size :]))


def timed(header: BatchHeader, batch: memoryview, time_ms: int) -> tuple[BatchHeader, memoryview]:
    """The same with the time of its append, instead of the times of its records."""
    attributes = header.attributes | APPEND_TIME
    made = bytearray(batch)
    _ATTRIBUTES.pack_into(made, _SUMMED_FROM, attributes)
    _TIME.pack_into(made, _MAX_TIMESTAMP_OFFSET, time_ms)
    crc: int = crc32c(memoryview(made)[_SUMMED_FROM:])
    made[_SUMMED_FROM - 4 : _SUMMED_FROM] = crc.to_bytes(4, "big")
    changed = {"attributes": attributes, "max_timestamp": time_ms, "crc": crc}
    return msgspec.structs.replace(header, **changed), memoryview(made)


def batch_of(
    records: bytes,
    count: int,
    base_timestamp: int,
    max_timestamp: int,
    producer: tuple[int, int, int] = (NO_PRODUCER, -1, -1),
) -> bytes:
    """A batch of encoded records, not compressed, at the offset 0."""
    head = _HEADER.pack(
        0,
        HEADER_BYTES - _COUNTED_FROM + len(records),
        -1,
        _MAGIC,
        0,
        0,
        count - 1,
        base_timestamp,
        max_timestamp,
        *producer,
        count,
    )
    summed = head[_SUMMED_FROM:] + records
    crc: int = crc32c(summed)
    return head[: _SUMMED_FROM - 4] + crc.to_bytes(4, "big") + summed


def _check_records(header: BatchHeader, batch: memoryview) -> None:
    """As many as the header says fill the batch, and none is later: by lengths and times alone.

    Most numbers have one byte or two, so these are read here: calls would take most of the time.
    """
    data, at, size, latest, number = bytes(batch), HEADER_BYTES, header.size, -1 << 63, 0
    try:
        for number in range(header.records):
            length = data[at]
            at += 1
            if length > 0x7F:
                length = length & 0x7F | data[at] << 7
                at += 1
                if length > 0x3FFF:
                    length, at = _long(data, at - 2)
            if length & 1 or not length:
                raise WrongCount(f"record {number} has a length below 1")
            delta = data[at + 1]  # Behind its attributes.
            if delta > 0x7F:
                delta = delta & 0x7F | data[at + 2] << 7
                if delta > 0x3FFF:
                    delta, _ = _long(data, at + 1)
            delta = (delta >> 1) ^ -(delta & 1)
            if delta > latest:
                latest = delta
            at += length >> 1
    except IndexError:
        raise WrongCount(f"{number} records are there, and no more") from None
    if at != size:
        raise WrongCount(f"{header.records} records take {at} bytes of {size}")
    latest += header.base_timestamp
    if latest != header.max_timestamp:
        raise WrongTime(f"its greatest time is {header.max_timestamp}, that of a record {latest}")


def _long(data: bytes, at: int) -> tuple[int, int]:
    """A number of any length, still zig-zag encoded, and where it ends. Raises IndexError."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > _VARINT_BITS_MAX:
            raise IndexError
