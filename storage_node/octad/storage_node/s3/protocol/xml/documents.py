"""S3's answers as XML documents: plain values in, bytes out; by formatting, for listings are hot.

Keys and prefixes are the exact bytes of the percent-decoded key, as the store has them. Where the
client asked for `encoding-type=url` they are written percent-encoded, and it decodes them. Where it
did not, a listing writes characters that XML 1.0 cannot carry as references (`&#x1;`), as S3 does:
no two keys look alike. A strict parser refuses such a document, so one that is about a single key,
which its reader knows, shows U+FFFD in their place and stays well-formed.

Entity tags come without quotes; the quotes of the document are written here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from urllib.parse import quote

import msgspec

from octad.client.s3.errors import S3Error
from octad.client.s3.http_dates import iso_date
from octad.storage_node.s3.protocol.xml.requests import DeleteTarget

NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
CONTENT_TYPE: Final = "application/xml"
DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
NULL_VERSION: Final = "null"  # The version id of all objects in a bucket that never had versions.

_ESCAPES: Final = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "\r": "&#13;",  # A bare carriage return would be read as a newline.
}
# Characters that XML 1.0 cannot express, not even by reference.
_ILLEGAL: Final = "\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff"
_SPECIAL: Final = re.compile(f'[&<>"\r{_ILLEGAL}]')

# A page's keys are checked together, joined by zero bytes: these are the bytes that send them to
# the careful path, one by one. 0xEF begins U+FFFE and U+FFFF in UTF-8.
_JOINT: Final = b"\x00"
_CARE_IN_XML: Final = b'&<>"\r\xef' + bytes(set(range(1, 0x20)) - set(b"\t\n\r"))
_CARE_IN_URL: Final = bytes(
    byte for byte in range(1, 256) if quote(bytes([byte]), safe="/")[0] == "%"
)


class ObjectEntry(msgspec.Struct, frozen=True, gc=False):
    """One object of a listing. A Struct, because a page makes a thousand of them."""

    key: bytes
    modified_ms: int
    etag: str
    size: int
    checksum_algorithm: str = ""  # "CRC32", …; "" when the object has none.
    checksum_type: str = ""  # "FULL_OBJECT" or "COMPOSITE".


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner, as S3 shows it."""

    id: str
    display_name: str


@dataclass(frozen=True, slots=True)
class BucketEntry:
    """One bucket of ListBuckets."""

    name: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class ListObjectsV1:
    """A page of ListObjects. `next_marker` belongs in it only where a delimiter was given."""

    bucket: str
    max_keys: int
    is_truncated: bool
    objects: Sequence[ObjectEntry]
    common_prefixes: Sequence[bytes] = ()
    prefix: bytes = b""
    delimiter: bytes = b""
    marker: bytes = b""
    next_marker: bytes = b""
    owner: Owner | None = None
    url_encoding: bool = False


@dataclass(frozen=True, slots=True)
class ListObjectsV2:
    """A page of ListObjectsV2. `owner` is present only if the client asked with fetch-owner."""

    bucket: str
    max_keys: int
    is_truncated: bool
    objects: Sequence[ObjectEntry]
    common_prefixes: Sequence[bytes] = ()
    prefix: bytes = b""
    delimiter: bytes = b""
    start_after: bytes = b""
    continuation_token: str | None = None
    next_continuation_token: str | None = None
    owner: Owner | None = None
    url_encoding: bool = False


@dataclass(frozen=True, slots=True)
class PartEntry:
    """One part of ListParts."""

    number: int
    modified_ms: int
    etag: str
    size: int
    checksums: Mapping[str, str] = field(default_factory=dict)  # "CRC32" to base64.


@dataclass(frozen=True, slots=True)
class ListParts:
    """A page of ListParts."""

    bucket: str
    key: bytes
    upload_id: str
    owner: Owner
    part_number_marker: int
    max_parts: int
    is_truncated: bool
    parts: Sequence[PartEntry]
    checksum_algorithm: str = ""
    checksum_type: str = ""


