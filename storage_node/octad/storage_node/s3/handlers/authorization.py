"""Authorization: decided for every request in this one place, before anything is done for it.

A bucket's owner may do everything with it; others only what access lists give them. An object's
list shows only where its row is read, so what depends on it is let by here and held there
(`RequestContext.require_on_object`): an unchecked answer is never sent.

A request without credentials is refused in the same words whether the bucket exists or not.
"""

from __future__ import annotations

from contextlib import suppress

from octad.client.s3.access_lists import ANONYMOUS
from octad.client.s3.errors import S3Error
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.protocol.access import OF_UPLOADS, may_ask
from octad.storage_node.s3.protocol.copying import parse_copy_source
from octad.storage_node.s3.protocol.multipart import parse_upload_id
from octad.storage_node.s3.protocol.requests.names import check_owner_name
from octad.storage_node.s3.protocol.requests.parameters import OVERRIDES
from octad.storage_node.s3.protocol.requests.request_headers import WRITE_OFFSET
from octad.storage_node.s3.protocol.requests.s3_operations import S3Operation
from octad.storage_node.shards.object_store import Bucket, NoSuchBucket, NoSuchUpload

COPY_SOURCE = "x-amz-copy-source"


async def authorize(context: RequestContext) -> None:
    """Returns if the sender of the request may have it, and leaves its buckets in the context.

    Raises S3Error for anyone else, and NoSuchBucket.
    """
    operation = context.operation
    if operation is S3Operation.LIST_BUCKETS or operation is S3Operation.CREATE_BUCKET:
        if context.owner == ANONYMOUS:
            raise S3Error("AccessDenied")
        return
    context.found_bucket = await _admit_to(
        context, context.bucket_name, operation, "x-amz-expected-bucket-owner"
    )
    if operation is S3Operation.COPY_OBJECT or operation is S3Operation.UPLOAD_PART_COPY:
        context.found_source = await _admit_to(
            context,
            parse_copy_source(context.headers[COPY_SOURCE]).bucket,
            S3Operation.GET_OBJECT,
            "x-amz-source-expected-bucket-owner",
        )


async def _admit_to(
    context: RequestContext, name: str, operation: S3Operation, expectation: str
) -> Bucket:
    """The bucket, if the sender may have `operation` there; header `expectation` may name an owner.

    If that depends on the object, the context is left waiting for `readable`.
    """
    asker = context.owner
    try:
        bucket = await context.store.get_bucket(name)
    except NoSuchBucket:
        if asker == ANONYMOUS:
            raise S3Error("AccessDenied") from None
        raise
    expected = context.headers.get(expectation)
    if expected is not None:
        check_owner_name(expected)
        if expected not in (bucket.owner, context.shown(bucket.owner).id):
            raise S3Error("AccessDenied")
    if bucket.owner == asker and asker != ANONYMOUS:
        return bucket
    allowed = may_ask(operation, bucket, bucket.owner, asker)
    if allowed is False:
        raise S3Error("AccessDenied")
    if operation in OF_UPLOADS:
        await _check_initiator(context, bucket)
    # An answer to an append tells of the whole object, which a writer may not be let to read.
    if operation is S3Operation.PUT_OBJECT and context.headers.get(WRITE_OFFSET):
        raise S3Error("AccessDenied")
    if asker == ANONYMOUS and not OVERRIDES.keys().isdisjoint(context.query):
        raise S3Error(
            "InvalidRequest",
            "Request specific response headers cannot be used for anonymous GET requests.",
        )
    context.object_decides = allowed is None
    return bucket


async def _check_initiator(context: RequestContext, bucket: Bucket) -> None:
    """One that has ended is let by: it has nothing, and a Complete of it shows by its parts."""
    upload_id = parse_upload_id(context.query["uploadId"])
    with suppress(NoSuchUpload):
        upload = await context.store.get_upload(bucket, context.key, upload_id)
        if upload.owner != context.owner:
            raise S3Error("AccessDenied")
