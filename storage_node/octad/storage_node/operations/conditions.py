"""Conditions: what a write asks of the object that stands at its key.

A condition goes with its write to the shard's primary, which decides on the object as it is
prepared (rule R21). On the way it is a map: a node that does not know all of it takes nothing, and
names what it does not know. Front doors send none before every node knows of them (`LEVEL`).
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from octad.sharding.ids import Epoch, Seq

LEVEL: Final = 3  # The first format level whose nodes decide on conditions.
ANY_ETAG: Final = "*"

Version: TypeAlias = tuple[Epoch, Seq]
"""The entry of its shard that made an object; no other version there has the same."""

# No entry has it: the version is unknown, or there is none.
NO_VERSION: Final[Version] = (Epoch(0), Seq(0))


class Condition(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """All that is set has to hold. ETags are without quotes, and conditions on the content alone:
    another object may have the same one.
    """

    match: tuple[str, ...] = ()  # One of these is its ETag, or `ANY_ETAG`: it is there.
    none_match: tuple[str, ...] = ()  # None of these is its ETag; or there is no object.
    version: Version | None = None
    size: int | None = None
    modified_s: int | None = None  # In seconds, as Last-Modified gives them.
    or_absent: bool = False  # It may also not be there at all.


encode_condition = msgspec.msgpack.Encoder().encode
decode_condition = msgspec.msgpack.Decoder(Condition).decode
