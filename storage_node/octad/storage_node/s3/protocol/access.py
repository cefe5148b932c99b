"""Who may do what: a bucket's owner everything, others what access lists give them, no one else.

All objects of a bucket are its owner's, whoever wrote them. Another owner who writes one gets
FULL_CONTROL of it by its list.

Where a bucket's ownership is enforced, lists open nothing; where its public ones are ignored, what
they give to everybody, or to all who have a key. The list that counts is also the one shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from octad.client.s3.access_lists import (
    ANONYMOUS,
    FULL_CONTROL,
    GROUPS,
    READ,
    READ_ACP,
    WRITE,
    WRITE_ACP,
    Grant,
    grants_of,
    permits,
)
from octad.coordinator.schema.bucket_settings import BucketSettings
from octad.storage_node.s3.protocol.requests.s3_operations import S3Operation

WITH_LISTS: Final = ("", "BucketOwnerPreferred", "ObjectWriter")  # Ownerships where lists count.

# They are for the upload's initiator and the bucket's owner alone.
OF_UPLOADS: Final = frozenset(
    {
        S3Operation.UPLOAD_PART,
        S3Operation.UPLOAD_PART_COPY,
        S3Operation.LIST_PARTS,
        S3Operation.COMPLETE_MULTIPART_UPLOAD,
        S3Operation.ABORT_MULTIPART_UPLOAD,
    }
)
# Operations that the bucket's list can give to others than its owner, and by which permission.
_ON_BUCKET: Final[Mapping[S3Operation, str]] = {
    S3Operation.HEAD_BUCKET: READ,
    S3Operation.LIST_OBJECTS: READ,
    S3Operation.LIST_OBJECTS_V2: READ,
    S3Operation.LIST_OBJECT_VERSIONS: READ,
    S3Operation.LIST_MULTIPART_UPLOADS: READ,
    S3Operation.PUT_OBJECT: WRITE,
    S3Operation.POST_OBJECT: WRITE,
    S3Operation.COPY_OBJECT: WRITE,
    S3Operation.DELETE_OBJECT: WRITE,
    S3Operation.DELETE_OBJECTS: WRITE,
    S3Operation.CREATE_MULTIPART_UPLOAD: WRITE,
    **dict.fromkeys(OF_UPLOADS, WRITE),
    S3Operation.GET_BUCKET_ACL: READ_ACP,
    S3Operation.PUT_BUCKET_ACL: WRITE_ACP,
}
# And those that the object's list can give.
_ON_OBJECT: Final = frozenset(
    {
        S3Operation.GET_OBJECT,
        S3Operation.HEAD_OBJECT,
        S3Operation.GET_OBJECT_ACL,
        S3Operation.PUT_OBJECT_ACL,
    }
)
# As on S3, not for who shows no key, whatever the list gives to everybody.
_NOT_ANONYMOUSLY: Final = OF_UPLOADS | {
    S3Operation.CREATE_MULTIPART_UPLOAD,
    S3Operation.COPY_OBJECT,
}


def grants_that_count(settings: BucketSettings, acl: str, owner: str) -> tuple[Grant, ...]:
    """The effective list of the bucket, or of an object in it whose own list is `acl`."""
    if settings.ownership not in WITH_LISTS:
        return (Grant(owner, FULL_CONTROL),)
    grants, block = grants_of(acl, owner), settings.public_access
    if block is not None and block.ignore_acls:
        return tuple([grant for grant in grants if grant.grantee not in GROUPS])
    return grants


def may(settings: BucketSettings, acl: str, owner: str, asker: str, permission: str) -> bool:
    """Whether `asker` has it on the bucket, or on an object in it; the bucket's `owner` has all."""
    if asker == owner and asker != ANONYMOUS:
        return True
    return permits(grants_that_count(settings, acl, owner), asker, permission)


def may_ask(
    operation: S3Operation, settings: BucketSettings, owner: str, asker: str
) -> bool | None:
    """Whether `asker` may have the operation in the bucket that is `owner`'s.

    None: it depends on the object.
    """
    if asker == owner and asker != ANONYMOUS:
        return True
    if operation in _ON_OBJECT:
        return None
    if operation not in _ON_BUCKET or (asker == ANONYMOUS and operation in _NOT_ANONYMOUSLY):
        return False
    return may(settings, settings.acl, owner, asker, _ON_BUCKET[operation])
