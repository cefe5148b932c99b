"""From method, target and headers to one operation, or a refusal: nothing is answered by guesswork.

A sub-resource (`?acl`), a method, or a header that changes what a write means is either known here
or refused with 501 or 405. Taking `PUT /bucket/key?encryption` for a plain PUT would overwrite the
object with the body of another operation. So a write is refused for any parameter that it does not
take, and a read for any sub-resource.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from octad.client.s3.checksums import is_of_no_bytes
from octad.client.s3.errors import S3Error
from octad.storage_node.s3.protocol.requests.names import check_bucket_name, check_key
from octad.storage_node.s3.protocol.requests.parameters import SUB_RESOURCES, check_version
from octad.storage_node.s3.protocol.requests.request_headers import (
    DELETE_CONDITIONS,
    LIST_HEADERS,
    OWNERSHIP_HEADER,
    PUT_CONDITIONS,
    WRITE_OFFSET,
    check_headers,
)
from octad.storage_node.s3.protocol.requests.s3_operations import S3Operation
from octad.storage_node.s3.protocol.requests.tags import TAGGING_HEADER
from octad.storage_node.s3.protocol.signatures.sigv2_url import PARAMETERS

_EMPTY: Final = frozenset[str]()
_READS: Final = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class _Rule:
    """An operation, the query parameters that ask for it, and those that it takes besides.

    For a read, only sub-resources: all other parameters are options, or ignored.
    """

    operation: S3Operation
    required: frozenset[str] = _EMPTY
    optional: frozenset[str] = _EMPTY


def _rule(operation: S3Operation, required: str = "", optional: str = "") -> _Rule:
    return _Rule(operation, frozenset(required.split()), frozenset(optional.split()))


_SERVICE_RULES: Final[Mapping[str, tuple[_Rule, ...]]] = {
    "GET": (_rule(S3Operation.LIST_BUCKETS),),
}

_BUCKET_RULES: Final[Mapping[str, tuple[_Rule, ...]]] = {
    "GET": (
        _rule(S3Operation.LIST_OBJECTS_V2, "list-type"),
        _rule(S3Operation.LIST_MULTIPART_UPLOADS, "uploads"),
        _rule(S3Operation.LIST_OBJECT_VERSIONS, "versions"),
        _rule(S3Operation.GET_BUCKET_LOCATION, "location"),
        _rule(S3Operation.GET_BUCKET_VERSIONING, "versioning"),
        _rule(S3Operation.GET_BUCKET_ACL, "acl"),
        _rule(S3Operation.GET_BUCKET_OWNERSHIP_CONTROLS, "ownershipControls"),
        _rule(S3Operation.GET_PUBLIC_ACCESS_BLOCK, "publicAccessBlock"),
        _rule(S3Operation.GET_BUCKET_POLICY, "policy"),
        _rule(S3Operation.GET_BUCKET_POLICY_STATUS, "policyStatus"),
        _rule(S3Operation.GET_BUCKET_TAGGING, "tagging"),
        _rule(S3Operation.GET_OBJECT_LOCK_CONFIGURATION, "object-lock"),
        _rule(S3Operation.GET_BUCKET_CORS, "cors"),
        _rule(S3Operation.GET_BUCKET_ENCRYPTION, "encryption"),
        _rule(S3Operation.GET_BUCKET_LIFECYCLE, "lifecycle"),
        _rule(S3Operation.LIST_OBJECTS),
    ),
    "HEAD": (_rule(S3Operation.HEAD_BUCKET),),
    "PUT": (
        _rule(S3Operation.PUT_BUCKET_ACL, "acl"),
        _rule(S3Operation.PUT_BUCKET_OWNERSHIP_CONTROLS, "ownershipControls"),
        _rule(S3Operation.PUT_PUBLIC_ACCESS_BLOCK, "publicAccessBlock"),
        _rule(S3Operation.PUT_BUCKET_TAGGING, "tagging"),
        _rule(S3Operation.PUT_OBJECT_LOCK_CONFIGURATION, "object-lock"),
        _rule(S3Operation.PUT_BUCKET_CORS, "cors"),
        _rule(S3Operation.CREATE_BUCKET),
    ),
    "DELETE": (
        _rule(S3Operation.DELETE_BUCKET_OWNERSHIP_CONTROLS, "ownershipControls"),
        _rule(S3Operation.DELETE_PUBLIC_ACCESS_BLOCK, "publicAccessBlock"),
        _rule(S3Operation.DELETE_BUCKET_TAGGING, "tagging"),
        _rule(S3Operation.DELETE_BUCKET_CORS, "cors"),
        _rule(S3Operation.DELETE_BUCKET),
    ),
    "POST": (_rule(S3Operation.DELETE_OBJECTS, "delete"), _rule(S3Operation.POST_OBJECT)),
}

_OBJECT_RULES: Final[Mapping[str, tuple[_Rule, ...]]] = {
    "GET": (
        _rule(S3Operation.LIST_PARTS, "uploadId"),
        _rule(S3Operation.GET_OBJECT_ACL, "acl", "versionId"),
        _rule(S3Operation.GET_OBJECT_ATTRIBUTES, "attributes", "versionId"),
        _rule(S3Operation.GET_OBJECT_TAGGING, "tagging", "versionId"),
        _rule(S3Operation.GET_OBJECT_RETENTION, "retention", "versionId"),
        _rule(S3Operation.GET_OBJECT_LEGAL_HOLD, "legal-hold", "versionId"),
        _rule(S3Operation.GET_OBJECT, "", "partNumber versionId"),
    ),
    "HEAD": (_rule(S3Operation.HEAD_OBJECT, "", "partNumber versionId"),),
    "PUT": (
        _rule(S3Operation.UPLOAD_PART, "partNumber uploadId"),
        _rule(S3Operation.PUT_OBJECT_TAGGING, "tagging", "versionId"),
        _rule(S3Operation.PUT_OBJECT_ACL, "acl", "versionId"),
        _rule(S3Operation.PUT_OBJECT_RETENTION, "retention", "versionId"),
        _rule(S3Operation.PUT_OBJECT_LEGAL_HOLD, "legal-hold", "versionId"),
        _rule(S3Operation.PUT_OBJECT),
    ),
    "DELETE": (
        _rule(S3Operation.ABORT_MULTIPART_UPLOAD, "uploadId"),
        _rule(S3Operation.DELETE_OBJECT_TAGGING, "tagging", "versionId"),
        _rule(S3Operation.DELETE_OBJECT, "", "versionId"),
    ),
    "POST": (
        _rule(S3Operation.CREATE_MULTIPART_UPLOAD, "uploads"),
        _rule(S3Operation.COMPLETE_MULTIPART_UPLOAD, "uploadId"),
    ),
}

# The same requests with a source to copy from are other operations.
_COPYING: Final = {
    S3Operation.PUT_OBJECT: S3Operation.COPY_OBJECT,
    S3Operation.UPLOAD_PART: S3Operation.UPLOAD_PART_COPY,
}
_COPY_OPERATIONS: Final = frozenset(_COPYING.values())
# Headers that change what a write means, and the writes that know what to do with them.
_KNOWN_TO: Final[Mapping[S3Operation, tuple[str, ...]]] = {
    S3Operation.CREATE_BUCKET: (*LIST_HEADERS, OWNERSHIP_HEADER),
    S3Operation.PUT_BUCKET_ACL: LIST_HEADERS,
    S3Operation.PUT_OBJECT_ACL: LIST_HEADERS,
    S3Operation.PUT_OBJECT: (*LIST_HEADERS, TAGGING_HEADER, WRITE_OFFSET, *PUT_CONDITIONS),
    S3Operation.COPY_OBJECT: (*LIST_HEADERS, TAGGING_HEADER, *PUT_CONDITIONS),
    S3Operation.COMPLETE_MULTIPART_UPLOAD: tuple(PUT_CONDITIONS),
    S3Operation.DELETE_OBJECT: tuple(DELETE_CONDITIONS),
    S3Operation.CREATE_MULTIPART_UPLOAD: (*LIST_HEADERS, TAGGING_HEADER),
}

# Parameters that clients add to any query: a hint for humans, and the signature of a presigned URL.
_NEUTRAL_PARAMETERS: Final = frozenset(
    {
        "x-id",
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
        "X-Amz-Content-Sha256",
        "x-amz-sdk-checksum-algorithm",
    }
)


def without_sigv2(query: Mapping[str, str]) -> dict[str, str]:
    """`query` of a URL of signature version 2 without the parameters of the signature."""
    return {name: value for name, value in query.items() if name not in PARAMETERS}


def with_hoisted_headers(
    query: Mapping[str, str], headers: dict[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """(query, headers) as the client meant them.

    A presigned URL may carry `x-amz-*` headers as query parameters; they count as headers, so that
    one that changes a write is not overlooked there. The checksum of no bytes does not: the SDK for
    JavaScript puts it into every URL, for who signs one has no body yet.
    """
    meant: dict[str, str] = {}
    for name, value in query.items():
        if name in _NEUTRAL_PARAMETERS:
            continue
        if name[:6].lower() != "x-amz-":
            meant[name] = value
        elif is_of_no_bytes(name.lower(), value):
            continue
        elif headers.get(name.lower(), value) != value:
            raise S3Error(
                "InvalidRequest", f"The query and the headers disagree about {name.lower()}"
            )
        else:
            headers = {**headers, name.lower(): value}
    return meant, headers


def route(
    method: str, bucket: str, key: bytes, query: Mapping[str, str], headers: Mapping[str, str]
) -> tuple[S3Operation, Sequence[str]]:
    """The operation that the request asks for, and those of its headers that are unknown.

    Raises S3Error for unserved operations. `query` is without the parameters that say nothing about
    the operation; `headers` has lower-case names.
    """
    operation = _operation(method, bucket, key, query)
    if "x-amz-copy-source" in headers and operation in _COPYING:
        operation = _COPYING[operation]
    unknown = check_headers(
        headers,
        writes=method not in _READS,
        copies=operation in _COPY_OPERATIONS,
        known=_KNOWN_TO.get(operation, ()),
    )
    if bucket:
        check_bucket_name(bucket)
    if key:
        check_key(key)
    if "versionId" in query:
        check_version(query["versionId"])
    return operation, unknown


def _operation(method: str, bucket: str, key: bytes, query: Mapping[str, str]) -> S3Operation:
    rules = _OBJECT_RULES if key else _BUCKET_RULES if bucket else _SERVICE_RULES
    if method not in rules:
        raise S3Error("MethodNotAllowed", fields={"Method": method})
    given = query.keys()
    bound = given & SUB_RESOURCES if given and method in _READS else given
    for rule in rules[method]:
        if rule.required <= given and bound <= rule.required | rule.optional:
            return rule.operation
    if key and not given:  # A POST to a key means nothing without a sub-resource.
        raise S3Error("MethodNotAllowed", fields={"Method": method})
    raise S3Error("NotImplemented", fields={"Parameter": ", ".join(sorted(bound))})
