"""Access lists of buckets and objects: what is shown is what counts."""

from __future__ import annotations

from collections.abc import Mapping

from octad.client.s3.errors import S3Error
from octad.coordinator.schema.bucket_settings import PRIVATE, BucketSettings
from octad.storage_node.index.rows import ExtrasChange
from octad.storage_node.s3.handlers.bodies import read_document
from octad.storage_node.s3.handlers.request_context import RequestContext, acl_of
from octad.storage_node.s3.protocol.access import acl_that_counts, acl_to_store
from octad.storage_node.s3.protocol.answers import Answer, xml_answer
from octad.storage_node.s3.protocol.object_headers import degraded_line
from octad.storage_node.s3.protocol.requests.request_headers import ACL_HEADER
from octad.storage_node.s3.protocol.xml.settings import (
    access_control_policy_xml,
    read_access_control_policy,
)
from octad.storage_node.shards.object_store import Bucket


async def get_bucket_acl(context: RequestContext) -> Answer:
    """The bucket's."""
    bucket = await context.bucket()
    return _shown(context, bucket, bucket.acl)


async def put_bucket_acl(context: RequestContext) -> Answer:
    """Who, besides its owner, may list the bucket."""
    bucket = await context.bucket()
    asked = await _asked(context, bucket)

    def change(settings: BucketSettings) -> Mapping[str, object]:
        return {"acl": acl_to_store(asked, settings)}

    await context.store.change_bucket(bucket, change)
    return Answer(200)


async def get_object_acl(context: RequestContext) -> Answer:
    """The object's."""
    bucket = await context.bucket()
    row = await context.store.get_row(bucket, context.key)
    if row is None:
        raise S3Error("NoSuchKey", fields={"Key": context.key.decode()})
    return _shown(context, bucket, acl_of(row))


def _shown(context: RequestContext, bucket: Bucket, acl: str) -> Answer:
    owner = context.shown(bucket.owner)
    return xml_answer(access_control_policy_xml(owner, acl_that_counts(bucket, acl)))


async def _asked(context: RequestContext, bucket: Bucket) -> str:
    """The canned list that the request names, in its header or as a document."""
    document = await read_document(context)
    header = context.headers.get(ACL_HEADER, "")
    if header and document:
        raise S3Error("UnexpectedContent")
    if header:
        return header
    if not document:
        raise S3Error(
            "InvalidRequest",
            "An access list is asked for with the header x-amz-acl, or with a document.",
        )
    return read_access_control_policy(document, context.shown(bucket.owner))


async def put_object_acl(context: RequestContext) -> Answer:
    """Who, besides its owner, may read the object; everything else of it stays."""
    bucket = await context.bucket()
    asked = await _asked(context, bucket)
    acl = acl_to_store(asked, bucket)
    row = await context.store.get_row(bucket, context.key)
    if row is None:
        raise S3Error("NoSuchKey", fields={"Key": context.key.decode()})
    if acl == acl_of(row) == PRIVATE:
        return Answer(200)  # No extras are needed for that.
    context.require_extras()
    change = ExtrasChange(acl="" if acl == PRIVATE else acl)
    write_id = context.write_id(acl)
    degraded = await context.store.change_extras(bucket, context.key, change, *write_id)
    return Answer(200, degraded_line(degraded))
