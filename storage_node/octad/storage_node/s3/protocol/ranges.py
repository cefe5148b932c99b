"""Which bytes of an object a request wants: the Range header and `?partNumber`, as S3 reads them.

S3 is laxer than RFC 9110: a header that makes no sense, runs backwards or names several ranges is
as if it were not there. Only a range that starts past the end is refused. Numbers may have any
length.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from octad.client.s3.errors import S3Error
from octad.sharding.limits import PART_NUMBER_MAX

_PART_NUMBER: Final = re.compile(r"\d{1,5}", re.ASCII)
_ONE_RANGE: Final = re.compile(r"bytes=\s*(\d*)\s*-\s*(\d*)\s*", re.ASCII)
_COPY_RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)", re.ASCII)
_PAST_ANY_SIZE: Final = 2**63
_DIGITS_MAX: Final = len(str(_PAST_ANY_SIZE)) - 1


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """The range [start, end) that `header` requests of `size` bytes; None: all of the object.

    Raises InvalidRange if no byte of it is in the object.
    """
    match = _ONE_RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first, last = match.groups()
    if first:
        return _from_first_byte(_position(first), _position(last) if last else None, size, header)
    if not last:
        return None
    count = _position(last)
    if count == 0:
        raise _invalid_range(header, size)
    if size == 0:
        return None  # The last bytes of nothing are all of it, and no Content-Range can name them.
    return max(0, size - count), size


def _from_first_byte(
    start: int, last: int | None, size: int, header: str
) -> tuple[int, int] | None:
    if start >= size:
        raise _invalid_range(header, size)
    if last is None:
        return start, size
    return None if last < start else (start, min(last + 1, size))


def _position(digits: str) -> int:
    """The number, or one past any size where it is longer.

    "To the end" is the greatest number that some client has: 2^63 - 1, 2^64 - 1. And no number is
    converted that is long enough to take long.
    """
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= _DIGITS_MAX else _PAST_ANY_SIZE


def _invalid_range(header: str, size: int) -> S3Error:
    return S3Error("InvalidRange", fields={"RangeRequested": header, "ActualObjectSize": str(size)})


def parse_copy_range(header: str, size: int) -> tuple[int, int]:
    """Bytes [start, end) of `x-amz-copy-source-range`: strict, first and last, both inside."""
    match = _COPY_RANGE.fullmatch(header)
    if match is None:
        raise S3Error(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first "
            "and last are the zero-based offsets of the first and last bytes to copy",
            fields={"ArgumentName": "x-amz-copy-source-range", "ArgumentValue": header},
        )
    start, last = _position(match[1]), _position(match[2])
    if start > last or last >= size:
        raise S3Error(
            "InvalidArgument",
            f"Range specified is not valid for source object of size: {size}",
            fields={"ArgumentName": "x-amz-copy-source-range", "ArgumentValue": header},
        )
    return start, last + 1


def parse_part_number(text: str) -> int:
    """A part number; raises InvalidArgument unless it is one that S3 allows."""
    if _PART_NUMBER.fullmatch(text) is not None and 1 <= int(text) <= PART_NUMBER_MAX:
        return int(text)
    raise S3Error(
        "InvalidArgument",
        f"Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive",
        fields={"ArgumentName": "partNumber", "ArgumentValue": text},
    )


def part_range(number: int, part_sizes: Sequence[int], size: int) -> tuple[int, int]:
    """Bytes [start, end) of one part; an object that was put whole is its own only part."""
    sizes = part_sizes or (size,)
    if number > len(sizes):
        raise S3Error(
            "InvalidPartNumber",
            fields={"PartNumberRequested": str(number), "ActualPartCount": str(len(sizes))},
        )
    start = sum(sizes[: number - 1])
    return start, start + sizes[number - 1]
