"""Writing objects: PUT, DELETE, the deletion of many; and tags of those that stand."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable
from typing import TypeAlias

from octad.client.s3.checksums import DEFAULT_ALGORITHM, claimed_checksum
from octad.client.s3.errors import S3Error
from octad.sharding.limits import INLINE_BYTES_MAX, PUT_BYTES_MAX
from octad.storage_node.index.rows import ExtrasChange, ObjectRow
from octad.storage_node.operations.conditions import Condition
from octad.storage_node.s3.handlers.appends import append_to_object
from octad.storage_node.s3.handlers.bodies import give_back, read_document, receive
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.protocol.answers import Answer, xml_answer
from octad.storage_node.s3.protocol.object_headers import (
    checksum_lines,
    degraded_line,
    written_lines,
)
from octad.storage_node.s3.protocol.requests.names import check_key
from octad.storage_node.s3.protocol.requests.parameters import check_version
from octad.storage_node.s3.protocol.requests.payload import plan_payload
from octad.storage_node.s3.protocol.requests.request_headers import (
    DELETE_CONDITIONS,
    PUT_CONDITIONS,
    WRITE_OFFSET,
    stored_headers,
)
from octad.storage_node.s3.protocol.requests.tags import checked_tags
from octad.storage_node.s3.protocol.store_errors import s3_error_of
from octad.storage_node.s3.protocol.write_conditions import (
    delete_condition,
    put_condition,
    target_condition,
)
from octad.storage_node.s3.protocol.xml.documents import DeleteFailure, delete_result_xml
from octad.storage_node.s3.protocol.xml.requests import DeleteTarget, read_delete, read_tagging
from octad.storage_node.s3.protocol.xml.tagging import tagging_xml
from octad.storage_node.shards.object_store import (
    DELETIONS_AT_ONCE,
    Bucket,
    Degraded,
    StoreError,
)

_Outcome: TypeAlias = Degraded | S3Error | None


async def put_object(context: RequestContext) -> Answer:
    """Store the body under the key; all of it is verified before anything becomes visible."""
    headers, condition = context.headers, None
    if headers.get(WRITE_OFFSET):
        return await append_to_object(context)
    kept = stored_headers(headers)
    plan = plan_payload(headers, context.signature, PUT_BYTES_MAX)
    bucket = await context.bucket()
    extras = context.new_extras(bucket)
    context.check_quota(bucket, plan.length)
    if not PUT_CONDITIONS.isdisjoint(headers):
        condition = put_condition(headers, bucket.id, strict=context.strict_aws)
    algorithms = (plan.claimed_algorithm or DEFAULT_ALGORITHM,)
    received = await receive(context, plan, bucket, algorithms, inline_bytes_max=INLINE_BYTES_MAX)
    row = ObjectRow(
        size=plan.length,
        etag=received.etag,
        modified_ms=context.now_ms,
        headers=kept,
        checksums=received.checksums,
        extents=received.extents,
        extras=extras,
    )
    write_id = context.write_id(row.etag, str(row.size))
    what = bucket, context.key, row, received.data
    try:
        written = await context.store.put_object(*what, *write_id, condition)
    except StoreError as error:
        await give_back(received, error)
        raise
    head = f'ETag: "{row.etag}"\r\n{checksum_lines(row.checksums)}'
    return Answer(200, head + written_lines(bucket.id, written, received.degraded))


async def delete_object(context: RequestContext) -> Answer:
    """Remove the object; that it was not there is no error."""
    bucket = await context.bucket()
    headers, condition = context.headers, None
    if not DELETE_CONDITIONS.isdisjoint(headers):
        condition = delete_condition(headers, bucket.id, strict=context.strict_aws)
    write_id = context.write_id()
    degraded = await context.store.delete_object(bucket, context.key, *write_id, condition)
    return Answer(204, degraded_line(degraded))


async def delete_objects(context: RequestContext) -> Answer:
    """Remove up to a thousand objects; what happened to each is in the document."""
    if "content-md5" not in context.headers and claimed_checksum(context.headers) is None:
        raise S3Error("InvalidRequest", "Missing required header for this request: Content-MD5")
    bucket, store = await context.bucket(), context.store
    request = read_delete(await read_document(context))
    gate = asyncio.Semaphore(DELETIONS_AT_ONCE)
    outcomes: dict[int, _Outcome] = {}  # By number of the target.
    together: dict[bytes, bytes] = {}  # Request ids of what can be deleted together, by key.
    alone: dict[int, Awaitable[_Outcome]] = {}

    async def delete(key: bytes, write_id: tuple[bytes, float], on: Condition | None) -> _Outcome:
        async with gate:
            try:
                return await store.delete_object(bucket, key, *write_id, on)
            except StoreError as error:
                return s3_error_of(error)

    for number, target in enumerate(request.targets):
        try:
            check_key(target.key)
            if target.version_id:
                check_version(target.version_id)
            condition = target_condition(target, bucket.id, strict=context.strict_aws)
        except S3Error as error:
            outcomes[number] = error
            continue
        request_id, age_s = context.write_id(target.key.hex(), one_of_many=True)
        if age_s or condition is not None:
            alone[number] = delete(target.key, (request_id, age_s), condition)
        else:
            together[target.key] = request_id
    of_keys = await store.delete_objects(bucket, together) if together else {}
    outcomes.update(zip(alone, await asyncio.gather(*alone.values()), strict=True))

    deleted: list[DeleteTarget] = []
    failures: list[DeleteFailure] = []
    degraded: list[Degraded | None] = []
    for number, target in enumerate(request.targets):
        outcome = outcomes[number] if number in outcomes else of_keys[target.key]
        if isinstance(outcome, StoreError):
            outcome = s3_error_of(outcome)
        if isinstance(outcome, S3Error):
            what = outcome.code, outcome.message, target.version_id
            failures.append(DeleteFailure(target.key, *what))
        else:
            deleted.append(target)
            degraded.append(outcome)
    answer = xml_answer(delete_result_xml([] if request.quiet else deleted, failures))
    answer.head += degraded_line(*degraded)
    return answer


async def get_object_tagging(context: RequestContext) -> Answer:
    """An object without tags has an empty set, where a bucket has none: S3 differs so."""
    bucket = await context.bucket()
    row = await context.store.get_row(bucket, context.key)
    if row is None:
        raise S3Error("NoSuchKey", fields={"Key": context.key.decode()})
    return xml_answer(tagging_xml({} if row.extras is None else row.extras.tags))


async def put_object_tagging(context: RequestContext) -> Answer:
    """These are its tags, and no others."""
    bucket = await context.bucket()
    document = await read_document(context)
    written = hashlib.sha256(document).hexdigest()
    tags = checked_tags(read_tagging(document))
    return Answer(200, await _change_tags(context, bucket, tags, written))


async def delete_object_tagging(context: RequestContext) -> Answer:
    """Remove the object's tags."""
    return Answer(204, await _change_tags(context, await context.bucket(), {}))


async def _change_tags(
    context: RequestContext, bucket: Bucket, tags: dict[str, str], *written: str
) -> str:
    context.require_extras()
    change, write_id = ExtrasChange(tags=tags), context.write_id(*written)
    return degraded_line(await context.store.change_extras(bucket, context.key, change, *write_id))
