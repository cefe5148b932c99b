"""The extents that the rows of a key name, as known for certain to its shard's primary.

All calls are reads. `None` means unknown at this moment: this node does not serve the shard, or
a prepared entry may still name them.
"""

from __future__ import annotations

from octad.sharding.hashing import object_hash
from octad.sharding.ids import BucketId, ShardId
from octad.storage_node.index.index import Index
from octad.storage_node.index.index_format import (
    decode_object,
    decode_part,
    object_key,
    parts_prefix,
    upload_key,
)
from octad.storage_node.index.key_ranges import past
from octad.storage_node.operations.index_changes import parts_in_flight
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.shards.extent_messages import ExtentOrigin


class ExtentNames:
    """See the module."""

    def __init__(self, host: ShardHost, index: Index) -> None:
        self._host = host
        self._index = index

    def named(
        self, shard: ShardId, bucket: BucketId, key: bytes, upload: bytes
    ) -> frozenset[bytes] | None:
        """Ids of the extents that the object at `key` and the parts of `upload` consist of."""
        index_key = object_key(bucket, key)
        if not self._host.covers(shard, object_hash(bucket, key)):
            return None
        if not self._host.settled(shard, index_key):
            return None
        named: set[bytes] = set()
        if upload:
            if not self._host.settled(shard, parts_in_flight(bucket, key, upload)):
                return None
            prefix = parts_prefix(bucket, key, upload)
            for _, value in self._index.scan(prefix, past(prefix)):
                named.update(extent.id for extent in decode_part(value).row.extents)
        value_of_object = self._index.get(index_key)
        if value_of_object is not None:
            named.update(extent.id for extent in decode_object(value_of_object).row.extents)
        return frozenset(named)

    def unnamed(self, shard: ShardId, extents: list[ExtentOrigin]) -> list[bytes] | None:
        """Those of `extents` that no row names, and no open upload may still name."""
        if not self._host.serves(shard):
            return None
        return [origin.extent for origin in extents if self._is_unnamed(shard, origin)]

    def _is_unnamed(self, shard: ShardId, origin: ExtentOrigin) -> bool:
        bucket, key, upload = origin.bucket, origin.key, origin.upload
        if upload:
            index_key = upload_key(bucket, key, upload)
            if not self._host.settled(shard, index_key) or self._index.get(index_key) is not None:
                return False
        named = self.named(shard, bucket, key, upload)
        return named is not None and origin.extent not in named
