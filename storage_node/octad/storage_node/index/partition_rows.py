"""The index's rows of a topic's partitions: its batches, and what is known of it beside them.

    table  key behind the letter                           value
    l      topic u32 ‖ partition u32 ‖ base offset u64     IndexedBatch, in order of offsets
    k      topic u32 ‖ partition u32 ‖ a letter …          one of the rows below

    k … n  IndexedState: what the batches from its `next` on complete
    k … s  IndexedLogStart
    k … i  IndexedCounter: of the producer ids that were given out here
    k … f  IndexedFence; the job's name follows the letter
    k … p  IndexedPin; its owner, a zero byte and its id follow the letter

A topic's id is a bucket's: no bucket has the same. All rows of a partition are in the shard of the
hash of (topic, partition as 4 big-endian bytes), so that a split moves it whole. Letter `c` of
table `k`, and table `a`, are kept for what is cleaned and abort markers.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from octad.sharding.hashing import object_hash
from octad.sharding.ids import BucketId, Epoch, Seq
from octad.storage_node.index.index_format import BUCKET_BYTES, RowTable, bucket_in_key
from octad.storage_node.journal.record_format import Location

BATCHES: Final = b"l"
PARTITIONS: Final = b"k"
STATE, LOG_START, COUNTER, FENCE, PIN = b"n", b"s", b"i", b"f", b"p"
PARTITION_BYTES: Final = 4
_OFFSET_BYTES: Final = 8
_NUL: Final = b"\0"
_PARTITION_END: Final = 1 + BUCKET_BYTES + PARTITION_BYTES
NO_PRODUCER: Final = -1
NO_TOKEN: Final = -1


class PartitionId(NamedTuple):
    """A partition of a topic, by the topic's id."""

    topic: BucketId
    number: int

    @property
    def name(self) -> bytes:
        """What is hashed, with the topic's id."""
        return self.number.to_bytes(PARTITION_BYTES, "big")

    @property
    def hash(self) -> int:
        """It decides the shard."""
        return object_hash(self.topic, self.name)

    @property
    def mark(self) -> bytes:
        """All entries of the partition touch it (rule L16); also how keys of its batches begin."""
        return BATCHES + self.topic.to_bytes(BUCKET_BYTES, "big") + self.name


class BatchRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a batch's header says, and what the primary made of it."""

    last: int  # The offset of its last record.
    max_timestamp: int  # In ms; whose, is in the attributes.
    attributes: int
    term: int  # The epoch in which its primary began to lead: Kafka's leader epoch (rule L16).
    producer: int = NO_PRODUCER
    producer_epoch: int = -1
    sequence: int = -1
    request_id: bytes = b""  # Of an append that expected an offset (rule L6).
    transaction: int = 0  # 0: of none. There are none yet.
    size: int = 0  # Its bytes.
    total: int = 0  # Those of all batches up to this one, with those that are gone.
    peak: int = -1  # The greatest `max_timestamp` of all of them.


class IndexedBatch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A batch: its bytes are the record's data."""

    location: Location
    epoch: Epoch
    seq: Seq
    row: BatchRow


class KeptBatch(NamedTuple):
    """A batch of a producer, by which its retries are known."""

    sequence: int
    records: int
    base: int


class ProducerState(msgspec.Struct, frozen=True, array_like=True):
    """A producer as one partition knows it."""

    id: int
    epoch: int
    batches: tuple[KeptBatch, ...]  # Its last ones, oldest first.
    last_ms: int  # Wall clock of the primary.


class PartitionState(msgspec.Struct, frozen=True, array_like=True):
    """What is known of all batches below `next`; those from there on complete it (rule L10)."""

    next: int
    producers: tuple[ProducerState, ...] = ()
    terms: tuple[tuple[int, int], ...] = ()  # Each with the first offset that it appended.
    transactions: tuple[tuple[int, int, int, int], ...] = ()  # There are none yet.
    total: int = 0  # As in a batch's row.
    peak: int = -1


class IndexedState(msgspec.Struct, frozen=True, array_like=True):
    """The newest state that was written down."""

    location: Location
    epoch: Epoch
    seq: Seq
    state: PartitionState


class IndexedLogStart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first offset that may be read."""

    location: Location
    epoch: Epoch
    seq: Seq
    start: int


class IndexedCounter(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How many producer ids were given out."""

    location: Location
    epoch: Epoch
    seq: Seq
    given: int


class IndexedFence(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The lowest token with which a job may append (rule L41)."""

    location: Location
    epoch: Epoch
    seq: Seq
    token: int


class IndexedPin(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is kept for someone: all records from the offset on (rule L22)."""

    location: Location
    epoch: Epoch
    seq: Seq
    offset: int
    made_ms: int  # Wall clock of the primary.


decode_batch = msgspec.msgpack.Decoder(IndexedBatch).decode
decode_state = msgspec.msgpack.Decoder(IndexedState).decode
decode_log_start = msgspec.msgpack.Decoder(IndexedLogStart).decode
decode_counter = msgspec.msgpack.Decoder(IndexedCounter).decode
decode_fence = msgspec.msgpack.Decoder(IndexedFence).decode
decode_pin = msgspec.msgpack.Decoder(IndexedPin).decode


def batch_key(partition: PartitionId, base: int) -> bytes:
    """The key of table `l`."""
    return partition.mark + base.to_bytes(_OFFSET_BYTES, "big")


def base_of(index_key: bytes) -> int:
    """The base offset in a key of table `l`."""
    return int.from_bytes(index_key[_PARTITION_END:], "big")


def partition_key(partition: PartitionId, letter: bytes) -> bytes:
    """The key of table `k`; of a fence and of a pin, what it is called follows the letter."""
    return PARTITIONS + partition.mark[1:] + letter


def letter_of(index_key: bytes) -> bytes:
    """What stands behind the partition in a key of table `k`."""
    return index_key[_PARTITION_END:]


def fence_of(job: str) -> bytes:
    """The letter of a job's fence, with its name."""
    return FENCE + job.encode()


def job_of(index_key: bytes) -> str:
    """The inverse, from a fence's key."""
    return letter_of(index_key)[1:].decode()


def pin_of(owner: str, id: str) -> bytes:
    """The letter of a pin, with what it is called; neither has a zero byte."""
    return PIN + owner.encode() + _NUL + id.encode()


def named_pin(index_key: bytes) -> tuple[str, str]:
    """The inverse, from a pin's key."""
    owner, _, id = letter_of(index_key)[1:].partition(_NUL)
    return owner.decode(), id.decode()


def partition_of(index_key: bytes) -> PartitionId:
    """The partition in a key of either table."""
    number = int.from_bytes(index_key[1 + BUCKET_BYTES : _PARTITION_END], "big")
    return PartitionId(bucket_in_key(index_key), number)


TABLES: Final = tuple(
    RowTable(
        letter,
        what,
        lambda key: partition_of(key).hash,
        lambda key, _value: bucket_in_key(key),
    )
    for letter, what in ((BATCHES, "a batch of a topic"), (PARTITIONS, "a topic's partition"))
)
