"""Conditions on a write, in headers or in a line of DeleteObjects, and the versions they may name.

An ETag is a condition on the content: who puts the same bytes again makes the same one. octad's own
token, `x-octad-version`, names one write and no other. To a client it is opaque; in it are the
bucket's id (a bucket made anew under its name is another) and the entry that made the object.

octad takes more than AWS does (`If-Match: *`, `If-None-Match` with ETags, both at once, sizes and
dates in ordinary buckets); `strict` is as AWS is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from octad.client.s3.errors import S3Error
from octad.client.s3.http_dates import parse_http_date
from octad.sharding.ids import BucketId, Epoch, Seq
from octad.storage_node.operations.conditions import ANY_ETAG, NO_VERSION, Condition, Version
from octad.storage_node.s3.protocol.requests.request_headers import (
    IF_MATCH,
    IF_MODIFIED,
    IF_NONE_MATCH,
    IF_SIZE,
    IF_VERSION,
    not_implemented,
)
from octad.storage_node.s3.protocol.xml.requests import DeleteTarget

_TOKEN: Final = re.compile(r"([0-9a-f]{1,8})-([0-9a-f]{1,16})-([0-9a-f]{1,16})", re.ASCII)
_SIZE: Final = re.compile(r"\d{1,18}", re.ASCII)


def put_condition(
    headers: Mapping[str, str], bucket: BucketId, *, strict: bool
) -> Condition | None:
    """A write's condition; raises InvalidArgument and, `strict`, NotImplemented."""
    condition = _condition(headers, bucket)
    if strict and condition is not None:
        _check_as_aws(condition)
    return condition


def delete_condition(
    headers: Mapping[str, str], bucket: BucketId, *, strict: bool
) -> Condition | None:
    """Of a deletion, as `put_condition`. That nothing is there to be deleted is as good as done,
    but not `strict`, nor for who names a version.
    """
    condition = _condition(headers, bucket)
    if strict:
        for name in (IF_NONE_MATCH, IF_SIZE, IF_MODIFIED):
            if name in headers:
                raise not_implemented(name)
        return condition
    if condition is None or condition.version is not None:
        return condition
    return msgspec.structs.replace(condition, or_absent=True)


def target_condition(target: DeleteTarget, bucket: BucketId, *, strict: bool) -> Condition | None:
    """The condition of one object in a DeleteObjects."""
    said = {IF_MATCH: target.etag, IF_SIZE: target.size, IF_MODIFIED: target.last_modified}
    headers = {name: value for name, value in said.items() if value}
    return delete_condition(headers, bucket, strict=strict) if headers else None


def _condition(headers: Mapping[str, str], bucket: BucketId) -> Condition | None:
    condition = Condition(
        match=_etags(headers, IF_MATCH),
        none_match=_etags(headers, IF_NONE_MATCH),
        version=_version(headers[IF_VERSION], bucket) if IF_VERSION in headers else None,
        size=_size(headers[IF_SIZE]) if IF_SIZE in headers else None,
        modified_s=_second(headers[IF_MODIFIED]) if IF_MODIFIED in headers else None,
    )
    return None if condition == Condition() else condition


def _check_as_aws(condition: Condition) -> None:
    if condition.match and condition.none_match:
        raise not_implemented(f"{IF_MATCH},{IF_NONE_MATCH}")
    if ANY_ETAG in condition.match:
        raise not_implemented(IF_MATCH)
    if condition.none_match not in ((), (ANY_ETAG,)):
        raise not_implemented(IF_NONE_MATCH)


def _etags(headers: Mapping[str, str], name: str) -> tuple[str, ...]:
    """An empty list cannot be meant as a condition."""
    if name not in headers:
        return ()
    tags = [tag.strip().removeprefix("W/") for tag in headers[name].split(",")]
    if "" in tags:
        raise _invalid(name, headers[name])
    return tuple([tag.strip('"') for tag in tags])


def _version(text: str, bucket: BucketId) -> Version:
    """One of another bucket is well-formed, and never that of an object here."""
    token = _TOKEN.fullmatch(text.strip())
    if token is None:
        raise _invalid(IF_VERSION, text)
    of_bucket, epoch, seq = (int(number, 16) for number in token.groups())
    return (Epoch(epoch), Seq(seq)) if of_bucket == bucket else NO_VERSION


def _size(text: str) -> int:
    if _SIZE.fullmatch(text.strip()) is None:
        raise _invalid(IF_SIZE, text)
    return int(text)


def _second(text: str) -> int:
    """As S3 writes it in headers, or in XML."""
    second = parse_http_date(text)
    if second is not None:
        return second
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise _invalid(IF_MODIFIED, text) from None
    if moment.tzinfo is None:
        raise _invalid(IF_MODIFIED, text)
    return int(moment.timestamp())


def _invalid(name: str, value: str) -> S3Error:
    return S3Error("InvalidArgument", fields={"ArgumentName": name, "ArgumentValue": value})
