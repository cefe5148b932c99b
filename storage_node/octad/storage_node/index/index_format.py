"""The index's bytes: its keys, and the values that are not rows of their own.

The first byte of a key names its table. Numbers in keys are big-endian, so that order holds.

    table  key behind the letter                                   value
    n      bucket id u32 ‖ key                                      IndexedObject, in order of names
    u      bucket id u32 ‖ escaped key ‖ upload id 16               IndexedUpload
    p      bucket id u32 ‖ escaped key ‖ upload id 16 ‖ part u16    IndexedPart
    e      extent id 16 ‖ piece number u32                          IndexedPiece
    d      bit-reversed hash 8 ‖ bucket id u32 ‖ seq u64            DeadExtents
    h      bit-reversed hash 8 ‖ one of the keys above              empty: the order of shards
    s      shard id u64                                             ShardState
    m      (the letter alone)                                       journal position u64, big-endian
    g      segment id u32                                           SegmentUse
    r      number u64                                               ids of requests lately applied
    c      a name of what works through the journal                 position u64, or its own
    t      shard id u64 ‖ key of table n, u, p or e                 DeletionMark
    b      shard id u64 ‖ bucket id u32                             BucketUsage

- An escaped key writes each 0x00 as 0x00 0xFF and ends with 0x00 0x01: it keeps the order of keys
  and is no prefix of another.
- A shard of any depth is one range of `h`; the hash is that of (bucket, key), and for a piece that
  of its extent's id in bucket 0. Splitting a shard rewrites nothing.
- `d` is the queue of extents that no row names any more: one entry for each record that took a name
  away, in the shard of the key that had it, until the extents' own shards have dropped them.
- `m` is the lowest position in the journal that the rows do not yet show. It is written in one
  batch with them: however old the state is that a restart finds, replay from `m` completes it.

Values are msgpack arrays: fields are only ever appended, never reordered.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from octad.sharding.hashing import bit_reversed, bit_reversed_range, object_hash
from octad.sharding.ids import BucketId, Epoch, NodeId, PoolId, Seq, ShardId
from octad.storage_node.index.rows import ExtentRef, ObjectRow, PartRow, UploadRow
from octad.storage_node.journal.record_format import Location, Position, SegmentId
from octad.storage_node.journal.shard_state import ShardState

OBJECTS = b"n"
UPLOADS = b"u"
PARTS = b"p"
PIECES = b"e"
DEAD_EXTENTS = b"d"
SHARD_ORDER = b"h"
SHARD_ORDER_END = b"i"
SHARD_STATES = b"s"
SHARD_STATES_START, SHARD_STATES_END = b"s", b"t"
POSITION_KEY = b"m"
SEGMENT_USES = b"g"
BUCKET_USAGES = b"b"
REQUEST_IDS = b"r"  # Values: `replication/host/request_ids.py`.
SCRUBBED_KEY = b"cscrub"  # Up to where this round has read, and when the round began.

UPLOAD_ID_BYTES = 16
EXTENT_ID_BYTES = 16
BUCKET_BYTES = 4
_HASH_BYTES = 8
_KEY_START = 1 + BUCKET_BYTES
BUCKET_IN_KEY = slice(1, _KEY_START)  # Holds for tables n, u and p.
OBJECT_NAME_START = BUCKET_BYTES  # Behind its table's letter, an object's key is what is hashed.
_KEY_END = b"\x00\x01"
_SHARD_BYTES = 8
_PART_BYTES = 2
_PIECE_BYTES = 4
_POSITION_BYTES = 8
_SEGMENT_BYTES = 4
_PIECES_BUCKET = BucketId(0)
_SEQ_BYTES = 8


class IndexedObject(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The location of an object's newest committed record, its epoch and seq, and its row."""

    location: Location
    epoch: Epoch
    seq: Seq
    row: ObjectRow


class EncodedRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An `IndexedObject` or `IndexedUpload` whose row is encoded already, by `encode_row`."""

    location: Location
    epoch: Epoch
    seq: Seq
    row: msgspec.Raw


class ListedRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The part of an object's row that a listing shows."""

    size: int
    etag: str
    modified_ms: int
    headers: msgspec.Raw = msgspec.Raw(b"\x80")
    checksums: dict[str, str] = {}


