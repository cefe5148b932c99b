"""A bucket's cross-origin rules as AWS's tools write them (JSON), and as S3 takes them (XML)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final
from xml.etree import ElementTree

RULES: Final = "CORSRules"
_NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
_LISTS: Final = {
    "AllowedHeaders": "AllowedHeader",
    "AllowedMethods": "AllowedMethod",
    "AllowedOrigins": "AllowedOrigin",
    "ExposeHeaders": "ExposeHeader",
}
_NEEDED: Final = ("AllowedMethods", "AllowedOrigins")
_ID, _AGE = "ID", "MaxAgeSeconds"


class BadCorsDocument(ValueError):
    """What is wrong with it, for whoever wrote it."""


def cors_xml(document: bytes) -> bytes:
    """The body of PutBucketCors. XML is left as it is: S3 says what is wrong with that.

    JSON is `{"CORSRules": […]}`, or the list alone, as AWS's console has it. Raises
    BadCorsDocument.
    """
    if document.lstrip().startswith(b"<"):
        return document
    try:
        read = json.loads(document)
    except ValueError as error:
        raise BadCorsDocument(f"it is neither XML nor JSON ({error})") from error
    if isinstance(read, dict) and set(read) == {RULES}:
        read = read[RULES]
    if not isinstance(read, list) or not read:
        raise BadCorsDocument(f'its rules are not where they should be: {{"{RULES}": […]}}')
    root = ElementTree.Element("CORSConfiguration", xmlns=_NAMESPACE)
    for number, rule in enumerate(read, 1):
        element = ElementTree.SubElement(root, "CORSRule")
        for name, text in _elements(rule, f"rule {number}"):
            ElementTree.SubElement(element, name).text = text
    encoded: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return encoded


def cors_json(document: ElementTree.Element) -> dict[str, Any]:
    """What GetBucketCors answered (names without a namespace), as `aws s3api get-bucket-cors`."""
    return {RULES: [_rule(element) for element in document.findall("CORSRule")]}


def _rule(element: ElementTree.Element) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    if (named := element.findtext(_ID)) is not None:
        rule[_ID] = named
    for name, singular in _LISTS.items():
        if values := [each.text or "" for each in element.findall(singular)]:
            rule[name] = values
    if (age := element.findtext(_AGE)) is not None:
        rule[_AGE] = int(age)
    return rule


def _elements(rule: object, which: str) -> Iterator[tuple[str, str]]:
    if not isinstance(rule, dict):
        raise BadCorsDocument(f"{which} is no object")
    unknown = set(rule) - {*_LISTS, _ID, _AGE}
    if unknown:
        known = ", ".join((*_LISTS, _AGE, _ID))
        raise BadCorsDocument(f"{which} has {min(unknown)!r}, and rules have {known}")
    for name in _NEEDED:
        if not rule.get(name):
            raise BadCorsDocument(f"{which} lacks {name}")
    if _ID in rule:
        yield _ID, _text(rule[_ID], f"{which}: {_ID}")
    for name, singular in _LISTS.items():
        values = rule.get(name, [])
        if not isinstance(values, list):
            raise BadCorsDocument(f"{which}: {name} is no list")
        for value in values:
            yield singular, _text(value, f"{which}: {name}")
    if _AGE in rule:
        age = rule[_AGE]
        if isinstance(age, bool) or not isinstance(age, int) or age < 0:
            raise BadCorsDocument(f"{which}: {_AGE} is no number of seconds")
        yield _AGE, str(age)


def _text(value: object, which: str) -> str:
    if not isinstance(value, str):
        raise BadCorsDocument(f"{which} is no text")
    return value
