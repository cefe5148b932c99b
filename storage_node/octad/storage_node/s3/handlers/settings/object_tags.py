"""Tags of an object that stands: all else of it stays as it is, its time and its ETag too."""

from __future__ import annotations

import hashlib

from octad.client.s3.errors import S3Error
from octad.storage_node.index.rows import ExtrasChange
from octad.storage_node.s3.handlers.bodies import read_document
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.protocol.answers import Answer, xml_answer
from octad.storage_node.s3.protocol.object_headers import degraded_line
from octad.storage_node.s3.protocol.tags import checked_tags
from octad.storage_node.s3.protocol.xml.requests import read_tagging
from octad.storage_node.s3.protocol.xml.tagging import tagging_xml
from octad.storage_node.shards.object_store import Bucket


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
    tags = checked_tags(read_tagging(document))
    return Answer(200, await _change(context, bucket, tags, hashlib.sha256(document).hexdigest()))


async def delete_object_tagging(context: RequestContext) -> Answer:
    """It has no tags."""
    return Answer(204, await _change(context, await context.bucket(), {}))


async def _change(
    context: RequestContext, bucket: Bucket, tags: dict[str, str], *written: str
) -> str:
    context.require_extras()
    change, write_id = ExtrasChange(tags=tags), context.write_id(*written)
    return degraded_line(await context.store.change_extras(bucket, context.key, change, *write_id))
