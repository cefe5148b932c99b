"""The headers of a request: which are stored with an object, which are known, which are refused.

Header values here are the bytes of the wire read as Latin-1: nothing is lost, in any encoding
their writer had in mind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from octad.client.s3.aws_chunked import stored_content_encoding
from octad.client.s3.errors import S3Error
from octad.sharding.limits import KIB
from octad.storage_node.s3.protocol.requests.header_text import text_of
from octad.storage_node.s3.protocol.requests.parameters import OVERRIDES

METADATA_BYTES_MAX: Final = 2 * KIB

METADATA_PREFIX: Final = "x-amz-meta-"
STRICT: Final = "x-octad-strict"
ACL_HEADER: Final = "x-amz-acl"
GRANT_HEADERS: Final = (
    "x-amz-grant-read",
    "x-amz-grant-write",
    "x-amz-grant-read-acp",
    "x-amz-grant-write-acp",
    "x-amz-grant-full-control",
)
LIST_HEADERS: Final = (ACL_HEADER, *GRANT_HEADERS)  # They say who else may have what.
OWNERSHIP_HEADER: Final = "x-amz-object-ownership"
DEFAULT_CONTENT_TYPE: Final = "binary/octet-stream"

_STORED: Final = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)

# Every `x-amz-*` header of a request is one of these:
#
# - known and honoured: it has its effect, or asks for our only behaviour;
# - known and not honoured: 501 that names it, but only where its value asks for something. SDKs
#   send headers of features that are switched off (`false`, `OFF`, empty), and a refusal of those
#   would refuse the client and not the feature;
# - of a family that changes what a write means (encryption, locks, grants, redirects, conditions,
#   offsets, multi-factor deletion, copies where nothing is copied): treated like the known ones,
#   since what the family will grow next must not be taken for a plain write either;
# - anything else: served. A header that no one here knows says something of the client or of its
#   protocol: AWS's C++ SDK sends `x-amz-api-version` with every request, so with 501 for it neither
#   pyarrow nor ClickHouse can write at all. AWS passes over such headers, and puts what changes
#   a write into the families above. It is counted, and named in the log, where an operator finds
#   it should a client ever expect more of one.
#
# All this is after authentication, which wants every `x-amz-*` header signed.
_HONOURED: Final = frozenset(
    {
        "x-amz-bypass-governance-retention",  # Nothing is retained here.
        "x-amz-checksum-algorithm",
        "x-amz-checksum-mode",
        "x-amz-checksum-type",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-decoded-content-length",
        "x-amz-expected-bucket-owner",
        "x-amz-metadata-directive",  # Of a copy; it means nothing to any other write.
        "x-amz-max-parts",
        "x-amz-mp-object-size",
        "x-amz-object-annotation-directive",  # There are no annotations.
        "x-amz-object-attributes",
        "x-amz-part-number-marker",
        "x-amz-request-payer",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-source-expected-bucket-owner",
        "x-amz-tagging-directive",  # Of a copy; it means nothing to any other write.
        "x-amz-trailer",
        "x-amz-user-agent",
    }
)
_HONOURED_IN_COPIES: Final = frozenset(
    {
        "x-amz-copy-source",
        "x-amz-copy-source-range",
        "x-amz-copy-source-if-match",
        "x-amz-copy-source-if-none-match",
        "x-amz-copy-source-if-modified-since",
        "x-amz-copy-source-if-unmodified-since",
    }
)
# Not honoured except for these values, which ask for our only behaviour.
_NOT_HONOURED: Final[Mapping[str, frozenset[str]]] = {
    "x-amz-acl": frozenset({"private", "bucket-owner-full-control"}),
    "x-amz-bucket-namespace": frozenset({"global"}),
    "x-amz-object-ownership": frozenset({"BucketOwnerEnforced"}),
    "x-amz-storage-class": frozenset({"STANDARD"}),
    "x-amz-tagging": frozenset(),
}
_CHANGING_FAMILIES: Final = (
    "x-amz-bucket-object-lock-",
    "x-amz-copy-",
    "x-amz-grant-",
    "x-amz-if-",
    "x-amz-mfa",
    "x-amz-object-if-",
    "x-amz-object-lock-",
    "x-amz-rename-",
    "x-amz-server-side-encryption",
    "x-amz-website-",
    "x-amz-write-",
)
_ENCRYPTION: Final = "x-amz-server-side-encryption"
_NAMES_CACHED_MAX: Final = 256  # Each with the names of one head at most.
_NOTHING_SET: Final = frozenset({"", "false", "off"})
_PROTOCOL_PREFIX: Final = "x-amz-"
WRITE_OFFSET: Final = "x-amz-write-offset-bytes"  # Sent with a PUT that appends.
_CHECKSUM_PREFIX: Final = "x-amz-checksum-"
IF_MATCH: Final = "if-match"
IF_NONE_MATCH: Final = "if-none-match"
IF_VERSION: Final = "x-octad-if-version"
IF_SIZE: Final = "x-amz-if-match-size"
IF_MODIFIED: Final = "x-amz-if-match-last-modified-time"
# Of writes that make an object, and of those that delete one. On any other write, 501.
PUT_CONDITIONS: Final = frozenset({IF_MATCH, IF_NONE_MATCH, IF_VERSION})
DELETE_CONDITIONS: Final = PUT_CONDITIONS | {IF_SIZE, IF_MODIFIED}
WRITE_CONDITIONS: Final = (
    IF_MATCH,
    IF_NONE_MATCH,
    IF_VERSION,
    "if-modified-since",
    "if-unmodified-since",
)


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
    return {name: text_of(value) for name, value in headers.items()}


def check_headers(
    headers: Mapping[str, str], *, writes: bool, copies: bool, known: Collection[str] = ()
) -> Sequence[str]:
    """The unknown `x-amz-*` headers; raises NotImplemented as described above.

    `known` are those that the operation itself looks at. A read is refused only where it expects an
    encryption that nothing here has.
    """
    unknown: list[str] = []
    for name in _names_that_matter(tuple(headers), copies):
        value = headers[name]
        if name == "x-amz-security-token":
            if value:
                raise S3Error("InvalidToken")
        elif name in known:
            continue
        elif name in _NOT_HONOURED or name.startswith(_CHANGING_FAMILIES):
            refused = writes or name.startswith(_ENCRYPTION)
            if refused and asks(value) and value not in _NOT_HONOURED.get(name, ()):
                raise not_implemented(name)
        else:
            unknown.append(name)
    if writes:
        for name in WRITE_CONDITIONS:
            if name in headers and name not in known:
                raise not_implemented(name)
    return unknown


@lru_cache(_NAMES_CACHED_MAX)
def _names_that_matter(names: tuple[str, ...], copies: bool) -> tuple[str, ...]:
    """Headers whose value decides. A client sends the same names with each request."""
    return tuple(
        name
        for name in names
        if name.startswith(_PROTOCOL_PREFIX)
        and name not in _HONOURED
        and not name.startswith((METADATA_PREFIX, _CHECKSUM_PREFIX))  # Refused where they are read.
        and not (copies and name in _HONOURED_IN_COPIES)
    )


def asks(value: str) -> bool:
    """Whether a header's value asks for anything, and does not just say that nothing is set."""
    return value.strip().lower() not in _NOTHING_SET


