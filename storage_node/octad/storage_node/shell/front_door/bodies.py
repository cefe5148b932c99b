"""From the wire to verified bytes: in memory while they are few, through the store's writer beyond.

Whatever goes wrong on the way (a bad checksum, a client that leaves, a full disk), the writer is
abandoned and nothing names the bytes. Decoding and hashing of larger pieces runs in a thread, while
the piece before is being stored and the next one arrives: the piece in the thread, the one being
stored and the connection's read buffer are all that is held of a large body.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from octad.sharding.limits import KIB, XML_BODY_BYTES_MAX
from octad.storage_node.core.object_store import BodyWriter, Bucket, Degraded
from octad.storage_node.core.rows import ExtentRef
from octad.storage_node.s3.payload import (
    ObjectBytes,
    PayloadReader,
    PlannedPayload,
    VerifiedPayload,
    plan_payload,
)
from octad.storage_node.shell.front_door.exchange import Exchange

# Below this, handing a piece to a thread costs more than hashing it here.
_THREAD_BYTES_MIN: Final = 64 * KIB


@dataclass(frozen=True, slots=True)
class Received:
    """A body that was verified: its bytes, or where they are stored."""

    etag: str
    checksums: dict[str, str]
    data: ObjectBytes
    extents: tuple[ExtentRef, ...]
    degraded: Degraded | None = None  # Of what is stored already.


async def read_document(exchange: Exchange, *, checksum_is_of_body: bool = True) -> bytes:
    """The whole body of a request that carries a document, verified; b"" where there is none."""
    headers = exchange.headers
    if "content-length" not in headers and "transfer-encoding" not in headers:
        headers = {**headers, "content-length": "0"}
    if not checksum_is_of_body:
        headers = {
            name: value for name, value in headers.items() if not name.startswith("x-amz-checksum-")
        }
    plan = plan_payload(headers, exchange.signature, XML_BODY_BYTES_MAX)
    algorithms = () if plan.claim is None else (plan.claim.algorithm,)
    await exchange.invite_body()
    data, _ = await _collect(exchange.body.pieces(), PayloadReader(plan, algorithms))
    return bytes(data)


async def receive(
    exchange: Exchange,
    plan: PlannedPayload,
    bucket: Bucket,
    algorithms: Sequence[str],
    *,
    inline_bytes_max: int,
    upload_id: bytes = b"",
) -> Received:
    """Take the request's body in. All that can be refused without it has been refused before."""
    await exchange.invite_body()
    held = exchange.body.held
    if held is not None and plan.length <= inline_bytes_max:
        reader = PayloadReader(plan, algorithms)
        data, verified = _joined(await _feed(reader, held), reader)
        return Received(verified.etag, verified.checksums, data, ())
    return await take_in(
        exchange,
        exchange.body.pieces(),
        plan,
        bucket,
        algorithms,
        inline_bytes_max=inline_bytes_max,
        upload_id=upload_id,
    )


async def take_in(
    exchange: Exchange,
    source: AsyncGenerator[ObjectBytes],
    plan: PlannedPayload,
    bucket: Bucket,
    algorithms: Sequence[str],
    *,
    inline_bytes_max: int,
    upload_id: bytes = b"",
) -> Received:
    """The bytes of `source`, verified and given the checksums of `algorithms`.

    Up to `inline_bytes_max` of them come back as `data`, more are stored as `extents`,
    for the object or for a part of `upload_id`.
    """
    reader = PayloadReader(plan, algorithms)
    async with aclosing(source):
        if plan.length <= inline_bytes_max:
            data, verified = await _collect(source, reader)
            return Received(verified.etag, verified.checksums, data, ())
        body = exchange.store.new_body(bucket, exchange.key, upload_id)
        verified, extents = await _store(source, reader, body)
        return Received(verified.etag, verified.checksums, b"", extents, body.degraded())


async def _collect(
    source: AsyncIterable[ObjectBytes], reader: PayloadReader
) -> tuple[ObjectBytes, VerifiedPayload]:
    """A body that is small enough to be held; the reader refuses more than was announced."""
    pieces: list[ObjectBytes] = []
    async for wire in source:
        pieces += await _feed(reader, wire)
    return _joined(pieces, reader)


def _joined(
    pieces: Sequence[ObjectBytes], reader: PayloadReader
) -> tuple[ObjectBytes, VerifiedPayload]:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces), reader.finish()


async def _store(
    source: AsyncIterable[ObjectBytes], reader: PayloadReader, body: BodyWriter
) -> tuple[VerifiedPayload, tuple[ExtentRef, ...]]:
    storing: asyncio.Task[None] | None = None
    try:
        async for wire in source:
            pieces = await _feed(reader, wire)
            if storing is not None:
                await storing
            storing = asyncio.create_task(_write_all(body, pieces))
        if storing is not None:
            await storing
        verified = reader.finish()
        return verified, await body.finish()
    except BaseException:
        if storing is not None:
            storing.cancel()
            await asyncio.gather(storing, return_exceptions=True)
        await body.abandon()
        raise


async def _write_all(body: BodyWriter, pieces: Sequence[ObjectBytes]) -> None:
    for piece in pieces:
        await body.write(piece)


async def _feed(reader: PayloadReader, wire: ObjectBytes) -> Sequence[ObjectBytes]:
    if len(wire) < _THREAD_BYTES_MIN:
        return reader.feed(wire)
    return await asyncio.to_thread(reader.feed, wire)
