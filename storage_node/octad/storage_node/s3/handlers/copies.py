"""Copies made here, of an object or of a part of one: the bytes are read again and stored anew."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from octad.client.s3.errors import S3Error
from octad.sharding.limits import INLINE_BYTES_MAX, PUT_BYTES_MAX
from octad.storage_node.index.rows import ObjectRow, PartRow
from octad.storage_node.s3.handlers.bodies import give_back, take_in
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.protocol.answers import Answer, xml_answer
from octad.storage_node.s3.protocol.conditions import (
    COPY_SOURCE_PREFIX,
    precondition_failed,
    read_conditions,
)
from octad.storage_node.s3.protocol.copying import (
    changes_nothing,
    copied_extras,
    copied_headers,
    copy_algorithm,
    parse_copy_source,
    refuse_copy_onto_itself,
)
from octad.storage_node.s3.protocol.multipart import parse_upload_id, part_algorithms
from octad.storage_node.s3.protocol.object_headers import (
    checksum_type,
    degraded_line,
    written_lines,
)
from octad.storage_node.s3.protocol.ranges import parse_copy_range, parse_part_number
from octad.storage_node.s3.protocol.requests.payload import plan_copy
from octad.storage_node.s3.protocol.write_conditions import put_condition
from octad.storage_node.s3.protocol.xml.documents import copy_object_xml, copy_part_xml
from octad.storage_node.shards.object_store import Bucket, StoredObject, StoreError


async def copy_object(context: RequestContext) -> Answer:
    """The source's bytes under another key, with its metadata or with the request's."""
    bucket = await context.bucket()
    extras = context.new_extras(bucket)
    source = parse_copy_source(context.headers["x-amz-copy-source"])
    onto_itself = (source.bucket, source.key) == (bucket.name, context.key)
    if onto_itself and changes_nothing(context.headers):
        raise refuse_copy_onto_itself()
    condition = put_condition(context.headers, bucket.id, strict=context.strict_aws)
    source_bucket, stored = await _source(context)
    row = stored.row
    if row.size > PUT_BYTES_MAX:
        raise _too_large_to_copy()
    context.check_quota(bucket, row.size)
    headers = copied_headers(context.headers, row)
    extras = copied_extras(context.headers, extras, row)
    algorithms = (copy_algorithm(context.headers, row),)
    pieces = _pieces(context, source_bucket, stored, 0, row.size)
    received = await take_in(
        context,
        pieces,
        plan_copy(row.size),
        bucket,
        algorithms,
        inline_bytes_max=INLINE_BYTES_MAX,
    )
    copy = ObjectRow(
        size=row.size,
        etag=received.etag,
        modified_ms=context.now_ms,
        headers=headers,
        checksums=received.checksums,
        extents=received.extents,
        extras=extras,
    )
    write_id = context.write_id(copy.etag, str(copy.size))
    what = bucket, context.key, copy, received.data
    try:
        written = await context.store.put_object(*what, *write_id, condition)
    except StoreError as error:
        await give_back(received, error)
        raise
    answer = xml_answer(
        copy_object_xml(
            etag=copy.etag,
            modified_ms=copy.modified_ms,
            checksums=copy.checksums,
            checksum_type=checksum_type(copy.checksums),
        )
    )
    answer.head += written_lines(bucket.id, written, received.degraded)
    return answer


async def upload_part_copy(context: RequestContext) -> Answer:
    """A part of an upload whose bytes are those, or a range of those, of an object."""
    number = parse_part_number(context.query["partNumber"])
    upload_id = parse_upload_id(context.query["uploadId"])
    bucket = await context.bucket()
    upload = await context.store.get_upload(bucket, context.key, upload_id)
    source_bucket, stored = await _source(context)
    start, end = 0, stored.row.size
    if (copy_range := context.headers.get("x-amz-copy-source-range")) is not None:
        start, end = parse_copy_range(copy_range, stored.row.size)
    if end - start > PUT_BYTES_MAX:
        raise _too_large_to_copy()
    context.check_quota(bucket, end - start)
    pieces = _pieces(context, source_bucket, stored, start, end)
    received = await take_in(
        context,
        pieces,
        plan_copy(end - start),
        bucket,
        part_algorithms(upload, upload.checksum_algorithm or None),
        inline_bytes_max=0,
        upload_id=upload_id,
    )
    part = PartRow(end - start, received.etag, context.now_ms, received.checksums, received.extents)
    write_id = context.write_id(part.etag, str(part.size))
    what = bucket, context.key, upload_id, number, part
    try:
        degraded = await context.store.put_part(*what, *write_id)
    except StoreError as error:
        await give_back(received, error)
        raise
    answer = xml_answer(
        copy_part_xml(etag=part.etag, modified_ms=part.modified_ms, checksums=part.checksums)
    )
    answer.head += degraded_line(received.degraded, degraded)
    return answer


async def _source(context: RequestContext) -> tuple[Bucket, StoredObject]:
    """The source, if the sender may read it and it meets the request's conditions."""
    source = parse_copy_source(context.headers["x-amz-copy-source"])
    bucket = context.found_source
    assert bucket is not None, "no one has been authorized"
    stored = await context.store.get_object(bucket, source.key)
    row = context.readable(bucket, None if stored is None else stored.row)
    if stored is None or row is None:
        raise S3Error("NoSuchKey", fields={"Key": source.key.decode()})
    conditions = read_conditions(context.headers, COPY_SOURCE_PREFIX)
    if conditions is not None:
        failed = conditions.failed(stored.row.etag, stored.row.modified_ms, context.now_ms)
        if failed is not None:
            raise precondition_failed(COPY_SOURCE_PREFIX + failed)
    return bucket, StoredObject(row, stored.data)


async def _pieces(
    context: RequestContext, bucket: Bucket, stored: StoredObject, start: int, end: int
) -> AsyncGenerator[bytes | memoryview]:
    if stored.data is not None:
        yield memoryview(stored.data)[start:end]
    elif start < end:
        async for piece in context.store.read_extents(bucket, stored.row.extents, start, end):
            yield piece


def _too_large_to_copy() -> S3Error:
    return S3Error(
        "InvalidRequest",
        "The specified copy source is larger than the maximum allowable size for a copy source: "
        f"{PUT_BYTES_MAX}",
    )
