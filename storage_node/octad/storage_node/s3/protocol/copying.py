"""A copy's source: its location, and the metadata and checksum that it inherits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from octad.client.s3.checksums import ALGORITHMS, DEFAULT_ALGORITHM
from octad.client.s3.errors import S3Error
from octad.storage_node.index.rows import ExtrasChange, ObjectExtras, ObjectRow
from octad.storage_node.s3.protocol.requests.names import check_bucket_name, check_key
from octad.storage_node.s3.protocol.requests.parameters import check_version
from octad.storage_node.s3.protocol.requests.request_headers import stored_headers
from octad.storage_node.s3.protocol.requests.tags import copies_tags
from octad.storage_node.s3.protocol.requests.targets import percent_decoded


@dataclass(frozen=True, slots=True)
class CopySource:
    """The object that `x-amz-copy-source` names."""

    bucket: str
    key: bytes


def parse_copy_source(header: str) -> CopySource:
    """The source; with or without a leading slash, percent-encoded as clients send it.

    Some encode all of it, slashes too; no bucket's name has any, so they read the same.
    """
    # Headers are read as Latin-1; a client that did not encode the key meant UTF-8.
    text = header.encode("latin-1").decode("utf-8", "surrogateescape")
    path, versioned, version = text.partition("?versionId=")
    if versioned:
        check_version(percent_decoded(version).decode())
    name, _, key = percent_decoded(path).removeprefix(b"/").partition(b"/")
    bucket = name.decode()
    if not bucket or not key:
        raise S3Error(
            "InvalidArgument",
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            fields={"ArgumentName": "x-amz-copy-source", "ArgumentValue": header},
        )
    check_bucket_name(bucket)
    check_key(key)
    return CopySource(bucket, key)


def replaces_metadata(headers: Mapping[str, str]) -> bool:
    """Whether the copy gets the request's metadata in place of the source's."""
    directive = headers.get("x-amz-metadata-directive", "COPY")
    if directive not in ("COPY", "REPLACE"):
        raise S3Error(
            "InvalidArgument",
            "Unknown metadata directive.",
            fields={"ArgumentName": "x-amz-metadata-directive", "ArgumentValue": directive},
        )
    return directive == "REPLACE"


def changes_nothing(headers: Mapping[str, str]) -> bool:
    """Whether a copy onto itself would leave the object as it is.

    S3 takes a storage class or tags that are named for a change, also where they are as before.
    """
    return not (
        replaces_metadata(headers) or headers.get("x-amz-storage-class") or not copies_tags(headers)
    )


def copied_headers(headers: Mapping[str, str], source: ObjectRow) -> dict[str, str]:
    """The headers that the copy is stored with."""
    return stored_headers(headers) if replaces_metadata(headers) else source.headers


def copied_extras(
    headers: Mapping[str, str], asked: ObjectExtras | None, source: ObjectRow
) -> ObjectExtras | None:
    """The attributes that the request asks for, with the source's tags where these are copied."""
    if not copies_tags(headers):
        return asked
    return ExtrasChange(tags={} if source.extras is None else source.extras.tags).of(asked)


def refuse_copy_onto_itself() -> S3Error:
    """A copy of an object onto itself that changes nothing is taken for a mistake."""
    return S3Error(
        "InvalidRequest",
        "This copy request is illegal because it is trying to copy an object to itself without "
        "changing the object's metadata, storage class, website redirect location or encryption "
        "attributes.",
    )


def copy_algorithm(headers: Mapping[str, str], source: ObjectRow) -> str:
    """The copy's checksum algorithm: the requested one, else the source's, else ours."""
    asked = headers.get("x-amz-checksum-algorithm", "").upper()
    if asked and asked not in ALGORITHMS:
        raise S3Error("InvalidRequest", "Value for x-amz-checksum-algorithm header is invalid.")
    return asked or next(iter(source.checksums), DEFAULT_ALGORITHM)
