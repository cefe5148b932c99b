"""Responses of HTTP/1.1, read without I/O: heads, and the three ways in which bodies end.

    head      up to the empty line; parsed by httptools, with names in lower case
    body      `Content-Length` bytes, or chunks, or all up to the end of the connection

Readers hand bytes on as they come. How those are cut changes nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

import httptools

from octad.client.http.transport import ConnectionFailed, NotHttp

HEAD_BYTES_MAX: Final = 64 * 1024
HEAD_END: Final = b"\r\n\r\n"
_TLS_ALERT: Final = b"\x15\x03"
_BODILESS: Final = frozenset({204, 304})
_NAMES_MAX: Final = 256

_names: dict[bytes, str] = {}  # Headers' names as they were sent, in lower case.


class ResponseHead(NamedTuple):
    """Status and headers (names in lower case; of one that is repeated the last)."""

    status: int
    headers: dict[str, str]
    keep_alive: bool


class BodyReader(Protocol):
    """The body of one response on its way in."""

    @property
    def ended(self) -> bool: ...

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in `data`; b"" of it is the connection's end. Raises ConnectionFailed.

        What lies behind the body is never asked for, and makes the connection useless.
        """


class _Headers:
    """What the parser calls for each header: a method of a dictionary, not one of ours."""

    __slots__ = ("on_header",)

    def __init__(self, fields: dict[bytes, bytes]) -> None:
        self.on_header = fields.__setitem__


def parse_head(data: bytes) -> ResponseHead:
    """`data` is a whole head, with the empty line. Raises NotHttp."""
    fields: dict[bytes, bytes] = {}
    parser = httptools.HttpResponseParser(_Headers(fields))
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # Nothing of ours asks for one.
    except httptools.HttpParserError as error:
        raise not_http(data) from error
    headers = {
        _names.get(name) or _name(name): value.decode("latin-1") for name, value in fields.items()
    }
    keep_alive = parser.get_http_version() == "1.1" and "close" not in headers.get("connection", "")
    return ResponseHead(parser.get_status_code(), headers, keep_alive)


def _name(name: bytes) -> str:
    known = name.decode("latin-1").lower()
    if len(_names) < _NAMES_MAX:
        _names[name] = known
    return known


def not_http(data: bytes) -> NotHttp:
    """What was answered instead of HTTP."""
    if data.startswith(_TLS_ALERT):
        return NotHttp("the port speaks TLS, and was asked in plain HTTP")
    return NotHttp(f"the answer is not HTTP: it begins with {bytes(data[:32])!r}")


def body_reader(method: str, head: ResponseHead) -> BodyReader:
    """For the body of a response to `method`. Raises NotHttp where its length makes no sense."""
    if method == "HEAD" or head.status in _BODILESS or head.status < 200:
        return LengthReader(0)
    if "transfer-encoding" in head.headers:
        return ChunkReader(head.status)
    length = head.headers.get("content-length")
    if length is None:
        return EndReader()
    if not (length.isascii() and length.isdecimal()):
        raise NotHttp(f"the answer's Content-Length is {length!r}")
    return LengthReader(int(length))


class LengthReader:
    """A body of a stated length."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def ended(self) -> bool:
        return not self._left

    def feed(self, data: bytes) -> bytes:
        if not data:
            raise ConnectionFailed(f"the connection ended {self._left} bytes before the answer did")
        if len(data) > self._left:
            raise NotHttp("the answer is longer than it said")
        self._left -= len(data)
        return data


class EndReader:
    """A body that ends with its connection."""

    __slots__ = ("ended",)

    def __init__(self) -> None:
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        self.ended = not data
        return data


class ChunkReader:
    """A chunked body; trailers are passed over."""

    __slots__ = ("_parser", "_pieces", "ended")

    def __init__(self, status: int) -> None:
        self.ended = False
        self._pieces: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(b"HTTP/1.1 %d -\r\ntransfer-encoding: chunked\r\n\r\n" % status)

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        self.ended = True

    def feed(self, data: bytes) -> bytes:
        if not data:
            raise ConnectionFailed("the connection ended before the answer did")
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise NotHttp(f"the answer's chunks make no sense: {error}") from error
        found = b"".join(self._pieces)
        self._pieces.clear()
        return found
