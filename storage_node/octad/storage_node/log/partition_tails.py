"""The tails of the partitions that this node leads, made when they are needed (rule L8).

A tail is good in one reign of its shard only, and may be let go while all that it knows is in the
index and the log, of which the next one is made: so never between a decision and its order.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from octad.sharding.ids import Seq, ShardId
from octad.storage_node.index.index import Index
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.partition_rows import (
    STATE,
    BatchRow,
    PartitionId,
    base_of,
    batch_key,
    decode_batch,
    decode_state,
    partition_key,
)
from octad.storage_node.journal.several_records import Several
from octad.storage_node.log.partition_tail import PartitionTail
from octad.storage_node.operations.index_changes import Operation
from octad.storage_node.operations.partitions import AppendBatch, KeepState
from octad.storage_node.operations.registry import operations_in
from octad.storage_node.replication.replica.shard_replica import ShardReplica

WEIGHT_MAX: Final = 100_000  # Of all tails: each one, and each producer in it, weighs 1.


def batches_in(operation: Operation, partition: PartitionId) -> Iterator[AppendBatch]:
    """The batches that an entry appends to the partition."""
    for each in operations_in(operation) if isinstance(operation, Several) else (operation,):
        if isinstance(each, AppendBatch) and (each.topic, each.partition) == partition:
            yield each


class PartitionTails:
    """See the module."""

    def __init__(self, index: Index) -> None:
        self._index = index
        # The one that was asked for last is last; with what it weighed then.
        self._tails: OrderedDict[tuple[ShardId, PartitionId], tuple[PartitionTail, int]]
        self._tails = OrderedDict()
        self.weight = 0

    def get(self, replica: ShardReplica, partition: PartitionId) -> PartitionTail:
        """The tail at this moment; `replica` serves, and covers the partition."""
        key = replica.shard, partition
        tail, weighed = self._tails.get(key, (None, 0))
        if tail is None or tail.term != replica.primary.term:
            tail = self._made(replica, partition)
        weight = tail.weight
        self._tails[key] = tail, weight
        self._tails.move_to_end(key)
        self.weight += weight - weighed
        return tail

    def shrink(self) -> None:
        """Let go of those that were not asked for the longest, as far as there are too many.

        Only when nothing is decided that is not ordered.
        """
        while self.weight > WEIGHT_MAX:
            _, (_, weighed) = self._tails.popitem(last=False)
            self.weight -= weighed

    def forget(self, shard: ShardId, partition: PartitionId) -> None:
        """What was added to it was not ordered."""
        _, weighed = self._tails.pop((shard, partition), (None, 0))
        self.weight -= weighed

    def _made(self, replica: ShardReplica, partition: PartitionId) -> PartitionTail:
        stored = self._index.get(partition_key(partition, STATE))
        state = None if stored is None else decode_state(stored).state
        log, first = replica.log, 0 if state is None else state.next
        tail = PartitionTail(
            replica.primary.term,
            state,
            self._batches(replica, partition, first),
            log.end,
            int(time.time() * 1000),
        )
        for entry in log.touching(partition.mark):
            operation = entry.operation
            if isinstance(operation, KeepState):
                tail.kept_next = operation.state.next
        return tail

    def _batches(
        self, replica: ShardReplica, partition: PartitionId, first: int
    ) -> Iterator[tuple[int, BatchRow, Seq]]:
        """From the offset `first` on: applied ones, then all that are not (rule L8)."""
        for key, value in self._index.scan(batch_key(partition, first), past(partition.mark)):
            batch = decode_batch(value)
            yield base_of(key), batch.row, batch.seq
        for entry in replica.log.touching(partition.mark):
            for append in batches_in(entry.operation, partition):
                yield append.base, append.row, entry.seq
