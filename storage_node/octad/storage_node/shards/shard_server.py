"""What this node answers to the object messages of others, and to its own `ShardClient`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from octad.client.runtime.open_files import none_left
from octad.sharding.hashing import object_hash
from octad.sharding.ids import NodeId
from octad.storage_node.index.index import IndexDamage
from octad.storage_node.index.index_format import object_key, piece_key
from octad.storage_node.journal.record_format import RECORD_KINDS, NewerRecord
from octad.storage_node.operations.conditions import Condition, decode_condition
from octad.storage_node.operations.index_changes import (
    AbortUpload,
    CompleteUpload,
    complete_upload,
)
from octad.storage_node.replication.guards import Guard, abortion, completion
from octad.storage_node.replication.writes import received_write, write_of
from octad.storage_node.rpc.messages import Message, Request, decode_message
from octad.storage_node.rpc.peer import Answer
from octad.storage_node.rpc.rpc_errors import RpcRefusal
from octad.storage_node.shards import object_messages as messages
from octad.storage_node.shards.joint_deletions import delete_jointly
from octad.storage_node.shards.object_store import Damaged, ListQuery, StoreError
from octad.storage_node.shards.shard_service import AskPrimary, ShardService

_CONDITIONAL = messages.Propose | messages.CompleteParts | messages.AppendObject
Asked = TypeVar("Asked", bound=Request[Any])


class ShardServer:
    """Answers object messages; pass `on_request` to the peers."""

    def __init__(self, service: ShardService) -> None:
        self._service = service
        self._others: dict[type[Message], Callable[[Any], Awaitable[Answer]]] = {}
        self._with_bodies: dict[type[Message], Callable[[Any, memoryview], Awaitable[Answer]]] = {}
        # Repairs a row's damaged record.
        self.repair: Callable[[bytes], Awaitable[bool]] | None = None

    def register(self, kind: type[Asked], answer: Callable[[Asked], Awaitable[Answer]]) -> None:
        """Requests of this kind are answered elsewhere; `answer` may raise the store's errors."""
        self._others[kind] = answer

    def register_with_body(
        self, kind: type[Asked], answer: Callable[[Asked, memoryview], Awaitable[Answer]]
    ) -> None:
        """The same, for requests that come with bytes."""
        self._with_bodies[kind] = answer

    async def on_request(self, sender: NodeId, message: Message, body: memoryview) -> Answer:
        """The answer, or RpcRefusal with the code of the store error."""
        try:
            try:
                return await self._answer(message, body)
            except Damaged:
                key = _row_read_by(message)
                if key is None or self.repair is None or not await self.repair(key):
                    raise
                return await self._answer(message, body)
        except (AskPrimary, IndexDamage, NewerRecord) as error:
            raise RpcRefusal(messages.NOT_SERVED, f"not the one to ask: {error}") from error
        except StoreError as error:
            raise RpcRefusal(messages.CODES[type(error)], str(error)) from error
        except OSError as error:
            if not none_left(error):
                raise
            raise RpcRefusal(messages.UNAVAILABLE, str(error)) from error

    async def _answer(
        self, message: Message, body: memoryview, condition: Condition | None = None
    ) -> Answer:
        service = self._service
        match message:
            case messages.Propose(kind=kind, metadata=metadata, request_id=request_id):
                when = message.age_s, message.asked_in
                write = received_write(
                    RECORD_KINDS[kind], metadata, request_id, body, *when, condition
                )
                return await service.propose(message.shard, write), b""
            case messages.ReadObject(shard=shard, bucket=bucket, key=key, with_data=with_data):
                what = shard, object_hash(bucket, key), bucket, key, with_data
                try:
                    found = service.read_object(*what)
                except AskPrimary:
                    found = await service.read_applied_object(*what)
                if found is None:
                    return messages.ObjectRead(None), b""
                return messages.ObjectRead(found.row, found.version), found.data or b""
            case messages.ReadPiece(shard=shard, extent=extent, number=number):
                return messages.PieceRead(), await service.read_piece(shard, extent, number)
            case messages.ListKeys(pool=pool, bucket=bucket):
                query = ListQuery(message.prefix, message.delimiter, message.after, message.limit)
                listed = await service.listed_shards(pool, message.shards)
                page = service.list_keys(bucket, query, message.prefixes or message.limit, listed)
                covered, depths, digest = listed.covered()
                if digest and digest == message.digest:
                    return messages.KeysListed(*page, [], (), as_known=True), b""
                return messages.KeysListed(*page, covered, depths), b""
            case messages.ChangeExtras(shard=shard, bucket=bucket, key=key, change=change):
                of = message.request_id, message.age_s, message.asked_in
                return await service.change_extras(shard, bucket, key, change, *of), b""
            case messages.AppendObject():
                return await service.append(message, body, condition), b""
            case messages.ChangeIf():
                return await self._answer_if(message, body)
            case messages.DeleteKeys():
                return await delete_jointly(service, message), b""
            case messages.CloseBucket(bucket=bucket):
                await service.close_bucket(bucket)
                return messages.Done(), b""
            case _:
                with_body = self._with_bodies.get(type(message))
                if with_body is not None:
                    return await with_body(message, body)
                return await self._answer_upload(message, condition)

    async def _answer_if(self, message: messages.ChangeIf, body: memoryview) -> Answer:
        change = decode_message(message.change)
        if not isinstance(change, _CONDITIONAL):
            raise RpcRefusal(messages.UNAVAILABLE, f"no change: {type(change).__name__}")
        try:
            condition = decode_condition(message.condition)
        except msgspec.DecodeError as error:
            reason = f"a condition of which this node does not know all: {error}"
            raise RpcRefusal(messages.NOT_SERVED, reason) from error
        return await self._answer(change, body, condition)

    async def _answer_upload(self, message: Message, condition: Condition | None) -> Answer:
        service = self._service
        match message:
            case messages.ReadUpload(shard=shard, bucket=bucket, key=key, upload=upload):
                row = await service.read_upload(shard, bucket, key, upload)
                return messages.UploadRead(row), b""
            case messages.ListParts(shard=shard, bucket=bucket, key=key, upload=upload):
                parts = await service.list_parts(
                    shard, bucket, key, upload, message.after, message.limit
                )
                return messages.PartsListed(parts), b""
            case messages.ListUploads(pool=pool, bucket=bucket, prefix=prefix, limit=limit):
                after = (message.after_key, message.after_upload)
                listed = await service.listed_shards(pool)
                uploads = service.list_uploads(bucket, prefix, after, limit, listed)
                covered, depths, _ = listed.covered()
                return messages.UploadsListed(uploads, covered, depths), b""
            case messages.CompleteParts(bucket=bucket, key=key, upload=upload):
                guard = completion(bucket, key, upload, message.row, message.parts, condition)
                ending = complete_upload(bucket, key, upload, message.row, ())
                return await self._end(message, ending, guard)
            case messages.AbortParts(bucket=bucket, key=key, upload=upload):
                guard = abortion(bucket, key, upload)
                return await self._end(message, AbortUpload(bucket, key, upload, ()), guard)
            case _:
                answer = self._others.get(type(message))
                if answer is None:
                    raise RpcRefusal(messages.UNAVAILABLE, f"no request: {type(message).__name__}")
                return await answer(message)

    async def _end(
        self,
        message: messages.CompleteParts | messages.AbortParts,
        operation: CompleteUpload | AbortUpload,
        guard: Guard,
    ) -> Answer:
        when = message.age_s, message.asked_in
        write = write_of(operation, message.request_id, b"", *when, guard)
        return await self._service.propose(message.shard, write), b""


def _row_read_by(message: Message) -> bytes | None:
    """The index key of the row whose record a client's request reads."""
    match message:
        case messages.ReadObject() | messages.ChangeExtras() | messages.AppendObject():
            return object_key(message.bucket, message.key)
        case messages.ReadPiece(extent=extent, number=number):
            return piece_key(extent, number)
        case messages.ChangeIf(change=change):
            return _row_read_by(decode_message(change))
    return None  # A member that asks for a record to repair its own must not wait for ours.
