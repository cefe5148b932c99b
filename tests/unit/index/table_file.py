"""Where the blocks of one of RocksDB's table files lie, as its block index tells."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_FOOTER_BYTES = 53
_TRAILER_BYTES = 5  # Behind a block: how it is compressed, and its checksum.
_RESTARTS = 0x7FFFFFFF  # What else is in their number says how the block is searched.


@dataclass(frozen=True, slots=True)
class Block:
    """`separator`: a key at or after its last and before the next one's first."""

    separator: bytes
    offset: int
    size: int


def blocks_of(file: Path) -> list[Block]:
    """All of its blocks of rows, in order."""
    content = file.read_bytes()
    footer = content[-_FOOTER_BYTES:]
    at = 1  # Behind the kind of checksum.
    (_, _, begin, size), _ = _numbers(footer, at, 4)
    return list(_entries(content[begin : begin + size]))


def _entries(index: bytes) -> list[Block]:
    (restarts,) = struct.unpack("<I", index[-4:])
    end = len(index) - 4 - 4 * (restarts & _RESTARTS)
    blocks: list[Block] = []
    key, at, offset, size = b"", 0, 0, 0
    while at < end:
        (shared, unshared), at = _numbers(index, at, 2)
        key = key[:shared] + index[at : at + unshared]
        at += unshared
        if shared == 0:
            (offset, size), at = _numbers(index, at, 2)
        else:  # Its place follows from that of the block before it.
            (change,), at = _numbers(index, at, 1)
            offset += size + _TRAILER_BYTES
            size += (change >> 1) ^ -(change & 1)
        blocks.append(Block(key, offset, size))
    return blocks


def _numbers(data: bytes, at: int, count: int) -> tuple[list[int], int]:
    """So many, seven bits a byte; and where the next begins."""
    numbers = []
    for _ in range(count):
        number = shift = 0
        while True:
            byte = data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        numbers.append(number)
    return numbers, at
