"""What changes a partition beside appends, at the primary of its shard.

The log's start, fences and the count of producer ids are rows of their own (rule L10). Each change
is decided by a guard, on the rows as they are prepared.
"""

from __future__ import annotations

from typing import Final

from octad.storage_node.index.partition_rows import (
    COUNTER,
    FENCE,
    LOG_START,
    NO_TOKEN,
    PartitionId,
    decode_counter,
    decode_fence,
    decode_log_start,
    fence_of,
    partition_key,
)
from octad.storage_node.log.log_messages import (
    FencePartition,
    FenceStands,
    MakeProducer,
    ProducerMade,
    TrimPartition,
)
from octad.storage_node.log.partition_tails import PartitionTails
from octad.storage_node.operations.index_changes import Operation
from octad.storage_node.operations.partitions import CountProducers, RaiseFence, RaiseLogStart
from octad.storage_node.replication.guards import Refusal, RefusalCode
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.prepared_rows import PreparedRows
from octad.storage_node.replication.shard_log import NO_REQUEST
from octad.storage_node.replication.writes import write_of
from octad.storage_node.rpc.peer import Answer
from octad.storage_node.shards.object_messages import Done
from octad.storage_node.shards.shard_service import ShardService

PRODUCER_BITS: Final = 32  # An id is its topic's, then a counter.
FENCES_MAX: Final = 1_000  # Of a partition: one a job, for ever.


class PartitionChanges:
    """See the module."""

    def __init__(self, host: ShardHost, service: ShardService, tails: PartitionTails) -> None:
        self._host = host
        self._service = service
        self._tails = tails

    async def trim(self, message: TrimPartition) -> Answer:
        """Raises OffsetOutOfRange past the end of the log. A start is only ever raised."""
        shard, partition = message.shard, PartitionId(message.topic, message.partition)

        def guard(rows: PreparedRows) -> Operation | Refusal:
            stored = rows.get(partition_key(partition, LOG_START))
            start = 0 if stored is None else decode_log_start(stored).start
            rows.looked_at.append(partition.mark)
            end = self._tails.get(self._host.replicas[shard], partition).next
            if message.start > end:
                return Refusal(RefusalCode.LOG_OFFSET, f"the offsets are {start} to {end}")
            return RaiseLogStart(*partition, max(start, message.start))

        about = RaiseLogStart(*partition, message.start)
        of = message.request_id, b"", message.age_s, message.asked_in, guard
        return await self._service.propose(shard, write_of(about, *of)), b""

    async def raise_fence(self, message: FencePartition) -> Answer:
        """Returns once the token that stands then is committed (rule L41): for good, or until a
        higher one comes, whoever sends an earlier one again. Raises TooManyAtPartition."""
        partition, job = PartitionId(message.topic, message.partition), message.job
        stands: list[int] = []

        def guard(rows: PreparedRows) -> Operation | Refusal:
            stored = rows.get(partition_key(partition, fence_of(job)))
            if stored is None:
                fences = rows.under(partition_key(partition, FENCE), partition.mark)
                if len(fences) >= FENCES_MAX:
                    said = f"{FENCES_MAX} jobs have a fence here"
                    return Refusal(RefusalCode.TOO_MANY_AT_PARTITION, said)
            before = NO_TOKEN if stored is None else decode_fence(stored).token
            stands.append(max(before, message.token))
            return RaiseFence(*partition, job, stands[-1])

        about = RaiseFence(*partition, job, message.token)
        await self._service.propose(message.shard, write_of(about, NO_REQUEST, guard=guard))
        return FenceStands(stands[-1]), b""

    async def make_producer(self, message: MakeProducer) -> Answer:
        """A number is told once its count is committed (rule L24)."""
        partition = PartitionId(message.topic, 0)
        given: list[int] = []

        def guard(rows: PreparedRows) -> Operation | Refusal:
            stored = rows.get(partition_key(partition, COUNTER))
            given.append(1 if stored is None else decode_counter(stored).given + 1)
            return CountProducers(*partition, given[-1])

        about = CountProducers(*partition, 0)
        done = await self._service.propose(message.shard, write_of(about, NO_REQUEST, guard=guard))
        assert isinstance(done, Done)
        return ProducerMade(message.topic << PRODUCER_BITS | given[-1]), b""


def standing_token(rows: PreparedRows, partition: PartitionId, job: str) -> int:
    """The lowest token with which the job may append, or NO_TOKEN: with any, and with none."""
    stored = rows.get(partition_key(partition, fence_of(job))) if job else None
    return NO_TOKEN if stored is None else decode_fence(stored).token
