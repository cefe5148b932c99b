"""Access lists of buckets and objects: what is shown is what counts."""

from __future__ import annotations

from collections.abc import Mapping

from octad.client.s3.access_lists import (
    FULL_CONTROL,
    PRIVATE,
    READ_ACP,
    WRITE_ACP,
    Grant,
    grants_of,
)
from octad.client.s3.errors import S3Error
from octad.coordinator.schema.bucket_settings import BucketSettings
from octad.storage_node.index.rows import ExtrasChange
from octad.storage_node.s3.handlers.bodies import read_document
from octad.storage_node.s3.handlers.request_context import RequestContext, acl_of
from octad.storage_node.s3.protocol.access import grants_that_count, may_ask
from octad.storage_node.s3.protocol.answers import Answer, xml_answer
from octad.storage_node.s3.protocol.asked_lists import grants_asked, list_to_store, resolved
from octad.storage_node.s3.protocol.object_headers import degraded_line
from octad.storage_node.s3.protocol.requests.request_headers import LIST_HEADERS
from octad.storage_node.s3.protocol.xml.access_lists import (
    access_control_policy_xml,
    read_access_control_policy,
)
from octad.storage_node.shards.object_store import Bucket, PreconditionFailed


async def get_bucket_acl(context: RequestContext) -> Answer:
    """The bucket's."""
    bucket = await context.bucket()
    return _shown(context, bucket, bucket.acl)


async def put_bucket_acl(context: RequestContext) -> Answer:
    """What others may do with the bucket."""
    bucket = await context.bucket()
    grants = await _asked(context, bucket, bucket.owner)

    def change(settings: BucketSettings) -> Mapping[str, object]:
        # Who was let in by the list that this node knew may have been shut out meanwhile.
        if not may_ask(context.operation, settings, bucket.owner, context.owner):
            raise S3Error("AccessDenied")
        return {"acl": list_to_store(grants, settings, bucket.owner)}

    await context.store.change_bucket(bucket, change)
    return Answer(200)


async def get_object_acl(context: RequestContext) -> Answer:
    """The object's."""
    bucket = await context.bucket()
    row = await context.store.get_row(bucket, context.key)
    context.require_on_object(bucket, row, READ_ACP)
    if row is None:
        raise S3Error("NoSuchKey", fields={"Key": context.key.decode()})
    return _shown(context, bucket, acl_of(row))


def _shown(context: RequestContext, bucket: Bucket, acl: str) -> Answer:
    grants = grants_that_count(bucket, acl, bucket.owner)
    return xml_answer(access_control_policy_xml(context.shown(bucket.owner), grants, context.shown))


async def _asked(context: RequestContext, bucket: Bucket, keeper: str) -> tuple[Grant, ...]:
    """The list that the request asks for, in headers or as a document."""
    document = await read_document(context)
    in_headers = any(context.headers.get(name) for name in LIST_HEADERS)
    if in_headers and document:
        raise S3Error("UnexpectedContent")
    if document:
        asked = read_access_control_policy(document, context.shown(bucket.owner))
        return resolved(asked, context.owner_of_id)
    if not in_headers:
        raise S3Error(
            "InvalidRequest",
            "An access list is asked for with the header x-amz-acl, with x-amz-grant-read and its "
            "like, or with a document.",
        )
    return grants_asked(context.headers, bucket, bucket.owner, keeper, context.owner_of_id)


async def put_object_acl(context: RequestContext) -> Answer:
    """What others may do with the object; everything else of it stays.

    A canned list leaves FULL_CONTROL to another owner who has it, as who wrote the object does.
    """
    bucket = await context.bucket()
    row = await context.store.get_row(bucket, context.key)
    context.require_on_object(bucket, row, WRITE_ACP)
    if row is None:
        raise S3Error("NoSuchKey", fields={"Key": context.key.decode()})
    has_all = Grant(context.owner, FULL_CONTROL) in grants_of(acl_of(row), bucket.owner)
    grants = await _asked(context, bucket, context.owner if has_all else bucket.owner)
    acl = list_to_store(grants, bucket, bucket.owner)
    if acl == acl_of(row) == PRIVATE:
        return Answer(200)  # No extras are needed for that.
    context.require_extras()
    # By what the list of this object gives, nobody changes that of one put there meanwhile.
    before = None if context.owner == bucket.owner else _in_extras(acl_of(row))
    change = ExtrasChange(acl=_in_extras(acl), acl_before=before)
    write_id = context.write_id(acl)
    try:
        degraded = await context.store.change_extras(bucket, context.key, change, *write_id)
    except PreconditionFailed as error:
        raise S3Error("OperationAborted") from error
    return Answer(200, degraded_line(degraded))


def _in_extras(acl: str) -> str:
    return "" if acl == PRIVATE else acl
