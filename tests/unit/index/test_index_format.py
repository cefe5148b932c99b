"""Index keys name one thing each, sort as the things they name, and can be read back."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from octad.sharding.hashing import bit_reversed, object_hash, shard_number
from octad.sharding.ids import BucketId, Epoch, PoolId, Seq, ShardId, shard_id
from octad.storage_node.index import index_format
from octad.storage_node.index.index_format import (
    EncodedRow,
    IndexedPart,
    encode_value,
)
from octad.storage_node.index.rows import (
    ExtentRef,
    ObjectExtras,
    ObjectRow,
    PartRow,
    UploadRow,
    encode_row,
)
from octad.storage_node.journal.record_format import Location, Position, SegmentId
from octad.storage_node.journal.shard_state import ShardState
from octad.storage_node.operations.objects import decode_object_row

GOLDEN = Path(__file__).parents[2] / "golden" / "index"
BUCKETS = st.integers(0, 2**32 - 2).map(BucketId)
KEYS = st.one_of(
    st.binary(min_size=1, max_size=20), st.text("\x00\x01\xffa", min_size=1).map(str.encode)
)
IDS = st.binary(min_size=16, max_size=16)
LOCATION = Location(SegmentId(3), 4096, 4400)
EXTENTS = (ExtentRef(bytes(range(16)), 67108864),)


@given(BUCKETS, KEYS, IDS, st.integers(0, 65535))
def test_a_key_gives_back_what_it_names(
    bucket: BucketId, key: bytes, upload: bytes, part: int
) -> None:
    assert index_format.decode_object_key(index_format.object_key(bucket, key)) == (bucket, key)
    named = index_format.decode_upload_key(index_format.upload_key(bucket, key, upload))
    assert named == (bucket, key, upload)
    numbered = index_format.decode_part_key(index_format.part_key(bucket, key, upload, part))
    assert numbered == (bucket, key, upload, part)
    index_key = index_format.object_key(bucket, key)
    order_key = index_format.shard_order_key(bit_reversed(object_hash(bucket, key)), index_key)
    assert index_format.decode_shard_order_key(order_key) == index_key


@given(IDS, st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_number_in_a_key_or_value_comes_back(
    extent: bytes, piece: int, shard: int, place: int
) -> None:
    assert index_format.decode_piece_key(index_format.piece_key(extent, piece)) == (extent, piece)
    state_key = index_format.shard_state_key(ShardId(shard))
    assert index_format.decode_shard_state_key(state_key) == shard
    encoded = index_format.encode_position(Position(place))
    assert index_format.decode_position(encoded) == place


@given(st.lists(st.tuples(BUCKETS, KEYS, IDS), min_size=2, max_size=2))
def test_uploads_sort_by_bucket_then_key_then_id(
    named: list[tuple[BucketId, bytes, bytes]],
) -> None:
    first, second = sorted(named)
    assert index_format.upload_key(*first) <= index_format.upload_key(*second)


@given(KEYS, KEYS, IDS, IDS)
def test_the_parts_of_one_upload_have_a_prefix_of_their_own(
    key: bytes, other: bytes, upload: bytes, other_upload: bytes
) -> None:
    prefix = index_format.parts_prefix(BucketId(1), key, upload)
    part = index_format.part_key(BucketId(1), other, other_upload, 1)
    assert part.startswith(prefix) == ((key, upload) == (other, other_upload))


@given(BUCKETS, BUCKETS, KEYS)
def test_a_bucket_is_one_range(bucket: BucketId, other: BucketId, key: bytes) -> None:
    start, end = index_format.objects_range(bucket)
    assert (start <= index_format.object_key(other, key) < end) == (bucket == other)
    start, end = index_format.uploads_range(bucket)
    assert (start <= index_format.upload_key(other, key, bytes(16)) < end) == (bucket == other)


@given(BUCKETS, KEYS, st.integers(0, 6), st.integers(0, 63))
def test_a_shard_of_any_depth_is_one_range(
    bucket: BucketId, key: bytes, depth: int, number: int
) -> None:
    hash_ = object_hash(bucket, key)
    order_key = index_format.shard_order_key(
        bit_reversed(hash_), index_format.object_key(bucket, key)
    )
    number &= (1 << depth) - 1
    start, end = index_format.shard_order_range(number, depth)
    assert (start <= order_key < end) == (shard_number(hash_, depth) == number)


def test_the_bytes_of_keys_and_values_are_those_on_record() -> None:
    bucket, key, upload, extent = BucketId(5), b"a\x00b", bytes(range(16)), bytes(range(16, 32))
    row = ObjectRow(
        5, "0" * 32, 1700000000000, {"content-type": "text/plain"}, {"CRC32": "AAAAAA=="}
    )
    epoch, seq = Epoch(2), Seq(9)
    upload_row = UploadRow(1700000000000, "root", {"x-amz-meta-a": "b"}, "CRC32", "COMPOSITE")
    part_row = PartRow(67108864, "1" * 32, 1700000000000, {}, EXTENTS)
    lines = [
        index_format.object_key(bucket, key),
        encode_value(EncodedRow(LOCATION, epoch, seq, encode_row(row))),
        index_format.upload_key(bucket, key, upload),
        encode_value(EncodedRow(LOCATION, epoch, seq, encode_row(upload_row))),
        index_format.part_key(bucket, key, upload, 10000),
        encode_value(IndexedPart(LOCATION, epoch, seq, part_row)),
        index_format.piece_key(extent, 63),
        encode_value((LOCATION, epoch, seq, bucket)),  # A piece's value has grown since.
        index_format.shard_order_key(
            bit_reversed(object_hash(bucket, key)), index_format.object_key(bucket, key)
        ),
        index_format.shard_state_key(shard_id(PoolId(1), 17)),
        # A shard's state has grown, too.
        encode_value(msgspec.structs.astuple(ShardState(seq, epoch, Epoch(3)))[:8]),
        index_format.POSITION_KEY,
        index_format.encode_position(Position(3 << 32 | 4096)),
    ]
    golden = (GOLDEN / "keys-and-values-v1.hex").read_text()
    assert "".join(line.hex() + "\n" for line in lines) == golden


def test_values_of_the_first_format_can_be_read() -> None:
    lines = (GOLDEN / "keys-and-values-v1.hex").read_text().splitlines()
    assert index_format.decode_object(bytes.fromhex(lines[1])).row.size == 5
    assert index_format.decode_upload(bytes.fromhex(lines[3])).row.owner == "root"
    assert index_format.decode_part(bytes.fromhex(lines[5])).row.extents == EXTENTS
    assert index_format.decode_piece(bytes.fromhex(lines[7])).location == LOCATION
    assert index_format.decode_shard_state(bytes.fromhex(lines[10])).view_epoch == 3


class RowOfBefore(msgspec.Struct, array_like=True):
    """An `ObjectRow` as an octad reads and writes it that knows no extras."""

    size: int
    etag: str
    modified_ms: int
    headers: dict[str, str] = {}
    checksums: dict[str, str] = {}
    extents: tuple[ExtentRef, ...] = ()
    part_sizes: tuple[int, ...] = ()


def test_an_octad_that_knows_no_extras_keeps_a_row_without_them_byte_by_byte() -> None:
    row = ObjectRow(5, "etag", 1, {"a": "b"}, {"CRC32": "x"}, EXTENTS, (5,))
    sent = bytes(encode_row(row))
    assert msgspec.msgpack.encode(msgspec.msgpack.decode(sent, type=RowOfBefore)) == sent
    assert decode_object_row(sent) == row


def test_the_bytes_of_extras_are_those_on_record() -> None:
    extras = ObjectExtras({"team": "ü", "b": ""}, "public-read", ("AAAAAA==", "AAAAAQ=="), 3)
    row, upload = ObjectRow(5, "e", 1, extras=extras), UploadRow(1, "root", extras=extras)
    lines = [bytes(encode_row(row)), bytes(encode_row(upload))]
    assert "".join(line.hex() + "\n" for line in lines) == (GOLDEN / "extras-v1.hex").read_text()
    assert decode_object_row(lines[0]) == row
    assert msgspec.msgpack.decode(lines[1], type=UploadRow) == upload