@dataclass(frozen=True, slots=True)
class UploadEntry:
    """One open upload of ListMultipartUploads."""

    key: bytes
    upload_id: str
    owner: Owner
    initiated_ms: int
    checksum_algorithm: str = ""
    checksum_type: str = ""


@dataclass(frozen=True, slots=True)
class ListMultipartUploads:
    """A page of ListMultipartUploads."""

    bucket: str
    max_uploads: int
    is_truncated: bool
    uploads: Sequence[UploadEntry]
    common_prefixes: Sequence[bytes] = ()
    prefix: bytes = b""
    delimiter: bytes = b""
    key_marker: bytes = b""
    upload_id_marker: str = ""
    next_key_marker: bytes = b""
    next_upload_id_marker: str = ""
    url_encoding: bool = False


@dataclass(frozen=True, slots=True)
class DeleteFailure:
    """One key that DeleteObjects could not delete."""

    key: bytes
    code: str
    message: str
    version_id: str = ""


def escape(text: str) -> str:
    """`text` as XML character data or attribute value; what XML cannot carry becomes U+FFFD."""
    if _SPECIAL.search(text) is None:
        return text
    return _SPECIAL.sub(lambda found: _ESCAPES.get(found[0], "\ufffd"), text)


def url_encoded(key: bytes) -> str:
    """`key` as `encoding-type=url` wants it: percent-encoded, slashes unchanged, a space as %20."""
    return quote(key, safe="/")


def error_xml(error: S3Error, *, resource: str, request_id: str, host_id: str) -> bytes:
    """The error document. It alone has no namespace."""
    fields = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in error.fields.items())
    return (
        f"{DECLARATION}<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message>"
        f"{fields}<Resource>{escape(resource)}</Resource><RequestId>{escape(request_id)}</RequestId>"
        f"<HostId>{escape(host_id)}</HostId></Error>"
    ).encode()


def list_buckets_xml(
    owner: Owner,
    buckets: Sequence[BucketEntry],
    *,
    prefix: str = "",
    continuation_token: str | None = None,
) -> bytes:
    """`ListAllMyBucketsResult`; `continuation_token` says where the next page starts."""
    entries = "".join(
        f"<Bucket><Name>{escape(bucket.name)}</Name>"
        f"<CreationDate>{iso_date(bucket.created_ms)}</CreationDate></Bucket>"
        for bucket in buckets
    )
    return _document(
        "ListAllMyBucketsResult",
        f"{_owner('Owner', owner)}<Buckets>{entries}</Buckets>{_given('Prefix', prefix)}"
        f"{_given('ContinuationToken', continuation_token)}",
    )


def list_objects_v1_xml(page: ListObjectsV1) -> bytes:
    """`ListBucketResult` of ListObjects."""
    text = _key_writer(page.url_encoding)
    return _document(
        "ListBucketResult",
        f"<Name>{escape(page.bucket)}</Name><Prefix>{text(page.prefix)}</Prefix>"
        f"<Marker>{text(page.marker)}</Marker>{_given('NextMarker', text(page.next_marker))}"
        f"<MaxKeys>{page.max_keys}</MaxKeys>{_given('Delimiter', text(page.delimiter))}"
        f"{_ENCODED if page.url_encoding else ''}"
        f"<IsTruncated>{_boolean(page.is_truncated)}</IsTruncated>",
        *_contents(page.objects, page.owner, page.url_encoding),
        *_prefixes(page.common_prefixes, page.url_encoding),
    )


