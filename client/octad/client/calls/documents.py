"""S3's documents, read by element names without their namespace; and the few that are sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_ESCAPED: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"}


def tree_of(document: bytes) -> Element | None:
    """The root element, or None for what is no XML. Names lose their namespace."""
    from xml.etree import ElementTree  # Not for those who never list and are never refused.

    if b"<!DOCTYPE" in document[:1024]:
        return None
    try:
        root = ElementTree.fromstring(document)
    except ElementTree.ParseError:
        return None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def text_of(element: Element, name: str) -> str:
    """The text of the child `name`; "" where there is none."""
    return element.findtext(name) or ""


def decoded(element: Element, name: str) -> str:
    """Like `text_of`, of a child that is URL-encoded."""
    return unquote(text_of(element, name))


def escaped(text: str) -> str:
    return "".join([_ESCAPED.get(character, character) for character in text])


def delete_document(keys: Iterable[str]) -> bytes:
    """The body of DeleteObjects, which answers with failures alone."""
    return _document("Delete", _deleted(keys))


def complete_document(parts: Iterable[tuple[int, str, str]]) -> bytes:
    """The body of CompleteMultipartUpload: (number, ETag, CRC32) of each part."""
    return _document(
        "CompleteMultipartUpload",
        (
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escaped(etag)}</ETag>"
            f"{f'<ChecksumCRC32>{crc32}</ChecksumCRC32>' if crc32 else ''}</Part>"
            for number, etag, crc32 in parts
        ),
    )


def tagging_document(tags: dict[str, str]) -> bytes:
    """The body of PutObjectTagging."""
    return _document(
        "Tagging",
        (
            "<TagSet>",
            *(
                f"<Tag><Key>{escaped(name)}</Key><Value>{escaped(value)}</Value></Tag>"
                for name, value in tags.items()
            ),
            "</TagSet>",
        ),
    )


def location_document(location: str) -> bytes:
    """The body of CreateBucket that names a pool."""
    place = f"<LocationConstraint>{escaped(location)}</LocationConstraint>"
    return _document("CreateBucketConfiguration", (place,))


def _deleted(keys: Iterable[str]) -> Iterator[str]:
    yield "<Quiet>true</Quiet>"
    for key in keys:
        yield f"<Object><Key>{escaped(key)}</Key></Object>"


def _document(name: str, inside: Iterable[str]) -> bytes:
    namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<{name} xmlns="{namespace}">{"".join(inside)}</{name}>'.encode()
