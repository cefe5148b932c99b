"""What GetObjectAttributes is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from octad.client.s3.errors import S3Error

ATTRIBUTES: Final = ("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize")
_HEADER: Final = "x-amz-object-attributes"


def asked_attributes(headers: Mapping[str, str]) -> frozenset[str]:
    """Those that the header names, at least one; raises InvalidArgument."""
    header = headers.get(_HEADER, "")
    asked = frozenset(name.strip() for name in header.split(",") if name.strip())
    if not asked or not asked.issubset(ATTRIBUTES):
        raise S3Error(
            "InvalidArgument",
            "Invalid attribute name specified.",
            fields={"ArgumentName": _HEADER, "ArgumentValue": header},
        )
    return asked
