"""What an S3 server's refusal means: the SDK's error for a status, a code and a document."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

from octad.client.calls.documents import text_of, tree_of
from octad.client.calls.requests import Request
from octad.client.errors import (
    AccessDenied,
    BucketExists,
    BucketNotEmpty,
    BucketNotFound,
    ConditionFailed,
    Damaged,
    ObjectNotFound,
    OctadError,
    Overloaded,
    Refused,
    StorageFull,
    Unavailable,
    UploadNotFound,
    WrongClock,
    WrongKey,
    WrongProtocol,
)
from octad.client.http.responses import ResponseHead

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_AGAIN: Final = frozenset({429, 500, 502, 503, 504})
# Of refusals that come after a 200.
_LATE_STATUSES: Final = {"InternalError": 500, "SlowDown": 503, "ServiceUnavailable": 503}
_CODES_AGAIN: Final = frozenset({"RequestTimeout", "OperationAborted", "SlowDown"})
_KINDS: Final[dict[str, tuple[type[Refused], str]]] = {
    "NoSuchKey": (ObjectNotFound, "check the key, or put the object first"),
    "NoSuchBucket": (BucketNotFound, "check the name, or create the bucket"),
    "NoSuchUpload": (UploadNotFound, "begin the upload anew"),
    "PreconditionFailed": (ConditionFailed, "read what stands there, then decide"),
    "ConditionalRequestConflict": (ConditionFailed, "read what stands there, then begin anew"),
    "BucketAlreadyExists": (BucketExists, "choose another name"),
    "BucketAlreadyOwnedByYou": (BucketExists, "use it: it is yours"),
    "BucketNotEmpty": (BucketNotEmpty, "delete its objects first"),
    "AccessDenied": (AccessDenied, "use keys of the bucket's owner"),
    "InvalidAccessKeyId": (WrongKey, "check the access key and which cluster the endpoint is of"),
    "SignatureDoesNotMatch": (WrongKey, "check the secret key"),
    "InvalidToken": (WrongKey, "unset AWS_SESSION_TOKEN, or name the keys that it came with"),
    "RequestTimeTooSkewed": (WrongClock, "set this machine's clock (NTP)"),
    "InvalidWriteOffset": (ConditionFailed, "look at the object's size, then append there"),
    "QuotaExceeded": (StorageFull, "delete something, or have the bucket's quota raised"),
    "no-such-topic": (Refused, "check the name, or make it: octad topic create NAME"),
    "no-such-partition": (Refused, "see which there are: octad topic describe NAME"),
    "topic-exists": (Refused, "use it, or choose another name"),
    "no-such-pool": (Refused, "choose one of these"),
    "offset-out-of-range": (Refused, "see which there are: octad topic describe NAME"),
    "InsufficientStorage": (StorageFull, "add a node or a disk, or delete something"),
}
_TOPICS: Final = "/v1/topics"  # Where the log answers, in JSON.
# Answers to HEAD have no document.
_BY_STATUS: Final = {
    403: "AccessDenied",
    412: "PreconditionFailed",
    507: "InsufficientStorage",
}


class Refusal(NamedTuple):
    """A status that is no success, and what the document says."""

    status: int
    code: str
    message: str
    request_id: str
    retry_after: str

    @property
    def may_pass(self) -> bool:
        """Whether to try again makes sense."""
        return self.status in _AGAIN or self.code in _CODES_AGAIN


def refusal_of(head: ResponseHead, body: bytes, request: Request) -> Refusal:
    """Reads an answer whose status is no success."""
    headers = head.headers
    code = message = ""
    if request.path.startswith(_TOPICS) and headers.get("content-type") == "application/json":
        code, message = _refusal_of_log(body)
    elif body:
        document = tree_of(body)
        if document is not None:
            code, message = text_of(document, "Code"), text_of(document, "Message")
        else:
            message = body[:200].decode(errors="replace").strip()
    if not code:
        code = _BY_STATUS.get(head.status, "")
        if head.status == 404 and request.method == "HEAD":
            code = "NoSuchKey" if request.key else "NoSuchBucket"
    request_id = headers.get("x-amz-request-id", "")
    status = head.status if head.status >= 300 else _LATE_STATUSES.get(code, 400)
    return Refusal(status, code, message, request_id, headers.get("retry-after", ""))


def _refusal_of_log(body: bytes) -> tuple[str, str]:
    try:
        said = json.loads(body)
        return str(said["code"]), str(said["reason"])
    except (ValueError, KeyError, TypeError):
        return "", body[:200].decode(errors="replace").strip()


def document_of(body: bytes, request: Request) -> Element:
    """The document of a success. Raises Damaged for what is none."""
    document = tree_of(body)
    if document is None:
        raise Damaged(
            f"{request.method} {_named(request)} was answered with what is no XML",
            "check the endpoint, and what is between it and here",
        )
    return document


def error_of(refusal: Refusal, request: Request, asked: str) -> OctadError:
    """The error for a refusal that stands, by the server at `asked`."""
    what = f"{request.method} {_named(request)}: "
    why = refusal.code or f"status {refusal.status}"
    what += f"{why}: {refusal.message}" if refusal.message else why
    tls_differs = refusal.code == "BadRequest" and "TLS" in refusal.message
    if tls_differs or (not refusal.code and not refusal.request_id):
        return _stranger(refusal, asked)
    if refusal.status in (429, 503):
        return Overloaded(what, "try later", outcome_unknown=not request.is_read)
    if refusal.may_pass:
        return Unavailable(what, "try again", outcome_unknown=not request.is_read)
    kind, fix = _KINDS.get(refusal.code, (Refused, "correct the request"))
    if refusal.status == 403 and kind is Refused:
        kind, fix = AccessDenied, "check keys and permissions"
    return kind(
        what,
        fix,
        code=refusal.code or str(refusal.status),
        status=refusal.status,
        request_id=refusal.request_id,
    )


def _stranger(refusal: Refusal, asked: str) -> OctadError:
    """For an answer that no S3 server gives."""
    said = f" and says {refusal.message[:100]!r}" if refusal.message else ""
    if any(word in refusal.message for word in ("TLS", "HTTPS", "https", "SSL", "plain HTTP")):
        return WrongProtocol(
            f"{asked} answers with status {refusal.status}{said}",
            f"use {'http' if asked.startswith('https') else 'https'}:// for this endpoint",
        )
    return WrongProtocol(
        f"{asked} is no S3 server: it answers with status {refusal.status}{said}",
        "check the endpoint (a node's S3 port is 9000 unless told otherwise)",
    )


def _named(request: Request) -> str:
    return f"{request.bucket}/{request.key}" if request.key else request.bucket or "/"
