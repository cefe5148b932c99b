"""Objects whose bytes say which write they are from, all the way through.

A body is `value/size;` over and over, cut to its size: a piece of another write, a piece in the
wrong place and a missing end all show.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


class ForeignBytes(Exception):
    """A body that no client ever wrote."""


def body_of(value: str, size: int) -> bytes:
    """The bytes of the write called `value`."""
    token = f"{value}/{size};".encode()
    return (token * (size // len(token) + 1))[:size]


def value_of(body: bytes) -> str:
    """Returns the write that `body` is from; raises ForeignBytes."""
    head, separator, _ = body[:64].partition(b";")
    name, _, size = head.decode("ascii", "replace").rpartition("/")
    if (
        not separator
        or not size.isdecimal()
        or int(size) != len(body)
        or body_of(name, len(body)) != body
    ):
        raise ForeignBytes(f"{len(body)} bytes that begin with {body[:32]!r}")
    return name


def etag_of(body: bytes) -> str:
    """S3's entity tag for an object put at once."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def etag_of_parts(parts: Sequence[bytes]) -> str:
    """S3's entity tag for an object uploaded in `parts`."""
    digests = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in parts)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
