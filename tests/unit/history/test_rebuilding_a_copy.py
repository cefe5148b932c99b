"""What the journal says of a copy, when the index is made anew from it."""

from __future__ import annotations

from octad.sharding.hashing import object_hash
from octad.sharding.ids import BucketId, Epoch, PoolId, Seq, shard_id
from octad.storage_node.index.history_format import HistoryDeleted, encode
from octad.storage_node.index.index_format import object_key, shard_order_key
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.journal.record_format import (
    Location,
    Position,
    Record,
    RecordKind,
    SegmentId,
)
from octad.storage_node.operations.copy_format import Copied, encode_copied
from octad.storage_node.operations.index_changes import LogStart, encode_operation, put_object
from octad.storage_node.rebuild.journal_survey import Rebuilder, Survey

SHARD = shard_id(PoolId(0), 0)
BUCKET, KEY = BucketId(1), b"key"
ROW_KEY = object_key(BUCKET, KEY)


def record(kind: RecordKind, epoch: int, seq: int, commit: int, metadata: bytes) -> Record:
    none, synced = memoryview(b""), Position(0)
    where = SHARD, Epoch(epoch), Seq(seq), Seq(commit)
    return Record(kind, *where, bytes(16), synced, memoryview(metadata), none)


def rows(records: list[tuple[Location, Record]]) -> dict[bytes, bytes | None]:
    """What a rebuild makes of them."""
    survey = Survey({}, SegmentId(1))
    for location, each in records:
        survey.see(location, each)
    rebuilder = Rebuilder(survey, lambda _key: None)
    for location, each in records:
        rebuilder.apply(location, each)
    return rebuilder.changes


def test_what_a_copy_took_away_stays_away_when_compaction_has_moved_the_record_of_it() -> None:
    put = encode_operation(put_object(BUCKET, KEY, ObjectRow(0, "", 0)))
    order_key = shard_order_key(object_hash(BUCKET, KEY).to_bytes(8, "big"), ROW_KEY)
    deleted = RecordKind.HISTORY_DELETED
    metadata = encode(HistoryDeleted((order_key,)))
    before = [
        (Location(SegmentId(1), 4096, 100), record(RecordKind.PUT_OBJECT, 1, 7, 7, put)),
        (
            Location(SegmentId(1), 4196, 100),
            record(RecordKind.LOG_START, 2, 21, 15, encode_operation(LogStart(Seq(15)))),
        ),
    ]
    as_written = Location(SegmentId(2), 4096, 100), record(deleted, 0, 33, 0, metadata)
    copied = encode_copied(Copied(as_written[0], SegmentId(2), deleted, metadata))
    moved = Location(SegmentId(3), 4096, 100), record(RecordKind.COPY, 0, 33, 0, copied)
    assert rows([*before, as_written])[ROW_KEY] is None
    assert rows([*before, moved])[ROW_KEY] is None
    assert rows(before)[ROW_KEY] is not None
