"""Appending to an object: a PUT that says at which of its bytes its body begins.

Up to 128 KiB an object stays in its record. Beyond, all of its bytes are in extents: those that are
in its record are put into one here, once, and the append is asked for again.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Final

import msgspec

from octad.client.runtime.steady_clock import now
from octad.client.s3.checksums import COMBINABLE, DEFAULT_ALGORITHM
from octad.client.s3.errors import S3Error
from octad.sharding.limits import INLINE_BYTES_MAX, OBJECT_BYTES_MAX, PUT_BYTES_MAX
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.operations.appends import AppendedPiece
from octad.storage_node.operations.conditions import Condition
from octad.storage_node.s3.handlers.bodies import Received, give_back, receive, take_in
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.protocol.answers import Answer
from octad.storage_node.s3.protocol.object_headers import checksum_lines, written_lines
from octad.storage_node.s3.protocol.requests.payload import ObjectBytes, plan_copy, plan_payload
from octad.storage_node.s3.protocol.requests.request_headers import (
    WRITE_OFFSET,
    not_implemented,
    stored_headers,
)
from octad.storage_node.s3.protocol.write_conditions import put_condition
from octad.storage_node.shards.object_store import (
    Appended,
    Bucket,
    NotDoneNow,
    OtherForm,
    StoreError,
)

# Each is lost to a change of the object since it was read here, and to none of its size.
_TRIES_MAX: Final = 8
_OFFSET: Final = re.compile(r"\d{1,18}", re.ASCII)


async def append_to_object(context: RequestContext) -> Answer:
    """Put the body behind the object, which ends at the offset, or make the object of it.

    What else the request says of the object (headers, tags) is for one that is made.
    """
    headers = context.headers
    if context.strict_aws:  # AWS does not append in an ordinary bucket.
        raise not_implemented(WRITE_OFFSET)
    offset = _offset(headers[WRITE_OFFSET])
    kept = stored_headers(headers)
    plan = plan_payload(headers, context.signature, PUT_BYTES_MAX)
    if offset + plan.length > OBJECT_BYTES_MAX:
        raise S3Error("EntityTooLarge")
    context.require_extras("Appends can be taken")
    bucket = await context.bucket()
    extras = context.new_extras(bucket)
    context.check_quota(bucket, plan.length)
    condition = put_condition(headers, bucket.id, strict=context.strict_aws)
    own = plan.claimed_algorithm or DEFAULT_ALGORITHM
    stays_in_record = offset + plan.length <= INLINE_BYTES_MAX
    received = await receive(
        context,
        plan,
        bucket,
        tuple({own, *COMBINABLE}),
        inline_bytes_max=INLINE_BYTES_MAX if stays_in_record else 0,
    )
    row = ObjectRow(
        size=plan.length,
        etag=received.etag,
        modified_ms=context.now_ms,
        headers=kept,
        checksums={own: received.checksums[own]},
        extents=received.extents,
        extras=extras,
    )
    crcs = {algorithm: received.checksums[algorithm] for algorithm in COMBINABLE}
    append = _Append(context, bucket, AppendedPiece(offset, row, crcs), received, condition)
    appended = await append.carry_out()
    etag = f'ETag: "{appended.etag}"\r\n' if appended.etag else ""
    size = f"x-amz-object-size: {offset + plan.length}\r\n"
    head = f"{etag}{checksum_lines(appended.checksums)}{size}"
    stored = [each.degraded for each in append.stored]
    return Answer(200, head + written_lines(bucket.id, appended, *stored))


class _Append:
    """One on its way. `stored` is what was put into extents for it."""

    def __init__(
        self,
        context: RequestContext,
        bucket: Bucket,
        piece: AppendedPiece,
        received: Received,
        condition: Condition | None,
    ) -> None:
        self._context = context
        self._bucket = bucket
        self._piece = piece
        self._data = received.data
        self._condition = condition
        self._did_nothing = True  # All that was tried so far.
        self.stored = [received]

    async def carry_out(self) -> Appended:
        """Raises what refuses it: then what was stored is given back, if nothing may name it."""
        try:
            return await self._appended()
        except StoreError as error:
            if isinstance(error, NotDoneNow):
                error.did_nothing &= self._did_nothing
            for each in self.stored:
                await give_back(each, error)
            raise

    async def _appended(self) -> Appended:
        context, row = self._context, self._piece.row
        written = row.etag, str(row.size), f"at {self._piece.offset}"
        request_id, age_s = context.write_id(*written)
        began, tries = now(), 0
        while True:
            of = self._bucket, context.key, self._piece, self._data, request_id, age_s
            try:
                return await context.store.append_object(*of, self._condition)
            except OtherForm as error:
                self._did_nothing &= error.did_nothing
                tries += 1
                if tries == _TRIES_MAX:
                    raise
                await self._take_other_form()
                age_s = max(age_s, now() - began)

    async def _take_other_form(self) -> None:
        """Bytes that are in a record go into extents, where they have not been put there."""
        if self._piece.row.extents:
            await self._move()
            return
        received = await self._store(self._data)
        row = msgspec.structs.replace(self._piece.row, extents=received.extents)
        self._piece, self._data = msgspec.structs.replace(self._piece, row=row), b""

    async def _move(self) -> None:
        """Those of the object. It may be another one by now: then the next try says so."""
        stands = await self._context.store.get_object(self._bucket, self._context.key)
        if stands is not None and stands.data:
            moved = (await self._store(stands.data)).extents
            self._piece = msgspec.structs.replace(
                self._piece, moved=moved, moved_from=stands.version
            )

    async def _store(self, data: ObjectBytes) -> Received:
        plan = plan_copy(len(data))
        received = await take_in(
            self._context, _whole(data), plan, self._bucket, (), inline_bytes_max=0
        )
        self.stored.append(received)
        return received


async def _whole(data: ObjectBytes) -> AsyncGenerator[ObjectBytes]:
    yield data


def _offset(text: str) -> int:
    if _OFFSET.fullmatch(text.strip()) is None:
        fields = {"ArgumentName": WRITE_OFFSET, "ArgumentValue": text}
        raise S3Error("InvalidArgument", fields=fields)
    return int(text)
