"""GET and HEAD of an object: conditions, ranges, parts, and bytes as fast as they are taken."""

from __future__ import annotations

import msgspec

from octad.client.s3.errors import S3Error
from octad.client.s3.http_dates import http_date
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.protocol.answers import Answer, xml_answer
from octad.storage_node.s3.protocol.conditions import (
    NOT_MODIFIED_CONDITIONS,
    precondition_failed,
    range_applies,
    read_conditions,
)
from octad.storage_node.s3.protocol.listing_requests import parse_object_parts
from octad.storage_node.s3.protocol.object_attributes import (
    asked_attributes,
    object_attributes_xml,
)
from octad.storage_node.s3.protocol.object_headers import (
    checksum_lines,
    object_lines,
    part_checksum_lines,
    unmodified_lines,
    validator_lines,
    wants_checksums,
)
from octad.storage_node.s3.protocol.ranges import parse_part_number, parse_range, part_range
from octad.storage_node.s3.protocol.requests.request_headers import response_overrides
from octad.storage_node.shards.object_store import Bucket


class _Selection(msgspec.Struct, frozen=True):
    """Bytes [start, end) of the object, and the header lines that say which they are."""

    start: int
    end: int
    status: int = 200
    lines: str = ""
    part: int = 0  # Its number, where one was asked for.


async def get_object(context: RequestContext) -> Answer:
    """The object, or the range or part of it that was asked for."""
    bucket = await context.bucket()
    stored = await context.store.get_object(bucket, context.key)
    row = context.readable(bucket, None if stored is None else stored.row)
    if stored is None or row is None:
        raise _no_such_key(context)
    validators = validator_lines(bucket.id, stored)
    unmodified = _not_modified(context, row, validators)
    if unmodified is not None:
        return unmodified
    selection = _selection(context, row)
    head = validators + _head(context, row, selection)
    if stored.data is not None:
        whole = selection.end - selection.start == row.size
        data = stored.data if whole else memoryview(stored.data)[selection.start : selection.end]
        return Answer(selection.status, head, data)
    return await _streamed(context, bucket, row, selection, head)


async def head_object(context: RequestContext) -> Answer:
    """GET's answer without the bytes."""
    bucket = await context.bucket()
    stored = await context.store.head_object(bucket, context.key)
    row = context.readable(bucket, None if stored is None else stored.row)
    if stored is None or row is None:
        raise _no_such_key(context)
    validators = validator_lines(bucket.id, stored)
    unmodified = _not_modified(context, row, validators)
    if unmodified is not None:
        return unmodified
    selection = _selection(context, row)
    return Answer(
        selection.status,
        validators + _head(context, row, selection),
        length=selection.end - selection.start,
    )


async def get_object_attributes(context: RequestContext) -> Answer:
    """The requested attributes of the object."""
    asked = asked_attributes(context.headers)
    listing = parse_object_parts(context.headers)
    bucket = await context.bucket()
    row = await context.store.get_row(bucket, context.key)
    if row is None:
        raise _no_such_key(context)
    answer = xml_answer(object_attributes_xml(row, asked, listing))
    answer.head += f"Last-Modified: {http_date(row.modified_ms)}\r\n"
    return answer


async def _streamed(
    context: RequestContext, bucket: Bucket, row: ObjectRow, selection: _Selection, head: str
) -> Answer:
    """The first bytes are read before the head is sent, so that a failure can still be reported."""
    if selection.start == selection.end:
        return Answer(selection.status, head)
    stream = context.store.read_extents(bucket, row.extents, selection.start, selection.end)
    first = await anext(stream)
    return Answer(
        selection.status, head, first, length=selection.end - selection.start, stream=stream
    )


def _head(context: RequestContext, row: ObjectRow, selection: _Selection) -> str:
    overrides = response_overrides(context.query) if context.query else {}
    head = object_lines(row, overrides) + selection.lines
    if wants_checksums(context.headers):
        if selection.part:
            head += part_checksum_lines(row, selection.part)
        elif selection.end - selection.start == row.size:
            # Beside a range of the object, a client would compare its checksum with that.
            head += checksum_lines(row.checksums)
    return head


def _selection(context: RequestContext, row: ObjectRow) -> _Selection:
    range_header = context.headers.get("range")
    part_text = context.query.get("partNumber")
    if part_text is not None:
        if range_header is not None:
            raise S3Error(
                "InvalidRequest",
                "Cannot specify both Range header and partNumber query parameter",
            )
        number = parse_part_number(part_text)
        start, end = part_range(number, row.part_sizes, row.size)
        parts = f"x-amz-mp-parts-count: {len(row.part_sizes)}\r\n" if row.part_sizes else ""
        # An empty part has no first byte for Content-Range to name.
        content_range = _content_range(start, end, row.size) if start < end else ""
        return _Selection(start, end, 206 if start < end else 200, content_range + parts, number)
    if range_header is not None and range_applies(context.headers, row.etag, row.modified_ms):
        found = parse_range(range_header, row.size)
        if found is not None:
            return _Selection(*found, 206, _content_range(*found, row.size))
    return _Selection(0, row.size)


def _content_range(start: int, end: int, size: int) -> str:
    return f"Content-Range: bytes {start}-{end - 1}/{size}\r\n"


def _not_modified(context: RequestContext, row: ObjectRow, validators: str) -> Answer | None:
    conditions = read_conditions(context.headers)
    if conditions is None:
        return None
    failed = conditions.failed(row.etag, row.modified_ms, context.now_ms)
    if failed is None:
        return None
    if failed in NOT_MODIFIED_CONDITIONS:
        return Answer(304, validators + unmodified_lines(row, response_overrides(context.query)))
    raise precondition_failed(failed)


def _no_such_key(context: RequestContext) -> S3Error:
    return S3Error("NoSuchKey", fields={"Key": context.key.decode()})
