r"""A multipart/form-data body: the fields before its file, and where the file ends (RFC 7578).

    --boundary CRLF  headers CRLF CRLF  value
    CRLF --boundary CRLF  headers CRLF CRLF  the file's bytes
    CRLF --boundary--

What comes behind the file is passed over, as S3 does it: it can change nothing. Fields are read
whole, so there is a bound on all that comes before the file's bytes. Of a file nothing is held but
what may turn out to be the boundary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

import msgspec

from octad.client.s3.aws_chunked import Bytes
from octad.client.s3.errors import S3Error
from octad.sharding.limits import KIB

FIELDS_BYTES_MAX: Final = 20 * KIB  # Bytes before the file's, as on S3.
FORM_TYPE: Final = "multipart/form-data"
FILE_FIELD: Final = "file"

_CRLF: Final = b"\r\n"
_HEADERS_END: Final = b"\r\n\r\n"
# RFC 2046 §5.1.1; the type has been compared by then.
_BOUNDARY: Final = re.compile(
    r""";\s*boundary=(?:"([0-9A-Za-z'()+_,./:=? -]{1,70})"|([^\s;"]{1,70}))\s*(?:;|$)""", re.I
)
_AFTER_BOUNDARY: Final = re.compile(rb"[ \t]*\r\n")
# Browsers write a quote in a name as %22; a backslash stands for itself.
_PARAMETER: Final = re.compile(r';\s*([A-Za-z*-]+)\s*=\s*(?:"([^"]*)"|([^\s;"]*))')
_PLAIN_ENCODINGS: Final = ("", "7bit", "8bit", "binary")


class FormHead(msgspec.Struct, frozen=True):
    """The part of a form before its file's bytes."""

    fields: Mapping[str, str]  # By lower-case name.
    filename: str  # Without the directories that some browsers send.
    size: int  # Bytes of all this; the file's first byte comes next.


def is_form(content_type: str) -> bool:
    """Whether a request's Content-Type says that its body is a form with a file."""
    return content_type.partition(";")[0].strip().lower() == FORM_TYPE


def boundary_of(content_type: str) -> bytes:
    """The boundary of the parts; raises MalformedPOSTRequest."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        _malformed()
    return (found[1] or found[2]).encode("latin-1")


def read_form_head(data: bytes, boundary: bytes) -> FormHead | None:
    """The head of the form that begins with `data`; None: more is needed of it.

    Raises MalformedPOSTRequest, and MaxPostPreDataLengthExceededError for too much of it.
    """
    head = _read(data, boundary)
    if (len(data) if head is None else head.size) > FIELDS_BYTES_MAX:
        raise S3Error("MaxPostPreDataLengthExceededError")
    return head


def _read(data: bytes, boundary: bytes) -> FormHead | None:
    fields: dict[str, str] = {}
    opening, delimiter = b"--" + boundary, _CRLF + b"--" + boundary
    if not data.startswith(opening):
        return None if opening.startswith(data) else _malformed()
    at = len(opening)
    while True:
        if data.startswith(b"--", at):
            raise S3Error("InvalidArgument", "POST requires exactly one file upload per request.")
        begins = _AFTER_BOUNDARY.match(data, at)
        ends = -1 if begins is None else data.find(_HEADERS_END, begins.end() - len(_CRLF))
        if begins is None and not _may_go_on(data[at:]):
            _malformed()
        if begins is None or ends < 0:
            return None
        name, filename = _disposition(data[begins.end() : ends])
        value_at = ends + len(_HEADERS_END)
        if name == FILE_FIELD:
            return FormHead(fields, re.split(r"[/\\]", filename)[-1], value_at)
        # An empty value ends with the line break that ends its headers.
        next_at = data.find(delimiter, value_at - len(_CRLF))
        if next_at < 0:
            return None
        if name in fields:
            _malformed()  # Which of them would have been signed?
        fields[name] = _text(data[value_at : max(next_at, value_at)])
        at = next_at + len(delimiter)


class FileDecoder:
    """The bytes of the file, up to the boundary. A `BodyDecoder`.

    `length` is how many bytes may come at most: how many there are shows only at their end. Raises
    EntityTooLarge as soon as there are more than `size_max`.
    """

    def __init__(self, boundary: bytes, length: int, size_min: int, size_max: int) -> None:
        self.length = length
        self.trailers: Mapping[str, str] = {}
        self.size = 0
        self._delimiter = _CRLF + b"--" + boundary
        self._search = re.compile(re.escape(self._delimiter)).search
        self._held = b""  # May be the beginning of the boundary.
        self._ended = False
        self._size_min = size_min
        self._size_max = size_max

    def feed(self, data: Bytes) -> Sequence[Bytes]:
        """See `BodyDecoder.feed`."""
        if self._ended:
            return ()
        if self._held:
            data = self._held + bytes(data)
        found = self._search(data)
        self._ended = found is not None
        end = found.start() if found is not None else len(data) - self._begun(data)
        self._held = b"" if found is not None else bytes(data[end:])
        self.size += end
        if self.size > self._size_max:
            raise S3Error(
                "EntityTooLarge",
                fields={"ProposedSize": str(self.size), "MaxSizeAllowed": str(self._size_max)},
            )
        return (data[:end],) if end else ()

    def finish(self) -> None:
        """See `BodyDecoder.finish`."""
        if not self._ended:
            _malformed()
        if self.size < self._size_min:
            raise S3Error(
                "EntityTooSmall",
                fields={"ProposedSize": str(self.size), "MinSizeAllowed": str(self._size_min)},
            )

    def _begun(self, data: Bytes) -> int:
        """How many bytes at the end of `data` may be the beginning of the boundary."""
        tail = bytes(data[max(0, len(data) - len(self._delimiter) + 1) :])
        for count in range(len(tail), 0, -1):
            if tail.endswith(self._delimiter[:count]):
                return count
        return 0


def _disposition(headers: bytes) -> tuple[str, str]:
    """(lower-case name, file name) of a part."""
    name, filename = None, ""
    for line in headers.split(_CRLF):
        header, _, value = _text(line).partition(":")
        if header.strip().lower() == "content-disposition":
            kind, _, _ = value.partition(";")
            if kind.strip().lower() != "form-data" or name is not None:
                _malformed()
            said = {
                found[1].lower(): found[2] or found[3] or "" for found in _PARAMETER.finditer(value)
            }
            name, filename = said.get("name"), said.get("filename", "")
        elif header.strip().lower() == "content-transfer-encoding" and (
            value.strip().lower() not in _PLAIN_ENCODINGS
        ):
            _malformed()
    if not name:
        _malformed()
    return name.lower(), filename


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        _malformed()


def _may_go_on(rest: bytes) -> bool:
    """Whether what follows a boundary may still become a line's end, or the form's."""
    stripped = rest.lstrip(b" \t")
    return stripped in (b"", b"\r") or rest == b"-"


def _malformed() -> NoReturn:
    raise S3Error("MalformedPOSTRequest")
