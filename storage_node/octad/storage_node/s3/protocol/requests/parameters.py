"""Query parameters: which of them select what is asked for, and so are never passed over.

AWS passes over a parameter of a GET or HEAD that means nothing to it: links carry counters and
campaigns. A sub-resource is another matter, whether octad has it or not: `GET /bucket?policy` must
not be answered with a listing.
"""

from __future__ import annotations

from typing import Final

from octad.client.s3.errors import S3Error
from octad.storage_node.s3.protocol.xml.documents import NULL_VERSION

_SUB_RESOURCES: Final = """
    abac accelerate acl analytics annotation attributes cors delete encryption
    intelligent-tiering inventory legal-hold lifecycle location logging metadataAnnotationTable
    metadataConfiguration metadataInventoryTable metadataJournalTable metadataTable metrics
    notification object-lock ownershipControls partNumber policy policyStatus publicAccessBlock
    renameObject replication requestPayment restore retention select select-type session tagging
    torrent uploadId uploads versionId versioning versions website
"""
_OPTIONS: Final = """
    continuation-token delimiter encoding-type fetch-owner key-marker list-type marker max-buckets
    max-keys max-parts max-uploads part-number-marker prefix start-after upload-id-marker
    version-id-marker
"""
SUB_RESOURCES: Final = frozenset(_SUB_RESOURCES.split())

_OVERRIDE_PREFIX: Final = "response-"
# The headers of an answer that a query may set; any other is no one's to choose.
OVERRIDES: Final = {
    f"{_OVERRIDE_PREFIX}{header}": header
    for header in (
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
    )
}

_READ: Final = SUB_RESOURCES | OVERRIDES.keys() | frozenset(_OPTIONS.split())


def is_read(name: str) -> bool:
    """Whether the parameter has a meaning here, so that it may have one value only."""
    return name in _READ or name[:6].lower() == "x-amz-"


def check_version(version_id: str) -> None:
    """Raises InvalidArgument unless it is the one version that an object here has."""
    if version_id == NULL_VERSION:
        return
    raise S3Error(
        "InvalidArgument",
        "Invalid version id specified" if version_id else "Version id cannot be the empty string",
        fields={"ArgumentName": "versionId", "ArgumentValue": version_id},
    )
