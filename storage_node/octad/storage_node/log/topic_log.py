"""Topics, and what clients do with their partitions, as asked of any node.

Appends and trims go to the primary of a partition's shard. Batches come from this node where it has
the shard's history, else from the primary. A call to a node that is away or not serving yet is
tried again, but an append that no one could tell from its first try is not (rule L13).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from octad.sharding import limits
from octad.sharding.ids import PoolId, ShardId
from octad.sharding.map.shard_map import Pool, ShardConfiguration
from octad.storage_node.index.partition_rows import NO_PRODUCER, NO_TOKEN, PartitionId
from octad.storage_node.log.log_messages import (
    AppendToLog,
    BatchAsked,
    EmptyPartition,
    FencePartition,
    FetchLog,
    FindOffset,
    HeldRead,
    LogFetched,
    MakeProducer,
    PartitionRead,
    PinPartition,
    ReadHeld,
    ReadPartition,
    ReleasePin,
    TrimPartition,
)
from octad.storage_node.log.partition_reader import PartitionReader
from octad.storage_node.log.partition_tail import ANY_OFFSET, Refusal
from octad.storage_node.log.record_batch import BatchHeader
from octad.storage_node.log.topic_settings import changed_config
from octad.storage_node.objects.bucket_closing import close_everywhere
from octad.storage_node.objects.bucket_lifecycle import chosen_pool
from octad.storage_node.operations.partitions import LOG_LEVEL
from octad.storage_node.rpc.messages import Reply, Request
from octad.storage_node.rpc.peer_connection import Buffer
from octad.storage_node.shards.bucket_directory import ACTIVE, DELETING, BucketDirectory
from octad.storage_node.shards.object_messages import ERRORS
from octad.storage_node.shards.object_store import (
    BucketAlreadyExists,
    Damaged,
    Degraded,
    NoSuchBucket,
    NoSuchTopic,
    NotServed,
    Pinned,
    StoreError,
    Topic,
    Unavailable,
)
from octad.storage_node.shards.retry import Patience
from octad.storage_node.shards.shard_client import ShardClient
from octad.storage_node.shards.shard_service import ShardService
from octad.storage_node.shards.topic_directory import TopicDirectory

FETCH_BYTES_MAX: Final = limits.MIB


class AppendRefused(Exception):
    """Nothing was appended of this batch. Where the log ends, and the token of the job's fence."""

    def __init__(self, refusal: Refusal, next_: int, fence: int) -> None:
        is_fence = refusal is Refusal.FENCED_JOB
        said = f"the job's token is {fence}" if is_fence else f"the next offset is {next_}"
        super().__init__(f"{refusal}: {said}")
        self.refusal = refusal
        self.next = next_
        self.fence = fence


class AppendUnknown(StoreError):
    """It may have been appended, or may yet be: no one can tell another try from the first."""


class Batch(msgspec.Struct, frozen=True):
    """A checked batch, as it came."""

    header: BatchHeader
    bytes: memoryview


class Appended(msgspec.Struct, frozen=True):
    """Where a batch begins, and on how few copies it is where these are too few."""

    base: int
    degraded: Degraded | None


