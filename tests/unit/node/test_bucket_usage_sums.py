"""Which sums of what nodes tell are believed, and which of them are written."""

from __future__ import annotations

from octad.coordinator.schema.records import BucketUsageRecord
from octad.sharding.ids import BucketId, ShardId
from octad.storage_node.node.reports.bucket_usage_messages import BucketUsageRead
from octad.storage_node.node.reports.bucket_usage_sums import (
    UNLIMITED_PERIOD_S,
    UsageChanges,
    summed,
)

ONE, TWO = BucketId(1), BucketId(2)
SHARDS = [ShardId(number) for number in range(4)]


def told(shards: list[int], *buckets: tuple[BucketId, int, int]) -> BucketUsageRead:
    return BucketUsageRead([ShardId(shard) for shard in shards], list(buckets))


def test_what_all_shards_come_to_is_believed() -> None:
    first, second = told([0, 3], (ONE, 2, 200), (TWO, 1, 5)), told([1, 2], (ONE, 1, 50))
    assert summed([first, second], SHARDS) == {ONE: (3, 250), TWO: (1, 5)}


def test_a_shard_that_changes_hands_makes_no_sum() -> None:
    """Neither told of by both its primaries, nor by none of them, nor one that is unknown here."""
    assert summed([told([0, 1, 3]), told([1, 2])], SHARDS) is None
    assert summed([told([0, 3]), told([1])], SHARDS) is None
    assert summed([told([0, 3]), told([1, 2, 4])], SHARDS) is None
    assert summed([told([0, 3]), told([1, 1])], SHARDS) is None


def test_a_bucket_with_a_quota_is_written_at_once_and_others_seldom() -> None:
    changes = UsageChanges()
    stored: dict[BucketId, BucketUsageRecord] = {}
    limited = {ONE}
    for moment, size in ((0.0, 10), (2.0, 20), (4.0, 30)):
        due = changes.due({ONE: (1, size), TWO: (1, size)}, stored, limited, moment)
        assert due.keys() == ({ONE, TWO} if moment == 0 else {ONE})
        stored |= {bucket: record for bucket, record in due.items() if record is not None}
    later = changes.due({ONE: (1, 30), TWO: (1, 30)}, stored, limited, UNLIMITED_PERIOD_S)
    assert later == {TWO: BucketUsageRecord(1, 30)}


def test_what_has_not_changed_is_not_written_and_what_has_nothing_goes() -> None:
    changes = UsageChanges()
    stored = {ONE: BucketUsageRecord(1, 30), TWO: BucketUsageRecord(2, 7)}
    assert changes.due({ONE: (1, 30), TWO: (0, 0)}, stored, set(), 0.0) == {TWO: None}
    assert UsageChanges().due({}, stored, set(), 0.0) == {ONE: None, TWO: None}


def test_a_sum_below_nothing_is_nothing() -> None:
    assert UsageChanges().due({ONE: (-1, -5)}, {}, {ONE}, 0.0) == {}
