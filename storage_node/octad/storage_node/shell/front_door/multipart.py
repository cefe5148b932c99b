"""Multipart uploads: begin, send parts, list them, complete, abort. No byte moves on completion."""

from __future__ import annotations

import secrets

from octad.client.core.checksums import requested_algorithm
from octad.client.core.s3_xml import (
    ListParts,
    Owner,
    PartEntry,
    complete_multipart_upload_xml,
    initiate_multipart_upload_xml,
    list_parts_xml,
)
from octad.client.core.s3_xml_requests import RequestedPart, read_complete_multipart_upload
from octad.sharding.limits import LIST_KEYS_MAX, PUT_BYTES_MAX
from octad.storage_node.core.object_store import Bucket, CompletedPart, NoSuchUpload
from octad.storage_node.core.rows import ObjectRow, PartRow, UploadRow
from octad.storage_node.s3.answers import Answer, xml_answer
from octad.storage_node.s3.listing import parse_list_parts
from octad.storage_node.s3.multipart import (
    UPLOAD_ID_RANDOM_BYTES,
    check_completion,
    completed_row,
    is_completed,
    new_upload_id,
    parse_upload_id,
    part_algorithms,
)
from octad.storage_node.s3.object_headers import checksum_lines, checksum_type
from octad.storage_node.s3.payload import plan_payload
from octad.storage_node.s3.ranges import parse_part_number
from octad.storage_node.s3.request_headers import stored_headers
from octad.storage_node.shell.front_door.bodies import read_document, receive
from octad.storage_node.shell.front_door.exchange import Exchange


async def create_upload(exchange: Exchange) -> Answer:
    """Begin an upload; what the object will carry is said here."""
    algorithm, kind = requested_algorithm(exchange.headers)
    headers = stored_headers(exchange.headers)
    bucket = await exchange.bucket()
    upload_id = new_upload_id(exchange.now_ms, secrets.token_bytes(UPLOAD_ID_RANDOM_BYTES))
    row = UploadRow(exchange.now_ms, exchange.owner, headers, algorithm, kind)
    await exchange.store.create_upload(bucket, exchange.key, upload_id, row, exchange.request_id)
    answer = xml_answer(initiate_multipart_upload_xml(bucket.name, exchange.key, upload_id.hex()))
    if algorithm:
        answer.head += f"x-amz-checksum-algorithm: {algorithm}\r\nx-amz-checksum-type: {kind}\r\n"
    return answer


async def upload_part(exchange: Exchange) -> Answer:
    """Store one part; sent again, it replaces the one of that number."""
    number = parse_part_number(exchange.query["partNumber"])
    upload_id = parse_upload_id(exchange.query["uploadId"])
    plan = plan_payload(exchange.headers, exchange.signature, PUT_BYTES_MAX)
    bucket = await exchange.bucket()
    upload = await exchange.store.get_upload(bucket, exchange.key, upload_id)
    algorithms = part_algorithms(upload, plan.claimed_algorithm)
    received = await receive(exchange, plan, bucket, algorithms, inline_bytes_max=0)
    row = PartRow(plan.length, received.etag, exchange.now_ms, received.checksums, received.extents)
    await exchange.store.put_part(bucket, exchange.key, upload_id, number, row, exchange.request_id)
    return Answer(200, f'ETag: "{row.etag}"\r\n{checksum_lines(row.checksums)}')


async def list_parts(exchange: Exchange) -> Answer:
    """The parts that have arrived, by number."""
    upload_id = parse_upload_id(exchange.query["uploadId"])
    listing = parse_list_parts(exchange.query)
    bucket = await exchange.bucket()
    upload = await exchange.store.get_upload(bucket, exchange.key, upload_id)
    found = await exchange.store.list_parts(
        bucket, exchange.key, upload_id, listing.after, listing.max_parts + 1
    )
    shown = found[: listing.max_parts]
    return xml_answer(
        list_parts_xml(
            ListParts(
                bucket=bucket.name,
                key=exchange.key,
                upload_id=upload_id.hex(),
                owner=Owner(upload.owner, upload.owner),
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


async def complete_upload(exchange: Exchange) -> Answer:
    """Make the named parts the object, in one step of the key's shard."""
    upload_id = parse_upload_id(exchange.query["uploadId"])
    bucket = await exchange.bucket()
    # Its checksum headers are of the object to be.
    document = await read_document(exchange, checksum_is_of_body=False)
    requested = read_complete_multipart_upload(document)
    try:
        row = await _complete(exchange, bucket, upload_id, requested)
    except NoSuchUpload:
        # The first answer may have been lost: the same request again is the same success.
        present = await exchange.store.get_row(bucket, exchange.key)
        if present is None or not is_completed(present, requested):
            raise
        row = present
    location = f"http://{exchange.headers.get('host', '')}{exchange.path}"
    return xml_answer(
        complete_multipart_upload_xml(
            location=location,
            bucket=bucket.name,
            key=exchange.key,
            etag=row.etag,
            checksums=row.checksums,
            checksum_type=checksum_type(row.checksums),
        )
    )


async def _complete(
    exchange: Exchange, bucket: Bucket, upload_id: bytes, requested: tuple[RequestedPart, ...]
) -> ObjectRow:
    upload = await exchange.store.get_upload(bucket, exchange.key, upload_id)
    stored = await _all_parts(exchange, bucket, upload_id)
    row = completed_row(upload, requested, stored, exchange.now_ms)
    check_completion(exchange.headers, row)
    await exchange.store.complete_upload(
        bucket,
        exchange.key,
        upload_id,
        row,
        [CompletedPart(part.number, part.etag, part.checksums) for part in requested],
        exchange.request_id,
    )
    return row


async def _all_parts(exchange: Exchange, bucket: Bucket, upload_id: bytes) -> dict[int, PartRow]:
    parts: dict[int, PartRow] = {}
    after = 0
    while True:
        page = await exchange.store.list_parts(
            bucket, exchange.key, upload_id, after, LIST_KEYS_MAX
        )
        parts.update(page)
        if len(page) < LIST_KEYS_MAX:
            return parts
        after = page[-1][0]


async def abort_upload(exchange: Exchange) -> Answer:
    """Give up an upload and its parts."""
    upload_id = parse_upload_id(exchange.query["uploadId"])
    bucket = await exchange.bucket()
    await exchange.store.abort_upload(bucket, exchange.key, upload_id, exchange.request_id)
    return Answer(204)
