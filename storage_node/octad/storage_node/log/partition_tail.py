"""Where a partition's log ends, as prepared, and who produced its last batches: what a primary
decides appends by.

It belongs to one shard in one reign, and is made in one step from the partition's state row, the
batches from that row's `next` on, and *all* entries that are not applied yet (rule L8). A positive
decision is ordered at once; what a negative one has seen must be committed before it is answered
(rule L2), and so must the batch that a duplicate is answered with (rule L9).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from octad.sharding.ids import Epoch, Seq
from octad.storage_node.index.partition_rows import (
    NO_PRODUCER,
    NO_TOKEN,
    BatchRow,
    KeptBatch,
    PartitionState,
    ProducerState,
)

SEQUENCES: Final = 1 << 31  # A sequence wraps there.
BATCHES_KEPT: Final = 5  # Of each producer: Kafka's clients have as many under way.
PRODUCERS_MAX: Final = 1_000  # Of a partition: its state row is written again and again.
IDLE_MS: Final = 15 * 60 * 1000  # A producer is forgotten after this: longer than any retry.
TERMS_MAX: Final = 1_000
ANY_OFFSET: Final = -1


class Refusal(StrEnum):
    """Why an append is refused; nothing is appended. Stable, for programs."""

    OFFSET_TAKEN = "offset-taken"  # It expected an offset that the log has passed.
    OFFSET_AHEAD = "offset-ahead"  # The log does not reach yet to the offset that it expected.
    OUT_OF_ORDER = "out-of-order-sequence"
    DUPLICATE = "duplicate-sequence"  # Older than the batches whose offsets are remembered.
    UNKNOWN_PRODUCER = "unknown-producer"
    FENCED = "fenced-producer"
    FENCED_JOB = "fenced-job"  # Its token is lower than the one that stands (rule L41).
    TOO_MANY_PRODUCERS = "too-many-producers"


class Appending(msgspec.Struct, frozen=True, gc=False):
    """What is decided on of a batch; its job's appends need `fence` as a token, or a higher one."""

    records: int
    producer: int = NO_PRODUCER
    producer_epoch: int = -1
    sequence: int = -1
    expect_offset: int = ANY_OFFSET
    token: int = NO_TOKEN
    fence: int = NO_TOKEN


class Known(msgspec.Struct, frozen=True, gc=False):
    """The batch was appended before, at `base`, by the entry at `seq` or an earlier one."""

    base: int
    seq: Seq


Decision: TypeAlias = int | Known | Refusal
"""The base offset of a batch that is to be appended."""


class _Producer:
    __slots__ = ("batches", "epoch", "last_ms")

    def __init__(self, epoch: int, last_ms: int) -> None:
        self.epoch = epoch
        self.last_ms = last_ms
        # Each with the entry that must be committed before a duplicate is answered.
        self.batches: deque[tuple[KeptBatch, Seq]] = deque(maxlen=BATCHES_KEPT)


class PartitionTail:
    """See the module. `next` is the offset of the next record.

    `peak`, `total`: the last batch's (`BatchRow`).
    `kept_next`: of the newest state row that was ordered (rule L11). `unkept`: batches since.
    """

    __slots__ = ("_producers", "_terms", "kept_next", "next", "peak", "term", "total", "unkept")

    def __init__(
        self,
        term: Epoch,
        state: PartitionState | None,
        batches: Iterable[tuple[int, BatchRow, Seq]],
        seen_to: Seq,
        now_ms: int,
    ) -> None:
        """`batches`: those from the state's `next` on, applied or not, each with its base and with
        the seq of its entry; `seen_to`: the end of the log, which stands for what is older.
        """
        state = state or PartitionState(0)
        self.term = term
        self.next = self.kept_next = state.next
        self.peak, self.total = state.peak, state.total
        self.unkept = 0
        self._terms = list(state.terms)
        self._producers: dict[int, _Producer] = {}
        for each in state.producers:
            producer = self._producers[each.id] = _Producer(each.epoch, each.last_ms)
            producer.batches.extend((batch, seen_to) for batch in each.batches)
        for base, row, seq in batches:
            self.add(base, row, seq, now_ms)

    def decide(self, batch: Appending) -> Decision:
        """What is to become of `batch`, on top of all that was added."""
        known = None if batch.producer == NO_PRODUCER else self._known(batch)
        if batch.token < batch.fence and not isinstance(known, Known):
            return Refusal.FENCED_JOB
        if known is not None:
            return known
        expected = batch.expect_offset
        if expected == ANY_OFFSET or expected == self.next:
            return self.next
        return Refusal.OFFSET_TAKEN if expected < self.next else Refusal.OFFSET_AHEAD

    def add(self, base: int, row: BatchRow, seq: Seq, now_ms: int) -> None:
        """The batch is ordered, by the entry at `seq`."""
        assert base >= self.next, "offsets only grow"
        if not self._terms or self._terms[-1][0] != row.term:
            self._terms.append((row.term, base))
            del self._terms[:-TERMS_MAX]
        self.next = row.last + 1
        self.peak, self.total = row.peak, row.total
        self.unkept += 1
        if row.producer == NO_PRODUCER:
            return
        producer = self._producers.get(row.producer)
        if producer is None or producer.epoch != row.producer_epoch:
            producer = self._producers[row.producer] = _Producer(row.producer_epoch, now_ms)
        producer.last_ms = now_ms
        producer.batches.append((KeptBatch(row.sequence, row.last - base + 1, base), seq))

    @property
    def weight(self) -> int:
        """What it takes of memory, in producers."""
        return 1 + len(self._producers)

    def state(self, now_ms: int) -> PartitionState:
        """What is to be written down; producers that are idle for long are forgotten with it
        (rule L12)."""
        self._producers = {
            id: each for id, each in self._producers.items() if now_ms - each.last_ms < IDLE_MS
        }
        producers = (
            ProducerState(id, each.epoch, tuple(kept for kept, _ in each.batches), each.last_ms)
            for id, each in self._producers.items()
        )
        of = self.next, tuple(producers), tuple(self._terms)
        return PartitionState(*of, total=self.total, peak=self.peak)

    def state_kept(self) -> None:
        """What `state` gave is ordered."""
        self.kept_next = self.next
        self.unkept = 0

    def _known(self, batch: Appending) -> Known | Refusal | None:
        """None: it is the producer's next batch."""
        producer = self._producers.get(batch.producer)
        if producer is None:
            if batch.sequence:
                return Refusal.UNKNOWN_PRODUCER
            return Refusal.TOO_MANY_PRODUCERS if len(self._producers) >= PRODUCERS_MAX else None
        if batch.producer_epoch < producer.epoch:
            return Refusal.FENCED
        if batch.producer_epoch > producer.epoch:
            return Refusal.OUT_OF_ORDER if batch.sequence else None
        for kept, seq in producer.batches:
            if kept.sequence == batch.sequence and kept.records == batch.records:
                return Known(kept.base, seq)
        last, _ = producer.batches[-1]
        ahead = (batch.sequence - last.sequence - last.records) % SEQUENCES
        if not ahead:
            return None
        return Refusal.DUPLICATE if ahead >= SEQUENCES // 2 else Refusal.OUT_OF_ORDER
