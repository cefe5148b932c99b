"""What is asked of the nodes that hold a partition's shard: requests and their answers.

As in `shards/object_messages.py`, a node refuses what is not for it to answer, and `age_s` says how
long before this try the first was made that may have taken effect.
"""

from __future__ import annotations

import msgspec

from octad.sharding.ids import BucketId, Epoch, ShardId
from octad.storage_node.index.partition_rows import NO_TOKEN
from octad.storage_node.log.partition_tail import ANY_OFFSET
from octad.storage_node.rpc.messages import Message, Request, message
from octad.storage_node.shards.object_messages import Done


class BatchAsked(msgspec.Struct, frozen=True, array_like=True):
    """One batch, whose bytes are `size` of the body. Its header was checked by the node asking."""

    size: int
    expect_offset: int = ANY_OFFSET
    request_id: bytes = b""  # Where an offset is expected (rule L6).


class BatchOutcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of one: appended at `base`, or refused with `code` where the log has `next`.

    `fence`: the token that stands for its job.
    `code` is a `Refusal` or one of `object_messages.ERRORS`.
    """

    code: str
    base: int = 0
    next: int = 0
    copies: int = 0  # See `Done`.
    fence: int = NO_TOKEN


@message
class BatchesAppended(Message, frozen=True, array_like=True, tag=81):
    """In the order of the request. Each batch is decided by itself (rule L14)."""

    outcomes: list[BatchOutcome]


@message
class AppendToLog(Request[BatchesAppended], frozen=True, array_like=True, tag=80):
    """To the primary: append the batches that are the body, in a job's name if there is one."""

    shard: ShardId
    topic: BucketId
    partition: int
    batches: list[BatchAsked]
    age_s: float = 0.0
    job: str = ""
    token: int = NO_TOKEN


@message
class LogFetched(Message, frozen=True, array_like=True, tag=83):
    """Whole batches, as the body, the first of which contains the offset; none: not there yet."""

    start: int  # Of the log.
    next: int  # The high-water mark.


@message
class FetchLog(Request[LogFetched], frozen=True, array_like=True, tag=82):
    """To a member: batches from `offset` on, when there are some, or when `wait_s` are over.

    `seen`: the highest mark that the reader has seen. A member that is behind it waits, too.
    """

    shard: ShardId
    topic: BucketId
    partition: int
    offset: int
    bytes_max: int
    wait_s: float = 0.0
    seen: int = 0


@message
class PartitionRead(Message, frozen=True, array_like=True, tag=85):
    """The first offset that may be read, and the one behind the last; the bytes between them.

    `oldest_ms`: the greatest time of the first batch; -1: there is none.
    """

    start: int
    next: int
    bytes: int = 0
    oldest_ms: int = -1


@message
class OffsetFound(Message, frozen=True, array_like=True, tag=104):
    """The offset of that record, or of the next one that will be appended."""

    offset: int


@message
class FindOffset(Request[OffsetFound], frozen=True, array_like=True, tag=103):
    """To the primary, or to any member where nothing is under way: the first record of this time
    or a later one.
    """

    shard: ShardId
    topic: BucketId
    partition: int
    time_ms: int


@message
class ReadPartition(Request[PartitionRead], frozen=True, array_like=True, tag=84):
    """To the primary, or to any member where nothing is under way: which offsets there are."""

    shard: ShardId
    topic: BucketId
    partition: int


@message
class TrimPartition(Request[Done], frozen=True, array_like=True, tag=86):
    """To the primary: what is below `start` is not read any more."""

    shard: ShardId
    topic: BucketId
    partition: int
    start: int
    request_id: bytes
    age_s: float = 0.0
    asked_in: Epoch = Epoch(0)


@message
class ProducerMade(Message, frozen=True, array_like=True, tag=88):
    """An id that no other producer has or had."""

    producer: int


@message
class MakeProducer(Request[ProducerMade], frozen=True, array_like=True, tag=87):
    """To the primary of a topic's first partition."""

    shard: ShardId
    topic: BucketId


@message
class FenceStands(Message, frozen=True, array_like=True, tag=92):
    """The job's token at the partition, which may be higher than the one asked for."""

    token: int


@message
class FencePartition(Request[FenceStands], frozen=True, array_like=True, tag=91):
    """To the primary: refuse appends in the job's name with a lower token, or with none."""

    shard: ShardId
    topic: BucketId
    partition: int
    job: str
    token: int


@message
class PinPartition(Request[Done], frozen=True, array_like=True, tag=93):
    """To the primary: keep all records from `offset` on, until the pin is released."""

    shard: ShardId
    topic: BucketId
    partition: int
    owner: str
    id: str
    offset: int
    request_id: bytes
    age_s: float = 0.0
    asked_in: Epoch = Epoch(0)


@message
class ReleasePin(Request[Done], frozen=True, array_like=True, tag=94):
    """To the primary: let go of what the pin keeps; done also where there is none."""

    shard: ShardId
    topic: BucketId
    partition: int
    owner: str
    id: str


class Pin(msgspec.Struct, frozen=True, array_like=True):
    """Whose it is, and what it keeps."""

    owner: str
    id: str
    offset: int
    made_ms: int


@message
class HeldRead(Message, frozen=True, array_like=True, tag=102):
    """The partition's pins, and its fences: jobs with their tokens."""

    pins: list[Pin]
    fences: list[tuple[str, int]]


@message
class ReadHeld(Request[HeldRead], frozen=True, array_like=True, tag=95):
    """To the primary, or to any member where nothing is under way: what is held there."""

    shard: ShardId
    topic: BucketId
    partition: int


@message
class PartitionEmptied(Message, frozen=True, array_like=True, tag=90):
    """Whether there is more of it."""

    more: bool


@message
class EmptyPartition(Request[PartitionEmptied], frozen=True, array_like=True, tag=89):
    """To the primary: remove some of what there is of a partition whose topic is being deleted."""

    shard: ShardId
    topic: BucketId
    partition: int
