"""Multipart uploads: begin, send parts, list them, complete, abort. No byte moves on completion."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Final

import msgspec

from octad.client.s3.checksums import multipart_etag, requested_algorithm
from octad.client.s3.errors import S3Error
from octad.sharding.limits import LIST_KEYS_MAX, PUT_BYTES_MAX
from octad.storage_node.index.rows import ObjectRow, PartRow, UploadRow
from octad.storage_node.operations.conditions import Condition
from octad.storage_node.s3.handlers.bodies import give_back, read_document, receive
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.protocol.answers import Answer, xml_answer
from octad.storage_node.s3.protocol.listing_requests import parse_list_parts
from octad.storage_node.s3.protocol.multipart import (
    check_completion,
    check_that_checksums_are_stated,
    completed_row,
    is_completed,
    new_upload_id,
    parse_upload_id,
    part_algorithms,
    unique_of_upload,
)
from octad.storage_node.s3.protocol.object_headers import (
    checksum_lines,
    checksum_type,
    degraded_line,
    written_lines,
)
from octad.storage_node.s3.protocol.ranges import parse_part_number
from octad.storage_node.s3.protocol.requests.payload import plan_payload
from octad.storage_node.s3.protocol.requests.request_headers import stored_headers
from octad.storage_node.s3.protocol.write_conditions import put_condition
from octad.storage_node.s3.protocol.xml.documents import (
    ListParts,
    PartEntry,
    complete_multipart_upload_xml,
    initiate_multipart_upload_xml,
    list_parts_xml,
)
from octad.storage_node.s3.protocol.xml.requests import (
    RequestedPart,
    read_complete_multipart_upload,
)
from octad.storage_node.shards.object_store import (
    Bucket,
    CompletedPart,
    InvalidPart,
    NoSuchUpload,
    StoreError,
    Written,
)

# Nodes' clocks and those of their clients agree better than this.
_BEGUN_BEFORE_MS_MAX: Final = 3_600_000


async def create_upload(context: RequestContext) -> Answer:
    """Begin an upload; what the object will carry is said here."""
    algorithm, kind = requested_algorithm(context.headers)
    headers = stored_headers(context.headers)
    bucket = await context.bucket()
    extras = context.new_extras(bucket)
    request_id, age_s = context.write_id(*(f"{name}={headers[name]}" for name in sorted(headers)))
    unique = unique_of_upload(request_id)
    upload_id = new_upload_id(context.now_ms, unique)
    row = UploadRow(context.now_ms, context.owner, headers, algorithm, kind, extras)
    degraded = await context.store.create_upload(
        bucket, context.key, upload_id, row, request_id, age_s
    )
    if age_s:
        upload_id = await _begun_before(context, bucket, unique) or upload_id
    answer = xml_answer(initiate_multipart_upload_xml(bucket.name, context.key, upload_id.hex()))
    if algorithm:
        answer.head += f"x-amz-checksum-algorithm: {algorithm}\r\nx-amz-checksum-type: {kind}\r\n"
    answer.head += degraded_line(degraded)
    return answer


async def _begun_before(context: RequestContext, bucket: Bucket, unique: bytes) -> bytes | None:
    """The upload that an earlier try of this request has begun: it has another time in its id."""
    no_earlier = new_upload_id(context.now_ms - _BEGUN_BEFORE_MS_MAX, bytes(len(unique)))
    after = context.key, no_earlier
    uploads = await context.store.list_uploads(bucket, context.key, after, LIST_KEYS_MAX)
    for key, upload_id, _ in uploads:
        if key == context.key and upload_id.endswith(unique):
            return upload_id
    return None


async def upload_part(context: RequestContext) -> Answer:
    """Store one part; sent again, it replaces the one of that number."""
    number = parse_part_number(context.query["partNumber"])
    upload_id = parse_upload_id(context.query["uploadId"])
    plan = plan_payload(context.headers, context.signature, PUT_BYTES_MAX)
    bucket = await context.bucket()
    context.check_quota(bucket, plan.length)
    upload = await context.store.get_upload(bucket, context.key, upload_id)
    algorithms = part_algorithms(upload, plan.claimed_algorithm)
    received = await receive(
        context, plan, bucket, algorithms, inline_bytes_max=0, upload_id=upload_id
    )
    row = PartRow(plan.length, received.etag, context.now_ms, received.checksums, received.extents)
    write_id = context.write_id(row.etag, str(row.size))
    what = bucket, context.key, upload_id, number, row
    try:
        degraded = await context.store.put_part(*what, *write_id)
    except StoreError as error:
        await give_back(received, error)
        raise
    head = f'ETag: "{row.etag}"\r\n{checksum_lines(row.checksums)}'
    return Answer(200, head + degraded_line(received.degraded, degraded))


async def list_parts(context: RequestContext) -> Answer:
    """The parts that have arrived, by number."""
    upload_id = parse_upload_id(context.query["uploadId"])
    listing = parse_list_parts(context.query)
    bucket = await context.bucket()
    upload = await context.store.get_upload(bucket, context.key, upload_id)
    found = []
    if listing.max_parts:
        found = await context.store.list_parts(
            bucket, context.key, upload_id, listing.after, listing.max_parts + 1
        )
    shown = found[: listing.max_parts]
    return xml_answer(
        list_parts_xml(
            ListParts(
                bucket=bucket.name,
                key=context.key,
                upload_id=upload_id.hex(),
                owner=context.shown(upload.owner),
                part_number_marker=listing.after,
                max_parts=listing.max_parts,
                is_truncated=len(found) > len(shown),
                parts=[
                    PartEntry(number, row.modified_ms, row.etag, row.size, row.checksums)
                    for number, row in shown
                ],
                checksum_algorithm=upload.checksum_algorithm,
                checksum_type=upload.checksum_type,
            )
        )
    )


async def complete_upload(context: RequestContext) -> Answer:
    """Make the named parts the object, in one step of the key's shard."""
    upload_id = parse_upload_id(context.query["uploadId"])
    bucket = await context.bucket()
    # Its checksum headers are of the object to be.
    document = await read_document(context, checksum_is_of_body=False)
    requested = read_complete_multipart_upload(document)
    write_id = context.write_id(hashlib.sha256(document).hexdigest())
    condition = put_condition(context.headers, bucket.id, strict=context.strict_aws)
    try:
        row, written = await _complete(context, bucket, upload_id, requested, write_id, condition)
    except NoSuchUpload:
        # The first answer may have been lost: the same request again is the same success.
        row, written = await _completed_before(context, bucket, upload_id, requested, write_id)
    location = f"{context.scheme}://{context.headers.get('host', '')}{context.path}"
    answer = xml_answer(
        complete_multipart_upload_xml(
            location=location,
            bucket=bucket.name,
            key=context.key,
            etag=row.etag,
            checksums=row.checksums,
            checksum_type=checksum_type(row.checksums),
        )
    )
    answer.head += written_lines(bucket.id, written)
    return answer


