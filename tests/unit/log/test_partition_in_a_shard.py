"""A partition at its shard's primary, with a real index and journal, and another member's word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from msgspec import structs
from tests.unit.replication_host.new_primary import SHARD, NewPrimary, taking_over

from octad.sharding.ids import BucketId
from octad.sharding.map.shard_map import ShardMap
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.partition_rows import NO_TOKEN, PartitionId, base_of
from octad.storage_node.log import partition_changes
from octad.storage_node.log.log_messages import (
    AppendToLog,
    BatchAsked,
    BatchesAppended,
    BatchOutcome,
    FencePartition,
    FenceStands,
    FetchLog,
    HeldRead,
    LogFetched,
    MakeProducer,
    PinPartition,
    ProducerMade,
    ReadHeld,
    ReleasePin,
    TrimPartition,
)
from octad.storage_node.log.log_upkeep import LogUpkeep
from octad.storage_node.log.partition_changes import PartitionChanges
from octad.storage_node.log.partition_leader import BATCHES_UNKEPT_MAX, PartitionLeader
from octad.storage_node.log.partition_reader import PartitionReader
from octad.storage_node.log.partition_tail import ANY_OFFSET, Refusal
from octad.storage_node.log.record_batch import batch_of, split_batches
from octad.storage_node.log.records import Record, encode_records
from octad.storage_node.operations.partitions import (
    LOG_LEVEL,
    AppendBatch,
    AppendBatches,
    DropBatches,
    KeepState,
    RaiseFence,
    RaiseLogStart,
    SetPin,
)
from octad.storage_node.rpc.peer import Answer
from octad.storage_node.shards.object_messages import NOT_SERVED, UNAVAILABLE
from octad.storage_node.shards.object_store import (
    NotServed,
    OffsetOutOfRange,
    PinExists,
    Pinned,
    TooManyAtPartition,
)

Result = TypeVar("Result")


def batch(text: str, producer: tuple[int, int, int] = (-1, -1, -1)) -> bytes:
    return batch_of(encode_records([Record(None, text.encode(), 1)], 1), 1, 1, 1, producer)


class Site:
    """The topic is the harness's bucket: to a partition it is all the same."""

    def __init__(self, primary: NewPrimary, topic: BucketId) -> None:
        self.primary = primary
        self.topic = topic
        self._requests = 0
        self.partition = PartitionId(topic, 0)
        host, index = primary.host, primary.host.index
        service = primary.server._service
        self.leader = PartitionLeader(host, index, primary.buckets, service)
        self.changes = PartitionChanges(host, service, self.leader)
        self.reader = PartitionReader(host, index, host.journal)
        shard_map: ShardMap = primary.client.map
        self.upkeep = LogUpkeep(host, index, primary.buckets, self.leader, shard_map)

    def append(
        self,
        *batches: bytes,
        partition: int = 0,
        expect: int = ANY_OFFSET,
        request_id: bytes = b"",
        age_s: float = 0.0,
        job: str = "",
        token: int = NO_TOKEN,
    ) -> asyncio.Task[list[BatchOutcome]]:
        asked = [BatchAsked(len(each), expect, request_id) for each in batches]
        message = AppendToLog(SHARD, self.topic, partition, asked, age_s, job, token)

        async def outcomes() -> list[BatchOutcome]:
            answer, _ = await self.leader.append(message, memoryview(b"".join(batches)))
            assert isinstance(answer, BatchesAppended)
            return answer.outcomes

        return asyncio.create_task(outcomes())

    async def answered(self, *begun: asyncio.Task[Result]) -> list[Result]:
        """All that is ordered is acknowledged by the other member, until these are done."""
        while not all(each.done() for each in begun):
            await asyncio.sleep(0.001)
            self.primary.last_ack()
        return [await each for each in begun]

    async def bases(self, *begun: asyncio.Task[list[BatchOutcome]]) -> list[int]:
        outcomes = [each for found in await self.answered(*begun) for each in found]
        assert all(each.code == "" for each in outcomes)
        return [each.base for each in outcomes]

    def fence(self, job: str, token: int) -> asyncio.Task[Answer]:
        message = FencePartition(SHARD, *self.partition, job, token)
        return asyncio.create_task(self.changes.raise_fence(message))

    def trim(self, start: int) -> asyncio.Task[Answer]:
        message = TrimPartition(SHARD, *self.partition, start, self._request_id())
        return asyncio.create_task(self.changes.trim(message))

    def pin(self, id: str, offset: int) -> asyncio.Task[Answer]:
        message = PinPartition(SHARD, *self.partition, "job", id, offset, self._request_id())
        return asyncio.create_task(self.changes.pin(message))

    def release(self, id: str) -> asyncio.Task[Answer]:
        message = ReleasePin(SHARD, *self.partition, "job", id)
        return asyncio.create_task(self.changes.release(message))

    async def pins(self) -> dict[str, int]:
        held, _ = await self.reader.read_held(ReadHeld(SHARD, *self.partition))
        assert isinstance(held, HeldRead)
        return {pin.id: pin.offset for pin in held.pins}

    def _request_id(self) -> bytes:
        self._requests += 1
        return self._requests.to_bytes(16, "big")

    async def fetch(self, offset: int) -> tuple[LogFetched, list[int]]:
        answer, data = await self.reader.fetch(FetchLog(SHARD, *self.partition, offset, 1 << 20))
        assert isinstance(answer, LogFetched)
        assert isinstance(data, bytes)
        return answer, [header.base for header, _ in split_batches(memoryview(data))]

    @property
    def ordered(self) -> list[type]:
        """What the entries are that are not applied yet."""
        return [type(entry.operation) for entry in self.primary.replica.log.entries]

    def rows(self) -> list[int]:
        mark = self.partition.mark
        return [base_of(key) for key, _ in self.primary.host.index.scan(mark, past(mark))]


