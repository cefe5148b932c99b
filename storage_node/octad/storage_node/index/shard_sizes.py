"""How much of the journal the rows of each shard point at, added up row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from octad.sharding.hashing import object_hash
from octad.sharding.ids import BucketId, PoolId, ShardId
from octad.sharding.map.shard_map import ShardMap
from octad.storage_node.index.index_format import (
    OBJECTS,
    PARTS,
    PIECES,
    decode_located,
    decode_object_key,
    decode_part_key,
    decode_piece,
    decode_piece_key,
    decode_upload_key,
    extent_hash,
)


class ShardSizes:
    """Give it rows, of any table that has a location; `totals` are bytes by shard."""

    def __init__(self, shard_map: ShardMap, pool_of: Callable[[BucketId], PoolId | None]) -> None:
        self.totals: Counter[ShardId] = Counter()
        self._map = shard_map
        self._pool_of = pool_of

    def add(self, key: bytes, value: bytes) -> None:
        """A row of a bucket that is gone, or whose pool is not known here, counts nowhere."""
        bucket, hash_ = _placed(key, value)
        pool = self._pool_of(bucket)
        if pool is not None and pool in self._map.pools:
            shard = self._map.shard_of_hash(pool, hash_)
            self.totals[shard] += decode_located(value).location.length


def _placed(key: bytes, value: bytes) -> tuple[BucketId, int]:
    """The bucket whose pool a row is in, and the hash that decides its shard."""
    table = key[:1]
    if table == OBJECTS:
        bucket, name = decode_object_key(key)
        return bucket, object_hash(bucket, name)
    if table == PIECES:
        return decode_piece(value).bucket, extent_hash(decode_piece_key(key)[0])
    upload = decode_part_key(key) if table == PARTS else decode_upload_key(key)
    return upload.bucket, object_hash(upload.bucket, upload.key)
