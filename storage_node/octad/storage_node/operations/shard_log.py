"""What a shard's log says of itself."""

from __future__ import annotations

import msgspec

from octad.sharding.hashing import object_hash
from octad.sharding.ids import BucketId, Seq
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.kind import Kind, Room, Scope


class Barrier(msgspec.Struct, frozen=True, array_like=True):
    """The first entry of a primary's epoch: once it is committed, so is everything before it."""


class LogStart(msgspec.Struct, frozen=True, array_like=True):
    """The shard's log begins anew behind the record's seq: no entry of the log itself.

    `complete_to`: the rows had all of history up to here.
    """

    complete_to: Seq
    depth: int | None = None  # The depth of the shard whose log it is.


class LogSplit(msgspec.Struct, frozen=True, array_like=True):
    """The shard is split into halves of `depth` behind the record's seq: no entry of the log."""

    depth: int


class Refused(msgspec.Struct, frozen=True, array_like=True):
    """The request whose id the record carries is refused, for good and everywhere (rule R22).

    No row changes. `bucket` and `key` are those that the request was about.
    """

    bucket: BucketId
    key: bytes
    code: int


decode_log_split = msgspec.msgpack.Decoder(LogSplit).decode
decode_log_start = msgspec.msgpack.Decoder(LogStart).decode

KINDS = (
    Kind(record=RecordKind.BARRIER, struct=Barrier, room=Room.VITAL, kept=True),
    Kind(
        record=RecordKind.LOG_START,
        struct=LogStart,
        scope=Scope.LOG,
        room=Room.VITAL,
        kept=True,
    ),
    Kind(
        record=RecordKind.LOG_SPLIT,
        struct=LogSplit,
        scope=Scope.LOG,
        room=Room.VITAL,
        kept=True,
    ),
    Kind(
        record=RecordKind.REFUSED,
        struct=Refused,
        level=2,
        room=Room.FREEING,  # A refusal is answered on a full disk, too.
        hash_of=lambda refused: object_hash(refused.bucket, refused.key),
    ),
)
