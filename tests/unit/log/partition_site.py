"""A partition at its shard's primary, with a real index and journal, and another member's word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from tests.unit.replication_host.new_primary import SHARD, NewPrimary, taking_over

from octad.sharding.ids import BucketId
from octad.sharding.map.shard_map import ShardMap
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.partition_rows import NO_TOKEN, PartitionId, base_of
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.log.log_messages import (
    AppendToLog,
    BatchAsked,
    BatchesAppended,
    BatchOutcome,
    FencePartition,
    FetchLog,
    HeldRead,
    LogFetched,
    PinPartition,
    ReadHeld,
    ReleasePin,
    TrimPartition,
)
from octad.storage_node.log.log_upkeep import LogUpkeep
from octad.storage_node.log.partition_changes import PartitionChanges
from octad.storage_node.log.partition_leader import PartitionLeader
from octad.storage_node.log.partition_reader import PartitionReader
from octad.storage_node.log.partition_tail import ANY_OFFSET
from octad.storage_node.log.record_batch import batch_of, split_batches
from octad.storage_node.log.records import Record, encode_records
from octad.storage_node.log.tail_cache import TailCache
from octad.storage_node.log.topic_settings import TopicSettings
from octad.storage_node.operations.partitions import (
    LOG_LEVEL,
)
from octad.storage_node.rpc.peer import Answer

Result = TypeVar("Result")


def batch(text: str, producer: tuple[int, int, int] = (-1, -1, -1)) -> bytes:
    return batch_of(encode_records([Record(None, text.encode(), 1)], 1), 1, 1, 1, producer)


def batch_at(*times_ms: int) -> bytes:
    """A record for each of these times."""
    records = [Record(None, b"x", each) for each in times_ms]
    encoded = encode_records(records, times_ms[0])
    return batch_of(encoded, len(records), times_ms[0], max(times_ms))


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
        self.cache = TailCache()
        host.applier.notes[RecordKind.LOG_APPEND] = self.cache.note
        host.applier.notes[RecordKind.LOG_APPENDS] = self.cache.note
        self.reader = PartitionReader(host, index, host.journal, self.cache)
        shard_map: ShardMap = primary.client.map
        self.upkeep = LogUpkeep(host, index, primary.buckets, self.leader, self.changes, shard_map)

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

    async def retained(self, settings: TopicSettings, now_ms: int) -> None:
        """As often as the upkeep looks."""
        await self.answered(self.begun(self.upkeep.retain(self.partition, settings, now_ms)))

    def begun(self, work: Coroutine[None, None, Result]) -> asyncio.Task[Result]:
        return asyncio.create_task(work)

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
