"""ListObjects in both versions, and ListObjectVersions."""

from __future__ import annotations

from collections.abc import Iterable

from octad.storage_node.index.index_format import ListedRow
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.protocol.answers import Answer, xml_answer
from octad.storage_node.s3.protocol.listing_requests import (
    ObjectListing,
    encode_token,
    parse_list_objects,
    parse_list_objects_v2,
    parse_list_versions,
)
from octad.storage_node.s3.protocol.object_headers import checksum_type
from octad.storage_node.s3.protocol.xml.documents import (
    ListObjectsV1,
    ListObjectsV2,
    ObjectEntry,
    list_object_versions_xml,
    list_objects_v1_xml,
    list_objects_v2_xml,
)
from octad.storage_node.shards.object_store import Bucket, ListPage, ListQuery

_NOTHING = ListPage((), truncated=False)


async def list_objects(context: RequestContext) -> Answer:
    """Version 1: the next page starts after a name that is shown openly."""
    bucket = await context.bucket()
    listing = parse_list_objects(context.query)
    page = await _page(context, bucket, listing)
    # Without a delimiter the client takes the last key for it, as it always did on S3.
    shows_marker = page.truncated and bool(listing.delimiter)
    return xml_answer(
        list_objects_v1_xml(_shown(context, bucket, listing, page, shows_marker=shows_marker))
    )


def _shown(
    context: RequestContext,
    bucket: Bucket,
    listing: ObjectListing,
    page: ListPage,
    *,
    shows_marker: bool,
) -> ListObjectsV1:
    return ListObjectsV1(
        bucket=bucket.name,
        max_keys=listing.max_keys,
        is_truncated=page.truncated,
        objects=_objects(page.entries),
        common_prefixes=_common_prefixes(page.entries),
        prefix=listing.prefix,
        delimiter=listing.delimiter,
        marker=listing.marker,
        next_marker=page.entries[-1][0] if shows_marker else b"",
        owner=context.shown(bucket.owner),
        url_encoding=listing.url_encoding,
    )


async def list_object_versions(context: RequestContext) -> Answer:
    """Every object as the one version that it has, in a bucket that never had versions."""
    bucket = await context.bucket()
    listing = parse_list_versions(context.query)
    page = await _page(context, bucket, listing)
    return xml_answer(
        list_object_versions_xml(
            _shown(context, bucket, listing, page, shows_marker=page.truncated),
            listing.version_marker,
        )
    )


async def list_objects_v2(context: RequestContext) -> Answer:
    """Version 2: the next page starts where an opaque token says."""
    bucket = await context.bucket()
    listing = parse_list_objects_v2(context.query)
    page = await _page(context, bucket, listing)
    return xml_answer(
        list_objects_v2_xml(
            ListObjectsV2(
                bucket=bucket.name,
                max_keys=listing.max_keys,
                is_truncated=page.truncated,
                objects=_objects(page.entries),
                common_prefixes=_common_prefixes(page.entries),
                prefix=listing.prefix,
                delimiter=listing.delimiter,
                start_after=listing.start_after,
                continuation_token=listing.continuation_token,
                next_continuation_token=(
                    encode_token(page.entries[-1][0]) if page.truncated else None
                ),
                owner=context.shown(bucket.owner) if listing.fetch_owner else None,
                url_encoding=listing.url_encoding,
            )
        )
    )


async def _page(context: RequestContext, bucket: Bucket, listing: ObjectListing) -> ListPage:
    if listing.max_keys == 0:
        return _NOTHING
    query = ListQuery(listing.prefix, listing.delimiter, listing.after, listing.max_keys)
    return await context.store.list_keys(bucket, query)


def _objects(entries: Iterable[tuple[bytes, ObjectRow | ListedRow | None]]) -> list[ObjectEntry]:
    return [
        ObjectEntry(
            key,
            row.modified_ms,
            row.etag,
            row.size,
            next(iter(row.checksums), ""),
            checksum_type(row.checksums),
        )
        for key, row in entries
        if row is not None
    ]


def _common_prefixes(entries: Iterable[tuple[bytes, ObjectRow | ListedRow | None]]) -> list[bytes]:
    return [name for name, row in entries if row is None]