def list_objects_v2_xml(page: ListObjectsV2) -> bytes:
    """`ListBucketResult` of ListObjectsV2."""
    text = _key_writer(page.url_encoding)
    return _document(
        "ListBucketResult",
        f"<Name>{escape(page.bucket)}</Name><Prefix>{text(page.prefix)}</Prefix>"
        f"{_given('StartAfter', text(page.start_after))}"
        f"{_given('ContinuationToken', page.continuation_token)}"
        f"{_given('NextContinuationToken', page.next_continuation_token)}"
        f"<KeyCount>{len(page.objects) + len(page.common_prefixes)}</KeyCount>"
        f"<MaxKeys>{page.max_keys}</MaxKeys>{_given('Delimiter', text(page.delimiter))}"
        f"{_ENCODED if page.url_encoding else ''}"
        f"<IsTruncated>{_boolean(page.is_truncated)}</IsTruncated>",
        *_contents(page.objects, page.owner, page.url_encoding),
        *_prefixes(page.common_prefixes, page.url_encoding),
    )


def list_object_versions_xml(page: ListObjectsV1, version_marker: str) -> bytes:
    """`ListVersionsResult`: the objects of `page`, each the only version that it has."""
    text = _key_writer(page.url_encoding)
    next_key = page.next_marker
    next_version = NULL_VERSION if next_key and next_key not in page.common_prefixes else ""
    return _document(
        "ListVersionsResult",
        f"<Name>{escape(page.bucket)}</Name><Prefix>{text(page.prefix)}</Prefix>"
        f"<KeyMarker>{text(page.marker)}</KeyMarker>"
        f"<VersionIdMarker>{escape(version_marker)}</VersionIdMarker>"
        f"{_given('NextKeyMarker', text(next_key))}{_given('NextVersionIdMarker', next_version)}"
        f"<MaxKeys>{page.max_keys}</MaxKeys>{_given('Delimiter', text(page.delimiter))}"
        f"{_ENCODED if page.url_encoding else ''}"
        f"<IsTruncated>{_boolean(page.is_truncated)}</IsTruncated>",
        *_contents(page.objects, page.owner, page.url_encoding, *_VERSION),
        *_prefixes(page.common_prefixes, page.url_encoding),
    )


def initiate_multipart_upload_xml(bucket: str, key: bytes, upload_id: str) -> bytes:
    """`InitiateMultipartUploadResult`."""
    return _document(
        "InitiateMultipartUploadResult",
        f"<Bucket>{escape(bucket)}</Bucket><Key>{_key(key)}</Key>"
        f"<UploadId>{escape(upload_id)}</UploadId>",
    )


def complete_multipart_upload_xml(
    *,
    location: str,
    bucket: str,
    key: bytes,
    etag: str,
    checksums: Mapping[str, str],
    checksum_type: str = "",
) -> bytes:
    """`CompleteMultipartUploadResult`; `location` is the object's URL."""
    return _document(
        "CompleteMultipartUploadResult",
        f"<Location>{escape(location)}</Location><Bucket>{escape(bucket)}</Bucket>"
        f"<Key>{_key(key)}</Key>{_etag(etag)}{_checksums(checksums)}"
        f"{_given('ChecksumType', checksum_type)}",
    )


def copy_object_xml(
    *, etag: str, modified_ms: int, checksums: Mapping[str, str], checksum_type: str = ""
) -> bytes:
    """`CopyObjectResult`."""
    return _document(
        "CopyObjectResult",
        f"<LastModified>{iso_date(modified_ms)}</LastModified>{_etag(etag)}{_checksums(checksums)}"
        f"{_given('ChecksumType', checksum_type)}",
    )


def copy_part_xml(*, etag: str, modified_ms: int, checksums: Mapping[str, str]) -> bytes:
    """`CopyPartResult`."""
    return _document(
        "CopyPartResult",
        f"<LastModified>{iso_date(modified_ms)}</LastModified>{_etag(etag)}{_checksums(checksums)}",
    )