@asynccontextmanager
async def site(directory: Path) -> AsyncIterator[Site]:
    async with taking_over(directory, []) as (primary, bucket):
        primary.host.use_level(LOG_LEVEL)
        primary.last_ack()
        await primary.host.applier.applied()
        yield Site(primary, bucket.id)


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def codes(outcomes: Sequence[BatchOutcome]) -> list[str]:
    return [outcome.code for outcome in outcomes]


async def test_what_comes_in_one_turn_is_one_entry_and_each_batch_has_its_own_row_l14_l15(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        begun = [here.append(batch("a"), batch("b")), here.append(batch("c"), partition=1)]
        begun.append(here.append(batch("d")))
        await turns()
        assert here.ordered == [AppendBatches]
        assert await here.bases(*begun) == [0, 1, 0, 2]
        assert here.rows() == [0, 1, 2]
        alone = here.append(batch("e"))
        await turns()
        assert here.ordered == [AppendBatch]
        assert await here.bases(alone) == [3]
        answer, bases = await here.fetch(1)
        assert (answer.start, answer.next, bases) == (0, 4, [1, 2, 3])


async def test_appends_follow_each_other_without_waiting_and_none_is_shown_before_it_is_committed(
    tmp_path: Path,
) -> None:
    """Rule L17: the mark is the index's, never the tail's."""
    async with site(tmp_path) as here:
        first = here.append(batch("a"))
        await turns()
        second = here.append(batch("b"))
        await turns()
        assert here.ordered == [AppendBatch, AppendBatch]
        log = here.primary.replica.log
        assert log.has_requests_above(log.commit), "someone waits, without a request id"
        answer, bases = await here.fetch(0)
        assert (answer.next, bases) == (0, [])
        assert await here.bases(first, second) == [0, 1]
        answer, bases = await here.fetch(0)
        assert (answer.next, bases) == (2, [0, 1])


async def test_a_refusal_and_a_duplicate_wait_for_what_they_saw_l2_l9(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        first = here.append(batch("a", (7, 0, 0)))
        await turns()
        again = here.append(batch("a", (7, 0, 0)))
        taken = here.append(batch("b"), expect=0, request_id=b"b" * 16)
        ahead = here.append(batch("c"), expect=9, request_id=b"c" * 16)
        await turns()
        assert not any(each.done() for each in (first, again, taken, ahead))
        assert await here.bases(first, again) == [0, 0]
        ((lower,), (higher,)) = await here.answered(taken, ahead)
        assert (lower.code, lower.next) == (Refusal.OFFSET_TAKEN, 1)
        assert (higher.code, higher.next) == (Refusal.OFFSET_AHEAD, 1)


async def test_what_was_seen_of_an_entry_that_never_commits_is_not_answered_l2_l9(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        first = here.append(batch("a", (7, 0, 0)))
        await turns()
        again = here.append(batch("a", (7, 0, 0)))
        taken = here.append(batch("b"), expect=0, request_id=b"b" * 16)
        await turns()
        replica = here.primary.replica
        here.primary.host._perform(replica, replica.primary.step_down())
        found = [await each for each in (first, again, taken)]
        assert [codes(each) for each in found] == [[UNAVAILABLE], [UNAVAILABLE], [UNAVAILABLE]]
        late = await here.append(batch("c"))
        assert codes(late) == [NOT_SERVED]


async def test_a_try_that_comes_again_is_answered_with_the_offset_it_has_l6(
    tmp_path: Path,
) -> None:
    """Also when the entry is applied, and others that follow it: by the row, which keeps the id."""
    async with site(tmp_path) as here:
        mine = b"m" * 16
        first = here.append(batch("a"), expect=0, request_id=mine)
        await turns()
        under_way = here.append(batch("a"), expect=0, request_id=mine, age_s=1.0)
        assert await here.bases(first, under_way) == [0, 0]
        for number in range(20):
            await here.bases(here.append(batch(f"{number}"), batch("and another")))
        mine = b"n" * 16
        await here.bases(here.append(batch("x"), expect=41, request_id=mine))
        await here.bases(here.append(batch("y")))
        again = here.append(batch("x"), expect=41, request_id=mine, age_s=1.0)
        assert await here.bases(again) == [41]
        first = here.append(batch("a"), expect=0, request_id=b"m" * 16, age_s=1.0)
        assert await here.bases(first) == [0]


async def test_a_tail_made_anew_goes_on_where_the_last_one_was_with_what_is_under_way_l8(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        await here.bases(here.append(batch("a", (7, 0, 0))))
        under_way = here.append(batch("b", (7, 0, 1)))
        await turns()
        here.leader.tails.forget(SHARD, here.partition)
        after = here.append(batch("c", (7, 0, 2)))
        again = here.append(batch("b", (7, 0, 1)))
        assert await here.bases(under_way, after, again) == [1, 2, 1]


async def test_a_state_is_kept_now_and_then_and_batches_below_it_may_go_l10_l11(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        many = [batch("x") for _ in range(BATCHES_UNKEPT_MAX // 4)]
        for _ in range(4):
            begun = here.append(*many)
            await turns()
            states = here.ordered.count(KeepState)
            await here.bases(begun)
        assert states == 1
        assert here.leader.tails.get(here.primary.replica, here.partition).kept_next == 1000


async def test_trimmed_batches_go_once_a_state_covers_them_and_nothing_is_forgotten_l11_l21(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        for sequence in range(6):
            await here.bases(here.append(batch("x", (7, 0, sequence))))
        with pytest.raises(OffsetOutOfRange, match="0 to 6"):
            await here.trim(7)
        await here.answered(here.trim(6))
        with pytest.raises(OffsetOutOfRange):
            await here.fetch(5)
        dropping = asyncio.create_task(here.upkeep._drop_below(here.partition, 6))
        await turns()
        assert here.ordered == [KeepState, DropBatches]
        await here.answered(dropping)
        assert here.rows() == []
        here.leader.tails.forget(SHARD, here.partition)
        again, after = here.append(batch("x", (7, 0, 5))), here.append(batch("x", (7, 0, 6)))
        assert await here.bases(again, after) == [5, 6]
        answer, bases = await here.fetch(6)
        assert (answer.start, answer.next, bases) == (6, 7, [6])


async def test_a_fence_is_only_ever_raised_and_refuses_its_job_alone_l41(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        first = await here.answered(here.fence("a", 7), here.fence("a", 5), here.fence("b", 0))
        assert [answer for answer, _ in first] == [FenceStands(7), FenceStands(7), FenceStands(0)]
        lower = here.append(batch("x"), job="a", token=6)
        none = here.append(batch("x"), job="a")
        for refused in await here.answered(lower, none):
            assert [(each.code, each.fence) for each in refused] == [(Refusal.FENCED_JOB, 7)]
        taken = here.append(batch("1"), job="a", token=7), here.append(batch("2"), job="a", token=8)
        others = here.append(batch("3"), job="b", token=0), here.append(batch("4"))
        unknown = here.append(batch("5"), job="c")
        assert await here.bases(*taken, *others, unknown) == [0, 1, 2, 3, 4]
        ((answer, _),) = await here.answered(here.fence("a", 6))
        assert answer == FenceStands(7), "one that comes late changes nothing"


async def test_a_fence_counts_when_it_is_ordered_and_is_told_when_it_is_committed_l41_l2(
    tmp_path: Path,
) -> None:
    """Whatever is done with the tail meanwhile."""
    async with site(tmp_path) as here:
        before = here.append(batch("a"), job="a")
        await turns()
        fence = here.fence("a", 7)
        await turns()
        here.leader.tails.forget(SHARD, here.partition)
        after = here.append(batch("b"), job="a")
        await turns()
        assert here.ordered == [AppendBatch, RaiseFence]
        assert not any(each.done() for each in (before, fence, after))
        refused = (await here.answered(before, after))[1]
        assert codes(refused) == [Refusal.FENCED_JOB]
        await here.answered(fence)
        replica = here.primary.replica
        here.primary.host._perform(replica, replica.primary.step_down())
        with pytest.raises(NotServed):
            await here.fence("a", 8)


async def test_a_partition_has_so_many_fences_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_changes, "FENCES_MAX", 2)
    async with site(tmp_path) as here:
        await here.answered(here.fence("a", 1), here.fence("b", 1))
        with pytest.raises(TooManyAtPartition):
            await here.answered(here.fence("c", 1))
        await here.answered(here.fence("a", 2))


async def test_no_trim_goes_past_a_pin_until_it_is_released_l11_l22_l43(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.bases(here.append(*(batch(f"{n}") for n in range(6))))
        await here.answered(here.pin("a", 2), here.pin("b", 4), here.pin("end", 6))
        await here.answered(here.trim(2))
        with pytest.raises(Pinned, match="from 2 on is kept for the pin a of job"):
            await here.answered(here.trim(3))
        await here.answered(here.release("a"), here.release("never made"))
        with pytest.raises(Pinned, match="from 4 on"):
            await here.answered(here.trim(5))
        await here.answered(here.trim(4))
        assert await here.pins() == {"b": 4, "end": 6}
        with pytest.raises(OffsetOutOfRange, match="4 to 6"):
            await here.answered(here.pin("too late", 3))
        with pytest.raises(OffsetOutOfRange, match="4 to 6"):
            await here.answered(here.pin("too early", 7))
        with pytest.raises(PinExists, match="the pin b of job is at 4"):
            await here.answered(here.pin("b", 5))
        await here.answered(here.pin("b", 4))


async def test_pins_and_trims_see_each_other_before_either_is_committed_l1_l22(
    tmp_path: Path,
) -> None:
    """And what is refused is told only when what it saw is committed (L2)."""
    async with site(tmp_path) as here:
        await here.bases(here.append(*(batch(f"{n}") for n in range(6))))
        pin = here.pin("a", 2)
        await turns()
        trim = here.trim(3)
        await turns()
        assert here.ordered == [SetPin]
        assert not pin.done()
        assert not trim.done()
        await here.answered(pin)
        with pytest.raises(Pinned):
            await trim
        trim = here.trim(1)
        await turns()
        late = here.pin("b", 0)
        await turns()
        assert here.ordered == [RaiseLogStart]
        assert not late.done()
        await here.answered(trim)
        with pytest.raises(OffsetOutOfRange, match="1 to 6"):
            await late
        assert await here.pins() == {"a": 2}


async def test_a_pin_that_is_sent_again_after_its_release_is_not_there_again_l22(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        await here.bases(here.append(batch("a")))
        pin = PinPartition(SHARD, *here.partition, "job", "a", 0, b"p" * 16)
        await here.answered(asyncio.create_task(here.changes.pin(pin)))
        await here.answered(here.release("a"))
        late = structs.replace(pin, age_s=1.0)
        await here.answered(asyncio.create_task(here.changes.pin(late)))
        assert await here.pins() == {}


async def test_a_partition_has_so_many_pins_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_changes, "PINS_MAX", 2)
    async with site(tmp_path) as here:
        await here.answered(here.pin("a", 0), here.pin("b", 0))
        with pytest.raises(TooManyAtPartition):
            await here.answered(here.pin("c", 0))
        await here.answered(here.release("a"))
        await here.answered(here.pin("c", 0))


async def test_a_producers_id_is_given_once_l24(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        asked = MakeProducer(SHARD, here.topic)
        begun: list[asyncio.Task[Answer]] = [
            asyncio.create_task(here.changes.make_producer(asked)) for _ in range(3)
        ]
        await turns()
        assert not any(each.done() for each in begun), "none is told before it is committed"
        ids = [answer for answer, _ in await here.answered(*begun)]
        first = here.topic << 32
        assert ids == [ProducerMade(first + n) for n in (1, 2, 3)]
