"""Multipart uploads: what their ids look like, and the object that a completed one becomes.

An upload id is 16 bytes, the first six its time of birth in milliseconds, so that the uploads of a
key are listed in the order they were begun.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from octad.client.s3.checksums import (
    COMPOSITE,
    DEFAULT_ALGORITHM,
    FULL_OBJECT,
    checksum_header,
    composite_checksum,
    full_object_checksum,
    multipart_etag,
)
from octad.client.s3.errors import S3Error
from octad.sharding.limits import OBJECT_BYTES_MAX, PART_BYTES_MIN
from octad.storage_node.index.rows import ObjectExtras, ObjectRow, PartRow, UploadRow, some_extras
from octad.storage_node.s3.protocol.object_headers import checksum_type
from octad.storage_node.s3.protocol.xml.requests import RequestedPart

UPLOAD_ID_BYTES = 16
_UNIQUE_BYTES = 10
_TIME_BYTES = UPLOAD_ID_BYTES - _UNIQUE_BYTES


def unique_of_upload(request_id: bytes) -> bytes:
    """A value that makes the id of the upload that this request begins unique.

    The same for every try of the request, whose later ones have to answer the first one's id.
    """
    return hashlib.blake2b(request_id, digest_size=_UNIQUE_BYTES).digest()


def new_upload_id(now_ms: int, unique: bytes) -> bytes:
    """The id of an upload begun now."""
    upload_id = now_ms.to_bytes(_TIME_BYTES, "big") + unique
    assert len(upload_id) == UPLOAD_ID_BYTES
    return upload_id


def parse_upload_id(text: str) -> bytes:
    """The upload id that the client names; raises NoSuchUpload for what cannot be one."""
    try:
        upload_id = bytes.fromhex(text)
    except ValueError:
        upload_id = b""
    if len(upload_id) != UPLOAD_ID_BYTES:
        raise S3Error("NoSuchUpload", fields={"UploadId": text})
    return upload_id


def part_algorithms(upload: UploadRow, claimed: str | None) -> tuple[str, ...]:
    """The checksums that a part of `upload` is given; `claimed` is the one that its sender states.

    The first is the one that the object's will follow from. Raises InvalidRequest where the sender
    states another than the upload was begun with, or none where the object's is to be made of those
    of its parts.
    """
    expected = upload.checksum_algorithm
    stated = claimed is not None or upload.checksum_type == COMPOSITE
    if expected and stated and claimed != expected:
        raise S3Error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {expected.lower()}, "
            f"actual checksum Type: {'null' if claimed is None else claimed.lower()}",
        )
    basis = expected or DEFAULT_ALGORITHM
    return (basis,) if claimed in (None, basis) else (basis, claimed)


def completed_row(
    upload_id: bytes,
    upload: UploadRow,
    requested: Sequence[RequestedPart],
    stored: Mapping[int, PartRow],
    now_ms: int,
) -> ObjectRow:
    """The object made of the `requested` parts, in their order; raises what is wrong with them."""
    parts = [_matching_part(upload_id, part, stored.get(part.number)) for part in requested]
    for part, row in zip(requested[:-1], parts, strict=False):
        if row.size < PART_BYTES_MIN:
            raise _too_small(part, row)
    size = sum(row.size for row in parts)
    if size > OBJECT_BYTES_MAX:
        raise S3Error("EntityTooLarge")
    checksums = _object_checksums(upload, parts)
    return ObjectRow(
        size=size,
        etag=multipart_etag([row.etag for row in parts]),
        modified_ms=now_ms,
        headers=upload.headers,
        checksums=checksums,
        extents=tuple(extent for row in parts for extent in row.extents),
        part_sizes=tuple(row.size for row in parts),
        extras=_extras(upload, checksums, parts),
    )


def _extras(
    upload: UploadRow, checksums: Mapping[str, str], parts: Sequence[PartRow]
) -> ObjectExtras | None:
    extras = upload.extras or ObjectExtras()
    of_parts = tuple(row.checksums[algorithm] for algorithm in checksums for row in parts)
    return some_extras(msgspec.structs.replace(extras, part_checksums=of_parts))


def is_completed(row: ObjectRow, requested: Sequence[RequestedPart]) -> bool:
    """Whether `row` is what completing `requested` makes: as many parts, and the same ETag."""
    if len(row.part_sizes) != len(requested):
        return False
    try:
        return row.etag == multipart_etag([part.etag for part in requested])
    except ValueError:  # An ETag that is not hexadecimal was never a part's.
        return False


def check_that_checksums_are_stated(upload: UploadRow, requested: Sequence[RequestedPart]) -> None:
    """Raises InvalidRequest where a part lacks the one that the object's is made of."""
    algorithm = upload.checksum_algorithm
    if upload.checksum_type != COMPOSITE:
        return
    for part in requested:
        if algorithm not in part.checksums:
            raise S3Error(
                "InvalidRequest",
                f"The upload was created using a {algorithm.lower()} checksum. The complete "
                "request must include the checksum for each part. It was missing for part "
                f"{part.number} in the request.",
            )


def _matching_part(upload_id: bytes, part: RequestedPart, row: PartRow | None) -> PartRow:
    if (
        row is None
        or row.etag != part.etag
        or any(row.checksums.get(name) != value for name, value in part.checksums.items())
    ):
        fields = {
            "UploadId": upload_id.hex(),
            "PartNumber": str(part.number),
            "ETag": part.etag,
        }
        raise S3Error("InvalidPart", fields=fields)
    return row


def _too_small(part: RequestedPart, row: PartRow) -> S3Error:
    return S3Error(
        "EntityTooSmall",
        fields={
            "ProposedSize": str(row.size),
            "MinSizeAllowed": str(PART_BYTES_MIN),
            "PartNumber": str(part.number),
            "ETag": part.etag,
        },
    )


def _object_checksums(upload: UploadRow, parts: Sequence[PartRow]) -> dict[str, str]:
    algorithm = upload.checksum_algorithm or DEFAULT_ALGORITHM
    if not all(algorithm in row.checksums for row in parts):
        return {}
    kind = upload.checksum_type or FULL_OBJECT
    if kind == COMPOSITE:
        value = composite_checksum(algorithm, [row.checksums[algorithm] for row in parts])
    else:
        value = full_object_checksum(
            algorithm, [(row.checksums[algorithm], row.size) for row in parts]
        )
    return {algorithm: value}


def check_completion(headers: Mapping[str, str], row: ObjectRow) -> None:
    """Raises what the request's headers say of the object that is not so."""
    size = headers.get("x-amz-mp-object-size")
    if size is not None and size != str(row.size):
        raise S3Error(
            "InvalidRequest",
            f"The provided 'x-amz-mp-object-size' header value {size} does not match what was "
            f"computed: {row.size}",
        )
    kind = headers.get("x-amz-checksum-type")
    if kind is not None and kind.upper() != checksum_type(row.checksums):
        raise S3Error(
            "InvalidRequest",
            "The upload was created using the "
            f"{checksum_type(row.checksums)} checksum mode. The complete request must use the same "
            "checksum mode.",
        )
    for algorithm, value in row.checksums.items():
        if headers.get(checksum_header(algorithm), value) != value:
            raise S3Error(
                "BadDigest",
                f"The {algorithm} you specified did not match the calculated checksum.",
            )
