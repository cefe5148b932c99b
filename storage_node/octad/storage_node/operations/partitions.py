"""The log of a topic's partition: batches appended, its start raised, old batches dropped.

All that is decided is decided by the primary before it orders an entry (`log/partition_tail.py`).
So entries have effects and no conditions, and absolute values (rule L3).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from octad.sharding.ids import BucketId
from octad.storage_node.index.index_format import encode_value
from octad.storage_node.index.partition_rows import (
    COUNTER,
    LOG_START,
    STATE,
    TABLES,
    BatchRow,
    IndexedBatch,
    IndexedCounter,
    IndexedFence,
    IndexedLogStart,
    IndexedPin,
    IndexedState,
    PartitionId,
    PartitionState,
    batch_key,
    fence_of,
    partition_key,
    pin_of,
)
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.journal.several_records import Several, lay_out
from octad.storage_node.operations.changed_rows import ChangedRows
from octad.storage_node.operations.kind import Kind, Place, Room

LOG_LEVEL: Final = 5  # The first format level whose nodes know topics.
_encode = msgspec.msgpack.Encoder().encode


class AppendBatch(msgspec.Struct, frozen=True, array_like=True):
    """The record's data is the batch at the offset `base`."""

    topic: BucketId
    partition: int
    base: int
    row: BatchRow


class AppendBatches(Several, frozen=True, array_like=True):
    """Batches of one shard: each record inside is a LOG_APPEND (rules L14, L15)."""


class KeepState(msgspec.Struct, frozen=True, array_like=True):
    """Write down what is known of the batches so far."""

    topic: BucketId
    partition: int
    state: PartitionState


class RaiseLogStart(msgspec.Struct, frozen=True, array_like=True):
    """What is below `start` is not read any more."""

    topic: BucketId
    partition: int
    start: int


class DropBatches(msgspec.Struct, frozen=True, array_like=True):
    """Remove the batches at these offsets, and the partition's rows of these letters.

    With the letter comes what follows it: so a pin is released.
    """

    topic: BucketId
    partition: int
    bases: tuple[int, ...]
    letters: tuple[bytes, ...] = ()


class CountProducers(msgspec.Struct, frozen=True, array_like=True):
    """So many producer ids are given out here."""

    topic: BucketId
    partition: int
    given: int


class RaiseFence(msgspec.Struct, frozen=True, array_like=True):
    """In the job's name, no one appends with a lower token than this, or with none."""

    topic: BucketId
    partition: int
    job: str
    token: int


class SetPin(msgspec.Struct, frozen=True, array_like=True):
    """Keep all records from `offset` on, until the pin is released."""

    topic: BucketId
    partition: int
    owner: str
    id: str
    offset: int
    made_ms: int


_OfPartition: TypeAlias = (
    AppendBatch | KeepState | RaiseLogStart | DropBatches | CountProducers | RaiseFence | SetPin
)


def append_batches(
    batches: Iterable[tuple[AppendBatch, bytes, bytes]],
) -> tuple[AppendBatches, bytes]:
    """The operation that appends several (batch, request id, bytes), and its data."""
    records, data = lay_out(
        (RecordKind.LOG_APPEND, request_id, _encode(batch), bytes_)
        for batch, request_id, bytes_ in batches
    )
    return AppendBatches(records), data


def _of(operation: _OfPartition) -> PartitionId:
    return PartitionId(operation.topic, operation.partition)


def _hash(operation: _OfPartition) -> int:
    return _of(operation).hash


def _bucket(operation: _OfPartition) -> BucketId:
    return operation.topic


def _batch_key(append: AppendBatch) -> bytes:
    return batch_key(_of(append), append.base)


def _state_key(keep: KeepState) -> bytes:
    return partition_key(_of(keep), STATE)


def _log_start_key(raise_: RaiseLogStart) -> bytes:
    return partition_key(_of(raise_), LOG_START)


def _counter_key(count: CountProducers) -> bytes:
    return partition_key(_of(count), COUNTER)


def _fence_key(raise_: RaiseFence) -> bytes:
    return partition_key(_of(raise_), fence_of(raise_.job))


def _pin_key(pin: SetPin) -> bytes:
    return partition_key(_of(pin), pin_of(pin.owner, pin.id))


