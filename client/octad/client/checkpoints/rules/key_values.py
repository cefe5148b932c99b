"""Files of keys and values in order, of which single keys are read without all the rest.

    block*   entries in the order of their keys, then XXH3-64 of them (u64)
             entry: key length (u32), value length (u32), key, value
    index    for each block: length of its first key (u32), the key, where it begins (u64),
             its length with its XXH3-64 (u32); then XXH3-64 of all that (u64)
    footer   where the index begins (u64), its length (u64), entries (u64), "OCTADKV1"

All numbers are little-endian. A block is full at 32 KiB; an entry is never divided.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from octad.client.checkpoints.rules.errors import CheckpointDamaged
from octad.client.errors import ConfigurationError
from octad.sharding.limits import KIB

BLOCK_BYTES: Final = 32 * KIB
_MAGIC: Final = b"OCTADKV1"
_ENTRY: Final = struct.Struct("<II")
_PLACE: Final = struct.Struct("<QI")
_LENGTH: Final = struct.Struct("<I")
_SUM: Final = struct.Struct("<Q")
_FOOTER: Final = struct.Struct("<QQQ8s")
FOOTER_BYTES: Final = _FOOTER.size
_LENGTH_MAX: Final = (1 << 31) - 1


class Span(NamedTuple):
    """Bytes of the file: from `start` to before `end`."""

    start: int
    end: int


class Index(NamedTuple):
    """The first key of each block, and where it is."""

    first_keys: list[bytes]
    blocks: list[Span]

    def block_of(self, key: bytes) -> Span | None:
        """The one that has the key, if any has."""
        at = bisect_right(self.first_keys, key) - 1
        return self.blocks[at] if at >= 0 else None

    def blocks_from(self, key: bytes) -> list[Span]:
        """Those that may have it, or greater ones."""
        return self.blocks[max(bisect_right(self.first_keys, key) - 1, 0) :]


def key_value_file(items: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """The bytes of such a file, to be put: `job.put("counts.kv", key_value_file(sorted(items)))`.

    `items`: keys and values, by ascending keys. Raises ConfigurationError where they are not.
    """
    index = bytearray()
    block = bytearray()
    first, last, at, count = b"", b"", 0, 0
    for key, value in items:
        if count and key <= last:
            raise ConfigurationError(f"key {key[:80]!r} is not above {last[:80]!r}", "sort them")
        if max(len(key), len(value)) > _LENGTH_MAX:
            raise ConfigurationError("a key or value has 2 GiB or more", "divide it")
        if len(block) >= BLOCK_BYTES:
            index += _indexed(first, at, len(block))
            yield _summed(block)
            at, block = at + len(block) + _SUM.size, bytearray()
        if not block:
            first = key
        block += _ENTRY.pack(len(key), len(value)) + key + value
        last, count = key, count + 1
    if block:
        index += _indexed(first, at, len(block))
        yield _summed(block)
        at += len(block) + _SUM.size
    yield _summed(index) + _FOOTER.pack(at, len(index) + _SUM.size, count, _MAGIC)


def index_span(footer: bytes) -> Span:
    """Where the index is, by the last FOOTER_BYTES of the file. Raises CheckpointDamaged."""
    if len(footer) != FOOTER_BYTES or not footer.endswith(_MAGIC):
        raise CheckpointDamaged("this is no file of keys and values", "look into another one")
    start, size, _, _ = _FOOTER.unpack(footer)
    return Span(start, start + size)


def decode_index(data: bytes) -> Index:
    """Raises CheckpointDamaged."""
    body, at = _checked(data), 0
    index = Index([], [])
    while at < len(body):
        (length,) = _LENGTH.unpack_from(body, at)
        at += _LENGTH.size
        index.first_keys.append(bytes(body[at : at + length]))
        start, size = _PLACE.unpack_from(body, at + length)
        index.blocks.append(Span(start, start + size))
        at += length + _PLACE.size
    return index


def entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Of a block, in order. Raises CheckpointDamaged."""
    body, at = _checked(block), 0
    while at < len(body):
        key_length, value_length = _ENTRY.unpack_from(body, at)
        at += _ENTRY.size
        key_end = at + key_length
        yield bytes(body[at:key_end]), bytes(body[key_end : key_end + value_length])
        at = key_end + value_length


def _indexed(first: bytes, at: int, size: int) -> bytes:
    return _LENGTH.pack(len(first)) + first + _PLACE.pack(at, size + _SUM.size)


def _summed(data: bytearray) -> bytes:
    return bytes(data) + _SUM.pack(xxh3_64_intdigest(data))


def _checked(data: bytes) -> memoryview:
    body = memoryview(data)[: -_SUM.size]
    if len(data) < _SUM.size or data[-_SUM.size :] != _SUM.pack(xxh3_64_intdigest(body)):
        raise CheckpointDamaged(
            "a block of keys and values has other bytes than were stored",
            "restore the checkpoint, which says what is damaged",
        )
    return body
