"""Buckets: make, look at, remove and list them."""

from __future__ import annotations

import msgspec

from octad.client.calls.placement import PLACEMENT_HEADER
from octad.client.s3.access_lists import ANONYMOUS
from octad.client.s3.errors import S3Error
from octad.coordinator.schema.bucket_settings import BucketSettings
from octad.storage_node.s3.handlers.bodies import read_document
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.protocol.answers import Answer, xml_answer
from octad.storage_node.s3.protocol.asked_lists import new_bucket_settings
from octad.storage_node.s3.protocol.listing_requests import encode_token, parse_list_buckets
from octad.storage_node.s3.protocol.requests.locations import FIRST_REGION, check_location
from octad.storage_node.s3.protocol.requests.names import check_new_bucket_name
from octad.storage_node.s3.protocol.requests.request_headers import wants_strict
from octad.storage_node.s3.protocol.xml.documents import BucketEntry, list_buckets_xml
from octad.storage_node.s3.protocol.xml.requests import read_create_bucket_configuration
from octad.storage_node.shards.object_store import BucketAlreadyExists, NoSuchBucket, NoSuchPool


async def list_buckets(context: RequestContext) -> Answer:
    """The asker's own buckets, by name."""
    listing = parse_list_buckets(context.query)
    found = [
        BucketEntry(bucket.name, bucket.created_ms)
        for bucket in await context.store.list_buckets(context.owner)
        if bucket.name.startswith(listing.prefix) and bucket.name > listing.after
    ]
    page = found[: listing.max_buckets]
    more = len(found) > len(page)
    return xml_answer(
        list_buckets_xml(
            context.shown(context.owner),
            page,
            prefix=listing.prefix,
            continuation_token=encode_token(page[-1].name.encode()) if more else None,
        )
    )


async def create_bucket(context: RequestContext) -> Answer:
    """Make a bucket. There is one region, so a client may ask for that one, or for a pool."""
    check_new_bucket_name(context.bucket_name)
    location = read_create_bucket_configuration(await read_document(context))
    check_location(location, context.region)
    if location == context.region:
        location = ""
    usual = context.new_buckets
    asked = new_bucket_settings(context.headers, usual, context.owner, context.owner_of_id)
    settings = msgspec.structs.replace(usual, **asked)
    strict = wants_strict(context.headers)
    try:
        await _create(context, location, settings, strict=strict)
    except NoSuchPool as error:
        fields = {"LocationConstraint": location}
        raise S3Error("InvalidLocationConstraint", f"{error}.", fields=fields) from error
    except NoSuchBucket as error:  # It was there, and was deleted meanwhile.
        fields = {"BucketName": context.bucket_name}
        raise S3Error("OperationAborted", fields=fields) from error
    return Answer(200, f"Location: /{context.bucket_name}\r\n")


async def _create(
    context: RequestContext, location: str, settings: BucketSettings, *, strict: bool
) -> None:
    try:
        await context.store.create_bucket(
            context.bucket_name, context.owner, location, strict=strict, settings=settings
        )
    except BucketAlreadyExists as error:
        fields = {"BucketName": context.bucket_name}
        if error.owner != context.owner:
            raise S3Error("BucketAlreadyExists", fields=fields) from error
        elsewhere = location != (await context.store.get_bucket(context.bucket_name)).location
        if context.region != FIRST_REGION or elsewhere:
            raise S3Error("BucketAlreadyOwnedByYou", fields=fields) from error


async def head_bucket(context: RequestContext) -> Answer:
    """Whether the bucket is there and the asker's; with a signature, where its keys are placed."""
    bucket = await context.bucket()
    placed = ""
    if context.owner != ANONYMOUS:
        placed = f"{PLACEMENT_HEADER}: {bucket.pool}/{bucket.id}\r\n"
    return Answer(200, f"x-amz-bucket-region: {context.region}\r\n{placed}")


async def delete_bucket(context: RequestContext) -> Answer:
    """Remove an empty bucket."""
    await context.store.delete_bucket(await context.bucket())
    return Answer(204)
