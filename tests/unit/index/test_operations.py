"""What an operation changes in the index."""

from __future__ import annotations

import pytest

from octad.sharding.hashing import bit_reversed
from octad.sharding.ids import BucketId, Epoch, PoolId, Seq, shard_id
from octad.storage_node.index.index_format import (
    ROW_TABLES,
    IndexedObject,
    decode_object,
    hash_of_row,
    object_key,
    shard_order_key,
)
from octad.storage_node.index.rows import ExtentRef, ObjectRow, PartRow, UploadRow
from octad.storage_node.journal.record_format import Location, RecordKind, SegmentId
from octad.storage_node.operations.index_changes import (
    DeleteObject,
    IndexChanges,
    Operation,
    PutObject,
    PutPart,
    PutPiece,
    create_upload,
    decode_operation,
    encode_operation,
    put_object,
)

BUCKET, KEY, ID = BucketId(7), b"some/key", bytes(range(16))
ROW = ObjectRow(5, "0" * 32, 17, {"content-type": "text/plain"}, extents=(ExtentRef(ID, 5),))
LOCATION = Location(SegmentId(3), 4096, 400)
SHARD = shard_id(PoolId(1), 9)


def changes_of(operation: Operation) -> dict[bytes, bytes | None]:
    changes = IndexChanges(lambda _key: None)
    changes.apply(operation, LOCATION, SHARD, Epoch(2), Seq(11))
    return changes.changes


@pytest.mark.parametrize(
    "operation",
    [
        put_object(BUCKET, KEY, ROW),
        create_upload(BUCKET, KEY, ID, UploadRow(1, "owner")),
        PutPart(BUCKET, KEY, ID, 3, PartRow(5, "0" * 32, 17)),
        PutPiece(ID, 2, BUCKET, KEY),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_a_row_stands_in_the_order_of_shards_by_the_hash_that_places_it(
    operation: Operation,
) -> None:
    changes = changes_of(operation)
    (row,) = [key for key in changes if key[0] in ROW_TABLES]
    assert set(changes) == {row, shard_order_key(bit_reversed(hash_of_row(row)), row)}


def test_an_objects_row_reaches_the_index_as_its_front_door_encoded_it() -> None:
    sent = encode_operation(put_object(BUCKET, KEY, ROW))
    received = decode_operation(RecordKind.PUT_OBJECT, sent)
    assert isinstance(received, PutObject)
    assert (received, received.row) == (put_object(BUCKET, KEY, ROW), ROW)
    value = changes_of(received)[object_key(BUCKET, KEY)]
    assert value is not None
    assert decode_object(value) == IndexedObject(LOCATION, Epoch(2), Seq(11), ROW)


def test_a_row_that_replaces_one_has_its_place_in_the_order_already() -> None:
    (key, value), (order_key, _) = changes_of(put_object(BUCKET, KEY, ROW)).items()
    changes = IndexChanges({key: value}.get)
    changes.apply(put_object(BUCKET, KEY, ROW), LOCATION, SHARD, Epoch(2), Seq(12))
    assert set(changes.changes) == {key}

    changes.apply(DeleteObject(BUCKET, KEY), LOCATION, SHARD, Epoch(2), Seq(13))
    changes.apply(put_object(BUCKET, KEY, ROW), LOCATION, SHARD, Epoch(2), Seq(14))
    assert changes.changes[order_key] == b""
