"""Where a request belongs: the hash of the key, or of the extent, that it is about.

When a pool is split, the calling node may learn of it later than the called one. So a shard checks
whether a request's key is in it, and a refused caller looks up the shard again (rule R18).
"""

from __future__ import annotations

from octad.sharding.hashing import object_hash
from octad.storage_node.index.index_format import extent_hash
from octad.storage_node.rpc.messages import Message
from octad.storage_node.shards.object_messages import (
    AbortParts,
    AppendObject,
    ChangeExtras,
    CompleteParts,
    ListParts,
    ReadObject,
    ReadPiece,
    ReadUpload,
)


def hash_of_request(message: Message) -> int | None:
    """The hash for a request about one key or extent; None for one about many."""
    match message:
        case ReadPiece(extent=extent):
            return extent_hash(extent)
        case (
            ReadObject()
            | ReadUpload()
            | ListParts()
            | CompleteParts()
            | AbortParts()
            | ChangeExtras()
            | AppendObject()
        ):
            return object_hash(message.bucket, message.key)
    return None
