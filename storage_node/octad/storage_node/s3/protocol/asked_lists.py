"""The access list that a request asks for: a canned one, grants in headers, or a document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from octad.client.s3.access_lists import (
    CANNED,
    FULL_CONTROL,
    GRANTS_MAX,
    GROUPS,
    PERMISSIONS,
    PRIVATE,
    READ,
    Grant,
    text_of,
)
from octad.client.s3.errors import S3Error
from octad.coordinator.schema.bucket_settings import OWNER_ENFORCED, OWNERSHIPS, BucketSettings
from octad.storage_node.s3.protocol.access import WITH_LISTS
from octad.storage_node.s3.protocol.requests.request_headers import (
    ACL_HEADER,
    GRANT_HEADERS,
    OWNERSHIP_HEADER,
    asks,
)
from octad.storage_node.s3.protocol.xml.access_lists import GROUP_URIS, AskedGrant

_OF_URIS: Final = {uri: group for group, uri in GROUP_URIS.items()}

_OWNER_READS: Final = "bucket-owner-read"
_OWNER_HAS_ALL: Final = "bucket-owner-full-control"
_NOT_KEPT: Final = ("aws-exec-read", "log-delivery-write")

OwnerOf = Callable[[str], str | None]
"""The owner whose canonical id it is, or None where none is known."""


def grants_in_headers(headers: Mapping[str, str]) -> list[AskedGrant]:
    """Those of `x-amz-grant-*`: `id="…", uri="…"`, with quotes or without."""
    return [
        AskedGrant(kind.strip(), grantee.strip().strip('"'), permission)
        for name, permission in zip(GRANT_HEADERS, PERMISSIONS, strict=True)
        if asks(value := headers.get(name, ""))
        for kind, _, grantee in [text.partition("=") for text in value.split(",")]
    ]


def resolved(asked: Sequence[AskedGrant], owner_of: OwnerOf) -> tuple[Grant, ...]:
    """The grants by names of owners, each once; raises S3Error where nobody is called so."""
    if len(asked) > GRANTS_MAX:
        raise S3Error("MalformedACLError")
    return tuple(
        dict.fromkeys([Grant(_grantee(grant, owner_of), grant.permission) for grant in asked])
    )


def _grantee(grant: AskedGrant, owner_of: OwnerOf) -> str:
    if grant.permission not in PERMISSIONS:
        raise S3Error("MalformedACLError")
    if grant.kind == "emailAddress":  # Owners have none.
        raise S3Error("UnresolvableGrantByEmailAddress")
    if grant.kind == "uri":
        found, what, argument = _OF_URIS.get(grant.grantee), "Invalid group uri", "uri"
    elif grant.kind == "id":
        found, what, argument = owner_of(grant.grantee), "Invalid id", "CanonicalUser/ID"
    else:
        found, what, argument = None, "Argument format not recognized", grant.kind
    if found is None:
        fields = {"ArgumentName": argument, "ArgumentValue": grant.grantee}
        raise S3Error("InvalidArgument", what, fields=fields)
    return found


def canned_grants(name: str, ownership: str, owner: str, keeper: str) -> tuple[Grant, ...]:
    """S3's canned list `name`, which leaves FULL_CONTROL to `keeper`: the bucket's owner, or who
    writes the object. Raises S3Error for one that there is not.
    """
    kept = Grant(keeper, FULL_CONTROL)
    if name in CANNED or not asks(name):
        return (*CANNED.get(name, ()), kept)
    if name == _OWNER_READS:
        return (kept,) if keeper == owner else (kept, Grant(owner, READ))
    if name == _OWNER_HAS_ALL:
        his = Grant(owner, FULL_CONTROL)
        return (his,) if ownership == "BucketOwnerPreferred" or keeper == owner else (kept, his)
    if name in _NOT_KEPT:
        raise S3Error(
            "NotImplemented",
            f"The access list {name} is not implemented: there is no such service here.",
            fields={"Header": ACL_HEADER},
        )
    raise S3Error("InvalidArgument", fields={"ArgumentName": ACL_HEADER, "ArgumentValue": name})


def grants_asked(
    headers: Mapping[str, str], settings: BucketSettings, owner: str, keeper: str, owner_of: OwnerOf
) -> tuple[Grant, ...]:
    """The list that the headers ask for, or the private one."""
    name, asked = headers.get(ACL_HEADER, ""), grants_in_headers(headers)
    if name and asked:
        raise S3Error(
            "InvalidRequest", "Specifying both Canned ACLs and Header Grants is not allowed"
        )
    if asked:
        return resolved(asked, owner_of)
    return canned_grants(name, settings.ownership, owner, keeper)


def is_public(grants: Sequence[Grant]) -> bool:
    """Whether they give anything to everybody, or to all who have a key."""
    return any(grant.grantee in GROUPS for grant in grants)


def list_to_store(grants: Sequence[Grant], settings: BucketSettings, owner: str) -> str:
    """The stored form of a list of a bucket, or of an object in it.

    Raises S3Error for one that the bucket's settings refuse. The private one never is.
    """
    text = text_of(grants, owner)
    if text == PRIVATE:
        return text
    if settings.ownership not in WITH_LISTS:
        raise S3Error("AccessControlListNotSupported")
    block = settings.public_access
    if block is not None and block.block_acls and is_public(grants):
        raise S3Error(
            "AccessDenied",
            "Public access lists are blocked for this bucket; its owner can lift that with "
            "PutPublicAccessBlock, or an operator with octad bucket public.",
        )
    return text


def new_bucket_settings(
    headers: Mapping[str, str], usual: BucketSettings, owner: str, owner_of: OwnerOf
) -> dict[str, str]:
    """The settings that CreateBucket's headers ask for beside the `usual` ones; raises S3Error."""
    ownership = headers.get(OWNERSHIP_HEADER, "") or usual.ownership
    check_ownership(ownership)
    block = usual.public_access
    settings = BucketSettings(ownership=ownership, public_access=block)
    grants = grants_asked(headers, settings, owner, owner, owner_of)
    if ownership == OWNER_ENFORCED and text_of(grants, owner) != PRIVATE:
        raise S3Error("InvalidBucketAclWithObjectOwnership")
    if is_public(grants) and block is not None and block.block_acls:
        raise S3Error("InvalidBucketAclWithBlockPublicAccessError")
    return {"ownership": ownership, "acl": list_to_store(grants, settings, owner)}


def check_ownership(ownership: str) -> None:
    """Raises InvalidArgument unless a bucket may have these ownership controls, or none."""
    if ownership and ownership not in OWNERSHIPS:
        raise S3Error(
            "InvalidArgument",
            f"Invalid {OWNERSHIP_HEADER} header: {ownership}",
            fields={"ArgumentName": OWNERSHIP_HEADER, "ArgumentValue": ownership},
        )
