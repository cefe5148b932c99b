"""Settings of a bucket, as its record has them: who may read it, its tags, its CORS rules.

A record that says nothing of these is closed: access lists mean nothing, and everything public is
blocked. So are buckets made before there were settings. Words that this version does not know (of a
newer one) never open anything: callers compare with the ones they know.
"""

from __future__ import annotations

from typing import Final

import msgspec

from octad.client.s3.access_lists import PRIVATE

OWNER_ENFORCED: Final = "BucketOwnerEnforced"
OWNERSHIPS: Final = (OWNER_ENFORCED, "BucketOwnerPreferred", "ObjectWriter")


class PublicAccessBlock(msgspec.Struct, frozen=True):
    """The kinds of public access that are refused regardless of access lists."""

    block_acls: bool = False  # No list that opens anything may be set.
    ignore_acls: bool = False  # Existing lists open nothing.
    block_policy: bool = False  # There are no policies yet: these two are only stored.
    restrict_buckets: bool = False


ALL_BLOCKED: Final = PublicAccessBlock(True, True, True, True)


class CorsRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A cross-origin rule: which origins' pages may use the bucket from a browser, and how."""

    origins: tuple[str, ...]  # Each with at most one `*`.
    methods: tuple[str, ...]
    headers: tuple[str, ...] = ()  # Each with at most one `*`.
    exposed: tuple[str, ...] = ()
    max_age_s: int | None = None
    id: str = ""


class BucketSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of a bucket's record. Each is a field of its own, so that none is lost with another
    when an older octad writes the record anew."""

    acl: str = PRIVATE  # See `client/s3/access_lists.py`.
    ownership: str = OWNER_ENFORCED  # "": no ownership controls, so access lists count.
    public_access: PublicAccessBlock | None = ALL_BLOCKED  # None: nothing is blocked.
    tags: dict[str, str] = {}
    cors: tuple[CorsRule, ...] = ()


CLOSED: Final = BucketSettings()
OPEN: Final = BucketSettings(ownership="", public_access=None)
