"""What each bucket takes in each shard: its objects, and their bytes with those of open uploads.

    kept      an entry of table `b` for each shard and bucket, in one batch with the rows
    added up  over the shards that nodes lead (`node/reports/bucket_usage_reporter.py`)

So a change of rows moves it by what those rows alone amount to, and it is exact after any crash. A
shard that is split leaves each half one half of it, until the rows of both are counted
(`upkeep/shard_counter.py`): the sum is right all the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from octad.sharding.ids import BucketId, ShardId
from octad.storage_node.index.index_format import (
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
    """What the row at `key` adds to its bucket: pieces of extents are counted where they are named.

    A part is no object yet.
    """
    table = key[0]
    if table == _OBJECTS:
        return 1, decode_sized(value).row.size
    return (0, decode_sized(value).row.size) if table == _PARTS else _NOTHING


def added(usage: dict[BucketId, Entry], bucket: BucketId, objects: int, size: int) -> None:
    """Count so much more for `bucket`."""
    before = usage.get(bucket, _NOTHING)
    usage[bucket] = (before[0] + objects, before[1] + size)


class BucketUsages:
    """Those of all shards of a node, and which of them are still to be written."""

    def __init__(self, entries: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._shards: dict[ShardId, dict[BucketId, Entry]] = {}
        self._changed: set[tuple[ShardId, BucketId]] = set()
        for key, value in entries:
            shard, bucket = decode_bucket_usage_key(key)
            kept = decode_bucket_usage(value)
            self._shards.setdefault(shard, {})[bucket] = (kept.objects, kept.bytes)

    def of(self, shard: ShardId) -> Mapping[BucketId, Entry]:
        """By bucket; those of which it has nothing may be missing."""
        return self._shards.get(shard, {})

    def change(self, shard: ShardId, key: bytes, objects: int, size: int) -> None:
        """The rows of the bucket that `key` names come to so much more."""
        if objects or size:
            bucket = bucket_in_key(key)
            added(self._shards.setdefault(shard, {}), bucket, objects, size)
            self._changed.add((shard, bucket))

    def replace(self, shard: ShardId, counted: Mapping[BucketId, Entry]) -> None:
        """The rows of `shard` have been counted: this is what they come to."""
        before = self._shards.get(shard, {})
        for bucket in before.keys() | counted.keys():
            if before.get(bucket, _NOTHING) != counted.get(bucket, _NOTHING):
                self._changed.add((shard, bucket))
        self._shards[shard] = dict(counted)

    def split(self, shard: ShardId, sibling: ShardId) -> None:
        """A half for each, on every node alike."""
        whole = self._shards.pop(shard, {})
        halves: dict[BucketId, Entry] = {}
        rest: dict[BucketId, Entry] = {}
        for bucket, (objects, size) in whole.items():
            halves[bucket] = (objects // 2, size // 2)
            rest[bucket] = (objects - objects // 2, size - size // 2)
        self._shards[shard], self._shards[sibling] = halves, rest
        self._changed.update((half, bucket) for half in (shard, sibling) for bucket in whole)

    def take_changes(self) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        """What changed since this was last asked, to be put and deleted with the rows."""
        changed, self._changed = self._changed, set()
        puts: list[tuple[bytes, bytes]] = []
        deletes: list[bytes] = []
        for shard, bucket in changed:
            key, usage = bucket_usage_key(shard, bucket), self._shards[shard]
            entry = usage.get(bucket, _NOTHING)
            if entry == _NOTHING:
                usage.pop(bucket, None)
                deletes.append(key)
            else:
                puts.append((key, encode_value(entry)))
        return puts, deletes


def total(usages: Iterable[Mapping[BucketId, Entry]]) -> dict[BucketId, Entry]:
    """Of several shards together."""
    sums: dict[BucketId, Entry] = {}
    for usage in usages:
        for bucket, entry in usage.items():
            added(sums, bucket, *entry)
    return sums
