"""Tags of objects and buckets: which there may be, and how a request's header names them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import unquote_plus

from octad.client.s3.errors import S3Error

TAGGING_HEADER: Final = "x-amz-tagging"
DIRECTIVE_HEADER: Final = "x-amz-tagging-directive"
TAGS_MAX: Final = 10
BUCKET_TAGS_MAX: Final = 50
_NAME_CHARACTERS_MAX: Final = 128
_VALUE_CHARACTERS_MAX: Final = 256
_PUNCTUATION: Final = frozenset("+-=._:/@")
_RESERVED: Final = "aws:"


def checked_tags(tags: Iterable[tuple[str, str]], tags_max: int = TAGS_MAX) -> dict[str, str]:
    """The tags in the order of names; raises InvalidTag, also for more than `tags_max`."""
    checked: dict[str, str] = {}
    for name, value in tags:
        if not 1 <= len(name) <= _NAME_CHARACTERS_MAX or not _is_allowed(name):
            raise S3Error("InvalidTag", "The TagKey you have provided is invalid")
        if name.lower().startswith(_RESERVED):
            raise S3Error("InvalidTag", "System tags cannot be added/updated by requester")
        if len(value) > _VALUE_CHARACTERS_MAX or not _is_allowed(value):
            raise S3Error("InvalidTag", "The TagValue you have provided is invalid")
        if name in checked:
            raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key")
        checked[name] = value
    if len(checked) > tags_max:
        kind = "Object" if tags_max == TAGS_MAX else "Bucket"
        raise S3Error("InvalidTag", f"{kind} tags cannot be greater than {tags_max}")
    return dict(sorted(checked.items()))


def tags_in_header(header: str) -> dict[str, str]:
    """The tags in `x-amz-tagging`, encoded as a URL's query; raises S3Error."""
    try:
        text = header.encode("latin-1").decode()  # Headers are read as Latin-1.
        pairs = [
            (unquote_plus(name, errors="strict"), unquote_plus(value, errors="strict"))
            for name, _, value in (each.partition("=") for each in text.split("&") if each)
        ]
    except UnicodeDecodeError:
        raise _not_a_query(header) from None
    if len({name for name, _ in pairs}) < len(pairs):
        raise _not_a_query(header)
    return checked_tags(pairs)


def copies_tags(headers: Mapping[str, str]) -> bool:
    """Whether a copy has the tags of its source, and not those that the request names."""
    directive = headers.get(DIRECTIVE_HEADER, "COPY")
    if directive not in ("COPY", "REPLACE"):
        raise S3Error(
            "InvalidArgument",
            "Unknown tagging directive.",
            fields={"ArgumentName": DIRECTIVE_HEADER, "ArgumentValue": directive},
        )
    return directive == "COPY"


def _is_allowed(text: str) -> bool:
    """Letters, numbers and blanks of any script, and a few signs."""
    return all(
        character in _PUNCTUATION or unicodedata.category(character)[0] in "LNZ"
        for character in text
    )


def _not_a_query(header: str) -> S3Error:
    return S3Error(
        "InvalidArgument",
        "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters "
        "without tag name duplicates.",
        fields={"ArgumentName": TAGGING_HEADER, "ArgumentValue": header},
    )
