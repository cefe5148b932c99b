"""Headers of requests, from the arguments of calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from octad.client.calls.requests import checked_value, query_of
from octad.client.errors import ConfigurationError


class Condition(NamedTuple):
    """What must hold for a write to be done; empty: nothing."""

    if_match: str = ""
    if_none_match: str = ""
    if_version: str = ""

    def headers(self) -> dict[str, str]:
        found = {}
        if self.if_match:
            found["if-match"] = _etag(self.if_match)
        if self.if_none_match:
            found["if-none-match"] = _etag(self.if_none_match)
        if self.if_version:
            found["x-octad-if-version"] = checked_value("if_version", self.if_version)
        return found


class Target(NamedTuple):
    """What a put is to become."""

    bucket: str
    key: str
    headers: dict[str, str]  # Of the object.
    conditions: dict[str, str]
    deadline_s: float | None


def target_of(
    bucket: str,
    key: str,
    *,
    content_type: str = "",
    content_encoding: str = "",
    cache_control: str = "",
    metadata: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    if_match: str = "",
    if_none_match: str = "",
    if_version: str = "",
    deadline: float | None = None,
) -> Target:
    """Of the arguments of a put. Raises ConfigurationError."""
    headers = {}
    if content_type:
        headers["content-type"] = checked_value("content_type", content_type)
    if content_encoding:
        headers["content-encoding"] = checked_value("content_encoding", content_encoding)
    if cache_control:
        headers["cache-control"] = checked_value("cache_control", cache_control)
    for name, value in (metadata or {}).items():
        if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
            raise ConfigurationError(
                f"{name!r} cannot name metadata", "use letters, digits, - and _"
            )
        headers[f"x-amz-meta-{name.lower()}"] = checked_value(name, value)
    if tags:
        headers["x-amz-tagging"] = query_of(tags)
    condition = Condition(if_match, if_none_match, if_version).headers()
    return Target(bucket, key, headers, condition, deadline)


def range_header(start: int, end: int | None) -> str:
    """Bytes from `start` up to, not including, `end`; None: to the last. Negative: from the end.

    Raises ConfigurationError for a range without a byte.
    """
    if start < 0 and end is None:
        return f"bytes={start}"
    if start < 0 or (end is not None and end <= start):
        raise ConfigurationError(f"no byte lies between {start} and {end}", "correct the range")
    return f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"


def _etag(value: str) -> str:
    value = checked_value("an ETag", value)
    return value if value == "*" or value.startswith('"') else f'"{value}"'
