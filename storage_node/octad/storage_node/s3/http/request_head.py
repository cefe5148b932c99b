"""The head of a request, read by httptools, or left to aiohttp where anything about it is unusual.

Only what is plainly right is read here: HTTP/1.0 or 1.1, headers within bounds, a body whose length
is stated. Everything else, also what is no HTTP at all, is None: aiohttp takes the same bytes and
answers or refuses them, so there is no second opinion on what a bad request is.
"""

from __future__ import annotations

from typing import Final

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from octad.sharding.limits import KIB
from octad.storage_node.s3.handlers.request import expects_continue

HEAD_END: Final = b"\r\n\r\n"
HEAD_BYTES_MAX: Final = 8 * KIB  # All of it: no line is beyond aiohttp's bound.
HEADERS_MAX: Final = 128
_LINES_MAX: Final = HEADERS_MAX + 2  # The request line, and the empty one.
_VERSIONS: Final = frozenset({"1.0", "1.1"})
# What a request has one of at most (RFC 9110), and aiohttp refuses two of.
_ONCE: Final = frozenset(
    {
        "content-length",
        "content-location",
        "content-range",
        "content-type",
        "etag",
        "host",
        "max-forwards",
        "server",
        "user-agent",
    }
)
_NAMES_MAX: Final = 1024
_LENGTH_DIGITS_MAX: Final = 15

# Clients send the same few names for ever: each is turned into text once.
_names: dict[bytes, str] = {}


class RequestHead(msgspec.Struct):
    """The parsed head of a request."""

    method: str
    target: str
    headers: dict[str, str]  # Lower-case names; values as Latin-1 of their bytes.
    body_bytes: int  # Its Content-Length, 0 where there is none.
    keep_alive: bool
    persistent: bool  # HTTP/1.1: a connection goes on unless either side says otherwise.
    expects_continue: bool  # The client sends its body only after a 100 Continue.


class _Reader:
    """httptools' callbacks for the parts of one head."""

    __slots__ = ("complete", "headers", "is_repeating", "url")

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[str, str] = {}
        self.complete = False
        self.is_repeating = False

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, raw_name: bytes, raw_value: bytes) -> None:
        name = _names.get(raw_name) or _name(raw_name)
        value = raw_value.rstrip(b" \t").decode("latin-1")
        headers = self.headers
        if name in headers:
            self.is_repeating |= name in _ONCE
            value = f"{headers[name]},{value}"
        headers[name] = value

    def on_headers_complete(self) -> None:
        self.complete = True


def read_head(data: bytes) -> RequestHead | None:
    """`data` is all up to and with the first empty line; None: let aiohttp see."""
    if data.count(b"\n") > _LINES_MAX:
        return None
    reader = _Reader()
    parser = HttpRequestParser(reader)
    try:
        parser.feed_data(data)
    except HttpParserError:
        return None
    except HttpParserUpgrade:
        if parser.get_method() == b"CONNECT":
            return None
        # Else it need not be followed: Java's own client asks for HTTP/2 with every request.
    version, headers = parser.get_http_version(), reader.headers
    if not reader.complete or version not in _VERSIONS or "transfer-encoding" in headers:
        return None
    if not reader.url.startswith(b"/"):
        return None
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal() and len(length) <= _LENGTH_DIGITS_MAX):
        return None
    persistent = version == "1.1"
    if reader.is_repeating or (persistent and "host" not in headers):
        return None
    return RequestHead(
        parser.get_method().decode("latin-1"),
        reader.url.decode("latin-1"),
        headers,
        int(length),
        _keeps_alive(headers, persistent=persistent),
        persistent,
        "expect" in headers and expects_continue(headers, persistent=persistent),
    )


def begins_a_head(data: bytes) -> bool:
    """Whether `data`, without an empty line, can be the beginning of a head; else aiohttp sees."""
    reader = _Reader()
    parser = HttpRequestParser(reader)
    try:
        parser.feed_data(data)
    except HttpParserError:
        return False
    if reader.is_repeating or data.count(b"\n") > _LINES_MAX:
        return False
    return b"\n" not in data or parser.get_http_version() in _VERSIONS


def _keeps_alive(headers: dict[str, str], *, persistent: bool) -> bool:
    """httptools has it only while a head is being read."""
    said = headers.get("connection")
    if said is None:
        return persistent
    options = {option.strip().lower() for option in said.split(",")}
    return "close" not in options and (persistent or "keep-alive" in options)


def _name(raw_name: bytes) -> str:
    name = raw_name.decode("latin-1").lower()
    if len(_names) < _NAMES_MAX:
        _names[raw_name] = name
    return name
