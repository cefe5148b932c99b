"""Where a request belongs: the hash of the key, or of the extent, that it is about.

While a pool is split, the asking node may know of it later than the asked one. So a shard checks
whether a request's key is in it, and who is refused finds the shard anew (rule R18).
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
    """Of a request about one key or extent; None for one about many."""
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
