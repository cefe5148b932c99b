"""The requested attributes of GetObjectAttributes, and the document with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from octad.client.s3.errors import S3Error
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.s3.protocol.listing_requests import PartListing
from octad.storage_node.s3.protocol.object_headers import checksum_type
from octad.storage_node.s3.protocol.xml.documents import DECLARATION, NAMESPACE

ATTRIBUTES: Final = ("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize")
_HEADER: Final = "x-amz-object-attributes"


def asked_attributes(headers: Mapping[str, str]) -> frozenset[str]:
    """The attributes that the header names, at least one; raises InvalidArgument."""
    header = headers.get(_HEADER, "")
    asked = frozenset(name.strip() for name in header.split(",") if name.strip())
    if not asked or not asked.issubset(ATTRIBUTES):
        raise S3Error(
            "InvalidArgument",
            "Invalid attribute name specified.",
            fields={"ArgumentName": _HEADER, "ArgumentValue": header},
        )
    return asked


def object_attributes_xml(row: ObjectRow, asked: Collection[str], listing: PartListing) -> bytes:
    """`GetObjectAttributesResponse` with those of `ATTRIBUTES` that are asked for and there."""
    told = {
        "ETag": row.etag,
        "Checksum": _checksums(row.checksums)
        + _element("ChecksumType", checksum_type(row.checksums)),
        "ObjectParts": _parts(row, listing),
        "StorageClass": "STANDARD",
        "ObjectSize": str(row.size),
    }
    content = "".join(_element(name, told[name]) for name in ATTRIBUTES if name in asked)
    root = "GetObjectAttributesResponse"
    return f'{DECLARATION}<{root} xmlns="{NAMESPACE}">{content}</{root}>'.encode()


def _parts(row: ObjectRow, listing: PartListing) -> str:
    """The parts of a multipart object on the page that `listing` asks for."""
    if not row.part_sizes:
        return ""
    first, last = listing.after, min(listing.after + listing.max_parts, len(row.part_sizes))
    of_parts = () if row.extras is None else row.extras.part_checksums
    shown = "".join(
        f"<Part><PartNumber>{number + 1}</PartNumber><Size>{row.part_sizes[number]}</Size>"
        + (_checksums(dict.fromkeys(row.checksums, of_parts[number])) if of_parts else "")
        + "</Part>"
        for number in range(first, last)
    )
    is_truncated = listing.max_parts > 0 and last < len(row.part_sizes)
    return (
        f"<PartsCount>{len(row.part_sizes)}</PartsCount>"
        f"<PartNumberMarker>{listing.after}</PartNumberMarker>"
        f"<NextPartNumberMarker>{max(first, last)}</NextPartNumberMarker>"
        f"<MaxParts>{listing.max_parts}</MaxParts>"
        f"<IsTruncated>{'true' if is_truncated else 'false'}</IsTruncated>{shown}"
    )


def _checksums(checksums: Mapping[str, str]) -> str:
    return "".join(_element(f"Checksum{name}", value) for name, value in checksums.items())


def _element(name: str, content: str) -> str:
    """Left out where empty."""
    return f"<{name}>{content}</{name}>" if content else ""
