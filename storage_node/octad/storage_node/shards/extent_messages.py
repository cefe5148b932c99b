"""What nodes ask one another about extents that may be dead, and for records that are damaged.

Requests and their answers; refusals have the codes of `object_messages.py`.
"""

from __future__ import annotations

import msgspec

from octad.sharding.ids import BucketId, Epoch, Seq, ShardId
from octad.storage_node.rpc.messages import Message, Request, message


class ExtentOrigin(msgspec.Struct, frozen=True, array_like=True):
    """An extent, and what its pieces say it was written for."""

    extent: bytes
    bucket: BucketId
    key: bytes
    upload: bytes


@message
class UnnamedFound(Message, frozen=True, array_like=True, tag=97):
    """Those that nothing in the committed state names. The others may be named."""

    extents: list[bytes]


@message
class FindUnnamed(Request[UnnamedFound], frozen=True, array_like=True, tag=96):
    """To the primary of the keys' shard: which of these does certainly no row or upload name?"""

    shard: ShardId
    extents: list[ExtentOrigin]


@message
class WrittenFound(Message, frozen=True, array_like=True, tag=99):
    """Those that do; no request of this or an earlier boot will name the others."""

    extents: list[bytes]
    oldest_read_s: float | None = None  # Its age; 0: no read runs. None: from an older version.


@message
class FindWritten(Request[WrittenFound], frozen=True, array_like=True, tag=98):
    """To the node of a front door: which of these belong to a request that is under way there?

    Without extents it only asks for the age of the oldest read there.
    """

    extents: list[bytes]


@message
class RecordRead(Message, frozen=True, array_like=True, tag=101):
    """The record as it was first written; its data is the body.

    The checksum is xxh3_64 of metadata and data.
    """

    shard: ShardId
    kind: int
    metadata: bytes
    checksum: int


@message
class ReadRecord(Request[RecordRead], frozen=True, array_like=True, tag=100):
    """To a member: the record that the row at this index key points at, if it is that one."""

    index_key: bytes
    epoch: Epoch
    seq: Seq