async def _completed_before(
    context: RequestContext,
    bucket: Bucket,
    upload_id: bytes,
    requested: tuple[RequestedPart, ...],
    write_id: tuple[bytes, float],
) -> tuple[ObjectRow, Written]:
    """The object that an earlier try of this request made; raises NoSuchUpload if none did."""
    present = await context.store.head_object(bucket, context.key)
    if present is not None and is_completed(present.row, requested):
        return present.row, Written(present.version, None)
    if not write_id[1]:
        raise NoSuchUpload(upload_id.hex())
    # Somebody has replaced or deleted it meanwhile, but that the upload was completed stays true.
    row = ObjectRow(0, multipart_etag([part.etag for part in requested]), context.now_ms)
    written = await context.store.complete_upload(
        bucket, context.key, upload_id, row, _chosen(requested), *write_id
    )
    return row, written


async def _complete(
    context: RequestContext,
    bucket: Bucket,
    upload_id: bytes,
    requested: tuple[RequestedPart, ...],
    write_id: tuple[bytes, float],
    condition: Condition | None,
) -> tuple[ObjectRow, Written]:
    upload = await context.store.get_upload(bucket, context.key, upload_id)
    stored = await _all_parts(context, bucket, upload_id)
    try:
        row = completed_row(upload_id, upload, requested, stored, context.now_ms)
    except S3Error as error:
        if error.code == "InvalidPart" and write_id[1]:
            await _refuse_for_good(context, bucket, upload_id, write_id)
        raise
    check_completion(context.headers, row)
    check_that_checksums_are_stated(upload, requested)
    if not context.store.keeps_extras:
        row = msgspec.structs.replace(row, extras=upload.extras)
    written = await context.store.complete_upload(
        bucket, context.key, upload_id, row, _chosen(requested), *write_id, condition
    )
    return row, written


async def _refuse_for_good(
    context: RequestContext, bucket: Bucket, upload_id: bytes, write_id: tuple[bytes, float]
) -> None:
    """The part may come yet, and an earlier try lie before another front door, which looks later.

    Raises NoSuchUpload when that one has been carried out.
    """
    nothing = ObjectRow(0, "", context.now_ms)
    with suppress(InvalidPart):
        await context.store.complete_upload(bucket, context.key, upload_id, nothing, [], *write_id)
        raise NoSuchUpload(upload_id.hex())


def _chosen(requested: tuple[RequestedPart, ...]) -> list[CompletedPart]:
    return [CompletedPart(part.number, part.etag, part.checksums) for part in requested]


async def _all_parts(
    context: RequestContext, bucket: Bucket, upload_id: bytes
) -> dict[int, PartRow]:
    parts: dict[int, PartRow] = {}
    after = 0
    while True:
        page = await context.store.list_parts(bucket, context.key, upload_id, after, LIST_KEYS_MAX)
        parts.update(page)
        if len(page) < LIST_KEYS_MAX:
            return parts
        after = page[-1][0]


async def abort_upload(context: RequestContext) -> Answer:
    """Give up an upload and its parts."""
    upload_id = parse_upload_id(context.query["uploadId"])
    bucket = await context.bucket()
    degraded = await context.store.abort_upload(bucket, context.key, upload_id, *context.write_id())
    return Answer(204, degraded_line(degraded))
