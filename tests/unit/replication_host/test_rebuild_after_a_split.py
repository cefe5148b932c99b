"""An index made from the journal alone knows of splits what a replay knows."""

from __future__ import annotations

from pathlib import Path

from tests.unit.replication_host.test_restart_of_a_host import (
    EPOCH,
    FIRST,
    IDENTITY,
    SECOND,
    disk,
    host_on,
    start,
)

from octad.sharding.hashing import object_hash
from octad.sharding.ids import BucketId, Epoch, Seq, ShardId
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index_format import (
    decode_object,
    decode_shard_state,
    object_key,
    shard_state_key,
)
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.journal.shard_state import ShardState
from octad.storage_node.operations.index_changes import (
    LogSplit,
    LogStart,
    encode_operation,
    put_object,
)
from octad.storage_node.rebuild.index_rebuild import rebuild

BUCKET = BucketId(1)
DEPTH = 4
NUMBERS = {FIRST: 1, SECOND: 9}


def key_in(shard: ShardId, nth: int) -> bytes:
    keys = (b"key %d" % number for number in range(100_000))
    found = (key for key in keys if object_hash(BUCKET, key) & 15 == NUMBERS[shard])
    for _ in range(nth):
        next(found)
    return next(found)


def put(journal: Journal, shard: ShardId, seq: int, commit: int, key: bytes) -> None:
    operation = put_object(BUCKET, key, ObjectRow(1, f"etag {seq}", 0))
    metadata = encode_operation(operation)
    place = shard, EPOCH, Seq(seq), Seq(commit)
    journal.append(RecordKind.PUT_OBJECT, *place, bytes([seq]) * 16, metadata, b"x")


def split(journal: Journal, seq: int) -> None:
    place = FIRST, EPOCH, Seq(seq), Seq(seq)
    metadata = encode_operation(LogSplit(DEPTH))
    journal.append(RecordKind.LOG_SPLIT, *place, bytes(16), metadata, b"")


def rebuilt(directory: Path) -> CountedIndex:
    index = CountedIndex(directory / "anew")
    rebuild(Disk(), directory / "journal", IDENTITY, index)
    return index


def state_of(index: CountedIndex, shard: ShardId) -> ShardState | None:
    value = index.get(shard_state_key(shard))
    return None if value is None else decode_shard_state(value)


async def test_both_halves_are_there_though_one_has_written_nothing_since(tmp_path: Path) -> None:
    first, second = key_in(FIRST, 0), key_in(SECOND, 0)
    async with disk(tmp_path) as (journal, _):
        start(journal)
        put(journal, FIRST, 1, 0, first)
        put(journal, FIRST, 2, 1, second)
        split(journal, 2)
        put(journal, FIRST, 3, 2, key_in(FIRST, 1))
        put(journal, FIRST, 4, 3, key_in(FIRST, 2))
    async with disk(tmp_path) as (journal, index):
        host = host_on(journal, index)
        host.recover()
        replayed = {shard: state_of(index, shard) for shard in (FIRST, SECOND)}
        host.close()
    index = rebuilt(tmp_path)
    known = {shard: state_of(index, shard) for shard in (FIRST, SECOND)}
    assert known == replayed
    assert known[SECOND] == ShardState(Seq(2), EPOCH, EPOCH, depth=DEPTH)
    for key in (first, second, key_in(FIRST, 1)):
        value = index.get(object_key(BUCKET, key))
        assert value is not None
        assert decode_object(value).row.etag.startswith("etag")
    assert index.get(object_key(BUCKET, key_in(FIRST, 2))) is None, "it is not committed"
    index.close()


async def test_what_the_log_had_behind_the_split_is_void(tmp_path: Path) -> None:
    """It was prepared by a primary that was not there when the shard was split."""
    kept, void = key_in(FIRST, 0), key_in(FIRST, 1)
    async with disk(tmp_path) as (journal, _):
        start(journal)
        put(journal, FIRST, 1, 0, kept)
        put(journal, FIRST, 2, 1, void)
        split(journal, 1)
        put(journal, SECOND, 2, 2, key_in(SECOND, 0))
    index = rebuilt(tmp_path)
    assert index.get(object_key(BUCKET, kept)) is not None
    assert index.get(object_key(BUCKET, key_in(SECOND, 0))) is not None
    assert index.get(object_key(BUCKET, void)) is None
    state = state_of(index, FIRST)
    assert state is not None
    assert (state.applied, state.depth) == (1, DEPTH)
    assert Epoch(state.view_epoch) == EPOCH
    index.close()


async def test_where_the_log_of_one_half_begins_anew_says_nothing_of_the_other(
    tmp_path: Path,
) -> None:
    keys = [key_in(FIRST, nth) for nth in range(8)]
    async with disk(tmp_path) as (journal, _):
        start(journal)
        begin_log(journal, FIRST, 5, Epoch(1), 0, DEPTH - 1)
        put(journal, FIRST, 6, 5, keys[0])
        put(journal, FIRST, 7, 6, keys[1])
        split(journal, 7)
        for seq in range(8, 13):
            put(journal, FIRST, seq, seq - 1, keys[seq - 6])
        begin_log(journal, SECOND, 15, Epoch(9), 8)
        put(journal, FIRST, 13, 12, keys[7])
    index = rebuilt(tmp_path)
    state = state_of(index, FIRST)
    assert state is not None
    assert (state.applied, state.start, state.complete_to) == (12, 5, 0)
    assert all(index.get(object_key(BUCKET, key)) is not None for key in keys[:7])
    half = state_of(index, SECOND)
    assert half is not None
    assert (half.applied, half.start, half.complete_to) == (15, 15, 8)
    index.close()


def begin_log(
    journal: Journal,
    shard: ShardId,
    start_: int,
    epoch: Epoch,
    complete_to: int,
    depth: int = DEPTH,
) -> None:
    metadata = encode_operation(LogStart(Seq(complete_to), depth))
    place = shard, epoch, Seq(start_), Seq(complete_to)
    journal.append(RecordKind.LOG_START, *place, bytes(16), metadata, b"")