class TopicLog:
    """See the module."""

    def __init__(
        self,
        client: ShardClient,
        service: ShardService,
        reader: PartitionReader,
        topics: TopicDirectory,
        buckets: BucketDirectory,
        pools: Mapping[PoolId, Pool],
        next_request_id: Callable[[], bytes],
    ) -> None:
        self._client = client
        self._service = service
        self._reader = reader
        self._topics = topics
        self._buckets = buckets
        self._pools = pools
        self._next_request_id = next_request_id

    # -- topics --------------------------------------------------------------------------------

    async def create(
        self, name: str, owner: str, partitions: int, pool_name: str, config: Mapping[str, str]
    ) -> Topic:
        """Raises BadSetting, BucketAlreadyExists, NoSuchPool. A half-done deletion is finished."""
        settings = changed_config({}, config)
        if not self._service.knows(LOG_LEVEL):
            raise Unavailable("not every node of the cluster knows topics: upgrade all of them")
        pool = await chosen_pool(pool_name, self._pools, self._buckets)
        with suppress(NoSuchTopic):
            left = await self._topics.get(name, deleting=True)
            if left.state != DELETING or left.owner != owner:
                raise BucketAlreadyExists(left.owner)
            await self.delete(left, with_pins=True)
        return await self._topics.create(name, owner, pool, pool_name, partitions, settings)

    async def topic(self, name: str, *, deleting: bool = False) -> Topic:
        """Raises NoSuchTopic."""
        return await self._topics.get(name, deleting=deleting)

    async def topics(self, owner: str) -> list[Topic]:
        """All topics of `owner`, by name."""
        return await self._topics.of_owner(owner)

    async def alter(self, topic: Topic, changes: Mapping[str, str | None]) -> Topic:
        """With these settings, and the defaults of those that are None. Raises BadSetting."""
        return await self._topics.change(topic, lambda config: changed_config(config, changes))

    async def delete(self, topic: Topic, *, with_pins: bool = False) -> None:
        """With all that is in it. Close it on every node, empty it, remove it.

        Raises Pinned where it has pins, unless these are to go as well (rule L22).
        """
        if not with_pins and topic.state == ACTIVE:
            await self._require_no_pins(topic)
        try:
            since = await self._buckets.set_state(topic, DELETING)
            await close_everywhere(self._client, self._buckets, topic)
            if not with_pins:
                await self._require_no_pins_now(topic)
            for number in range(topic.partitions):
                await self._empty(topic, PartitionId(topic.id, number))
            await self._buckets.remove(topic, since)
        except NoSuchBucket:
            pass  # Another caller was faster.

    async def _require_no_pins_now(self, topic: Topic) -> None:
        """No one can make another one. With pins it is open again."""
        try:
            await self._require_no_pins(topic)
        except Pinned:
            await self._buckets.set_state(topic, ACTIVE)
            raise

    async def _require_no_pins(self, topic: Topic) -> None:
        for number in range(topic.partitions):
            for pin in (await self.held(topic, number)).pins[:1]:
                said = f"partition {number} from {pin.offset} on is kept"
                raise Pinned(f"{said} for the pin {pin.id} of {pin.owner}")

    async def _empty(self, topic: Topic, partition: PartitionId) -> None:
        more = True
        while more:
            shard = self._shard(topic, partition)
            message = EmptyPartition(shard, *partition)
            answer, _ = await self._asked_at_primary(shard, partition, message)
            more = answer.more

    # -- appends -------------------------------------------------------------------------------

    async def append(
        self,
        topic: Topic,
        number: int,
        batches: Sequence[Batch],
        expect_offset: int = ANY_OFFSET,
        job: str = "",
        token: int = NO_TOKEN,
    ) -> list[Appended | AppendRefused]:
        """Each batch is appended or refused by itself; `expect_offset` is the first one's.

        They are in the name of `job`, if there is one, under its `token`. Raises AppendUnknown, and
        Unavailable where another try would change nothing.
        """
        partition, expected = PartitionId(topic.id, number), expect_offset
        asked: list[BatchAsked] = []
        for batch in batches:
            if expect_offset == ANY_OFFSET:
                asked.append(BatchAsked(batch.header.size))
            else:
                asked.append(BatchAsked(batch.header.size, expected, self._next_request_id()))
                expected += batch.header.records
        by_producer = all(batch.header.producer != NO_PRODUCER for batch in batches)
        known_again = by_producer or expect_offset != ANY_OFFSET
        shard, data = self._shard(topic, partition), b"".join(batch.bytes for batch in batches)

        async def attempt(
            configuration: ShardConfiguration | None, patience: Patience | None
        ) -> list[Appended | AppendRefused]:
            at = shard if patience is None or patience.shard is None else patience.shard
            age_s = 0.0 if patience is None else patience.age_s()
            message = AppendToLog(at, *partition, asked, age_s, job, token)
            timeout_s = limits.CALL_TIMEOUT_S
            if patience is not None:
                timeout_s = min(timeout_s, patience.left_s())
            try:
                primary = _known(configuration).primary
                answer, _ = await self._client.call(primary, message, data, timeout_s, at)
                codes = [outcome.code for outcome in answer.outcomes]
                _require_decided(codes)
            except Unavailable as error:
                if known_again or isinstance(error, NotServed):
                    raise
                raise AppendUnknown(str(error)) from error
            return [
                AppendRefused(Refusal(each.code), each.next, each.fence)
                if each.code
                else Appended(each.base, self._client.degraded(topic.pool, each.copies))
                for each in answer.outcomes
            ]

        return await self._client.until_answered(shard, attempt, place=lambda: partition.hash)

    async def make_producer(self, topic: Topic) -> int:
        """An id that no other producer has or had."""
        partition = PartitionId(topic.id, 0)
        shard = self._shard(topic, partition)
        message = MakeProducer(shard, topic.id)
        answer, _ = await self._asked_at_primary(shard, partition, message)
        return answer.producer

    async def trim(self, topic: Topic, number: int, start: int) -> None:
        """What is below `start` is not read any more. Raises OffsetOutOfRange past the end."""
        partition = PartitionId(topic.id, number)
        shard = self._shard(topic, partition)
        message = TrimPartition(shard, *partition, start, self._next_request_id())
        await self._asked_at_primary(shard, partition, message)

    async def raise_fence(self, topic: Topic, number: int, job: str, token: int) -> int:
        """The token under which the job's appends are taken from now on, or a higher one.

        That is `token`, or what stood already. Raises TooManyAtPartition.
        """
        partition = PartitionId(topic.id, number)
        shard = self._shard(topic, partition)
        message = FencePartition(shard, *partition, job, token)
        answer, _ = await self._asked_at_primary(shard, partition, message)
        return answer.token

    async def pin(self, topic: Topic, number: int, owner: str, id: str, offset: int) -> None:
        """Keep all records from `offset` on, until the pin is released.

        Raises OffsetOutOfRange, PinExists, TooManyAtPartition.
        """
        partition = PartitionId(topic.id, number)
        shard = self._shard(topic, partition)
        request_id = self._next_request_id()
        message = PinPartition(shard, *partition, owner, id, offset, request_id)
        await self._asked_at_primary(shard, partition, message)

    async def release_pin(self, topic: Topic, number: int, owner: str, id: str) -> None:
        """Done also where there is none."""
        partition = PartitionId(topic.id, number)
        shard = self._shard(topic, partition)
        message = ReleasePin(shard, *partition, owner, id)
        await self._asked_at_primary(shard, partition, message)

    # -- reads ---------------------------------------------------------------------------------

    async def bounds(self, topic: Topic, number: int) -> PartitionRead:
        """The first offset that may be read, and the one behind the last."""
        partition = PartitionId(topic.id, number)
        shard = self._shard(topic, partition)
        message = ReadPartition(shard, *partition)
        answer, _ = await self._asked_at_primary(shard, partition, message)
        return answer

    async def offset_of(self, topic: Topic, number: int, time_ms: int) -> int:
        """Of the first record of this time or a later one; else where the log ends."""
        partition = PartitionId(topic.id, number)
        shard = self._shard(topic, partition)
        message = FindOffset(shard, *partition, time_ms)
        answer, _ = await self._asked_at_primary(shard, partition, message)
        return answer.offset

    async def held(self, topic: Topic, number: int) -> HeldRead:
        """The pins and fences of a partition."""
        partition = PartitionId(topic.id, number)
        shard = self._shard(topic, partition)
        answer, _ = await self._asked_at_primary(shard, partition, ReadHeld(shard, *partition))
        return answer

    async def fetch(
        self,
        topic: Topic,
        number: int,
        offset: int,
        bytes_max: int = FETCH_BYTES_MAX,
        wait_s: float = 0.0,
        seen: int = 0,
    ) -> tuple[LogFetched, Buffer]:
        """Whole batches from `offset` on; see `FetchLog`. Raises OffsetOutOfRange."""
        partition = PartitionId(topic.id, number)
        shard = self._shard(topic, partition)
        message = FetchLog(shard, *partition, offset, bytes_max, wait_s, seen)
        timeout_s = limits.READ_TIMEOUT_S + wait_s
        return await self._asked(shard, partition, message, timeout_s, self._reader.may_read)

    async def _asked_at_primary(
        self, shard: ShardId, partition: PartitionId, message: Request[Reply]
    ) -> tuple[Reply, Buffer]:
        return await self._asked(shard, partition, message, limits.CALL_TIMEOUT_S, _never)

    async def _asked(
        self,
        shard: ShardId,
        partition: PartitionId,
        message: Request[Reply],
        timeout_s: float,
        answers_here: Callable[[ShardId], bool],
    ) -> tuple[Reply, Buffer]:
        """This node's answer, if it has one at the first try; else the primary's."""

        async def attempt(
            configuration: ShardConfiguration | None, patience: Patience | None
        ) -> tuple[Reply, Buffer]:
            at = shard if patience is None or patience.shard is None else patience.shard
            this = _at(message, at)
            if patience is None and answers_here(at):
                with suppress(NotServed, Damaged):
                    return await self._client.call(self._client.node, this, b"", timeout_s, at)
            known = _known(configuration)
            if isinstance(message, TrimPartition | PinPartition):
                age_s = 0.0 if patience is None else patience.age_s()
                this = _at(this, at, age_s=age_s, asked_in=known.epoch)
            return await self._client.call(known.primary, this, b"", timeout_s, at)

        return await self._client.until_answered(shard, attempt, place=lambda: partition.hash)

    def _shard(self, topic: Topic, partition: PartitionId) -> ShardId:
        try:
            return self._client.map.shard_of_hash(topic.pool, partition.hash)
        except KeyError as error:
            raise Unavailable(f"pool {topic.pool} is not known here yet") from error


def _require_decided(codes: Sequence[str]) -> None:
    """Raises what kept batches from being decided: NotServed only if none was appended."""
    failed = [ERRORS[code] for code in codes if code in ERRORS]
    if not failed:
        return
    if len(failed) == len(codes) and len(set(failed)) == 1:
        raise failed[0]("the partition's primary could not order it")
    raise Unavailable("some of the batches may be appended")


def _known(configuration: ShardConfiguration | None) -> ShardConfiguration:
    if configuration is None:
        raise NotServed("the partition's shard has no configuration yet: nodes are missing")
    return configuration


def _at(message: Request[Reply], shard: ShardId, **when: float) -> Request[Reply]:
    """The same for `shard`: each of these requests says which it is for."""
    return msgspec.structs.replace(message, shard=shard, **when)


def _never(_shard: ShardId) -> bool:
    return False
