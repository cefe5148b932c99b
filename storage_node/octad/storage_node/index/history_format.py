"""The marks that a copy of a shard's history leaves on the node that received it.

In the index (`index/index_format.py` has the tables):

    d ‖ shard id u64 ‖ row's key      DeletionMark: rows of that key up to this seq are void
    ccopied ‖ shard id u64            segment id u32: no record was copied here from it on
    ccopy ‖ shard id u64              InstalledCopy: the last copy that is complete

In the journal, as the node's own records:

    COPY             of a row's record; its source is FROM_ANOTHER_NODE
    HISTORY_DELETED  seq: the age of the source's page; the rows up to it that are gone there
    HISTORY_COPIED   seq: the start of the log behind the copy; how recent its newest page was

Marks are needed only while history is missing; the journal's records have the same content for a
rebuild of the index. Meaning and order: `docs/reference/history-copy.md`.
"""

from __future__ import annotations

import msgspec

from octad.sharding.ids import Epoch, Seq, ShardId
from octad.storage_node.journal.record_format import SegmentId

DELETION_MARKS = b"t"
_COPIED_TO = b"ccopied"
_INSTALLED = b"ccopy"
_SHARD_BYTES = 8
_SEGMENT_BYTES = 4


class DeletionMark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The key was deleted by this entry, or absent at it: older rows of it are void."""

    epoch: Epoch
    seq: Seq


class InstalledCopy(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Behind `start`, every row as of `as_of` or later is here. The ids are those of its source."""

    start: Seq
    as_of: Seq
    request_ids: tuple[tuple[bytes, Seq], ...] = ()


class HistoryDeleted(msgspec.Struct, frozen=True, array_like=True):
    """The metadata of a HISTORY_DELETED: entries of table `h` whose rows were taken away."""

    order_keys: tuple[bytes, ...]


class HistoryCopied(msgspec.Struct, frozen=True, array_like=True):
    """The metadata of a HISTORY_COPIED."""

    as_of: Seq


encode = msgspec.msgpack.Encoder().encode
decode_mark = msgspec.msgpack.Decoder(DeletionMark).decode
decode_installed_copy = msgspec.msgpack.Decoder(InstalledCopy).decode
decode_history_deleted = msgspec.msgpack.Decoder(HistoryDeleted).decode
decode_history_copied = msgspec.msgpack.Decoder(HistoryCopied).decode


def mark_key(shard: ShardId, index_key: bytes) -> bytes:
    """The key of an entry of table `d`."""
    return DELETION_MARKS + shard.to_bytes(_SHARD_BYTES, "big") + index_key


def marks_range(shard: ShardId) -> tuple[bytes, bytes]:
    """Every mark of a shard: [start, end) in table `d`."""
    start = DELETION_MARKS + shard.to_bytes(_SHARD_BYTES, "big")
    return start, (int.from_bytes(start, "big") + 1).to_bytes(len(start), "big")


def copied_to_key(shard: ShardId) -> bytes:
    """The key of an entry of table `c`."""
    return _COPIED_TO + shard.to_bytes(_SHARD_BYTES, "big")


def encode_copied_to(segment: SegmentId) -> bytes:
    """The value at `copied_to_key`."""
    return segment.to_bytes(_SEGMENT_BYTES, "big")


def decode_copied_to(value: bytes | None) -> SegmentId:
    """The inverse of `encode_copied_to`; 0 where nothing was ever copied."""
    return SegmentId(0 if value is None else int.from_bytes(value, "big"))


def installed_copy_key(shard: ShardId) -> bytes:
    """The key of an entry of table `c`."""
    return _INSTALLED + shard.to_bytes(_SHARD_BYTES, "big")
