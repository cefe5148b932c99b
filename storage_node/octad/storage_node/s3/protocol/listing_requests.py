"""Listings: what a request asks for, and where its next page starts.

A page of keys is in byte order of the keys. `max-keys` counts keys and common prefixes together.
The continuation token is opaque to clients: a format version, a checksum that recognises a token of
anybody else, and the name that the next page starts after.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from octad.client.s3.errors import S3Error
from octad.sharding.limits import LIST_KEYS_MAX, PART_NUMBER_MAX
from octad.storage_node.index.key_ranges import past
from octad.storage_node.s3.protocol.requests.parameters import check_version
from octad.storage_node.shards.listing.listing_merge import common_prefix

BUCKETS_MAX: Final = 10_000  # ListBuckets' own limit on `max-buckets`.

_COUNT: Final = re.compile(r"\d{1,10}", re.ASCII)
_COUNT_MAX: Final = 2**31 - 1
_PAST_ALL_UPLOADS: Final = b"\xff" * 17  # Longer than any upload id.
_TOKEN_VERSION: Final = b"\x01"
_TOKEN_HEAD_BYTES: Final = 1 + 4


@dataclass(frozen=True, slots=True)
class ObjectListing:
    """ListObjects or ListObjectsV2 as asked for."""

    prefix: bytes
    delimiter: bytes
    after: bytes  # Where the page starts, exclusive.
    max_keys: int
    url_encoding: bool
    marker: bytes = b""  # As it was given, to be shown again; V1 and versions.
    version_marker: str = ""  # Versions, to be shown again.
    start_after: bytes = b""  # V2, to be shown again.
    continuation_token: str | None = None  # V2, to be shown again.
    fetch_owner: bool = False  # V2.


@dataclass(frozen=True, slots=True)
class UploadListing:
    """ListMultipartUploads as asked for."""

    prefix: bytes
    delimiter: bytes
    key_marker: bytes
    upload_id_marker: str
    max_uploads: int
    url_encoding: bool


@dataclass(frozen=True, slots=True)
class PartListing:
    """Parts as asked for, of an upload or of an object."""

    after: int
    max_parts: int


@dataclass(frozen=True, slots=True)
class BucketListing:
    """ListBuckets as asked for."""

    prefix: str
    after: str
    max_buckets: int


def parse_list_objects(query: Mapping[str, str]) -> ObjectListing:
    """ListObjects (version 1)."""
    return _from_marker(query, "marker")


def parse_list_versions(query: Mapping[str, str]) -> ObjectListing:
    """ListObjectVersions; a key's one version is past with the key."""
    version_marker = query.get("version-id-marker", "")
    if version_marker and not query.get("key-marker"):
        raise invalid_argument(
            "version-id-marker",
            version_marker,
            "A version-id marker cannot be specified without a key marker.",
        )
    if version_marker:
        check_version(version_marker)
    return replace(_from_marker(query, "key-marker"), version_marker=version_marker)


def _from_marker(query: Mapping[str, str], name: str) -> ObjectListing:
    prefix, delimiter = query.get("prefix", "").encode(), query.get("delimiter", "").encode()
    marker = query.get(name, "").encode()
    return ObjectListing(
        prefix=prefix,
        delimiter=delimiter,
        after=past_rolled_up(marker, prefix, delimiter) or marker,
        max_keys=_max_keys(query),
        url_encoding=_url_encoding(query),
        marker=marker,
    )


def parse_list_objects_v2(query: Mapping[str, str]) -> ObjectListing:
    """ListObjectsV2; a continuation token outweighs `start-after`."""
    if query["list-type"] != "2":
        raise invalid_argument("list-type", query["list-type"], "Invalid List Type")
    token = query.get("continuation-token")
    start_after = query.get("start-after", "").encode()
    return ObjectListing(
        prefix=query.get("prefix", "").encode(),
        delimiter=query.get("delimiter", "").encode(),
        after=start_after if token is None else decode_token(token),
        max_keys=_max_keys(query),
        url_encoding=_url_encoding(query),
        start_after=start_after,
        continuation_token=token,
        fetch_owner=query.get("fetch-owner", "").lower() == "true",
    )


def parse_list_uploads(query: Mapping[str, str]) -> UploadListing:
    """ListMultipartUploads; an upload id marker means nothing without a key marker."""
    key_marker = query.get("key-marker", "").encode()
    return UploadListing(
        prefix=query.get("prefix", "").encode(),
        delimiter=query.get("delimiter", "").encode(),
        key_marker=key_marker,
        upload_id_marker=query.get("upload-id-marker", "") if key_marker else "",
        max_uploads=min(_count(query, "max-uploads", LIST_KEYS_MAX), LIST_KEYS_MAX),
        url_encoding=_url_encoding(query),
    )


