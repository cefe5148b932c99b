"""Listings: pages of keys, one after the other, without a token in the caller's sight."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from octad.client.calls.caller import Caller
from octad.client.calls.documents import decoded, text_of
from octad.client.calls.refusals import document_of
from octad.client.calls.requests import Request, query_of
from octad.client.objects.results import BucketInfo, CommonPrefix, ObjectInfo

Item = ObjectInfo | CommonPrefix


async def list_pages(
    caller: Caller,
    bucket: str,
    prefix: str,
    delimiter: str,
    start_after: str,
    deadline_s: float | None,
) -> AsyncGenerator[list[Item], None]:
    """Objects and common prefixes in byte order, a page at a time."""
    query = {"list-type": "2", "encoding-type": "url", "prefix": prefix, "delimiter": delimiter}
    query = {name: value for name, value in query.items() if value}
    if start_after:
        query["start-after"] = start_after
    while True:
        request = Request("GET", bucket, query=query_of(query))
        document = document_of((await caller.whole(request, deadline_s)).body, request)
        page: list[tuple[str, Item]] = []
        for entry in document.iter("Contents"):
            key = decoded(entry, "Key")
            etag = text_of(entry, "ETag").strip('"')
            modified = text_of(entry, "LastModified")
            page.append((key, ObjectInfo(key, int(text_of(entry, "Size")), etag, modified, {})))
        for entry in document.iter("CommonPrefixes"):
            common = decoded(entry, "Prefix")
            page.append((common, CommonPrefix(common)))
        if delimiter:
            page.sort(key=lambda named: named[0].encode())
        yield [item for _, item in page]
        token = text_of(document, "NextContinuationToken")
        if text_of(document, "IsTruncated") != "true" or not token:
            return
        query["continuation-token"] = token


async def list_buckets(
    caller: Caller, prefix: str, deadline_s: float | None
) -> AsyncGenerator[BucketInfo, None]:
    """The buckets of these keys' owner, by name."""
    query = {"prefix": prefix} if prefix else {}
    while True:
        request = Request("GET", "", query=query_of(query))
        document = document_of((await caller.whole(request, deadline_s)).body, request)
        for bucket in document.iter("Bucket"):
            yield BucketInfo(text_of(bucket, "Name"), text_of(bucket, "CreationDate"))
        token = text_of(document, "ContinuationToken")
        if not token:
            return
        query["continuation-token"] = token
