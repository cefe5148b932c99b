"""What some entries change in the index, as they are applied one after the other.

Kinds change their rows only by these methods, so that each row comes with its entry in the order of
shards and is counted, and the extents that it named are queued.
"""

from __future__ import annotations

from collections.abc import Callable

from octad.sharding.hashing import bit_reversed, object_hash
from octad.sharding.ids import BucketId, Seq, ShardId, pool_of
from octad.storage_node.index.index_format import (
    OBJECTS,
    ROW_TABLES,
    DeadExtents,
    dead_key,
    decode_object_extents,
    decode_part,
    encode_value,
    shard_order_key,
)
from octad.storage_node.index.rows import ExtentRef
from octad.storage_node.index.shard_digest import ShardDigests


class ChangedRows:
    """See the module: later changes of the same key win.

    `stored` returns what the index has before all of them. `digests` learn of every row that
    changes.
    """

    __slots__ = ("_digests", "_stored", "before", "changes")

    def __init__(
        self, stored: Callable[[bytes], bytes | None], digests: ShardDigests | None = None
    ) -> None:
        self.changes: dict[bytes, bytes | None] = {}  # None: deleted.
        self.before: dict[bytes, bytes | None] = {}  # What `stored` gave.
        self._stored = stored
        self._digests = digests

    def put(self, shard: ShardId, hash_: int, key: bytes, value: bytes) -> None:
        """The row or entry of a queue at `key`, placed by `hash_`, becomes `value`."""
        if key[0] in ROW_TABLES:
            self.count(shard, key, value)
        self.changes[key] = value
        self.changes[shard_order_key(bit_reversed(hash_), key)] = b""

    def delete(self, shard: ShardId, hash_: int, key: bytes) -> None:
        """Delete the row or queue entry at `key`, if there is one."""
        if key[0] in ROW_TABLES:
            self.count(shard, key, None)
        self.changes[key] = None
        self.changes[shard_order_key(bit_reversed(hash_), key)] = None

    def extents_at(self, index_key: bytes) -> tuple[ExtentRef, ...]:
        """What the row of an object or part names at this moment."""
        value = self._now(index_key)
        if value is None:
            return ()
        if index_key[0] == OBJECTS[0]:
            return decode_object_extents(value).row.extents
        return decode_part(value).row.extents

    def queue(
        self,
        bucket: BucketId,
        key: bytes,
        upload: bytes,
        shard: ShardId,
        seq: Seq,
        freed: tuple[ExtentRef, ...],
        named: tuple[ExtentRef, ...] = (),
    ) -> None:
        """Queue as dead the extents in `freed`, named until now, that are not in `named`."""
        kept = {extent.id for extent in named}
        dead = tuple(extent for extent in freed if extent.id not in kept)
        if dead:
            hash_ = object_hash(bucket, key)
            entry = DeadExtents(pool_of(shard), bucket, key, upload, seq, dead)
            self.put(shard, hash_, dead_key(hash_, bucket, seq), encode_value(entry))

    def count(self, shard: ShardId, index_key: bytes, value: bytes | None) -> None:
        """To be called before `changes` is changed: `index_key` is about to become `value`."""
        if self._digests is not None:
            self._digests.change(shard, index_key, self._now(index_key), value)

    def reach(self, shard: ShardId, seq: Seq) -> None:
        """All that the entry at `seq` changes is in `changes`."""
        if self._digests is not None:
            self._digests.reach(shard, seq)

    def split(self) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        """The changes as (what to put, what to delete)."""
        changes = self.changes.items()
        puts = [(key, value) for key, value in changes if value is not None]
        return puts, [key for key, value in changes if value is None]

    def _now(self, index_key: bytes) -> bytes | None:
        """The value at `index_key` at this moment."""
        if index_key in self.changes:
            return self.changes[index_key]
        if index_key not in self.before:
            self.before[index_key] = self._stored(index_key)
        return self.before[index_key]
