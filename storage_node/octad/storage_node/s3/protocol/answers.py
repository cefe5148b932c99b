"""An answer, and the bytes of its head on the wire.

Heads are formatted in one piece: a header dictionary costs more than the rest of a small answer.
Text here is Latin-1, one character a byte, as in the headers of requests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Final

from octad.client.s3.errors import S3Error
from octad.storage_node.s3.protocol.xml.documents import CONTENT_TYPE, error_xml

HOST_ID: Final = "octad"  # Which node answered is private to the operator; the request id shows it.

# A client that sent `Expect: 100-continue` waits for it before its body.
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus
}
_BODYLESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_XML_HEAD: Final = f"Content-Type: {CONTENT_TYPE}\r\n"


class Answer:
    """An answer: a status, header lines, and a body in memory or as a stream."""

    __slots__ = ("body", "head", "length", "sent", "status", "stream")

    def __init__(
        self,
        status: int = 200,
        head: str = "",
        body: bytes | memoryview = b"",
        *,
        length: int | None = None,
        stream: AsyncIterator[bytes | memoryview] | None = None,
    ) -> None:
        self.status = status
        self.head = head  # Lines of `Name: value`, each with its CRLF.
        self.body = body
        self.length = len(body) if length is None else length  # The body's length, sent or not.
        self.stream = stream
        self.sent = 0  # Bytes of the body that were written, so far.


def xml_answer(document: bytes) -> Answer:
    """200 with a document."""
    return Answer(200, _XML_HEAD, document)


def error_answer(error: S3Error, *, resource: str, request_id: str) -> Answer:
    """The refusal as S3 words it."""
    body = error_xml(error, resource=resource, request_id=request_id, host_id=HOST_ID)
    head = _XML_HEAD
    if error.http_status == HTTPStatus.SERVICE_UNAVAILABLE:
        head += "Retry-After: 1\r\n"
    return Answer(error.http_status, head, body)


def header_lines(headers: Mapping[str, str]) -> str:
    """`headers` as lines of a head."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])


def connection_line(*, keep: bool, persistent: bool) -> str:
    """The Connection header, if one is needed; `persistent`: the client speaks HTTP/1.1."""
    if not keep:
        return "Connection: close\r\n"
    return "" if persistent else "Connection: keep-alive\r\n"


def head_bytes(answer: Answer, *, request_id: str, date: str, connection: str) -> bytes:
    """The head of `answer`, with what `connection_line` says."""
    length = "" if answer.status in _BODYLESS else f"Content-Length: {answer.length}\r\n"
    return (
        f"{_STATUS_LINES[answer.status]}\r\nServer: octad\r\nDate: {date}\r\n"
        f"x-amz-request-id: {request_id}\r\n{answer.head}{length}"
        f"{connection}\r\n"
    ).encode("latin-1")
