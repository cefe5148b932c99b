"""From nodes' sums of the shards they lead to the changes of the store's records. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from octad.coordinator.schema.records import BucketUsageRecord
from octad.sharding.ids import BucketId, ShardId
from octad.storage_node.index.bucket_usage import Entry, added
from octad.storage_node.node.reports.bucket_usage_messages import BucketUsageRead

UNLIMITED_PERIOD_S = 10.0  # How often the sum of a bucket without a quota is written at most.


def summed(
    told: Iterable[BucketUsageRead], shards: Collection[ShardId]
) -> dict[BucketId, Entry] | None:
    """The buckets' sums over `shards`; None unless each shard is reported exactly once.

    While a shard changes its primary both nodes report it, or none: such a sum is invalid.
    """
    sums: dict[BucketId, Entry] = {}
    seen: list[ShardId] = []
    for each in told:
        seen += each.shards
        for bucket, objects, size in each.buckets:
            added(sums, bucket, objects, size)
    return sums if sorted(seen) == sorted(shards) else None


class UsageChanges:
    """The sums to write: with a quota at once, others rarely, to spare the store."""

    def __init__(self) -> None:
        self._written_at: dict[BucketId, float] = {}

    def due(
        self,
        sums: Mapping[BucketId, Entry],
        stored: Mapping[BucketId, BucketUsageRecord],
        limited: Collection[BucketId],
        now: float,
    ) -> dict[BucketId, BucketUsageRecord | None]:
        """The records that are to change; None: the bucket has nothing any more."""
        changes: dict[BucketId, BucketUsageRecord | None] = {}
        for bucket in sums.keys() | stored.keys():
            objects, size = sums.get(bucket, (0, 0))
            # Below nothing: one half of a shard that was split is counted, the other not yet.
            found = BucketUsageRecord(max(0, objects), max(0, size))
            record = found if found.objects or found.bytes else None
            if record == stored.get(bucket):
                continue
            written_at = self._written_at.get(bucket, float("-inf"))
            if bucket in limited or now - written_at >= UNLIMITED_PERIOD_S:
                changes[bucket] = record
                self._written_at[bucket] = now
        for bucket in self._written_at.keys() - sums.keys() - stored.keys():
            del self._written_at[bucket]
        return changes