def list_parts_xml(page: ListParts) -> bytes:
    """`ListPartsResult`; the next page starts after its last part."""
    parts = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber>"
        f"<LastModified>{iso_date(part.modified_ms)}</LastModified>{_etag(part.etag)}"
        f"<Size>{part.size}</Size>{_checksums(part.checksums)}</Part>"
        for part in page.parts
    )
    next_marker = page.parts[-1].number if page.parts else 0
    return _document(
        "ListPartsResult",
        f"<Bucket>{escape(page.bucket)}</Bucket><Key>{_key(page.key)}</Key>"
        f"<UploadId>{escape(page.upload_id)}</UploadId>{_owner('Initiator', page.owner)}"
        f"{_owner('Owner', page.owner)}<StorageClass>STANDARD</StorageClass>"
        f"<PartNumberMarker>{page.part_number_marker}</PartNumberMarker>"
        f"<NextPartNumberMarker>{next_marker}</NextPartNumberMarker>"
        f"<MaxParts>{page.max_parts}</MaxParts>"
        f"<IsTruncated>{_boolean(page.is_truncated)}</IsTruncated>{parts}"
        f"{_given('ChecksumAlgorithm', page.checksum_algorithm)}"
        f"{_given('ChecksumType', page.checksum_type)}",
    )


def list_multipart_uploads_xml(page: ListMultipartUploads) -> bytes:
    """`ListMultipartUploadsResult`."""
    text = _key_writer(page.url_encoding)
    uploads = "".join(
        f"<Upload><Key>{text(upload.key)}</Key><UploadId>{escape(upload.upload_id)}</UploadId>"
        f"{_owner('Initiator', upload.owner)}{_owner('Owner', upload.owner)}"
        f"<StorageClass>STANDARD</StorageClass><Initiated>{iso_date(upload.initiated_ms)}</Initiated>"
        f"{_given('ChecksumAlgorithm', upload.checksum_algorithm)}"
        f"{_given('ChecksumType', upload.checksum_type)}</Upload>"
        for upload in page.uploads
    )
    return _document(
        "ListMultipartUploadsResult",
        f"<Bucket>{escape(page.bucket)}</Bucket><KeyMarker>{text(page.key_marker)}</KeyMarker>"
        f"<UploadIdMarker>{escape(page.upload_id_marker)}</UploadIdMarker>"
        f"<NextKeyMarker>{text(page.next_key_marker)}</NextKeyMarker>"
        f"<NextUploadIdMarker>{escape(page.next_upload_id_marker)}</NextUploadIdMarker>"
        f"<Prefix>{text(page.prefix)}</Prefix>{_given('Delimiter', text(page.delimiter))}"
        f"{_ENCODED if page.url_encoding else ''}<MaxUploads>{page.max_uploads}</MaxUploads>"
        f"<IsTruncated>{_boolean(page.is_truncated)}</IsTruncated>{uploads}",
        *_prefixes(page.common_prefixes, page.url_encoding),
    )


def delete_result_xml(deleted: Sequence[DeleteTarget], failures: Sequence[DeleteFailure]) -> bytes:
    """`DeleteResult`; a quiet request is answered with no `deleted`."""
    gone = "".join(
        f"<Deleted><Key>{_key(each.key)}</Key>{_given('VersionId', each.version_id)}</Deleted>"
        for each in deleted
    )
    errors = "".join(
        f"<Error><Key>{_key(failure.key)}</Key>{_given('VersionId', failure.version_id)}"
        f"<Code>{failure.code}</Code>"
        f"<Message>{escape(failure.message)}</Message></Error>"
        for failure in failures
    )
    return _document("DeleteResult", gone + errors)


def post_response_xml(location: str, bucket: str, key: bytes, etag: str) -> bytes:
    """`PostResponse`, for a form that asks for one; on S3, too, it has no namespace."""
    return (
        f"{DECLARATION}<PostResponse><Location>{escape(location)}</Location>"
        f"<Bucket>{escape(bucket)}</Bucket><Key>{_key(key)}</Key>{_etag(etag)}</PostResponse>"
    ).encode()


