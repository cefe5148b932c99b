"""What changes a partition beside appends, at the primary of its shard.

The log's start, pins, fences and the count of producer ids are rows of their own (rule L10). Each
change is decided by a guard, on the rows as they are prepared.
"""

from __future__ import annotations

import time
from typing import Final

from octad.sharding.ids import ShardId, shard_name
from octad.storage_node.index.partition_rows import (
    COUNTER,
    FENCE,
    LOG_START,
    NO_TOKEN,
    PartitionId,
    decode_counter,
    decode_log_start,
    partition_key,
    pin_of,
)
from octad.storage_node.log.held_rows import pinned_offset, pins, standing_token
from octad.storage_node.log.log_messages import (
    FencePartition,
    FenceStands,
    MakeProducer,
    PinPartition,
    ProducerMade,
    ReleasePin,
    TrimPartition,
)
from octad.storage_node.log.partition_leader import PartitionLeader
from octad.storage_node.operations.index_changes import Operation
from octad.storage_node.operations.partitions import (
    CountProducers,
    DropBatches,
    RaiseFence,
    RaiseLogStart,
    SetPin,
)
from octad.storage_node.replication.guards import Refusal, RefusalCode
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.prepared_rows import PreparedRows
from octad.storage_node.replication.shard_log import NO_REQUEST
from octad.storage_node.replication.writes import write_of
from octad.storage_node.rpc.peer import Answer
from octad.storage_node.shards.object_messages import Done
from octad.storage_node.shards.object_store import NotServed
from octad.storage_node.shards.shard_service import ShardService

PRODUCER_BITS: Final = 32  # An id is its topic's, then a counter.
FENCES_MAX: Final = 1_000  # Of a partition: one a job, for ever.
PINS_MAX: Final = 1_000  # Of a partition: each trim looks at all of them.


class PartitionChanges:
    """See the module."""

    def __init__(self, host: ShardHost, service: ShardService, leader: PartitionLeader) -> None:
        self._host = host
        self._service = service
        self._leader = leader

    async def trim(self, message: TrimPartition) -> Answer:
        """Raises OffsetOutOfRange past the end of the log, and Pinned. A start is only raised."""
        shard, partition = message.shard, PartitionId(message.topic, message.partition)

        def guard(rows: PreparedRows) -> Operation | Refusal:
            start, end = self._bounds(rows, shard, partition)
            if message.start > end:
                return Refusal(RefusalCode.LOG_OFFSET, f"the offsets are {start} to {end}")
            for offset, owner, id in pins(rows, partition)[:1]:
                if offset < message.start:
                    said = f"all from {offset} on is kept for the pin {id} of {owner}"
                    return Refusal(RefusalCode.PINNED, said)
            return RaiseLogStart(*partition, max(start, message.start))

        about = RaiseLogStart(*partition, message.start)
        of = message.request_id, b"", message.age_s, message.asked_in, guard
        return await self._service.propose(shard, write_of(about, *of)), b""

    async def raise_start(self, shard: ShardId, partition: PartitionId, wanted: int) -> None:
        """A trim as far as the pins allow when it is ordered, by who retains records no longer."""

        def guard(rows: PreparedRows) -> Operation:
            start, end = self._bounds(rows, shard, partition)
            pinned = min((offset for offset, *_ in pins(rows, partition)), default=end)
            return RaiseLogStart(*partition, max(start, min(wanted, pinned, end)))

        about = RaiseLogStart(*partition, wanted)
        await self._service.propose(shard, write_of(about, NO_REQUEST, guard=guard))

    def _bounds(
        self, rows: PreparedRows, shard: ShardId, partition: PartitionId
    ) -> tuple[int, int]:
        """The log's first offset and the one behind its last, as prepared."""
        stored = rows.get(partition_key(partition, LOG_START))
        rows.looked_at.append(partition.mark)
        end = self._leader.tails.get(self._host.replicas[shard], partition).next
        return 0 if stored is None else decode_log_start(stored).start, end

    async def pin(self, message: PinPartition) -> Answer:
        """Returns once it is committed: from the offset on all is kept (rule L22).

        Raises OffsetOutOfRange, PinExists, TooManyAtPartition.
        """
        shard, partition = message.shard, PartitionId(message.topic, message.partition)
        name = message.owner, message.id
        asked = SetPin(*partition, *name, message.offset, int(time.time() * 1000))

        def guard(rows: PreparedRows) -> Operation | Refusal:
            start, end = self._bounds(rows, shard, partition)
            if not start <= message.offset <= end:
                return Refusal(RefusalCode.LOG_OFFSET, f"the offsets are {start} to {end}")
            standing = pinned_offset(rows, partition, *name)
            if standing is None and len(pins(rows, partition)) >= PINS_MAX:
                return Refusal(RefusalCode.TOO_MANY_AT_PARTITION, f"{PINS_MAX} pins are here")
            if standing not in (None, message.offset):
                said = f"the pin {message.id} of {message.owner} is at {standing}"
                return Refusal(RefusalCode.PIN_EXISTS, said)
            return asked

        of = message.request_id, b"", message.age_s, message.asked_in, guard
        return await self._service.propose(shard, write_of(asked, *of)), b""

    async def release(self, message: ReleasePin) -> Answer:
        """What comes late does no harm, since a pin's id is not used again (rule L43)."""
        shard, partition = message.shard, PartitionId(message.topic, message.partition)
        if not self._host.serves(shard) or not self._host.covers(shard, partition.hash):
            raise NotServed(f"shard {shard_name(shard)} is not served here")
        letters = (pin_of(message.owner, message.id),)
        await self._leader.order(shard, DropBatches(*partition, (), letters))
        return Done(), b""

    async def raise_fence(self, message: FencePartition) -> Answer:
        """Returns once the token that stands then is committed (rule L41): for good, or until a
        higher one comes, whoever sends an earlier one again. Raises TooManyAtPartition."""
        partition, job = PartitionId(message.topic, message.partition), message.job
        stands: list[int] = []

        def guard(rows: PreparedRows) -> Operation | Refusal:
            before = standing_token(rows, partition, job)
            if before == NO_TOKEN:
                fences = rows.under(partition_key(partition, FENCE), partition.mark)
                if len(fences) >= FENCES_MAX:
                    said = f"{FENCES_MAX} jobs have a fence here"
                    return Refusal(RefusalCode.TOO_MANY_AT_PARTITION, said)
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