def parse_list_parts(query: Mapping[str, str]) -> PartListing:
    """ListParts."""
    return PartListing(
        after=min(_count(query, "part-number-marker", 0), PART_NUMBER_MAX),
        max_parts=min(_count(query, "max-parts", LIST_KEYS_MAX), LIST_KEYS_MAX),
    )


def parse_object_parts(headers: Mapping[str, str]) -> PartListing:
    """The parts that GetObjectAttributes is to return, which names them in headers."""
    return PartListing(
        after=min(_count(headers, "x-amz-part-number-marker", 0), PART_NUMBER_MAX),
        max_parts=min(_count(headers, "x-amz-max-parts", LIST_KEYS_MAX), LIST_KEYS_MAX),
    )


def parse_list_buckets(query: Mapping[str, str]) -> BucketListing:
    """ListBuckets."""
    max_buckets = _count(query, "max-buckets", BUCKETS_MAX)
    if not 1 <= max_buckets <= BUCKETS_MAX:
        raise invalid_argument("max-buckets", query["max-buckets"])
    token = query.get("continuation-token")  # Some clients send an empty one with the first page.
    return BucketListing(
        prefix=query.get("prefix", ""),
        after=decode_token(token).decode("utf-8", "replace") if token else "",
        max_buckets=max_buckets,
    )


def encode_token(name: bytes) -> str:
    """The continuation token of a page that starts after `name`."""
    checksum = zlib.crc32(name).to_bytes(4, "big")
    return base64.urlsafe_b64encode(_TOKEN_VERSION + checksum + name).decode()


def decode_token(token: str) -> bytes:
    """The name in a continuation token; raises InvalidArgument for what is no token of ours."""
    try:
        data = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    name = data[_TOKEN_HEAD_BYTES:]
    if data[:_TOKEN_HEAD_BYTES] != _TOKEN_VERSION + zlib.crc32(name).to_bytes(4, "big"):
        raise invalid_argument(
            "continuation-token", token, "The continuation token provided is incorrect"
        )
    return name


def past_rolled_up(marker: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """The common prefix that `marker` is or lies in, which the page before has shown; else None.

    A marker names what was listed last, so all of that is past, also where it names a key inside.
    """
    return common_prefix(marker, prefix, delimiter) if marker.startswith(prefix) else None


def first_upload_after(listing: UploadListing, upload_id: bytes) -> tuple[bytes, bytes]:
    """Where the page starts, exclusive, as (key, id); `upload_id` is the marker's, or empty."""
    marker = listing.key_marker
    rolled_up = past_rolled_up(marker, listing.prefix, listing.delimiter)
    if rolled_up is not None:
        return after_prefix(rolled_up)
    return marker, upload_id or _PAST_ALL_UPLOADS


def after_prefix(prefix: bytes) -> tuple[bytes, bytes]:
    """Where a listing of uploads goes on, exclusive, past all keys that start with `prefix`."""
    beyond = past(prefix)
    assert beyond is not None, "a key is UTF-8, which holds no byte 0xFF"
    return beyond, b""


def invalid_argument(name: str, value: str, message: str | None = None) -> S3Error:
    """The refusal that names the parameter."""
    return S3Error(
        "InvalidArgument", message, fields={"ArgumentName": name, "ArgumentValue": value}
    )


def _max_keys(query: Mapping[str, str]) -> int:
    return min(_count(query, "max-keys", LIST_KEYS_MAX), LIST_KEYS_MAX)


def _count(query: Mapping[str, str], name: str, default: int) -> int:
    """A parameter that counts; an empty one counts as absent, as it does on S3."""
    text = query.get(name, "")
    if not text:
        return default
    if _COUNT.fullmatch(text) is None:
        raise invalid_argument(
            name, text, f"Provided {name} not an integer or within integer range"
        )
    if int(text) > _COUNT_MAX:
        raise invalid_argument(
            name, text, f"Argument {name} must be an integer between 0 and {_COUNT_MAX}"
        )
    return int(text)


def _url_encoding(query: Mapping[str, str]) -> bool:
    encoding = query.get("encoding-type")
    if encoding is None:
        return False
    if encoding != "url":
        raise invalid_argument(
            "encoding-type", encoding, "Invalid Encoding Method specified in Request"
        )
    return True