def location_constraint_xml(region: str) -> bytes:
    """`LocationConstraint`: empty for S3's first region, which has no name there."""
    return _document("LocationConstraint", "" if region == "us-east-1" else escape(region))


def versioning_configuration_xml() -> bytes:
    """`VersioningConfiguration` of a bucket that never had versioning: empty."""
    return _document("VersioningConfiguration", "")


_ENCODED: Final = "<EncodingType>url</EncodingType>"


def _document(root: str, *content: str) -> bytes:
    # Joined once: a page is hundreds of kilobytes, and every copy of it shows.
    start = f'{DECLARATION}<{root} xmlns="{NAMESPACE}">'
    return "".join((start, *content, f"</{root}>")).encode()


def _key(key: bytes) -> str:
    return escape(key.decode("utf-8", "replace"))


def _listed(key: bytes) -> str:
    text = key.decode("utf-8", "replace")
    return _SPECIAL.sub(lambda found: _ESCAPES.get(found[0], f"&#x{ord(found[0]):X};"), text)


def _key_writer(url_encoding: bool) -> Callable[[bytes], str]:
    return url_encoded if url_encoding else _listed


def _given(name: str, value: str | None) -> str:
    """An element that is left out where there is nothing to say."""
    return f"<{name}>{escape(value)}</{name}>" if value else ""


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _owner(name: str, owner: Owner) -> str:
    return (
        f"<{name}><ID>{escape(owner.id)}</ID>"
        f"<DisplayName>{escape(owner.display_name)}</DisplayName></{name}>"
    )


def _etag(etag: str) -> str:
    return f"<ETag>&quot;{etag}&quot;</ETag>"


def _checksums(checksums: Mapping[str, str]) -> str:
    return "".join(
        f"<Checksum{algorithm}>{escape(value)}</Checksum{algorithm}>"
        for algorithm, value in checksums.items()
    )


def _texts(keys: Sequence[bytes], url_encoding: bool) -> list[str]:
    """Every key as `_key_writer` writes it, in a fraction of the time where all are ordinary."""
    joined = _JOINT.join(keys)
    care = _CARE_IN_URL if url_encoding else _CARE_IN_XML
    if joined.count(_JOINT) == len(keys) - 1 and len(joined.translate(None, care)) == len(joined):
        return joined.decode("utf-8", "replace").split("\x00")
    return list(map(_key_writer(url_encoding), keys))


def _prefixes(prefixes: Sequence[bytes], url_encoding: bool) -> list[str]:
    return [
        f"<CommonPrefixes><Prefix>{text}</Prefix></CommonPrefixes>"
        for text in _texts(prefixes, url_encoding)
    ]


_VERSION: Final = "Version", f"<VersionId>{NULL_VERSION}</VersionId><IsLatest>true</IsLatest>"


def _contents(
    objects: Sequence[ObjectEntry],
    owner: Owner | None,
    url_encoding: bool,
    name: str = "Contents",
    version: str = "",
) -> list[str]:
    who = "" if owner is None else _owner("Owner", owner)
    keys = _texts([entry.key for entry in objects], url_encoding)
    return [
        f"<{name}><Key>{key}</Key>{version}<LastModified>{iso_date(entry.modified_ms)}</LastModified>"
        f"<ETag>&quot;{entry.etag}&quot;</ETag>"
        f"{_entry_checksum(entry.checksum_algorithm, entry.checksum_type)}"
        f"<Size>{entry.size}</Size>{who}<StorageClass>STANDARD</StorageClass></{name}>"
        for key, entry in zip(keys, objects, strict=True)
    ]


@lru_cache(64)  # There are a few of each, and a thousand objects on a page.
def _entry_checksum(algorithm: str, type_: str) -> str:
    if not algorithm:
        return ""
    return f"<ChecksumAlgorithm>{algorithm}</ChecksumAlgorithm><ChecksumType>{type_}</ChecksumType>"
