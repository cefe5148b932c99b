"""Buckets: make, look at, remove and list them."""

from __future__ import annotations

from octad.client.core.s3_errors import S3Error
from octad.client.core.s3_xml import BucketEntry, Owner, list_buckets_xml
from octad.client.core.s3_xml_requests import read_create_bucket_configuration
from octad.sharding.pool_names import POOL_NAME_PREFIX
from octad.storage_node.core.object_store import BucketAlreadyExists, NoSuchPool
from octad.storage_node.s3.answers import Answer, xml_answer
from octad.storage_node.s3.listing import encode_token, parse_list_buckets
from octad.storage_node.s3.request_headers import wants_strict
from octad.storage_node.shell.front_door.bodies import read_document
from octad.storage_node.shell.front_door.exchange import Exchange

# Where S3 began, a bucket that one owns may be made again; everywhere else that is an error.
_FIRST_REGION = "us-east-1"


async def list_buckets(exchange: Exchange) -> Answer:
    """The asker's own buckets, by name."""
    listing = parse_list_buckets(exchange.query)
    found = [
        BucketEntry(bucket.name, bucket.created_ms)
        for bucket in await exchange.store.list_buckets(exchange.owner)
        if bucket.name.startswith(listing.prefix) and bucket.name > listing.after
    ]
    page = found[: listing.max_buckets]
    more = len(found) > len(page)
    return xml_answer(
        list_buckets_xml(
            Owner(exchange.owner, exchange.owner),
            page,
            prefix=listing.prefix,
            continuation_token=encode_token(page[-1].name.encode()) if more else None,
        )
    )


async def create_bucket(exchange: Exchange) -> Answer:
    """Make a bucket. There is one region, so a client may ask for that one, or for a pool."""
    location = read_create_bucket_configuration(await read_document(exchange))
    if location == exchange.region:
        location = ""
    asked = {"LocationConstraint": location}
    if location and not location.startswith(POOL_NAME_PREFIX):
        raise S3Error("IllegalLocationConstraintException", fields=asked)
    answer = Answer(200, f"Location: /{exchange.bucket_name}\r\n")
    strict = wants_strict(exchange.headers)
    try:
        await exchange.store.create_bucket(
            exchange.bucket_name, exchange.owner, location, strict=strict
        )
    except NoSuchPool as error:
        raise S3Error("InvalidLocationConstraint", f"{error}.", fields=asked) from error
    except BucketAlreadyExists as error:
        fields = {"BucketName": exchange.bucket_name}
        if error.owner != exchange.owner:
            raise S3Error("BucketAlreadyExists", fields=fields) from error
        elsewhere = location != (await exchange.bucket()).location
        if exchange.region != _FIRST_REGION or elsewhere:
            raise S3Error("BucketAlreadyOwnedByYou", fields=fields) from error
    return answer


async def head_bucket(exchange: Exchange) -> Answer:
    """Whether the bucket is there and the asker's."""
    await exchange.bucket()
    return Answer(200, f"x-amz-bucket-region: {exchange.region}\r\n")


async def delete_bucket(exchange: Exchange) -> Answer:
    """Remove an empty bucket."""
    await exchange.store.delete_bucket(await exchange.bucket())
    return Answer(204)
