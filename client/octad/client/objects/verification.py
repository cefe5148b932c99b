"""Whether bytes are those that were stored: by the checksum that the server keeps of them.

Servers tell it of whole objects only. CRC32 is the one that this SDK stores; what others have
stored is checked too, as far as this installation can compute it.
"""

from __future__ import annotations

import zlib
from binascii import b2a_base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from octad.client.calls.requests import CHECKSUM_HEADER
from octad.client.errors import Damaged

if TYPE_CHECKING:
    from octad.client.s3.checksums import Checksum

_PREFIX: Final = "x-amz-checksum-"
_NOT_ONE: Final = frozenset({f"{_PREFIX}type", f"{_PREFIX}mode", f"{_PREFIX}algorithm"})


class Verifier:
    """The checksum of an object on its way in."""

    __slots__ = ("_checksum", "_crc32", "_expected", "_key")

    def __init__(self, key: str, headers: Mapping[str, str]) -> None:
        """Of an answer that has all of the object, or else checks nothing."""
        self._key = key
        self._crc32 = 0
        self._expected = headers.get(CHECKSUM_HEADER, "")
        self._checksum: Checksum | None = None
        if "-" in self._expected:  # It is one of the parts' checksums, not of bytes.
            self._expected = ""
        elif not self._expected:
            self._expected, self._checksum = _other(headers)

    def update(self, piece: bytes) -> None:
        if not self._expected:
            return
        if self._checksum is None:
            self._crc32 = zlib.crc32(piece, self._crc32)
        else:
            self._checksum.update(piece)

    def finish(self) -> None:
        """Raises Damaged."""
        if not self._expected:
            return
        if self._checksum is None:
            digest = self._crc32.to_bytes(4, "big")
        else:
            digest = self._checksum.digest()
        if b2a_base64(digest, newline=False).decode() != self._expected:
            raise Damaged(
                f"the bytes of {self._key} are not those that were stored (their checksum differs)",
                "read it again; if that stays so, the network or a proxy changes them",
            )


def _other(headers: Mapping[str, str]) -> tuple[str, Checksum | None]:
    for name, value in headers.items():
        if name.startswith(_PREFIX) and name not in _NOT_ONE and "-" not in value:
            from octad.client.s3.checksums import (  # Heavier than all the rest.
                ALGORITHMS,
                ChecksumUnavailable,
                new_checksum,
            )

            algorithm = name.removeprefix(_PREFIX).upper()
            if algorithm in ALGORITHMS:
                try:
                    return value, new_checksum(algorithm)
                except ChecksumUnavailable:
                    continue
    return "", None
