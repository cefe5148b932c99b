"""Answers to clients that ask how a bucket is set up, where the answer is always: as by default.

Each needs its bucket (or object) to exist and to be the asker's, as on S3.
"""

from __future__ import annotations

from octad.client.s3.errors import S3Error
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.protocol.answers import Answer, xml_answer
from octad.storage_node.s3.protocol.requests.s3_operations import S3Operation
from octad.storage_node.s3.protocol.xml.documents import (
    Owner,
    access_control_policy_xml,
    location_constraint_xml,
    versioning_configuration_xml,
)

_NOT_CONFIGURED = {
    S3Operation.GET_BUCKET_POLICY: "NoSuchBucketPolicy",
    S3Operation.GET_BUCKET_TAGGING: "NoSuchTagSet",
    S3Operation.GET_OBJECT_LOCK_CONFIGURATION: "ObjectLockConfigurationNotFoundError",
    S3Operation.GET_BUCKET_CORS: "NoSuchCORSConfiguration",
    S3Operation.GET_BUCKET_ENCRYPTION: "ServerSideEncryptionConfigurationNotFoundError",
    S3Operation.GET_BUCKET_LIFECYCLE: "NoSuchLifecycleConfiguration",
}


async def get_bucket_location(context: RequestContext) -> Answer:
    """What its maker asked for: a pool, else the one region that this cluster is."""
    bucket = await context.bucket()
    return xml_answer(location_constraint_xml(bucket.location or context.region))


async def get_bucket_versioning(context: RequestContext) -> Answer:
    """Never enabled."""
    await context.bucket()
    return xml_answer(versioning_configuration_xml())


async def get_bucket_acl(context: RequestContext) -> Answer:
    """The owner may do everything, no one else anything."""
    bucket = await context.bucket()
    return xml_answer(access_control_policy_xml(Owner(bucket.owner, bucket.owner)))


async def get_object_acl(context: RequestContext) -> Answer:
    """As its bucket's."""
    bucket = await context.bucket()
    if await context.store.get_row(bucket, context.key) is None:
        raise S3Error("NoSuchKey")
    return xml_answer(access_control_policy_xml(Owner(bucket.owner, bucket.owner)))


async def get_configuration(context: RequestContext) -> Answer:
    """What no one can have configured yet."""
    bucket = await context.bucket()
    raise S3Error(_NOT_CONFIGURED[context.operation], fields={"BucketName": bucket.name})
