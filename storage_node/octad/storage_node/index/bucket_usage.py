"""Usage of each bucket in each shard: objects, and bytes with those of open uploads.

    stored    an entry of table `b` for each shard and bucket, in one batch with the rows
    added up  over the shards that nodes lead (`node/reports/bucket_usage_reporter.py`)

So a change of rows changes it by these rows' sums alone, and it is exact after any crash. A
shard that is split leaves each half one half of it, until the rows of both are counted
(`upkeep/shard_counter.py`): the sum is right all the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from octad.sharding.ids import BucketId, ShardId
from octad.storage_node.index.index_format import (
    BUCKET_BYTES,
    BUCKET_IN_KEY,
    OBJECTS,
    PARTS,
    bucket_in_key,
    bucket_usage_key,
    decode_bucket_usage,
    decode_bucket_usage_key,
    decode_sized,
    encode_value,
)

Entry = tuple[int, int]
"""Objects and bytes."""

_OBJECTS, _PARTS = OBJECTS[0], PARTS[0]
_NOTHING: Entry = (0, 0)


def usage_of_row(key: bytes, value: bytes) -> Entry:
    """The row's share of its bucket: pieces of extents are counted where they are named.

    A part is not an object yet.
    """
    table = key[0]
    if table == _OBJECTS:
        return 1, decode_sized(value).row.size
    return (0, decode_sized(value).row.size) if table == _PARTS else _NOTHING


def added(usage: dict[BucketId, Entry], bucket: BucketId, objects: int, size: int) -> None:
    """Count so much more for `bucket`."""
    before = usage.get(bucket, _NOTHING)
    usage[bucket] = (before[0] + objects, before[1] + size)


class _Usage:
    """What one bucket has in one shard."""

    __slots__ = ("bucket", "bytes", "key", "objects", "shard")

    def __init__(self, shard: ShardId, bucket: BucketId, objects: int = 0, size: int = 0) -> None:
        self.shard = shard
        self.bucket = bucket
        self.key = bucket_usage_key(shard, bucket)
        self.objects = objects
        self.bytes = size


class BucketUsages:
    """The sums of all shards of a node, and which of them are to be written."""

    def __init__(self, entries: Iterable[tuple[bytes, bytes]] = ()) -> None:
        # By shard, then by the bytes that name the bucket in the keys of its rows.
        self._shards: dict[ShardId, dict[bytes, _Usage]] = {}
        self._changed: set[_Usage] = set()
        for key, value in entries:
            shard, bucket = decode_bucket_usage_key(key)
            kept = decode_bucket_usage(value)
            self._keep(_Usage(shard, bucket, kept.objects, kept.bytes))

    def of(self, shard: ShardId) -> dict[BucketId, Entry]:
        """The sums of `shard` by bucket; empty ones may be missing."""
        usages = self._shards.get(shard, {}).values()
        return {usage.bucket: (usage.objects, usage.bytes) for usage in usages}

    def change(self, shard: ShardId, key: bytes, objects: int, size: int) -> None:
        """The rows of the bucket that `key` names come to so much more."""
        if not objects and not size:
            return
        of_shard = self._shards.get(shard)
        usage = None if of_shard is None else of_shard.get(key[BUCKET_IN_KEY])
        if usage is None:
            usage = self._keep(_Usage(shard, bucket_in_key(key)))
        usage.objects += objects
        usage.bytes += size
        self._changed.add(usage)

    def replace(self, shard: ShardId, counted: Mapping[BucketId, Entry]) -> None:
        """The rows of `shard` have been counted: this is what they come to."""
        before = self.of(shard)
        for bucket in before.keys() | counted.keys():
            now = counted.get(bucket, _NOTHING)
            if before.get(bucket, _NOTHING) != now:
                self._put(_Usage(shard, bucket, *now))

    def split(self, shard: ShardId, sibling: ShardId) -> None:
        """A half for each, on every node alike."""
        for bucket, (objects, size) in self.of(shard).items():
            self._put(_Usage(shard, bucket, objects // 2, size // 2))
            self._put(_Usage(sibling, bucket, objects - objects // 2, size - size // 2))

    def take_changes(self) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        """The changes since the last call, to be put and deleted with the rows."""
        changed, self._changed = self._changed, set()
        puts: list[tuple[bytes, bytes]] = []
        deletes: list[bytes] = []
        for usage in changed:
            if usage.objects or usage.bytes:
                puts.append((usage.key, encode_value((usage.objects, usage.bytes))))
            else:
                del self._shards[usage.shard][usage.key[-BUCKET_BYTES:]]
                deletes.append(usage.key)
        return puts, deletes

    def _keep(self, usage: _Usage) -> _Usage:
        self._shards.setdefault(usage.shard, {})[usage.key[-BUCKET_BYTES:]] = usage
        return usage

    def _put(self, usage: _Usage) -> None:
        """In the place of what was there, which is not to be written any more."""
        before = self._shards.get(usage.shard, {}).get(usage.key[-BUCKET_BYTES:])
        if before is not None:
            self._changed.discard(before)
        self._changed.add(self._keep(usage))


def total(usages: Iterable[Mapping[BucketId, Entry]]) -> dict[BucketId, Entry]:
    """The sums of several shards together."""
    sums: dict[BucketId, Entry] = {}
    for usage in usages:
        for bucket, entry in usage.items():
            added(sums, bucket, *entry)
    return sums
