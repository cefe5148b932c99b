"""Of which writes a try is executed only under the primary that it was made for (rule R3)."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

from octad.sharding.ids import BucketId, Epoch, NodeId, PoolId, Seq, ShardId, shard_id
from octad.sharding.map.shard_map import Pool
from octad.storage_node.index.index import Index
from octad.storage_node.index.index_format import (
    IndexedUpload,
    encode_value,
    object_key,
    upload_key,
)
from octad.storage_node.index.rows import ObjectRow, PartRow, UploadRow
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.record_format import Location, SegmentId
from octad.storage_node.operations.conditions import Condition, Version, encode_condition
from octad.storage_node.operations.index_changes import (
    DeleteObject,
    Operation,
    PutPart,
    create_upload,
    encode_operation,
    kind_of,
    put_object,
)
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.shard_log import ShardLog
from octad.storage_node.replication.writes import ANY_EPOCH, Write
from octad.storage_node.rpc.messages import Request, encode_message
from octad.storage_node.shards.bucket_directory import BucketDirectory
from octad.storage_node.shards.object_messages import (
    AbortParts,
    ChangeIf,
    CompleteParts,
    Done,
    Propose,
)
from octad.storage_node.shards.shard_server import ShardServer
from octad.storage_node.shards.shard_service import ShardService

BUCKET, KEY, UPLOAD = BucketId(1), b"key", bytes(16)
SHARD = shard_id(PoolId(0), 0)
ASKED_IN = Epoch(7)
HERE = NodeId(1)


class Host:
    """Serves the shard; notes under which epoch each write is to be ordered."""

    def __init__(self) -> None:
        self.asked_in: list[Epoch] = []
        nothing = SimpleNamespace(
            place=SimpleNamespace(configuration=None), log=ShardLog(Seq(0), Epoch(0))
        )
        self.replicas = {SHARD: nothing}

    def serves(self, shard: ShardId) -> bool:
        return True

    def covers(self, shard: ShardId, hash_: int) -> bool:
        return True

    def made_before(self, shard: ShardId, request_id: bytes, age_s: float) -> None:
        return None

    def settled(self, shard: ShardId, index_key: bytes) -> bool:
        return True

    def propose(self, shard: ShardId, write: Write) -> asyncio.Future[Version]:
        self.asked_in.append(write.asked_in if write.guard is not None else ANY_EPOCH)
        done: asyncio.Future[Version] = asyncio.get_running_loop().create_future()
        done.set_result((Epoch(1), Seq(1)))
        return done


class Rows(dict[bytes, bytes]):
    """An index."""

    def scan(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes]]:
        return [(key, self[key]) for key in sorted(self) if start <= key < end]


class Buckets:
    """All are there."""

    def is_active(self, bucket: BucketId) -> bool:
        return True

    async def require_active(self, bucket: BucketId) -> None:
        return None

    def is_strict(self, bucket: BucketId) -> bool:
        return False


def service_of(host: Host) -> ShardService:
    upload = IndexedUpload(Location(SegmentId(1), 0, 1), Epoch(1), Seq(1), UploadRow(0, "owner"))
    rows = Rows(
        {object_key(BUCKET, KEY): b"", upload_key(BUCKET, KEY, UPLOAD): encode_value(upload)}
    )
    return ShardService(
        cast(ShardHost, host),
        cast(Index, rows),
        cast(Journal, None),
        cast(BucketDirectory, Buckets()),
        {PoolId(0): Pool(PoolId(0), 3, 0)},
    )


async def ordered_in(
    operation: Operation, age_s: float = 0.0, condition: Condition | None = None
) -> list[Epoch]:
    host = Host()
    service = service_of(host)
    kind, encoded = kind_of(operation), encode_operation(operation)
    message: Request[Done] = Propose(SHARD, kind, bytes(16), encoded, age_s, ASKED_IN)
    if condition is not None:
        message = ChangeIf(encode_condition(condition), encode_message(message))
    await ShardServer(service).on_request(HERE, message, memoryview(b""))
    return host.asked_in


async def test_what_may_be_refused_is_ordered_only_under_the_primary_that_was_asked() -> None:
    host = Host()
    server = ShardServer(service_of(host))
    place, when = (SHARD, BUCKET, KEY, UPLOAD), (bytes(16), 0.0, ASKED_IN)
    for message in (
        CompleteParts(*place, ObjectRow(0, "", 0), [], *when),
        AbortParts(*place, *when),
    ):
        await server.on_request(HERE, message, memoryview(b""))
    assert host.asked_in == [ASKED_IN, ASKED_IN]
    assert await ordered_in(PutPart(BUCKET, KEY, UPLOAD, 1, PartRow(0, "", 0))) == [ASKED_IN]
    condition = Condition(none_match=("*",))
    put, gone = put_object(BUCKET, KEY, ObjectRow(0, "", 0)), DeleteObject(BUCKET, KEY)
    assert await ordered_in(put, condition=condition) == [ASKED_IN]
    assert await ordered_in(gone, condition=condition) == [ASKED_IN]


async def test_what_is_never_refused_is_ordered_by_any_primary() -> None:
    assert await ordered_in(put_object(BUCKET, KEY, ObjectRow(0, "", 0))) == [ANY_EPOCH]
    assert await ordered_in(DeleteObject(BUCKET, KEY)) == [ANY_EPOCH]
    upload = create_upload(BUCKET, KEY, UPLOAD, UploadRow(0, "owner"))
    assert await ordered_in(upload) == [ANY_EPOCH]


async def test_a_deletion_of_what_is_absent_is_passed_over_by_its_first_try_alone() -> None:
    absent = DeleteObject(BUCKET, b"absent")
    assert await ordered_in(absent) == []
    if_there = Condition(match=("*",))
    assert await ordered_in(absent, condition=if_there) == [ASKED_IN], "its guard decides"
    assert await ordered_in(absent, 1.0) == [ANY_EPOCH], "an earlier try may come late"
