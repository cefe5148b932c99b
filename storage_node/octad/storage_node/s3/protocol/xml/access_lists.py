"""The documents of access lists: read without trust, and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from octad.client.s3.access_lists import EVERYBODY, MEMBERS, Grant
from octad.client.s3.errors import S3Error
from octad.storage_node.s3.protocol.xml.documents import DECLARATION, NAMESPACE, Owner, escape
from octad.storage_node.s3.protocol.xml.trees import Element, read_tree

GROUP_URIS: Final = {
    EVERYBODY: "http://acs.amazonaws.com/groups/global/AllUsers",
    MEMBERS: "http://acs.amazonaws.com/groups/global/AuthenticatedUsers",
}
_INSTANCE: Final = "http://www.w3.org/2001/XMLSchema-instance"
# How each type of grantee is named.
_KINDS: Final = {
    "CanonicalUser": ("ID", "id"),
    "Group": ("URI", "uri"),
    "AmazonCustomerByEmail": ("EmailAddress", "emailAddress"),
}


class AskedGrant(msgspec.Struct, frozen=True):
    """A grant as a request names its grantee: by `id`, `uri` or `emailAddress`."""

    kind: str
    grantee: str
    permission: str


def access_control_policy_xml(
    owner: Owner, grants: Sequence[Grant], shown: Callable[[str], Owner]
) -> bytes:
    """`AccessControlPolicy` of what belongs to `owner`; `shown` says how owners are."""
    listed = "".join([_grant(grant, shown) for grant in grants])
    return (
        f'{DECLARATION}<AccessControlPolicy xmlns="{NAMESPACE}"><Owner>{_named(owner)}</Owner>'
        f"<AccessControlList>{listed}</AccessControlList></AccessControlPolicy>"
    ).encode()


def _grant(grant: Grant, shown: Callable[[str], Owner]) -> str:
    uri = GROUP_URIS.get(grant.grantee)
    kind = "CanonicalUser" if uri is None else "Group"
    grantee = _named(shown(grant.grantee)) if uri is None else f"<URI>{uri}</URI>"
    return (
        f'<Grant><Grantee xmlns:xsi="{_INSTANCE}" xsi:type="{kind}">{grantee}</Grantee>'
        f"<Permission>{grant.permission}</Permission></Grant>"
    )


def _named(owner: Owner) -> str:
    return f"<ID>{escape(owner.id)}</ID><DisplayName>{escape(owner.display_name)}</DisplayName>"


def read_access_control_policy(body: bytes, owner: Owner) -> list[AskedGrant]:
    """The grants of a list of what belongs to `owner`; raises MalformedACLError, AccessDenied."""
    try:
        policy = read_tree(body, "AccessControlPolicy")
        policy.allow(("Owner", "AccessControlList"))
        grants = policy.only("AccessControlList")
        grants.allow(("Grant",))
        asked = [_read_grant(grant) for grant in grants.elements]
        if (named := policy.all("Owner")) and named[0].word("ID") != owner.id:
            raise S3Error("AccessDenied")
    except S3Error as error:
        if error.code == "MalformedXML":
            raise S3Error("MalformedACLError") from error
        raise
    return asked


def _read_grant(grant: Element) -> AskedGrant:
    grant.allow(("Grantee", "Permission"))
    grantee = grant.only("Grantee")
    element, kind = _KINDS.get(grantee.attributes.get("type", ""), ("", ""))
    if not kind:
        raise S3Error("MalformedACLError")
    return AskedGrant(kind, grantee.word(element), grant.word("Permission"))