def not_implemented(name: str) -> S3Error:
    """The refusal that names the header, as S3 writes it: `If-Match`, `x-amz-acl`."""
    if not name.startswith("x-"):
        name = name.title()
    return S3Error(
        "NotImplemented",
        f"A header you provided implies functionality that is not implemented: {name}",
        fields={"Header": name},
    )


def wants_strict(headers: Mapping[str, str]) -> bool:
    """Whether a new bucket is to refuse writes while a copy is missing; raises InvalidArgument."""
    value = headers.get(STRICT, "false").lower()
    if value not in ("true", "false"):
        raise S3Error("InvalidArgument", f"{STRICT} is true or false")
    return value == "true"


def stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of `headers` that are stored with the object; raises MetadataTooLarge."""
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

    Raises InvalidArgument for a control character, which could start a header of its own, and for
    what no header can say.
    """
    overrides: dict[str, str] = {}
    for parameter, value in query.items():
        header = OVERRIDES.get(parameter)
        if header is None:
            continue
        if any(character < " " or character == "\x7f" or character > "\xff" for character in value):
            raise S3Error(
                "InvalidArgument",
                "Header value cannot be represented using ISO-8859-1.",
                fields={"ArgumentName": parameter, "ArgumentValue": value},
            )
        overrides[header] = value.encode().decode("latin-1")
    return overrides
