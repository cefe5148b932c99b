"""ListMultipartUploads: open uploads in order of key and birth, with prefixes rolled up."""

from __future__ import annotations

from octad.sharding.limits import LIST_KEYS_MAX
from octad.storage_node.index.rows import UploadRow
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.protocol.answers import Answer, xml_answer
from octad.storage_node.s3.protocol.listing_requests import (
    UploadListing,
    after_prefix,
    first_upload_after,
    parse_list_uploads,
)
from octad.storage_node.s3.protocol.multipart import parse_upload_id
from octad.storage_node.s3.protocol.xml.documents import (
    ListMultipartUploads,
    UploadEntry,
    list_multipart_uploads_xml,
)
from octad.storage_node.shards.listing.listing_merge import common_prefix
from octad.storage_node.shards.object_store import Bucket

# (key, upload id, row), or (common prefix, b"", None).
_Found = tuple[bytes, bytes, UploadRow | None]


async def list_uploads(context: RequestContext) -> Answer:
    """One page."""
    listing = parse_list_uploads(context.query)
    marker = parse_upload_id(listing.upload_id_marker) if listing.upload_id_marker else b""
    bucket = await context.bucket()
    found = await _found(context, bucket, listing, marker) if listing.max_uploads else []
    page = found[: listing.max_uploads]
    truncated = len(found) > len(page)
    last_key, last_upload_id = page[-1][:2] if page else (b"", b"")  # Told on the last page, too.
    return xml_answer(
        list_multipart_uploads_xml(
            ListMultipartUploads(
                bucket=bucket.name,
                max_uploads=listing.max_uploads,
                is_truncated=truncated,
                uploads=[
                    _entry(context, key, upload_id, row) for key, upload_id, row in page if row
                ],
                common_prefixes=[name for name, _, row in page if row is None],
                prefix=listing.prefix,
                delimiter=listing.delimiter,
                key_marker=listing.key_marker,
                upload_id_marker=listing.upload_id_marker,
                next_key_marker=last_key,
                next_upload_id_marker=last_upload_id.hex(),
                url_encoding=listing.url_encoding,
            )
        )
    )


async def _found(
    context: RequestContext, bucket: Bucket, listing: UploadListing, marker: bytes
) -> list[_Found]:
    """Up to one entry more than the page holds, which shows whether there is another page."""
    found: list[_Found] = []
    after = first_upload_after(listing, marker)
    while True:
        rows = await context.store.list_uploads(bucket, listing.prefix, after, LIST_KEYS_MAX)
        for key, upload_id, row in rows:
            if (key, upload_id) <= after:
                continue  # Under a prefix that has just been rolled up.
            rolled_up = common_prefix(key, listing.prefix, listing.delimiter)
            if rolled_up is None:
                found.append((key, upload_id, row))
                after = key, upload_id
            else:
                found.append((rolled_up, b"", None))
                after = after_prefix(rolled_up)
            if len(found) > listing.max_uploads:
                return found
        if len(rows) < LIST_KEYS_MAX:
            return found


def _entry(context: RequestContext, key: bytes, upload_id: bytes, row: UploadRow) -> UploadEntry:
    owner, checksum = context.shown(row.owner), (row.checksum_algorithm, row.checksum_type)
    return UploadEntry(key, upload_id.hex(), owner, row.initiated_ms, *checksum)
