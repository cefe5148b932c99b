"""The requests that simulated clients make, signed as an SDK signs them, and what answers say."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from tests.simulation.s3.exchange import Door, NoAnswer, Reply, Sent

from octad.client.s3.sigv4 import Credentials, sign_request
from octad.storage_node.s3.protocol.xml.documents import NAMESPACE

HOST = "s3.simulated"
_S3 = {"s3": NAMESPACE}
_NOTHING: Mapping[str, str] = {}


class Refused(Exception):
    """A 4xx: nothing has happened, but where this was not the first try."""

    def __init__(self, status: int, code: str, attempt: int) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.is_first = attempt == 1


class Broken(AssertionError):
    """An answer that no client may ever get."""


@dataclass(frozen=True)
class Call:
    """A request, however often it is tried. `query` has decoded values."""

    method: str
    bucket: str
    key: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    invocation: str = ""  # The same for all tries, as SDKs name it.
    attempt: int = 1

    def again(self) -> Call:
        """The next try of the same."""
        return replace(self, attempt=self.attempt + 1)


@dataclass(frozen=True)
class Signer:
    """Whose requests they are. Time is the process's, as everywhere."""

    credentials: Credentials
    region: str

    def sent(self, call: Call) -> Sent:
        path = f"/{call.bucket}" + (f"/{quote(call.key)}" if call.key else "")
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in call.query.items())
        headers = {"host": HOST, "content-length": str(len(call.body)), **call.headers}
        if call.invocation:
            headers["amz-sdk-invocation-id"] = call.invocation
            headers["amz-sdk-request"] = f"attempt={call.attempt}; max=3"
        added, _ = sign_request(
            method=call.method,
            path=path,
            query=query,
            headers=headers,
            credentials=self.credentials,
            region=self.region,
            now=time.time(),
        )
        target = f"{path}?{query}" if query else path
        return Sent(call.method, target, {**headers, **added}, call.body)


async def ask(door: Door, signer: Signer, call: Call) -> Reply:
    """Raises Refused, NoAnswer (also for an error of the node), Broken."""
    reply = await door(signer.sent(call))
    if reply.status < 400:
        if call.method == "POST" and b"?>\n<Error>" in reply.body:
            raise Broken(f"{call.method} {call.key}: {reply.body!r}")
        return reply
    code = _code_of(reply)
    if reply.status >= 500:  # A bug is in the node's log.
        raise NoAnswer(code)
    raise Refused(reply.status, code, call.attempt)


def _code_of(reply: Reply) -> str:
    return ElementTree.fromstring(reply.body).findtext("Code", "") if reply.body else ""


def etag_of(reply: Reply) -> str:
    """The one in a header."""
    return reply.headers["etag"].strip('"')


def etag_in(reply: Reply) -> str:
    """The one in a document."""
    return _text(ElementTree.fromstring(reply.body), "ETag").strip('"')


def upload_id_in(reply: Reply) -> str:
    return _text(ElementTree.fromstring(reply.body), "UploadId")


def md5_header(body: bytes) -> dict[str, str]:
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    return {"content-md5": base64.b64encode(digest).decode()}


def deletion_of(keys: Sequence[str]) -> bytes:
    objects = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
    return f'<Delete xmlns="{NAMESPACE}">{objects}</Delete>'.encode()


def completion_of(parts: Sequence[tuple[int, str]]) -> bytes:
    named = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        for number, etag in parts
    )
    return (
        f'<CompleteMultipartUpload xmlns="{NAMESPACE}">{named}</CompleteMultipartUpload>'.encode()
    )


def failures_in(reply: Reply) -> dict[str, str]:
    """Of a DeleteObjects: the code of each key that was not deleted."""
    document = ElementTree.fromstring(reply.body)
    return {_text(error, "Key"): _text(error, "Code") for error in _all(document, "Error")}


def parts_in(reply: Reply) -> dict[int, str]:
    document = ElementTree.fromstring(reply.body)
    return {
        int(_text(part, "PartNumber")): _text(part, "ETag").strip('"')
        for part in _all(document, "Part")
    }


@dataclass(frozen=True)
class Page:
    """Of a listing: names, and what asks for the next page."""

    etags: Mapping[str, str]
    prefixes: Sequence[str]
    names: Sequence[str]  # All of them, in the order of the document.
    following: Mapping[str, str]  # Empty: it is the last page.


def page_in(reply: Reply, kind: str) -> Page:
    """A page of ListObjects ("v1"), ListObjectsV2 ("v2") or ListObjectVersions ("versions")."""
    document = ElementTree.fromstring(reply.body)
    entries = _all(document, "Version" if kind == "versions" else "Contents")
    etags = {_name(entry, "Key"): _text(entry, "ETag").strip('"') for entry in entries}
    prefixes = [_name(entry, "Prefix") for entry in _all(document, "CommonPrefixes")]
    names = [_name(entry, "Key") for entry in entries] + prefixes
    following: dict[str, str] = {}
    if _text(document, "IsTruncated") == "true":
        following = _following(document, kind, names)
    return Page(etags, prefixes, names, following)


def _following(document: ElementTree.Element, kind: str, names: Sequence[str]) -> dict[str, str]:
    if kind == "v2":
        return {"continuation-token": _text(document, "NextContinuationToken")}
    if kind == "versions":
        return {
            "key-marker": _name(document, "NextKeyMarker"),
            "version-id-marker": _text(document, "NextVersionIdMarker"),
        }
    return {"marker": _name(document, "NextMarker") or max(names)}


def uploads_in(reply: Reply) -> list[tuple[str, str]]:
    """Of a ListMultipartUploads: (key, id) of each."""
    document = ElementTree.fromstring(reply.body)
    return [(_text(each, "Key"), _text(each, "UploadId")) for each in _all(document, "Upload")]


def _all(document: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return document.findall(f"s3:{name}", _S3)


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(f"s3:{name}", "", _S3)


def _name(element: ElementTree.Element, name: str) -> str:
    """A key, in a listing that was asked for with encoding-type=url."""
    return unquote(_text(element, name))
