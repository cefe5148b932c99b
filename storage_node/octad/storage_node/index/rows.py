"""Rows: what the index knows of an object, an upload, a part and an extent's piece.

Each is a msgpack array (fields only ever appended, never reordered), written twice: as the
metadata of the journal record that made it, and as the index's value. Byte layout and golden files:
`docs/reference/index.md`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from octad.sharding.limits import EXTENT_BYTES_MAX


class ExtentRef(msgspec.Struct, frozen=True, array_like=True, weakref=True):
    """Up to 64 MiB of immutable object bytes, in pieces of 1 MiB (the last may be shorter)."""

    id: bytes  # 16 random bytes; its hash decides its shard.
    length: int


# The length, in the queue, of an extent that no row named: no other has it. Who wrote it may have a
# request on its way that names it yet, so it waits for the full pin, no matter who reads.
NEVER_NAMED_BYTES = EXTENT_BYTES_MAX + 1


class ObjectExtras(msgspec.Struct, frozen=True, array_like=True):
    """Rare attributes. A row has them only once every node knows them (`EXTRAS_LEVEL`)."""

    tags: dict[str, str] = {}
    acl: str = ""  # "": private; else as `client/s3/access_lists.py` says.
    part_checksums: tuple[str, ...] = ()  # Base64, of each part, by the checksum of the object.
    appends: int = 0  # The number of appends to it.


class ExtrasChange(msgspec.Struct, frozen=True, array_like=True):
    """New extras for an existing object; None leaves a field unchanged."""

    tags: dict[str, str] | None = None
    acl: str | None = None
    acl_before: str | None = None  # Not for an object with another one: "" for none.

    def is_for(self, extras: ObjectExtras | None) -> bool:
        """Whether an object with these `extras` is one that is to be changed."""
        return self.acl_before in (None, "" if extras is None else extras.acl)

    def of(self, extras: ObjectExtras | None) -> ObjectExtras | None:
        """Returns the changed `extras`."""
        changed = extras or _NO_EXTRAS
        if self.tags is not None:
            changed = msgspec.structs.replace(changed, tags=self.tags)
        if self.acl is not None:
            changed = msgspec.structs.replace(changed, acl=self.acl)
        return some_extras(changed)


_NO_EXTRAS: Final = ObjectExtras()


def some_extras(extras: ObjectExtras) -> ObjectExtras | None:
    """`extras` where they say anything: else a row has none."""
    return None if extras == _NO_EXTRAS else extras


class ObjectRow(msgspec.Struct, frozen=True, array_like=True):
    """One object: its metadata, and its extents when its bytes are not in its own record."""

    size: int
    etag: str  # Without quotes: MD5 in hex, with "-N" after a multipart upload of N parts.
    modified_ms: int  # Wall clock of the front door, for people; it orders nothing.
    headers: dict[str, str] = {}  # content-type, cache-control, x-amz-meta-…: lower-case names.
    checksums: dict[str, str] = {}  # Algorithm ("CRC32") to base64 value, "-N" when composite.
    extents: tuple[ExtentRef, ...] = ()
    part_sizes: tuple[int, ...] = ()  # A multipart object's parts, for ?partNumber.
    extras: ObjectExtras | None = None


class UploadRow(msgspec.Struct, frozen=True, array_like=True):
    """An open multipart upload: what the object will carry once it is completed."""

    initiated_ms: int
    owner: str
    headers: dict[str, str] = {}
    checksum_algorithm: str = ""  # "" when the client named none.
    checksum_type: str = ""  # "COMPOSITE" or "FULL_OBJECT".
    extras: ObjectExtras | None = None


class PartRow(msgspec.Struct, frozen=True, array_like=True):
    """One uploaded part. Its bytes are always in extents, so that completing moves none."""

    size: int
    etag: str
    modified_ms: int
    checksums: dict[str, str] = {}
    extents: tuple[ExtentRef, ...] = ()


_MSGPACK: Final = msgspec.msgpack.Encoder()


def encode_row(row: ObjectRow | UploadRow) -> msgspec.Raw:
    """The encoding of `row` in messages and on disk; nodes that pass it on do not change it.

    Without extras they are those of an octad that knows no extras: a row has one form, and older
    nodes keep it, too.
    """
    if row.extras is not None:
        return msgspec.Raw(_MSGPACK.encode(row))
    return msgspec.Raw(_MSGPACK.encode(msgspec.structs.astuple(row)[:-1]))
