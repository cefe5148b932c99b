"""Small XML documents that clients send, as trees, read without trust.

For documents that nest deeper than rows of plain elements (`requests.py` reads those). What is
refused is the same: a document type declaration, more depth or elements than any such document has,
text beside elements. Who reads a tree says which elements it may have.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from octad.client.s3.errors import S3Error
from octad.sharding.limits import KIB

TREE_BYTES_MAX: Final = 64 * KIB
_DEPTH_MAX: Final = 6
_ELEMENTS_MAX: Final = 4096
_SEPARATOR: Final = " "


@dataclass(slots=True)
class Element:
    """One element, without its namespace; `text` of those that have no elements in them."""

    name: str
    attributes: dict[str, str]  # By names without their namespaces.
    elements: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, name: str) -> list[Element]:
        """Its direct children with that name."""
        return [element for element in self.elements if element.name == name]

    def only(self, name: str) -> Element:
        """The one of that name; raises MalformedXML."""
        found = self.all(name)
        if len(found) != 1:
            raise S3Error("MalformedXML")
        return found[0]

    def word(self, name: str, default: str | None = None) -> str:
        """The text of the one of that name, without blanks around it."""
        if default is not None and not self.all(name):
            return default
        return self.only(name).text.strip()

    def allow(self, names: Collection[str]) -> None:
        """Raises MalformedXML where it has another element: an ignored one could be a condition."""
        if any(element.name not in names for element in self.elements):
            raise S3Error("MalformedXML")


def read_tree(body: bytes, root: str) -> Element:
    """The document, whose outermost element is called `root`; raises MalformedXML."""
    if len(body) > TREE_BYTES_MAX:
        raise S3Error("MalformedXML")
    tree = _Tree()
    parser = expat.ParserCreate(encoding="utf-8", namespace_separator=_SEPARATOR)
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = tree.on_doctype
    parser.StartElementHandler = tree.on_start
    parser.EndElementHandler = tree.on_end
    parser.CharacterDataHandler = tree.on_text
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise S3Error("MalformedXML") from error
    found = tree.top.only(root)
    tree.top.allow((root,))
    return found


class _Tree:
    """Its handlers are called by the parser, in document order."""

    def __init__(self) -> None:
        self.top = Element("", {})
        self._open = [self.top]
        self._count = 0

    def on_doctype(
        self, name: str, system_id: str | None, public_id: str | None, has_subset: bool
    ) -> None:
        raise S3Error("MalformedXML")

    def on_start(self, qualified: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) > _DEPTH_MAX or self._count > _ELEMENTS_MAX:
            raise S3Error("MalformedXML")
        element = Element(_bare(qualified), {_bare(n): v for n, v in attributes.items()})
        parent = self._open[-1]
        if parent.text.strip():
            raise S3Error("MalformedXML")
        parent.text = ""
        parent.elements.append(element)
        self._open.append(element)

    def on_text(self, text: str) -> None:
        element = self._open[-1]
        if not element.elements:
            element.text += text
        elif not text.isspace():
            raise S3Error("MalformedXML")

    def on_end(self, qualified: str) -> None:
        self._open.pop()


def _bare(qualified: str) -> str:
    return qualified.rpartition(_SEPARATOR)[2]
