"""Requests to S3 as values: what is asked for, apart from which node is asked and when.

A write has an invocation id, the same through all of its tries, by which octad knows that they are
one write (`docs/reference/retries.md`). A body over plain HTTP is signed by its SHA-256; inside TLS
no one can change it. Its CRC32 goes along either way, is kept, and is checked when it is read.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from binascii import b2a_base64
from collections.abc import Mapping
from os import urandom
from typing import Final

from octad.client.errors import ConfigurationError
from octad.client.http.transport import Address, Bytes, Proxy
from octad.client.resilience.retry_policy import TRIES_MAX
from octad.client.s3.sigv4 import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    Credentials,
    sign_request,
    uri_encode,
    uri_encode_path,
)

LARGE_BYTES: Final = 1024 * 1024  # From here on a refusal should come before the body.
_PLAIN: Final = re.compile(r"[A-Za-z0-9/._~-]*")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
CHECKSUM_HEADER: Final = "x-amz-checksum-crc32"
SESSION_TOKEN_HEADER: Final = "x-amz-security-token"  # Comes with keys that are good for a while.


class Request:
    """`headers` have lower-case names; `query` is encoded and in canonical order.

    `checksum`: the body is data, or has to be vouched for. `invocation`: of a write.
    `is_slow`: its answer may begin before it is decided. `is_large`: many bytes come back.
    """

    __slots__ = (
        "body",
        "bucket",
        "headers",
        "invocation",
        "is_large",
        "is_slow",
        "key",
        "method",
        "path",
        "query",
        "sha256",
    )

    def __init__(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: str = "",
        headers: dict[str, str] | None = None,
        body: Bytes = b"",
        checksum: bool = False,
        invocation: str = "",
        is_slow: bool = False,
        is_large: bool = False,
    ) -> None:
        self.method = method
        self.bucket = bucket
        self.key = key
        self.path = path_of(bucket, key)
        self.query = query
        self.headers = headers or {}
        self.body = body
        self.invocation = invocation
        self.is_slow = is_slow
        self.is_large = is_large or len(body) >= LARGE_BYTES
        self.sha256 = ""
        if checksum:
            self.headers[CHECKSUM_HEADER] = crc32_of(body)

    @property
    def is_read(self) -> bool:
        return not self.invocation

    @property
    def expects_continue(self) -> bool:
        """Whether the server is to say that it wants the body."""
        return len(self.body) >= LARGE_BYTES

    def head(
        self,
        address: Address,
        credentials: Credentials,
        *,
        region: str,
        now: float,
        tries: int,
        session_token: str = "",
        proxy: Proxy | None = None,
    ) -> bytes:
        """The signed head of try number `tries`, for the server at `address`."""
        headers = {"host": address.authority, **self.headers}
        if session_token:
            headers[SESSION_TOKEN_HEADER] = session_token
        if self.invocation:
            headers["amz-sdk-invocation-id"] = self.invocation
            headers["amz-sdk-request"] = f"attempt={tries}; max={TRIES_MAX}"
        added, _ = sign_request(
            method=self.method,
            path=self.path,
            query=self.query,
            headers=headers,
            credentials=credentials,
            region=region,
            now=now,
            content_sha256=self._content_sha256(address),
        )
        headers.update(added)
        if length := len(self.body):
            headers["content-length"] = str(length)
            if length >= LARGE_BYTES:
                headers["expect"] = "100-continue"
        elif self.method in ("PUT", "POST"):
            headers["content-length"] = "0"
        target = f"{self.path}?{self.query}" if self.query else self.path
        if proxy is not None and not address.tls:  # It reads the head, and sends it on.
            target = f"{address.url}{target}"
            if proxy.authorization:
                headers["proxy-authorization"] = proxy.authorization
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        return f"{self.method} {target} HTTP/1.1\r\n{lines}\r\n".encode()

    def _content_sha256(self, address: Address) -> str:
        if not self.body:
            return EMPTY_SHA256
        if address.tls:
            return UNSIGNED_PAYLOAD
        if not self.sha256:
            self.sha256 = hashlib.sha256(self.body).hexdigest()
        return self.sha256


def new_invocation() -> str:
    """An id for a write: the same through all of its tries."""
    return urandom(16).hex()


def path_of(bucket: str, key: str) -> str:
    """The encoded path. Raises ConfigurationError where a key could not be sent."""
    path = f"/{bucket}/{key}" if key else f"/{bucket}"
    if _PLAIN.fullmatch(path) is not None:
        return path
    try:
        return uri_encode_path(path.encode())
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{key!r} is not text that UTF-8 has", "correct it") from error


def query_of(parameters: Mapping[str, str]) -> str:
    """Parameters as a query in canonical order."""
    pairs = sorted(
        (uri_encode(name.encode()), uri_encode(value.encode()))
        for name, value in parameters.items()
    )
    return "&".join([f"{name}={value}" for name, value in pairs])


def checked_value(name: str, value: str) -> str:
    """`value` of a header; raises ConfigurationError where it would be more than that."""
    if _CONTROL.search(value) is not None:
        raise ConfigurationError(f"{name} has a control character in it", "take it out")
    return value.strip(" ")


def crc32_of(data: Bytes) -> str:
    """The CRC32 of `data` as headers carry it."""
    return b2a_base64(zlib.crc32(data).to_bytes(4, "big"), newline=False).decode()
