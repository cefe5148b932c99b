"""Conditions on a read: `If-Match` and its three siblings, also in their `x-amz-copy-source-`
forms.

RFC 9110 §13.2.2 orders them: an entity tag decides before a date, so that a true `If-Match`
outweighs a false `If-Unmodified-Since`, and a false `If-None-Match` outweighs a true
`If-Modified-Since`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from octad.client.s3.errors import S3Error
from octad.client.s3.http_dates import parse_http_date

COPY_SOURCE_PREFIX: Final = "x-amz-copy-source-"

# A GET whose condition fails on these has nothing new for the client; a copy fails on all four.
NOT_MODIFIED_CONDITIONS: Final = frozenset({"If-None-Match", "If-Modified-Since"})


@dataclass(frozen=True, slots=True)
class ReadConditions:
    """The four header values of one request; "" where it has none."""

    if_match: str
    if_none_match: str
    if_modified_since: str
    if_unmodified_since: str

    def failed(self, etag: str, modified_ms: int, now_ms: int) -> str | None:
        """The name of the condition that an object with this ETag and date fails, if any.

        No one can have a copy of the future: `If-Modified-Since` such a date is no condition.
        """
        modified_s = modified_ms // 1000  # As shown to clients in Last-Modified.
        if self.if_match:
            if not etag_matches(self.if_match, etag):
                return "If-Match"
        elif self.if_unmodified_since:
            since = parse_http_date(self.if_unmodified_since)
            if since is not None and modified_s > since:
                return "If-Unmodified-Since"
        if self.if_none_match:
            if etag_matches(self.if_none_match, etag):
                return "If-None-Match"
        elif self.if_modified_since:
            since = parse_http_date(self.if_modified_since)
            if since is not None and modified_s <= since <= now_ms // 1000:
                return "If-Modified-Since"
        return None


def read_conditions(headers: Mapping[str, str], prefix: str = "") -> ReadConditions | None:
    """The conditions among `headers` (lower-case names), or None where there are none."""
    match = headers.get(f"{prefix}if-match", "")
    none_match = headers.get(f"{prefix}if-none-match", "")
    modified_since = headers.get(f"{prefix}if-modified-since", "")
    unmodified_since = headers.get(f"{prefix}if-unmodified-since", "")
    if not (match or none_match or modified_since or unmodified_since):
        return None
    return ReadConditions(match, none_match, modified_since, unmodified_since)


def range_applies(headers: Mapping[str, str], etag: str, modified_ms: int) -> bool:
    """Whether the client's part is of this very object: without, or with a true, `If-Range`."""
    condition = headers.get("if-range")
    if condition is None:
        return True
    since = parse_http_date(condition)
    return condition.strip('"') == etag if since is None else since == modified_ms // 1000


def etag_matches(header: str, etag: str) -> bool:
    """Whether `header` names `etag` (without quotes), among others, quoted or not, or is `*`."""
    for candidate in header.split(","):
        tag = candidate.strip().removeprefix("W/")
        if tag == "*" or tag.strip('"') == etag:
            return True
    return False


def precondition_failed(condition: str) -> S3Error:
    """The refusal that names the condition."""
    return S3Error("PreconditionFailed", fields={"Condition": condition})
