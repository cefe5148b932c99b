"""Parses a request's target: the bucket, the exact bytes of the key, and the query.

The path is taken exactly as received: nothing is normalised, so `a//b`, `a/../b` and
`a/b/` are three keys of their own.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from octad.client.s3.errors import S3Error
from octad.storage_node.s3.protocol.requests.parameters import is_read

_PORT: Final = re.compile(r":\d*$")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def split_target(target: str) -> tuple[str, str]:
    """(path, query) of a request target as it came, also of one with scheme and host."""
    if not target.startswith("/"):
        _, scheme_found, rest = target.partition("://")
        slash = rest.find("/")
        if not scheme_found or slash < 0:
            raise S3Error("InvalidURI")
        target = rest[slash:]
    path, _, query = target.partition("?")
    return path, query


def split_path(path: str, host_bucket: str = "") -> tuple[str, bytes]:
    """(bucket, key) of a raw path: "" where the path names no bucket, b"" where it names no key.

    All of the path is the key where the host names the bucket.
    """
    if host_bucket:
        return host_bucket, percent_decoded(path[1:])
    bucket, _, key = path[1:].partition("/")
    return percent_decoded(bucket).decode(), percent_decoded(key)


@lru_cache(maxsize=256)  # Clients say the same few with every request.
def bucket_of_host(host: str, domains: tuple[str, ...]) -> str:
    """The bucket that a `Host` header names under one of `domains`; "" where it names none."""
    lowered = host.lower()
    for domain in domains:
        if domain in lowered:
            name = _PORT.sub("", lowered).removesuffix(".")
            if name == domain:
                return ""  # Though it may be under another of them.
            bucket = name.removesuffix(f".{domain}")
            if bucket != name:
                return bucket
    return ""


def percent_decoded(text: str) -> bytes:
    """The bytes of `text`; raises InvalidURI for a bad escape and for invalid UTF-8.

    A key that is not UTF-8 could be stored, but no XML document could ever name it.
    """
    if text.isascii() and "%" not in text:
        return text.encode()
    if _BAD_ESCAPE.search(text) is not None:
        raise S3Error("InvalidURI")
    decoded = unquote_to_bytes(text.encode("utf-8", "surrogateescape"))
    try:
        decoded.decode()
    except UnicodeDecodeError:
        raise S3Error("InvalidURI") from None
    return decoded


def parse_query(query: str) -> dict[str, str]:
    """Names and values of a raw query, decoded; a name without a value has "".

    A name given twice is refused where it means anything: two readers of it could each believe
    another value.
    """
    pairs: dict[str, str] = {}
    if not query:
        return pairs
    for pair in query.split("&"):
        if not pair:
            continue
        raw_name, _, raw_value = pair.partition("=")
        name = percent_decoded(raw_name.replace("+", " ")).decode()
        if name in pairs and is_read(name):
            raise S3Error(
                "InvalidArgument",
                "A query parameter may be given only once",
                fields={"ArgumentName": name},
            )
        pairs[name] = percent_decoded(raw_value.replace("+", " ")).decode()
    return pairs
