"""What a source of history has ordered: keys of one shard, and random work on them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from octad.sharding.hashing import object_hash, shard_number
from octad.sharding.ids import BucketId, Epoch, PoolId, Seq, shard_id
from octad.storage_node.index.index_format import (
    extent_hash,
)
from octad.storage_node.index.rows import ObjectRow, PartRow, UploadRow
from octad.storage_node.journal.several_records import Several
from octad.storage_node.operations.index_changes import (
    AbortUpload,
    DeleteObject,
    Operation,
    PutPart,
    PutPiece,
    complete_upload,
    create_upload,
    delete_objects,
    encode_operation,
    kind_of,
    put_object,
    touched,
)
from octad.storage_node.replication.shard_log import NO_REQUEST, Entry

BUCKET, OTHER_BUCKET, GONE_BUCKET = BucketId(1), BucketId(2), BucketId(3)

DEPTH = 1


SHARD = shard_id(PoolId(1), 0)


OTHER = shard_id(PoolId(2), 0)  # Its rows lie in the same range of the index.


def pool_of_bucket(bucket: BucketId) -> PoolId | None:
    return {BUCKET: PoolId(1), OTHER_BUCKET: PoolId(2)}.get(bucket)


def keys_of(bucket: BucketId, count: int) -> list[bytes]:
    """Keys that fall into shard 0 of their pool."""
    found = (b"key-%d" % number for number in range(10_000))
    mine = (key for key in found if shard_number(object_hash(bucket, key), DEPTH) == 0)
    return [next(mine) for _ in range(count)]


def extents(count: int) -> list[bytes]:
    found = (number.to_bytes(16, "big") for number in range(10_000))
    mine = (each for each in found if shard_number(extent_hash(each), DEPTH) == 0)
    return [next(mine) for _ in range(count)]


@dataclass(frozen=True)
class Ordered:
    """One entry of a shard's log, as its primary ordered it."""

    epoch: Epoch
    seq: Seq
    operation: Operation
    data: bytes

    def entry(self) -> Entry:
        several = isinstance(self.operation, Several)
        return Entry(
            self.epoch,
            self.seq,
            kind_of(self.operation),
            NO_REQUEST if several else self.seq.to_bytes(16, "big"),
            encode_operation(self.operation),
            self.data,
            self.operation,
            touched(self.operation),
        )


class RandomWork:
    """Operations that a shard may see, uploads in an order that makes sense."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.names = [(BUCKET, key) for key in keys_of(BUCKET, 6)]
        self.names += [(GONE_BUCKET, key) for key in keys_of(GONE_BUCKET, 2)]
        self.extents = extents(3)
        self.uploads: dict[bytes, tuple[BucketId, bytes, set[int]]] = {}
        self.made = 0

    def next(self) -> tuple[Operation, bytes]:
        rng = self.rng
        bucket, key = rng.choice(self.names)
        chance = rng.random()
        data = rng.randbytes(rng.choice([0, 1, 100, 2000, 5000]))
        if chance < 0.45:
            return put_object(bucket, key, ObjectRow(len(data), "", 0)), data
        if chance < 0.6:
            return DeleteObject(bucket, key), b""
        if chance < 0.65:
            self.made += 1
            some = rng.sample([name for of, name in self.names if of == bucket], 2)
            ids = (b"%d of %d" % (number, self.made) for number in range(2))
            return delete_objects(bucket, [(each, next(ids).ljust(16)) for each in some])
        if chance < 0.75:
            piece = PutPiece(rng.choice(self.extents), rng.randint(0, 2), BUCKET, key)
            return piece, data
        if not self.uploads or chance < 0.82:
            self.made += 1
            upload = self.made.to_bytes(16, "big")
            self.uploads[upload] = (bucket, key, set())
            return create_upload(bucket, key, upload, UploadRow(0, "")), b""
        upload, (bucket, key, parts) = rng.choice(list(self.uploads.items()))
        if chance < 0.92:
            parts.add(number := rng.randint(1, 4))
            return PutPart(bucket, key, upload, number, PartRow(1, "", 0)), b""
        del self.uploads[upload]
        if chance < 0.97:
            row = ObjectRow(0, "", 0)
            return complete_upload(bucket, key, upload, row, tuple(sorted(parts))), b""
        return AbortUpload(bucket, key, upload, tuple(sorted(parts))), b""
