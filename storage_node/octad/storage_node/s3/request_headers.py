"""The headers of a request: which are kept with an object, which are known, which are refused.

Header values here are the bytes of the wire read as Latin-1: nothing is lost, and metadata goes
back to the client exactly as it came, whatever encoding its writer had in mind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from octad.client.core.aws_chunked import stored_content_encoding
from octad.client.core.s3_errors import S3Error
from octad.sharding.limits import METADATA_BYTES_MAX

METADATA_PREFIX: Final = "x-amz-meta-"
STRICT: Final = "x-octad-strict"
DEFAULT_CONTENT_TYPE: Final = "binary/octet-stream"

_STORED: Final = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)

# Headers that say how the request is made, or ask for what we do anyway.
_KNOWN: Final = frozenset(
    {
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-decoded-content-length",
        "x-amz-expected-bucket-owner",
        "x-amz-request-payer",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-checksum-algorithm",
        "x-amz-checksum-mode",
        "x-amz-checksum-type",
        "x-amz-mp-object-size",
        "x-amz-trailer",
        "x-amz-user-agent",
    }
)
# Headers whose only meaning that we can honour is one of these values.
_KNOWN_VALUES: Final[Mapping[str, frozenset[str]]] = {
    "x-amz-acl": frozenset({"private", "bucket-owner-full-control"}),
    "x-amz-storage-class": frozenset({"STANDARD"}),
    "x-amz-object-ownership": frozenset({"BucketOwnerEnforced"}),
    "x-amz-bucket-object-lock-enabled": frozenset({"false", "False"}),
}
_COPY_ONLY: Final = frozenset(
    {
        "x-amz-copy-source",
        "x-amz-copy-source-range",
        "x-amz-copy-source-if-match",
        "x-amz-copy-source-if-none-match",
        "x-amz-copy-source-if-modified-since",
        "x-amz-copy-source-if-unmodified-since",
        "x-amz-metadata-directive",
        "x-amz-source-expected-bucket-owner",
    }
)
_COPY_ONLY_VALUES: Final[Mapping[str, frozenset[str]]] = {
    "x-amz-tagging-directive": frozenset({"COPY"}),  # There are no tags yet to replace.
}
_CHECKSUM_PREFIX: Final = "x-amz-checksum-"
_WRITE_CONDITIONS: Final = (
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
)
_RESPONSE_PREFIX: Final = "response-"


def header_values(raw_headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers of a request by lower-case name; values of a repeated one are joined by commas."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw_headers:
        name = raw_name.decode("latin-1").lower()
        value = raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def as_signed(headers: Mapping[str, str]) -> Mapping[str, str]:
    """`headers` as their sender most likely signed them.

    Signatures are over UTF-8. A sender of UTF-8 bytes signed those; one of Latin-1 bytes signed the
    UTF-8 form of the same text.
    """
    if all(map(str.isascii, headers.values())):
        return headers
    return {name: _as_text(value) for name, value in headers.items()}


def _as_text(value: str) -> str:
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def refuse_unknown_headers(headers: Mapping[str, str], *, writes: bool, copies: bool) -> None:
    """Raises NotImplemented for a header that would change what a write means, if we knew it.

    A read is refused only where it expects an encryption that nothing here has.
    """
    for name, value in headers.items():
        if not name.startswith("x-amz-"):
            continue
        if name == "x-amz-security-token":
            if value:
                raise S3Error("InvalidToken")
        elif writes:
            if not _is_known_on_a_write(name, value, copies=copies):
                raise _not_implemented(name)
        elif name.startswith("x-amz-server-side-encryption"):
            raise _not_implemented(name)
    if writes:
        for name in _WRITE_CONDITIONS:
            if name in headers:
                raise _not_implemented(name)


def _is_known_on_a_write(name: str, value: str, *, copies: bool) -> bool:
    if name in _KNOWN or name.startswith(METADATA_PREFIX):
        return True
    if name.startswith(_CHECKSUM_PREFIX):
        return True  # An algorithm that nobody knows is refused where checksums are read.
    if name in _KNOWN_VALUES:
        return value in _KNOWN_VALUES[name]
    if not copies:
        return False
    return name in _COPY_ONLY or value in _COPY_ONLY_VALUES.get(name, ())


def _not_implemented(name: str) -> S3Error:
    return S3Error(
        "NotImplemented",
        "A header you provided implies functionality that is not implemented",
        fields={"Header": name},
    )


def wants_strict(headers: Mapping[str, str]) -> bool:
    """Whether a new bucket is to refuse writes while a copy is missing; raises InvalidArgument."""
    value = headers.get(STRICT, "false").lower()
    if value not in ("true", "false"):
        raise S3Error("InvalidArgument", f"{STRICT} is true or false")
    return value == "true"


def stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """What of `headers` is kept with the object; raises MetadataTooLarge."""
    stored: dict[str, str] = {}
    metadata_bytes = 0
    for name, value in headers.items():
        if name.startswith(METADATA_PREFIX):
            stored[name] = value
            metadata_bytes += len(name) - len(METADATA_PREFIX) + len(value)
    if metadata_bytes > METADATA_BYTES_MAX:
        raise S3Error(
            "MetadataTooLarge",
            fields={"Size": str(metadata_bytes), "MaxSizeAllowed": str(METADATA_BYTES_MAX)},
        )
    for name in _STORED:
        if value := headers.get(name, ""):
            stored[name] = value
    if "content-encoding" in stored:
        encoding = stored_content_encoding(stored.pop("content-encoding"))
        if encoding:
            stored["content-encoding"] = encoding
    return stored


def response_overrides(query: Mapping[str, str]) -> dict[str, str]:
    """Headers that the query asks to have in the answer instead of the stored ones.

    Raises InvalidArgument for a control character: it could start a header of its own.
    """
    overrides: dict[str, str] = {}
    for parameter, value in query.items():
        if not parameter.startswith(_RESPONSE_PREFIX):
            continue
        if any(character < " " or character == "\x7f" for character in value):
            raise S3Error(
                "InvalidArgument",
                "Header value cannot be represented",
                fields={"ArgumentName": parameter},
            )
        overrides[parameter.removeprefix(_RESPONSE_PREFIX)] = value.encode().decode("latin-1")
    return overrides
