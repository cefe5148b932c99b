"""Who may do what: a bucket's owner everything, whom an access list lets in to read, no one else.

Access lists here are S3's canned ones that can be kept to: `private`, `public-read` and
`authenticated-read`. Since all objects of a bucket are its owner's, what the `bucket-owner-*` lists
ask for is so anyway; they are stored as private. One that would let others write is refused.

Where a bucket's ownership is enforced, or its public lists are ignored, lists open nothing: the
list that counts, which is also the one shown, is private.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from octad.client.s3.errors import S3Error
from octad.coordinator.schema.bucket_settings import (
    AUTHENTICATED_READ,
    OWNER_ENFORCED,
    OWNERSHIPS,
    PRIVATE,
    PUBLIC_READ,
    BucketSettings,
)
from octad.storage_node.s3.protocol.requests.request_headers import (
    ACL_HEADER,
    OWNERSHIP_HEADER,
    asks,
)
from octad.storage_node.s3.protocol.requests.s3_operations import S3Operation

ANONYMOUS: Final = ""  # Stands for a request without credentials. No owner can have this name.

_WITH_LISTS: Final = ("", "BucketOwnerPreferred", "ObjectWriter")  # Ownerships where lists count.

_AS_PRIVATE: Final = (PRIVATE, "bucket-owner-full-control", "bucket-owner-read")
_OPENING: Final = (PUBLIC_READ, AUTHENTICATED_READ)
_NOT_KEPT: Final = ("public-read-write", "aws-exec-read", "log-delivery-write")

# Operations open to others than the owner: the bucket's list decides, or the object's.
_LISTING: Final = frozenset(
    {
        S3Operation.HEAD_BUCKET,
        S3Operation.LIST_OBJECTS,
        S3Operation.LIST_OBJECTS_V2,
        S3Operation.LIST_OBJECT_VERSIONS,
    }
)
_READING: Final = frozenset({S3Operation.GET_OBJECT, S3Operation.HEAD_OBJECT})


def acl_that_counts(settings: BucketSettings, acl: str) -> str:
    """The effective list of the bucket, or of an object in it whose own list is `acl`."""
    block = settings.public_access
    if settings.ownership not in _WITH_LISTS or (block is not None and block.ignore_acls):
        return PRIVATE
    return acl if acl in _OPENING else PRIVATE


def lets_read(settings: BucketSettings, acl: str, asker: str) -> bool:
    """Whether `acl`, of the bucket or of an object in it, lets one read who is not its owner."""
    counts = acl_that_counts(settings, acl)
    return counts == PUBLIC_READ or (counts == AUTHENTICATED_READ and asker != ANONYMOUS)


def others_may_ask(operation: S3Operation, settings: BucketSettings, asker: str) -> bool | None:
    """Whether `asker`, who does not own the bucket, may have the operation.

    None: it depends on the object that is read, see `lets_read`.
    """
    if operation in _READING:
        return None
    return operation in _LISTING and lets_read(settings, settings.acl, asker)


def acl_to_store(asked: str, settings: BucketSettings) -> str:
    """The stored form of a requested canned list, for a bucket or an object in it.

    Raises S3Error for one that the bucket's settings refuse, or that cannot be enforced.
    """
    if asked in _AS_PRIVATE or not asks(asked):
        return PRIVATE
    if asked not in _OPENING and asked not in _NOT_KEPT:
        raise S3Error(
            "InvalidArgument",
            fields={"ArgumentName": ACL_HEADER, "ArgumentValue": asked},
        )
    if settings.ownership not in _WITH_LISTS:
        raise S3Error("AccessControlListNotSupported")
    if settings.public_access is not None and settings.public_access.block_acls:
        raise S3Error(
            "AccessDenied",
            "Public access lists are blocked for this bucket; its owner can lift that with "
            "PutPublicAccessBlock, or an operator with octad bucket public.",
        )
    if asked in _NOT_KEPT:
        raise S3Error(
            "NotImplemented",
            f"The access list {asked} is not implemented: others can be let in to read only.",
            fields={"Header": ACL_HEADER},
        )
    return asked


def new_bucket_settings(headers: Mapping[str, str], usual: BucketSettings) -> dict[str, str]:
    """The settings that CreateBucket's headers ask for beside the `usual` ones; raises S3Error."""
    ownership = headers.get(OWNERSHIP_HEADER, "") or usual.ownership
    check_ownership(ownership)
    acl = headers.get(ACL_HEADER, "")
    block = usual.public_access
    if acl in _OPENING and ownership == OWNER_ENFORCED:
        raise S3Error("InvalidBucketAclWithObjectOwnership")
    if acl in _OPENING and block is not None and block.block_acls:
        raise S3Error("InvalidBucketAclWithBlockPublicAccessError")
    settings = BucketSettings(ownership=ownership, public_access=block)
    return {"ownership": ownership, "acl": acl_to_store(acl, settings)}


def check_ownership(ownership: str) -> None:
    """Raises InvalidArgument unless a bucket may have these ownership controls, or none."""
    if ownership and ownership not in OWNERSHIPS:
        raise S3Error(
            "InvalidArgument",
            f"Invalid {OWNERSHIP_HEADER} header: {ownership}",
            fields={"ArgumentName": OWNERSHIP_HEADER, "ArgumentValue": ownership},
        )
