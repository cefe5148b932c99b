"""The XML bodies that S3's clients send, read without trust.

Every such body is a root with plain elements and, at most, one kind of repeated row of plain
elements, right under the root or under the one element that holds them. That shape is all this
reader takes. It keeps the text of known elements only, so memory
stays near the size of the body, and it refuses with MalformedXML: a document type declaration
(entity bombs and reads of local files start there), nesting that no S3 body has, an element that
the schema does not have (an ignored condition would make a conditional delete unconditional), more
rows than S3 takes, a body past the limit. Bodies are UTF-8, whatever they declare.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final
from xml.parsers import expat

import msgspec

from octad.client.s3.checksums import ALGORITHMS
from octad.client.s3.errors import S3Error
from octad.sharding.limits import PART_NUMBER_MAX, XML_BODY_BYTES_MAX

DELETE_KEYS_MAX: Final = 1000
TAG_ROWS_MAX: Final = 1000  # However many of them may stand.

_PART_CHECKSUMS: Final = {f"Checksum{algorithm}": algorithm for algorithm in ALGORITHMS}
_NAMESPACE_SEPARATOR: Final = " "


@dataclass(frozen=True, slots=True)
class RequestedPart:
    """One part that CompleteMultipartUpload names; `etag` without quotes."""

    number: int
    etag: str
    checksums: dict[str, str] = field(default_factory=dict)  # "CRC32" to base64.


class DeleteTarget(msgspec.Struct, frozen=True, gc=False):
    """One object that DeleteObjects names, with the conditions on it; "" where it has none.

    A Struct, because a request names a thousand of them.
    """

    key: bytes
    version_id: str = ""
    etag: str = ""  # Without quotes.
    last_modified: str = ""
    size: str = ""


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    """The body of DeleteObjects. Quiet: only failures are reported."""

    targets: tuple[DeleteTarget, ...]
    quiet: bool


@dataclass(frozen=True, slots=True)
class _Schema:
    """The shape of one kind of body."""

    root: str
    elements: frozenset[str]  # Plain elements right under the root.
    row: str = ""  # The repeated element under the root, "" for none.
    row_elements: frozenset[str] = frozenset()
    rows_max: int = 0
    holder: str = ""  # The element under the root that has the rows, "" where that does.


_COMPLETE: Final = _Schema(
    root="CompleteMultipartUpload",
    elements=frozenset(),
    row="Part",
    row_elements=frozenset({"PartNumber", "ETag", *_PART_CHECKSUMS}),
    rows_max=PART_NUMBER_MAX,
)
_DELETE: Final = _Schema(
    root="Delete",
    elements=frozenset({"Quiet"}),
    row="Object",
    row_elements=frozenset({"Key", "VersionId", "ETag", "LastModifiedTime", "Size"}),
    rows_max=DELETE_KEYS_MAX,
)
_TAGGING: Final = _Schema(
    root="Tagging",
    elements=frozenset(),
    row="Tag",
    row_elements=frozenset({"Key", "Value"}),
    rows_max=TAG_ROWS_MAX,
    holder="TagSet",
)
_CREATE_BUCKET: Final = _Schema(
    root="CreateBucketConfiguration", elements=frozenset({"LocationConstraint"})
)


def read_complete_multipart_upload(body: bytes) -> tuple[RequestedPart, ...]:
    """The parts of a `CompleteMultipartUpload`, at least one, in ascending order."""
    if not body:
        raise S3Error("InvalidRequest", "You must specify at least one part")
    parts = tuple(_part(row) for row in _read(body, _COMPLETE).rows)
    if not parts:
        raise S3Error("MalformedXML")
    if any(part.number <= before.number for before, part in pairwise(parts)):
        raise S3Error("InvalidPartOrder")
    return parts


def read_delete(body: bytes) -> DeleteRequest:
    """The objects of a `Delete`: at least one, and no more than S3 takes."""
    document = _read(body, _DELETE)
    if not document.rows:
        raise S3Error("MalformedXML")
    quiet = document.elements.get("Quiet", "false").strip().lower()
    if quiet not in ("true", "false"):
        raise S3Error("MalformedXML")
    return DeleteRequest(tuple(_target(row) for row in document.rows), quiet == "true")


def read_create_bucket_configuration(body: bytes) -> str:
    """The `LocationConstraint` of a `CreateBucketConfiguration`, "" for none or for no body."""
    if not body:
        return ""
    return _read(body, _CREATE_BUCKET).elements.get("LocationConstraint", "").strip()


def read_tagging(body: bytes) -> list[tuple[str, str]]:
    """The tags of a `Tagging`, as they stand there: name and value of each."""
    document = _read(body, _TAGGING)
    if not document.has_holder or any(len(row) != 2 for row in document.rows):
        raise S3Error("MalformedXML")
    return [(row["Key"], row["Value"]) for row in document.rows]


def _part(row: dict[str, str]) -> RequestedPart:
    number, etag = row.get("PartNumber", "").strip(), _unquoted(row.get("ETag", ""))
    if not (number.isascii() and number.isdecimal() and len(number) <= 9 and etag):
        raise S3Error("MalformedXML")
    checksums = {
        algorithm: row[element].strip()
        for element, algorithm in _PART_CHECKSUMS.items()
        if element in row
    }
    return RequestedPart(int(number), etag, checksums)


def _target(row: dict[str, str]) -> DeleteTarget:
    key = row.get("Key", "")
    if not key:
        raise S3Error("MalformedXML")
    return DeleteTarget(
        key=key.encode(),
        version_id=row.get("VersionId", "").strip(),
        etag=_unquoted(row.get("ETag", "")),
        last_modified=row.get("LastModifiedTime", "").strip(),
        size=row.get("Size", "").strip(),
    )


def _unquoted(etag: str) -> str:
    return etag.strip().strip('"')


def _read(body: bytes, schema: _Schema) -> _Document:
    if len(body) > XML_BODY_BYTES_MAX:
        raise S3Error("MalformedXML")
    document = _Document(schema)
    parser = expat.ParserCreate(encoding="utf-8", namespace_separator=_NAMESPACE_SEPARATOR)
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = document.on_doctype
    parser.StartElementHandler = document.on_start
    parser.EndElementHandler = document.on_end
    parser.CharacterDataHandler = document.on_text
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise S3Error("MalformedXML") from error
    return document


class _Document:
    """The values of one body; its handlers are called by the parser, in document order.

        root ── plain element ── text
          └──── (holder ──) row ── plain element ── text

    Nothing is deeper, so depth is a small number and never a stack.
    """

    def __init__(self, schema: _Schema) -> None:
        self.elements: dict[str, str] = {}
        self.rows: list[dict[str, str]] = []
        self.has_holder = False
        self._schema = schema
        self._row_depth = 2 if schema.holder else 1
        self._depth = 0
        self._into: dict[str, str] | None = None  # The target of the open plain element's text.
        self._text: list[str] = []
        self._row: dict[str, str] | None = None  # The open row.

    def on_doctype(
        self, name: str, system_id: str | None, public_id: str | None, has_subset: bool
    ) -> None:
        raise S3Error("MalformedXML")

    def on_start(self, qualified: str, attributes: dict[str, str]) -> None:
        name = qualified.rpartition(_NAMESPACE_SEPARATOR)[2]
        schema = self._schema
        if self._into is not None:
            raise S3Error("MalformedXML")  # A plain element holds text only.
        if self._depth == 0:
            known = name == schema.root
        elif self._row is not None:
            known = name in schema.row_elements and name not in self._row
            self._into = self._row
        elif self._depth < self._row_depth and name == schema.holder:
            known = not self.has_holder
            self.has_holder = True
        elif self._depth == self._row_depth and name == schema.row:
            known = len(self.rows) < schema.rows_max
            self._row = {}
            self.rows.append(self._row)
        else:
            known = self._depth == 1 and name in schema.elements and name not in self.elements
            self._into = self.elements
        if not known:
            raise S3Error("MalformedXML")
        self._depth += 1

    def on_text(self, text: str) -> None:
        if self._into is not None:
            self._text.append(text)
        elif not text.isspace():
            raise S3Error("MalformedXML")

    def on_end(self, qualified: str) -> None:
        self._depth -= 1
        if self._into is not None:
            self._into[qualified.rpartition(_NAMESPACE_SEPARATOR)[2]] = "".join(self._text)
            self._text.clear()
            self._into = None
        elif self._depth == self._row_depth:
            self._row = None
