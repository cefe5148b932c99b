"""From the wire to verified bytes: in memory while they are few, through the store's writer beyond.

Memory is taken before a body is read, and given back when the request is over or, for a large body,
when a piece of it is durable. Whatever goes wrong on the way (a bad checksum, a client that leaves,
a full disk), the writer is abandoned and nothing names the bytes. Decoding and hashing of larger
pieces runs in a thread, while pieces before are being stored and the next one arrives in the
socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final, Protocol

import msgspec

from octad.client.s3.errors import S3Error
from octad.sharding.limits import BODY_STEP_S, INLINE_BYTES_MAX, KIB, XML_BODY_BYTES_MAX
from octad.storage_node.index.rows import ExtentRef
from octad.storage_node.memory.body_pace import BodyPace
from octad.storage_node.memory.unwritten_memory import unwritten
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.protocol.requests.payload import (
    ObjectBytes,
    PayloadReader,
    PlannedPayload,
    VerifiedPayload,
    plan_payload,
)
from octad.storage_node.shards.object_store import BodyWriter, Bucket, Degraded, StoreError

# Below this, handing a piece to a thread costs more than hashing it here.
_THREAD_BYTES_MIN: Final = 64 * KIB
_STEP_BYTES: Final = 256 * KIB  # Read and hashed at a time: a body's next ones come meanwhile.
_FRAMING_BYTES: Final = 8 * KIB  # Read at a time where no bytes of the object are left.


class ByteSource(Protocol):
    """The source of bytes: the part of `Body` that does not know of HTTP."""

    @property
    def left(self) -> int: ...

    async def read_into(self, space: memoryview, wait_s: float) -> int: ...


class Received(msgspec.Struct, frozen=True):
    """A body that was verified: its bytes, or where they are stored."""

    etag: str
    checksums: dict[str, str]
    data: ObjectBytes
    extents: tuple[ExtentRef, ...]
    degraded: Degraded | None = None  # What the bytes stored already lack,
    body: BodyWriter | None = None  # by this.


async def read_document(context: RequestContext, *, checksum_is_of_body: bool = True) -> bytes:
    """The whole body of a request that carries a document, verified; b"" where there is none."""
    headers = context.headers
    if "content-length" not in headers and "transfer-encoding" not in headers:
        headers = {**headers, "content-length": "0"}
    if not checksum_is_of_body:
        headers = {
            name: value for name, value in headers.items() if not name.startswith("x-amz-checksum-")
        }
    plan = plan_payload(headers, context.signature, XML_BODY_BYTES_MAX)
    algorithms = () if plan.claim is None else (plan.claim.algorithm,)
    data, _ = await _receive_whole(context, plan, algorithms)
    return bytes(data)


async def receive(
    context: RequestContext,
    plan: PlannedPayload,
    bucket: Bucket,
    algorithms: Sequence[str],
    *,
    inline_bytes_max: int,
    upload_id: bytes = b"",
) -> Received:
    """Take the request's body in. All that can be refused without it has been refused before."""
    if plan.length <= inline_bytes_max:
        data, verified = await _receive_whole(context, plan, algorithms)
        return Received(verified.etag, verified.checksums, data, ())
    await context.invite_body()
    return await _write(context, context.body, plan, bucket, algorithms, upload_id)


async def receive_file(
    context: RequestContext,
    source: ByteSource,
    plan: PlannedPayload,
    bucket: Bucket,
    algorithms: Sequence[str],
) -> Received:
    """The file of a form, of whose size no one knows more than that it is at most the plan's."""
    if plan.length <= INLINE_BYTES_MAX:
        await context.take_memory(plan.length)
        data, verified = await _collect(context, source, PayloadReader(plan, algorithms))
        return Received(verified.etag, verified.checksums, data, ())
    return await _write(context, source, plan, bucket, algorithms, b"")


async def take_in(
    context: RequestContext,
    stored: AsyncGenerator[ObjectBytes],
    plan: PlannedPayload,
    bucket: Bucket,
    algorithms: Sequence[str],
    *,
    inline_bytes_max: int,
    upload_id: bytes = b"",
) -> Received:
    """The bytes `stored`, given the checksums of `algorithms`.

    Up to `inline_bytes_max` of them come back as `data`, more are stored as `extents`,
    for the object or for a part of `upload_id`.
    """
    source = _StoredBytes(stored, plan.length)
    async with aclosing(stored):
        if plan.length <= inline_bytes_max:
            await context.take_memory(plan.length)
            data, verified = await _collect(context, source, PayloadReader(plan, algorithms))
            return Received(verified.etag, verified.checksums, data, ())
        return await _write(context, source, plan, bucket, algorithms, upload_id)


