"""The records inside a batch, in Kafka's format v2, and their form in JSON documents.

    length varint ‖ attributes 1 ‖ timestamp delta varint ‖ offset delta varint
    ‖ key length varint ‖ key ‖ value length varint ‖ value ‖ number of headers varint ‖ headers
    header: key length varint ‖ key ‖ value length varint ‖ value

Varints are zig-zag encoded; a length of -1 is of nothing (null).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from octad.storage_node.log.record_batch import (
    APPEND_TIME,
    CODECS,
    HEADER_BYTES,
    BatchHeader,
    UnknownCodec,
    WrongCount,
)

_INFLATED_BYTES_MAX: Final = 64 * 1024 * 1024  # A small batch may claim to be a huge one.
_GZIP: Final = 16 + zlib.MAX_WBITS
_VARINT_BITS_MAX: Final = 63


class Record(msgspec.Struct, frozen=True):
    """One record; `timestamp` in ms."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: tuple[tuple[str, bytes | None], ...] = ()


def encode_records(records: Sequence[Record], base_timestamp: int) -> bytes:
    """The bytes of a batch behind its header."""
    out = bytearray()
    for delta, record in enumerate(records):
        body = bytearray(1)  # The attributes: none is in use.
        _put(body, record.timestamp - base_timestamp)
        _put(body, delta)
        _put_bytes(body, record.key)
        _put_bytes(body, record.value)
        _put(body, len(record.headers))
        for name, value in record.headers:
            _put_bytes(body, name.encode())
            _put_bytes(body, value)
        _put(out, len(body))
        out += body
    return bytes(out)


def decode_records(header: BatchHeader, batch: memoryview) -> Iterator[tuple[int, Record]]:
    """The records with their offsets. Raises UnknownCodec where they cannot be uncompressed here,
    WrongCount where they are not whole."""
    data = batch[HEADER_BYTES:]
    if header.codec:
        data = memoryview(_inflated(header, data))
    reader = _Reader(data)
    for number in range(header.records):
        try:
            length = reader.number()
            end = reader.at + length
            if length < 1 or end > len(data):
                raise IndexError
            yield _record(reader, header)
            reader.at = end
        except (IndexError, UnicodeDecodeError) as error:
            raise WrongCount(f"record {number} of the batch is not whole") from error


def _record(reader: _Reader, header: BatchHeader) -> tuple[int, Record]:
    reader.at += 1
    timestamp = header.base_timestamp + reader.number()
    if header.attributes & APPEND_TIME:
        timestamp = header.max_timestamp
    offset = header.base + reader.number()
    key, value = reader.bytes_(), reader.bytes_()
    headers = tuple(
        (str(reader.bytes_() or b"", "utf-8"), reader.bytes_()) for _ in range(reader.number())
    )
    return offset, Record(key, value, timestamp, headers)


class _Reader:
    __slots__ = ("at", "data")

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7
            if shift > _VARINT_BITS_MAX:
                raise IndexError

    def bytes_(self) -> bytes | None:
        length = self.number()
        if length < 0:
            return None
        end = self.at + length
        if end > len(self.data):
            raise IndexError
        value, self.at = bytes(self.data[self.at : end]), end
        return value


def _put(out: bytearray, number: int) -> None:
    value = number << 1 if number >= 0 else (-number << 1) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _put_bytes(out: bytearray, value: bytes | None) -> None:
    if value is None:
        _put(out, -1)
    else:
        _put(out, len(value))
        out += value


def _inflated(header: BatchHeader, data: memoryview) -> bytes:
    name = CODECS[header.codec] if header.codec < len(CODECS) else str(header.codec)
    if name != "gzip":
        raise UnknownCodec(f"its records are compressed by {name}: fetch them as batches")
    inflater = zlib.decompressobj(_GZIP)
    try:
        inflated = inflater.decompress(data, _INFLATED_BYTES_MAX)
    except zlib.error as error:
        raise WrongCount(f"its records cannot be uncompressed: {error}") from error
    if not inflater.eof:
        raise WrongCount("its compressed records do not end, or are too many")
    return inflated
