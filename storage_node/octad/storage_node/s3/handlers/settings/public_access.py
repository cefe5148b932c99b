"""Whether a bucket's access lists count, and what of public access is refused."""

from __future__ import annotations

from collections.abc import Mapping

from octad.client.s3.access_lists import PRIVATE
from octad.client.s3.errors import S3Error
from octad.coordinator.schema.bucket_settings import OWNER_ENFORCED, BucketSettings
from octad.storage_node.s3.handlers.bodies import read_document
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.protocol.access import grants_that_count
from octad.storage_node.s3.protocol.answers import Answer, xml_answer
from octad.storage_node.s3.protocol.asked_lists import is_public
from octad.storage_node.s3.protocol.xml.settings import (
    ownership_controls_xml,
    policy_status_xml,
    public_access_block_xml,
    read_ownership_controls,
    read_public_access_block,
)


async def get_ownership_controls(context: RequestContext) -> Answer:
    """The bucket's ownership controls."""
    bucket = await context.bucket()
    if not bucket.ownership:
        raise S3Error("OwnershipControlsNotFoundError", fields={"BucketName": bucket.name})
    return xml_answer(ownership_controls_xml(bucket.ownership))


async def put_ownership_controls(context: RequestContext) -> Answer:
    """A setting that voids the bucket's list is refused until that is private."""
    ownership = read_ownership_controls(await read_document(context))

    def change(settings: BucketSettings) -> Mapping[str, object]:
        if ownership == OWNER_ENFORCED and settings.acl != PRIVATE:
            raise S3Error("InvalidBucketAclWithObjectOwnership")
        return {"ownership": ownership}

    await context.store.change_bucket(await context.bucket(), change)
    return Answer(200)


async def delete_ownership_controls(context: RequestContext) -> Answer:
    """None: access lists count."""
    await context.store.change_bucket(await context.bucket(), lambda _: {"ownership": ""})
    return Answer(204)


async def get_public_access_block(context: RequestContext) -> Answer:
    """The blocked kinds of access."""
    bucket = await context.bucket()
    if bucket.public_access is None:
        fields = {"BucketName": bucket.name}
        raise S3Error("NoSuchPublicAccessBlockConfiguration", fields=fields)
    return xml_answer(public_access_block_xml(bucket.public_access))


async def put_public_access_block(context: RequestContext) -> Answer:
    """Block what is said, and nothing else any more."""
    block = read_public_access_block(await read_document(context))
    await context.store.change_bucket(await context.bucket(), lambda _: {"public_access": block})
    return Answer(200)


async def delete_public_access_block(context: RequestContext) -> Answer:
    """Block nothing."""
    await context.store.change_bucket(await context.bucket(), lambda _: {"public_access": None})
    return Answer(204)


async def get_policy_status(context: RequestContext) -> Answer:
    """Whether the bucket is open to everybody. There are no policies: its access list decides."""
    bucket = await context.bucket()
    grants = grants_that_count(bucket, bucket.acl, bucket.owner)
    return xml_answer(policy_status_xml(is_public=is_public(grants)))