async def _receive_whole(
    context: RequestContext, plan: PlannedPayload, algorithms: Sequence[str]
) -> tuple[ObjectBytes, VerifiedPayload]:
    """A body that is small enough to be held until the request is over."""
    if not context.take_memory_now(plan.length):
        await context.take_memory(plan.length)
    await context.invite_body()
    reader = PayloadReader(plan, algorithms)
    held = context.body.held
    if held is None:
        return await _collect(context, context.body, reader)
    return _joined(await _feed(reader, held), reader)


async def _collect(
    context: RequestContext, source: ByteSource, reader: PayloadReader
) -> tuple[ObjectBytes, VerifiedPayload]:
    """The reader refuses more than was announced."""
    pieces: list[ObjectBytes] = []
    pace = BodyPace()
    while left := source.left:
        space = memoryview(unwritten(min(left, _STEP_BYTES)))
        count = await source.read_into(space, BODY_STEP_S)
        if count:
            pieces += await _feed(reader, space[:count].toreadonly())
        whole = count == len(space) or not source.left
        if pace.is_over(count, whole=whole, in_the_way=context.memory_is_wanted):
            raise S3Error("RequestTimeout")
    return _joined(pieces, reader)


def _joined(
    pieces: Sequence[ObjectBytes], reader: PayloadReader
) -> tuple[ObjectBytes, VerifiedPayload]:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces), reader.finish()


async def _write(
    context: RequestContext,
    source: ByteSource,
    plan: PlannedPayload,
    bucket: Bucket,
    algorithms: Sequence[str],
    upload_id: bytes,
) -> Received:
    body = context.store.new_body(bucket, context.key, plan.length, upload_id)
    try:
        reader = PayloadReader(plan, algorithms)
        await _store(source, plan, reader, body)
        verified = reader.finish()
        extents = await body.finish()
    except BaseException:
        await body.abandon()
        raise
    return Received(verified.etag, verified.checksums, b"", extents, body.degraded(), body)


async def give_back(received: Received, error: StoreError) -> None:
    """Its write has ended in `error`, after which nothing may name the bytes."""
    if received.body is not None and error.did_nothing:
        await received.body.abandon()


async def _store(
    source: ByteSource, plan: PlannedPayload, reader: PayloadReader, body: BodyWriter
) -> None:
    """Step by step into the writer's space; what is no framing is received right there."""
    pace = BodyPace()
    stored = 0
    while left := source.left:
        room = await body.space() if stored < plan.length else _NO_ROOM
        size = min(left, len(room) or _FRAMING_BYTES, _STEP_BYTES)
        space = room[:size] if room and plan.is_plain else memoryview(unwritten(size))
        count = await source.read_into(space, BODY_STEP_S)
        if count:
            taken = 0
            for piece in await _feed(reader, space[:count].toreadonly()):
                stored += len(piece)
                while len(piece) > len(room) - taken:  # Part of it came with the step before.
                    some = len(room) - taken
                    room[taken:] = piece[:some]
                    body.filled(len(room))
                    piece, room, taken = piece[some:], await body.space(), 0
                if not plan.is_plain:
                    room[taken : taken + len(piece)] = piece
                taken += len(piece)
            if room:  # None is asked for what is only framing, behind the last byte of the object.
                body.filled(taken)
        whole = count == size or not source.left
        in_the_way = not whole and body.is_wanted and not body.make_way()
        if pace.is_over(count, whole=whole, in_the_way=in_the_way):
            raise S3Error("RequestTimeout")


async def _feed(reader: PayloadReader, wire: ObjectBytes) -> Sequence[ObjectBytes]:
    if len(wire) < _THREAD_BYTES_MIN:
        return reader.feed(wire)
    return await asyncio.to_thread(reader.feed, wire)


_NO_ROOM: Final = memoryview(b"")


class _StoredBytes:
    """Pieces that are read from the store, as a `ByteSource`."""

    def __init__(self, pieces: AsyncGenerator[ObjectBytes], size: int) -> None:
        self._pieces = pieces
        self._piece = _NO_ROOM
        self.left = size

    async def read_into(self, space: memoryview, wait_s: float) -> int:
        """However long it takes: the store has its own patience."""
        count = 0
        while count < len(space):
            if not self._piece:
                self._piece = memoryview(await anext(self._pieces))
            some = self._piece[: len(space) - count]
            space[count : count + len(some)] = some
            self._piece = self._piece[len(some) :]
            count += len(some)
        self.left -= count
        return count