def _dropped(drop: DropBatches) -> list[bytes]:
    partition = _of(drop)
    batches = [batch_key(partition, base) for base in drop.bases]
    return batches + [partition_key(partition, letter) for letter in drop.letters]


def _append(changes: ChangedRows, append: AppendBatch, place: Place) -> None:
    row = IndexedBatch(place.location, place.epoch, place.seq, append.row)
    changes.put(place.shard, _hash(append), _batch_key(append), encode_value(row))


def _keep(changes: ChangedRows, keep: KeepState, place: Place) -> None:
    row = IndexedState(place.location, place.epoch, place.seq, keep.state)
    changes.put(place.shard, _hash(keep), _state_key(keep), encode_value(row))


def _raise(changes: ChangedRows, raise_: RaiseLogStart, place: Place) -> None:
    row = IndexedLogStart(place.location, place.epoch, place.seq, raise_.start)
    changes.put(place.shard, _hash(raise_), _log_start_key(raise_), encode_value(row))


def _drop(changes: ChangedRows, drop: DropBatches, place: Place) -> None:
    hash_ = _hash(drop)
    for key in _dropped(drop):
        changes.delete(place.shard, hash_, key)


def _count(changes: ChangedRows, count: CountProducers, place: Place) -> None:
    row = IndexedCounter(place.location, place.epoch, place.seq, count.given)
    changes.put(place.shard, _hash(count), _counter_key(count), encode_value(row))


def _fence(changes: ChangedRows, raise_: RaiseFence, place: Place) -> None:
    row = IndexedFence(place.location, place.epoch, place.seq, raise_.token)
    changes.put(place.shard, _hash(raise_), _fence_key(raise_), encode_value(row))


def _pin(changes: ChangedRows, pin: SetPin, place: Place) -> None:
    row = IndexedPin(place.location, place.epoch, place.seq, pin.offset, pin.made_ms)
    changes.put(place.shard, _hash(pin), _pin_key(pin), encode_value(row))


KINDS = (
    Kind(
        record=RecordKind.LOG_APPEND,
        struct=AppendBatch,
        level=LOG_LEVEL,
        hash_of=_hash,
        bucket_of=_bucket,
        touched=lambda append: (_of(append).mark,),
        row_key=_batch_key,
        apply=_append,
        tables=TABLES,
    ),
    Kind(record=RecordKind.LOG_APPENDS, struct=AppendBatches, level=LOG_LEVEL),
    Kind(
        record=RecordKind.PARTITION_STATE,
        struct=KeepState,
        level=LOG_LEVEL,
        hash_of=_hash,
        bucket_of=_bucket,
        touched=lambda keep: (_of(keep).mark, _state_key(keep)),
        row_key=_state_key,
        apply=_keep,
    ),
    Kind(
        record=RecordKind.LOG_TRIM,
        struct=RaiseLogStart,
        level=LOG_LEVEL,
        room=Room.FREEING,
        hash_of=_hash,
        bucket_of=_bucket,
        touched=lambda raise_: (_of(raise_).mark, _log_start_key(raise_)),
        row_key=_log_start_key,
        apply=_raise,
    ),
    Kind(
        record=RecordKind.LOG_DROP,
        struct=DropBatches,
        level=LOG_LEVEL,
        room=Room.FREEING,
        kept=True,
        hash_of=_hash,
        touched=lambda drop: (_of(drop).mark, *_dropped(drop)),
        apply=_drop,
    ),
    Kind(
        record=RecordKind.PRODUCER_COUNT,
        struct=CountProducers,
        level=LOG_LEVEL,
        hash_of=_hash,
        bucket_of=_bucket,
        touched=lambda count: (_counter_key(count),),
        row_key=_counter_key,
        apply=_count,
    ),
    Kind(
        record=RecordKind.LOG_FENCE,
        struct=RaiseFence,
        level=LOG_LEVEL,
        hash_of=_hash,
        bucket_of=_bucket,
        touched=lambda raise_: (_of(raise_).mark, _fence_key(raise_)),
        row_key=_fence_key,
        apply=_fence,
    ),
    Kind(
        record=RecordKind.LOG_PIN,
        struct=SetPin,
        level=LOG_LEVEL,
        hash_of=_hash,
        bucket_of=_bucket,
        touched=lambda pin: (_of(pin).mark, _pin_key(pin)),
        row_key=_pin_key,
        apply=_pin,
    ),
)
