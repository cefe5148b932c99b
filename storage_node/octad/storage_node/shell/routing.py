"""From a shard to the node that answers for it: here by a plain call, elsewhere by a message.

The two ends of every object message are in this file, side by side: `ShardClient` asks, and
`ShardServer` answers what others ask of this node.
"""

from __future__ import annotations

from octad.sharding import limits
from octad.sharding.ids import NodeId, ShardId, shard_name
from octad.sharding.shard_map import ShardMap, ShardRow
from octad.storage_node.core import object_messages as messages
from octad.storage_node.core.messages import Message
from octad.storage_node.core.object_store import (
    Damaged,
    DiskFull,
    InvalidPart,
    ListQuery,
    NoSuchBucket,
    NoSuchUpload,
    StoreError,
    Unavailable,
)
from octad.storage_node.core.record_format import RecordKind
from octad.storage_node.core.rpc_errors import RemoteError, RpcError, RpcRefusal
from octad.storage_node.shell.peer import Answer
from octad.storage_node.shell.peer_connection import Buffer
from octad.storage_node.shell.peers import Peers
from octad.storage_node.shell.shard_service import AskPrimary, ShardService

_ERRORS: dict[str, type[StoreError]] = {
    messages.UNAVAILABLE: Unavailable,
    messages.DAMAGED: Damaged,
    messages.DISK_FULL: DiskFull,
    messages.NO_SUCH_BUCKET: NoSuchBucket,
    messages.NO_SUCH_UPLOAD: NoSuchUpload,
    messages.INVALID_PART: InvalidPart,
}
_CODES = {error: code for code, error in _ERRORS.items()}


class ShardServer:
    """Answers object messages; give `on_request` to the peers."""

    def __init__(self, service: ShardService) -> None:
        self._service = service

    async def on_request(self, sender: NodeId, message: Message, body: memoryview) -> Answer:
        """The answer, or RpcRefusal with the code of the store error."""
        try:
            return await self._answer(message, body)
        except AskPrimary as error:
            raise RpcRefusal(messages.UNAVAILABLE, f"not the one to ask: {error}") from error
        except StoreError as error:
            raise RpcRefusal(_CODES[type(error)], str(error)) from error

    async def _answer(self, message: Message, body: memoryview) -> Answer:
        service = self._service
        match message:
            case messages.Propose(shard=shard, kind=kind, request_id=request_id):
                metadata = message.metadata
                await service.propose(shard, RecordKind(kind), request_id, metadata, body)
                return messages.Done(), b""
            case messages.ReadObject(shard=shard, bucket=bucket, key=key, with_data=with_data):
                found = service.read_object(shard, bucket, key, with_data)
                if found is None:
                    return messages.ObjectRead(None), b""
                return messages.ObjectRead(found.row), found.data or b""
            case messages.ReadPiece(shard=shard, extent=extent, number=number):
                return messages.PieceRead(), await service.read_piece(shard, extent, number)
            case messages.ListKeys(pool=pool, bucket=bucket):
                query = ListQuery(message.prefix, message.delimiter, message.after, message.limit)
                entries, frontier, complete = service.list_keys(pool, bucket, query)
                covered = service.served(pool)
                return messages.KeysListed(entries, frontier, complete, covered), b""
            case messages.CloseBucket(bucket=bucket):
                await service.close_bucket(bucket)
                return messages.Done(), b""
            case _:
                return await self._answer_upload(message)

    async def _answer_upload(self, message: Message) -> Answer:
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
                uploads = service.list_uploads(pool, bucket, prefix, after, limit)
                return messages.UploadsListed(uploads, service.served(pool)), b""
            case messages.CompleteParts(shard=shard, bucket=bucket, key=key, upload=upload):
                await service.complete_upload(
                    shard, bucket, key, upload, message.row, message.parts, message.request_id
                )
                return messages.Done(), b""
            case messages.AbortParts(shard=shard, bucket=bucket, key=key, upload=upload):
                await service.abort_upload(shard, bucket, key, upload, message.request_id)
                return messages.Done(), b""
            case _:
                raise RpcRefusal(messages.UNAVAILABLE, f"no request: {type(message).__name__}")


class ShardClient:
    """Asks whoever answers for a shard. Raises the store's errors."""

    def __init__(
        self,
        node: NodeId,
        service: ShardService,
        server: ShardServer,
        peers: Peers,
        shard_map: ShardMap,
    ) -> None:
        self.node = node
        self.map = shard_map
        self._service = service
        self._server = server
        self._peers = peers

    def row(self, shard: ShardId) -> ShardRow:
        """The shard's row; raises Unavailable while there is none."""
        row = self.map.rows.get(shard)
        if row is None:
            raise Unavailable(f"shard {shard_name(shard)} has no row yet: nodes are missing")
        return row

    async def propose(
        self,
        shard: ShardId,
        kind: RecordKind,
        request_id: bytes,
        metadata: bytes,
        data: bytes | memoryview,
    ) -> None:
        """At the primary: order and commit a write. `data` must not change until then."""
        primary = self.row(shard).primary
        if primary == self.node:
            await self._service.propose(shard, kind, request_id, metadata, data)
            return
        message = messages.Propose(shard, kind, request_id, metadata)
        await self.call(primary, message, data, limits.CALL_TIMEOUT_S)

    async def ask_primary(self, shard: ShardId, message: Message) -> tuple[Message, Buffer]:
        """The primary's answer, wherever it is."""
        return await self.call(self.row(shard).primary, message, b"", limits.CALL_TIMEOUT_S)

    async def ask_others(self, shard: ShardId, message: Message) -> tuple[Message, Buffer]:
        """The answer of another member that has one: the primary's if it can be had.

        For reads only, which every member may answer where it is sure (rule R3).
        """
        row = self.row(shard)
        others = [member.node for member in row.members if member.node != self.node]
        failure: Unavailable | Damaged = Unavailable(f"no other member holds {shard_name(shard)}")
        for node in sorted(others, key=lambda node: node != row.primary):
            try:
                return await self.call(node, message, b"", limits.READ_TIMEOUT_S)
            except (Unavailable, Damaged) as error:
                failure = error
        raise failure

    async def call(
        self, node: NodeId, message: Message, body: Buffer, timeout_s: float
    ) -> tuple[Message, Buffer]:
        """`node`'s answer, which may be this one."""
        try:
            if node == self.node:
                answer, data = await self._server.on_request(node, message, memoryview(body))
                assert isinstance(data, bytes | bytearray | memoryview)
                return answer, data
            return await self._peers.call(node, message, body, timeout_s=timeout_s)
        except RpcRefusal as refusal:
            raise _ERRORS.get(refusal.code, Unavailable)(refusal.text) from refusal
        except RemoteError as error:
            raise _ERRORS.get(error.code, Unavailable)(error.text) from error
        except RpcError as error:
            raise Unavailable(str(error)) from error
