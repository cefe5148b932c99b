"""Records found by their time, and logs that are kept for so long and so many bytes."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from msgspec import structs
from tests.unit.log.partition_site import Site, batch, batch_at, site
from tests.unit.replication_host.new_primary import SHARD

from octad.storage_node.index.partition_rows import PartitionId
from octad.storage_node.log import offset_search
from octad.storage_node.log.log_messages import (
    FetchLog,
    FindOffset,
    OffsetFound,
    PartitionRead,
    ReadPartition,
)
from octad.storage_node.log.offset_search import OffsetSearch
from octad.storage_node.log.record_batch import read_header
from octad.storage_node.log.topic_settings import FOR_EVER, TopicSettings
from octad.storage_node.shards.object_store import Topic


async def offset_of(here: Site, time_ms: int) -> int:
    search = OffsetSearch(here.primary.host.index, here.reader)
    answer, _ = await search.find(FindOffset(SHARD, *here.partition, time_ms))
    assert isinstance(answer, OffsetFound)
    return answer.offset


async def bounds(here: Site) -> PartitionRead:
    answer, _ = await here.reader.read_partition(ReadPartition(SHARD, *here.partition))
    assert isinstance(answer, PartitionRead)
    return answer


async def retain(here: Site, *, ms: int = FOR_EVER, size: int = FOR_EVER, now_ms: int = 0) -> int:
    """Where the log begins then."""
    await here.retained(TopicSettings(False, ms, size), now_ms)
    return (await bounds(here)).start


@pytest.mark.parametrize("at_once", [3, 1024])
async def test_the_first_record_of_a_time_is_found_exactly_in_whatever_order_times_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Also when the latest of all is in a batch that is gone."""
    monkeypatch.setattr(offset_search, "_ROWS_AT_ONCE", at_once)
    random = Random(7)
    batches = [[random.randrange(60) for _ in range(random.randint(1, 4))] for _ in range(40)]
    batches.insert(5, [99])
    times = [each for some in batches for each in some]
    async with site(tmp_path) as here:
        await here.bases(here.append(*(batch_at(*each) for each in batches)))
        for start in (0, 3, times.index(99) + 1, len(times)):
            await here.answered(here.trim(start))
            for wanted in (*range(0, 62, 3), 99, 100):
                found = (at for at in range(start, len(times)) if times[at] >= wanted)
                assert await offset_of(here, wanted) == next(found, len(times)), (start, wanted)


async def test_what_rows_say_of_all_before_them_goes_on_in_a_tail_made_anew_l8_l10(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        first, later = batch_at(50), batch_at(10)
        await here.bases(here.append(first, later))
        tails, replica = here.leader.tails, here.primary.replica
        for keep_state in (False, True):
            if keep_state:
                assert here.leader.keep_state(replica, here.partition)
            tails.forget(SHARD, here.partition)
            tail = tails.get(replica, here.partition)
            assert (tail.peak, tail.total) == (50, len(first) + len(later))
            here.primary.last_ack()
            await here.primary.host.applier.applied()


async def test_a_topic_may_have_the_time_of_the_append_for_all_records(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        buckets = here.primary.buckets
        known = structs.asdict(buckets.by_id[here.topic])
        config = {"message.timestamp.type": "LogAppendTime"}
        buckets.by_id[here.topic] = Topic(**known, uuid="u", partitions=1, config=config)
        await here.bases(here.append(batch_at(5, 7)))
        _, data = await here.reader.fetch(FetchLog(SHARD, *here.partition, 0, 1000))
        assert isinstance(data, bytes)
        at_ms = read_header(data).max_timestamp
        assert at_ms > 1_700_000_000_000
        assert await offset_of(here, at_ms) == 0
        assert await offset_of(here, at_ms + 1) == 2


async def test_batches_older_than_is_kept_go_up_to_the_first_that_is_younger(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        await here.bases(here.append(*(batch_at(each) for each in (100, 300, 200, 400))))
        assert await retain(here, ms=50, now_ms=150) == 0
        assert await retain(here, ms=50, now_ms=151) == 1
        assert await retain(here, ms=50, now_ms=300) == 1
        assert await retain(here, now_ms=10_000) == 1, "for ever"
        assert await retain(here, ms=50, now_ms=351) == 3
        assert await retain(here, ms=50, now_ms=451) == 4
        assert await here.bases(here.append(batch_at(1000))) == [4]


async def test_batches_beyond_the_bytes_that_are_kept_go(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        size = len(batch("x"))
        await here.bases(here.append(*(batch("x") for _ in range(10))))
        assert (await bounds(here)).bytes == 10 * size
        assert await retain(here, size=10 * size) == 0
        assert await retain(here, size=10 * size - 1) == 0, "as much as is to be kept is there"
        assert await retain(here, size=9 * size) == 1
        assert await retain(here, size=3 * size + 1) == 6
        assert (await bounds(here)).bytes == 4 * size
        assert await retain(here, size=1) == 9, "the last one stays"


async def test_what_is_kept_no_longer_stays_as_far_as_pins_hold_it_when_it_is_ordered_l11_l22(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        await here.bases(here.append(*(batch_at(100) for _ in range(6))))
        await here.answered(here.pin("a", 2), here.pin("b", 4))
        assert await retain(here, ms=50, now_ms=1000) == 2
        await here.answered(here.release("a"))
        assert await retain(here, size=1) == 4
        assert await retain(here, ms=50, now_ms=1000) == 4
        pinned = here.pin("c", 5)  # It is not known yet when the retention is planned.
        raising = here.changes.raise_start(SHARD, PartitionId(here.topic, 0), 6)
        await here.answered(here.release("b"))
        await here.answered(pinned, here.begun(raising))
        assert (await bounds(here)).start == 5