class ListedObject(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An `IndexedObject` as a listing reads it."""

    location: msgspec.Raw
    epoch: Epoch
    seq: Seq
    row: ListedRow


class RowExtents(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The part of an object's row that locates its bytes, if not in its record."""

    size: int
    etag: msgspec.Raw
    modified_ms: int
    headers: msgspec.Raw = msgspec.Raw(b"\x80")
    checksums: msgspec.Raw = msgspec.Raw(b"\x80")
    extents: tuple[ExtentRef, ...] = ()


class ObjectExtents(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An `IndexedObject` as read by an operation that replaces or deletes it."""

    location: msgspec.Raw
    epoch: Epoch
    seq: Seq
    row: RowExtents


class IndexedUpload(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An open multipart upload."""

    location: Location
    epoch: Epoch
    seq: Seq
    row: UploadRow


class IndexedPart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One part of an open upload."""

    location: Location
    epoch: Epoch
    seq: Seq
    row: PartRow


class IndexedPiece(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One piece of an extent, and its purpose, which the extent's id does not show."""

    location: Location
    epoch: Epoch
    seq: Seq
    bucket: BucketId
    pool: PoolId = PoolId(0)
    key: bytes = b""
    upload: bytes = b""  # Empty: for no part of an upload.
    created_ms: int = 0  # Wall clock of the front door that wrote it: a hint of its age.
    writer: NodeId = NodeId(0)  # The node of that front door.


class DeadExtents(msgspec.Struct, frozen=True, array_like=True):
    """Extents that one record left unnamed. `key` is the object's that had or would have them."""

    pool: PoolId
    bucket: BucketId
    key: bytes
    upload: bytes  # The upload of these parts, while it may still be open; else empty.
    seq: Seq
    extents: tuple[ExtentRef, ...]


class SegmentUse(msgspec.Struct, array_like=True, gc=False):
    """The needed bytes of a segment. Written in one batch with the rows that it counts."""

    live: int = 0  # Bytes of records that a row points at.
    end: int = 0  # Past its last record; 0 while it is being written.
    kept: int = 0  # Bytes of copied records that no row shows but that make older ones void.
    kept_origin: int = 0  # The latest segment that one of those was first written to.


class Located(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The beginning that every row's value has."""

    location: Location


class EncodedLocation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The same, as encoded after the value's first byte."""

    location: msgspec.Raw


class Ordered(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The part of a row's value that orders two versions."""

    location: Location
    epoch: Epoch
    seq: Seq


class BucketUsage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A bucket's usage in one shard. Written in one batch with the rows that it counts."""

    objects: int
    bytes: int  # With those of parts of uploads that are open.


class SizedRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The part of an object's or part's row that counts for a quota."""

    size: int


class Sized(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An `IndexedObject` or `IndexedPart` as it is counted."""

    location: msgspec.Raw
    epoch: Epoch
    seq: Seq
    row: SizedRow


class ScrubState(msgspec.Struct, frozen=True, array_like=True):
    """The progress of a round of scrubbing."""

    position: Position
    began_s: int  # Wall clock.
    rounds: int = 0  # Finished before this one.


class UploadKey(NamedTuple):
    """A decoded key of table `u`."""

    bucket: BucketId
    key: bytes
    upload_id: bytes


class PartKey(NamedTuple):
    """A decoded key of table `p`."""

    bucket: BucketId
    key: bytes
    upload_id: bytes
    number: int


_encoder = msgspec.msgpack.Encoder()
encode_value = _encoder.encode
decode_object = msgspec.msgpack.Decoder(IndexedObject).decode
decode_object_extents = msgspec.msgpack.Decoder(ObjectExtents).decode
decode_listed = msgspec.msgpack.Decoder(ListedObject).decode
decode_upload = msgspec.msgpack.Decoder(IndexedUpload).decode
decode_part = msgspec.msgpack.Decoder(IndexedPart).decode
decode_piece = msgspec.msgpack.Decoder(IndexedPiece).decode
decode_dead_extents = msgspec.msgpack.Decoder(DeadExtents).decode
decode_shard_state = msgspec.msgpack.Decoder(ShardState).decode
decode_segment_use = msgspec.msgpack.Decoder(SegmentUse).decode
decode_bucket_usage = msgspec.msgpack.Decoder(BucketUsage).decode
decode_sized = msgspec.msgpack.Decoder(Sized).decode
decode_located = msgspec.msgpack.Decoder(Located).decode
decode_ordered = msgspec.msgpack.Decoder(Ordered).decode
decode_scrub_state = msgspec.msgpack.Decoder(ScrubState).decode
decode_encoded_location = msgspec.msgpack.Decoder(EncodedLocation).decode


def object_key(bucket: BucketId, key: bytes) -> bytes:
    """Of table `n`. With a prefix for `key`, the first index key that such objects can have."""
    return OBJECTS + bucket.to_bytes(BUCKET_BYTES, "big") + key


def decode_object_key(index_key: bytes) -> tuple[BucketId, bytes]:
    """The inverse of `object_key`."""
    return BucketId(int.from_bytes(index_key[1:_KEY_START], "big")), index_key[_KEY_START:]


def objects_range(bucket: BucketId) -> tuple[bytes, bytes]:
    """Every object of a bucket: [start, end) in table `n`."""
    return _bucket_range(OBJECTS, bucket)


def uploads_range(bucket: BucketId) -> tuple[bytes, bytes]:
    """Every open upload of a bucket: [start, end) in table `u`."""
    return _bucket_range(UPLOADS, bucket)


def upload_key(bucket: BucketId, key: bytes, upload_id: bytes) -> bytes:
    """The key of table `u`."""
    assert len(upload_id) == UPLOAD_ID_BYTES
    return UPLOADS + bucket.to_bytes(BUCKET_BYTES, "big") + escape_key(key) + upload_id


def decode_upload_key(index_key: bytes) -> UploadKey:
    """The inverse of `upload_key`."""
    return _decode_upload(index_key)


def part_key(bucket: BucketId, key: bytes, upload_id: bytes, number: int) -> bytes:
    """The key of table `p`."""
    return parts_prefix(bucket, key, upload_id) + number.to_bytes(_PART_BYTES, "big")


def parts_prefix(bucket: BucketId, key: bytes, upload_id: bytes) -> bytes:
    """The prefix of exactly the keys of an upload's parts."""
    assert len(upload_id) == UPLOAD_ID_BYTES
    return PARTS + bucket.to_bytes(BUCKET_BYTES, "big") + escape_key(key) + upload_id


def upload_key_of(index_key: bytes) -> bytes | None:
    """The key of the upload whose part's row is at `index_key`; None: the row is no part's."""
    return UPLOADS + index_key[1:-_PART_BYTES] if index_key.startswith(PARTS) else None


def decode_part_key(index_key: bytes) -> PartKey:
    """The inverse of `part_key`."""
    number = int.from_bytes(index_key[-_PART_BYTES:], "big")
    return PartKey(*_decode_upload(index_key[:-_PART_BYTES]), number)


def piece_key(extent_id: bytes, number: int) -> bytes:
    """The key of table `e`."""
    assert len(extent_id) == EXTENT_ID_BYTES
    return PIECES + extent_id + number.to_bytes(_PIECE_BYTES, "big")


def decode_piece_key(index_key: bytes) -> tuple[bytes, int]:
    """The inverse of `piece_key`: the extent's id and the piece's number."""
    return index_key[1:-_PIECE_BYTES], int.from_bytes(index_key[-_PIECE_BYTES:], "big")


def dead_key(hash_: int, bucket: BucketId, seq: Seq) -> bytes:
    """The key of table `d`: the extents left unnamed by the record `seq`, for a key of `hash_`."""
    return (
        DEAD_EXTENTS
        + bit_reversed(hash_)
        + bucket.to_bytes(BUCKET_BYTES, "big")
        + seq.to_bytes(_SEQ_BYTES, "big")
    )


def extent_hash(extent_id: bytes) -> int:
    """The hash that places an extent and all its pieces."""
    return object_hash(_PIECES_BUCKET, extent_id)


def hash_of_row(index_key: bytes) -> int:
    """The hash that decides in which shard the row at `index_key` is."""
    return ROW_TABLES[index_key[0]].hash_of(index_key)


def bucket_of_row(index_key: bytes, value: bytes) -> BucketId:
    """The bucket whose pool the row is in."""
    return ROW_TABLES[index_key[0]].bucket_of(index_key, value)


def shard_order_key(reversed_hash: bytes, index_key: bytes) -> bytes:
    """The key of table `h`: the entry that puts `index_key` into the order of shards."""
    assert len(reversed_hash) == _HASH_BYTES
    return SHARD_ORDER + reversed_hash + index_key


def decode_shard_order_key(order_key: bytes) -> bytes:
    """The key of table n, u, p, e or d that an entry of table `h` stands for."""
    return order_key[1 + _HASH_BYTES :]


def shard_order_range(number: int, depth: int) -> tuple[bytes, bytes]:
    """[start, end) in table `h` of shard `number` at `depth`, of every pool."""
    start, end = bit_reversed_range(number, depth)
    return SHARD_ORDER + start, SHARD_ORDER + end if end is not None else SHARD_ORDER_END


@lru_cache(4096)  # Written with each change of a shard's rows.
def shard_state_key(shard: ShardId) -> bytes:
    """The key of table `s`."""
    return SHARD_STATES + shard.to_bytes(_SHARD_BYTES, "big")


def decode_shard_state_key(index_key: bytes) -> ShardId:
    """The inverse of `shard_state_key`."""
    return ShardId(int.from_bytes(index_key[1:], "big"))


def segment_use_key(segment: SegmentId) -> bytes:
    """The key of table `g`."""
    return SEGMENT_USES + segment.to_bytes(_SEGMENT_BYTES, "big")


def decode_segment_use_key(index_key: bytes) -> SegmentId:
    """The inverse of `segment_use_key`."""
    return SegmentId(int.from_bytes(index_key[1:], "big"))


def bucket_usage_key(shard: ShardId, bucket: BucketId) -> bytes:
    """The key of table `b`."""
    return (
        BUCKET_USAGES + shard.to_bytes(_SHARD_BYTES, "big") + bucket.to_bytes(BUCKET_BYTES, "big")
    )


def decode_bucket_usage_key(index_key: bytes) -> tuple[ShardId, BucketId]:
    """The inverse of `bucket_usage_key`."""
    shard, bucket = index_key[1 : 1 + _SHARD_BYTES], index_key[1 + _SHARD_BYTES :]
    return ShardId(int.from_bytes(shard, "big")), BucketId(int.from_bytes(bucket, "big"))


def request_ids_key(number: int) -> bytes:
    """The key of table `r`."""
    return REQUEST_IDS + number.to_bytes(8, "big")


def relocated(value: bytes, target: Location) -> bytes:
    """A row's value with its record at `target`, and every other byte as it is."""
    end = 1 + len(decode_encoded_location(value).location)
    return value[:1] + encode_value(target) + value[end:]


def encode_position(place: Position) -> bytes:
    """The value of key `m`."""
    return place.to_bytes(_POSITION_BYTES, "big")


def decode_position(value: bytes) -> Position:
    """The inverse of `encode_position`."""
    return Position(int.from_bytes(value, "big"))


def escape_key(key: bytes) -> bytes:
    """`key` such that more may follow it in an index key without disturbing the order."""
    return key.replace(b"\x00", b"\x00\xff") + _KEY_END


def _decode_upload(index_key: bytes) -> UploadKey:
    escaped = index_key[_KEY_START:-UPLOAD_ID_BYTES]
    assert escaped.endswith(_KEY_END)
    key = escaped[: -len(_KEY_END)].replace(b"\x00\xff", b"\x00")
    bucket = BucketId(int.from_bytes(index_key[1:_KEY_START], "big"))
    return UploadKey(bucket, key, index_key[-UPLOAD_ID_BYTES:])


def _bucket_range(table: bytes, bucket: BucketId) -> tuple[bytes, bytes]:
    start = table + bucket.to_bytes(BUCKET_BYTES, "big")
    return start, (int.from_bytes(start, "big") + 1).to_bytes(len(start), "big")


class RowTable(NamedTuple):
    """A table whose values begin with the location, the epoch and the seq of a row's record."""

    letter: bytes
    what: str  # A row is, for people.
    hash_of: Callable[[bytes], int]  # From a row's key to the hash that decides its shard.
    bucket_of: Callable[[bytes, bytes], BucketId]  # From a key and its value, for the pool.
    # Of a value that an older octad may have written with fewer fields; None: there is none.
    decode: Callable[[bytes], msgspec.Struct] | None = None


def bucket_in_key(index_key: bytes) -> BucketId:
    """The bucket in a key of table n, u or p."""
    return BucketId(int.from_bytes(index_key[1:_KEY_START], "big"))


def _bucket_in_key(index_key: bytes, _value: bytes) -> BucketId:
    return bucket_in_key(index_key)


def _hash_of_upload(index_key: bytes) -> int:
    upload = decode_upload_key(index_key)
    return object_hash(upload.bucket, upload.key)


def _hash_of_part(index_key: bytes) -> int:
    part = decode_part_key(index_key)
    return object_hash(part.bucket, part.key)


# By letter. Kinds of record with rows in other tables bring them (`operations/registry.py`).
ROW_TABLES: dict[int, RowTable] = {
    table.letter[0]: table
    for table in (
        RowTable(
            OBJECTS, "an object", lambda key: object_hash(*decode_object_key(key)), _bucket_in_key
        ),
        RowTable(UPLOADS, "an upload", _hash_of_upload, _bucket_in_key),
        RowTable(PARTS, "a part of an upload", _hash_of_part, _bucket_in_key, decode_part),
        RowTable(
            PIECES,
            "a piece of an object",
            lambda key: extent_hash(decode_piece_key(key)[0]),
            lambda _key, value: decode_piece(value).bucket,
            decode_piece,
        ),
    )
}
