"""A bucket's tags and cross-origin rules; its other settings always have their defaults.

Who may be let in is beside this, in `access_lists.py` and `public_access.py`.
"""

from __future__ import annotations

from octad.client.s3.errors import S3Error
from octad.storage_node.s3.handlers.bodies import read_document
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.protocol.answers import Answer, xml_answer
from octad.storage_node.s3.protocol.cors import check_rules
from octad.storage_node.s3.protocol.requests.s3_operations import S3Operation
from octad.storage_node.s3.protocol.requests.tags import BUCKET_TAGS_MAX, checked_tags
from octad.storage_node.s3.protocol.xml.documents import (
    location_constraint_xml,
    versioning_configuration_xml,
)
from octad.storage_node.s3.protocol.xml.requests import read_tagging
from octad.storage_node.s3.protocol.xml.settings import (
    cors_configuration_xml,
    read_cors_configuration,
)
from octad.storage_node.s3.protocol.xml.tagging import tagging_xml

_NOT_CONFIGURED = {
    S3Operation.GET_BUCKET_POLICY: "NoSuchBucketPolicy",
    S3Operation.GET_OBJECT_LOCK_CONFIGURATION: "ObjectLockConfigurationNotFoundError",
    S3Operation.GET_BUCKET_ENCRYPTION: "ServerSideEncryptionConfigurationNotFoundError",
    S3Operation.GET_BUCKET_LIFECYCLE: "NoSuchLifecycleConfiguration",
}


async def get_bucket_location(context: RequestContext) -> Answer:
    """The pool that its creator chose, else this cluster's one region."""
    bucket = await context.bucket()
    return xml_answer(location_constraint_xml(bucket.location or context.region))


async def get_bucket_versioning(context: RequestContext) -> Answer:
    """Never enabled."""
    await context.bucket()
    return xml_answer(versioning_configuration_xml())


async def get_configuration(context: RequestContext) -> Answer:
    """The error for configurations that cannot exist yet."""
    bucket = await context.bucket()
    raise S3Error(_NOT_CONFIGURED[context.operation], fields={"BucketName": bucket.name})


async def lock_is_missing(context: RequestContext) -> Answer:
    """Nothing is locked here, and no bucket has what S3 wants for it: its answers to such a one."""
    await context.bucket()
    if context.operation is S3Operation.PUT_OBJECT_LOCK_CONFIGURATION:
        raise S3Error("InvalidBucketState")
    raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")


async def get_bucket_tagging(context: RequestContext) -> Answer:
    """Its tags; a bucket without any has no set of them, where an object has an empty one."""
    bucket = await context.bucket()
    if not bucket.tags:
        raise S3Error("NoSuchTagSet", fields={"BucketName": bucket.name})
    return xml_answer(tagging_xml(bucket.tags))


async def put_bucket_tagging(context: RequestContext) -> Answer:
    """All of its tags."""
    tags = checked_tags(read_tagging(await read_document(context)), BUCKET_TAGS_MAX)
    return await _set(context, tags=tags)


async def delete_bucket_tagging(context: RequestContext) -> Answer:
    """None any more."""
    return await _set(context, tags={})


async def get_bucket_cors(context: RequestContext) -> Answer:
    """Its rules for pages of other origins."""
    bucket = await context.bucket()
    if not bucket.cors:
        raise S3Error("NoSuchCORSConfiguration", fields={"BucketName": bucket.name})
    return xml_answer(cors_configuration_xml(bucket.cors))


async def put_bucket_cors(context: RequestContext) -> Answer:
    """All of its rules."""
    rules = read_cors_configuration(await read_document(context))
    check_rules(rules)
    await _set(context, cors=rules)
    return Answer(200)


async def delete_bucket_cors(context: RequestContext) -> Answer:
    """None any more."""
    return await _set(context, cors=())


async def _set(context: RequestContext, **fields: object) -> Answer:
    await context.store.change_bucket(await context.bucket(), lambda _: fields)
    return Answer(204)
