"""Access lists: who has which permission on a bucket or an object, and how records keep that.

A list is kept as one text. Of S3's canned lists it is the name; of any other, its grants:

    public-read
    grants:alice=FULL_CONTROL,bob=READ,*=WRITE

`*` is everybody and `+` whoever has a key; no owner can be called so. A text that is not understood
(of a newer octad) is the private list: it opens nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Final

import msgspec

from octad.client.s3.owners import is_owner_name

PRIVATE: Final = "private"
PUBLIC_READ: Final = "public-read"
PUBLIC_READ_WRITE: Final = "public-read-write"
AUTHENTICATED_READ: Final = "authenticated-read"

READ: Final = "READ"
WRITE: Final = "WRITE"
READ_ACP: Final = "READ_ACP"
WRITE_ACP: Final = "WRITE_ACP"
FULL_CONTROL: Final = "FULL_CONTROL"  # All of them.
PERMISSIONS: Final = (READ, WRITE, READ_ACP, WRITE_ACP, FULL_CONTROL)

EVERYBODY: Final = "*"
MEMBERS: Final = "+"
GROUPS: Final = (EVERYBODY, MEMBERS)
ANONYMOUS: Final = ""  # In place of an owner's name: who has shown no key.

GRANTS_MAX: Final = 100
_PREFIX: Final = "grants:"
_CACHED_MAX: Final = 256


class Grant(msgspec.Struct, frozen=True):
    """One permission of an owner, or of one of `GROUPS`."""

    grantee: str
    permission: str


# What each opens, beside what is its keeper's.
CANNED: Final = {
    PRIVATE: (),
    PUBLIC_READ: (Grant(EVERYBODY, READ),),
    PUBLIC_READ_WRITE: (Grant(EVERYBODY, READ), Grant(EVERYBODY, WRITE)),
    AUTHENTICATED_READ: (Grant(MEMBERS, READ),),
}


@lru_cache(_CACHED_MAX)
def grants_of(text: str, owner: str) -> tuple[Grant, ...]:
    """The list that `text` keeps, of what belongs to `owner`."""
    if text.startswith(_PREFIX):
        parts = [part.partition("=") for part in text[len(_PREFIX) :].split(",") if part]
        grants = tuple([Grant(grantee, permission) for grantee, _, permission in parts])
        if all(map(_is_known, grants)):
            return grants
    return (*CANNED.get(text, ()), Grant(owner, FULL_CONTROL))


def text_of(grants: Collection[Grant], owner: str) -> str:
    """The inverse of `grants_of`; the order of a canned list's grants means nothing."""
    for name in CANNED:
        if set(grants) == set(grants_of(name, owner)):
            return name
    return _PREFIX + ",".join([f"{grant.grantee}={grant.permission}" for grant in grants])


def permits(grants: Collection[Grant], asker: str, permission: str) -> bool:
    """Whether they give `permission` to that owner, or to ANONYMOUS."""
    meant = (EVERYBODY,) if asker == ANONYMOUS else (asker, *GROUPS)
    return any(
        grant.grantee in meant and grant.permission in (permission, FULL_CONTROL)
        for grant in grants
    )


def _is_known(grant: Grant) -> bool:
    is_grantee = grant.grantee in GROUPS or is_owner_name(grant.grantee)
    return is_grantee and grant.permission in PERMISSIONS
