"""Every route, every kind of body, every way to say who one is: who does not prove it is refused.

The routes are those that octad serves, those that S3 has besides, and some that no one has. All
stand before a public object in a public bucket, so that a bad signature never counts as none.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import quote, urlencode

import pytest
from tests.unit.s3.front_door_site import ALICE, FrontDoorSite
from tests.unit.s3.raw_connection import Sent, answers
from tests.unit.s3.sharing.posted_form import FORM, multipart, signed_fields
from tests.unit.s3.sharing.test_who_may_do_what import LISTINGS, PUBLIC, READS, REQUESTS, made
from tools.compliance.operations import model_operations

from octad.client.s3.sigv4 import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    Credentials,
    presign_query,
    sign_request,
)
from octad.coordinator.schema.bucket_settings import OPEN
from octad.storage_node.index.rows import UploadRow
from octad.storage_node.s3.protocol.requests.s3_operations import S3Operation

MISSING: Final = "missing"
CONTENT_SHA256: Final = (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
    "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER",
    "rubbish",
    MISSING,
)
FORGERS: Final = (
    Credentials(ALICE.access_key, "not alice's secret"),
    Credentials("NOSUCHKEY", "whatever"),
)
UNKNOWN: Final = (
    ("PATCH", "/key"),
    ("PROPFIND", ""),
    ("PUT", "/key?no-such-thing"),
    ("DELETE", "/key?no-such-thing=1"),
    ("POST", "?no-such-thing"),
    ("POST", "/key"),
    ("GET", "/key?no-such-thing"),
    ("PUT", "/key?partNumber=1"),
)


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request before anybody signs it."""

    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    operation: S3Operation | None = None  # Of those that octad serves.


def routes(bucket: str) -> Iterator[Asked]:
    for operation, (method, rest, headers, body) in REQUESTS.items():
        path, _, query = rest.partition("?")
        root = {S3Operation.LIST_BUCKETS: "/", S3Operation.CREATE_BUCKET: f"/{bucket}-new"}
        if operation is S3Operation.POST_OBJECT:
            body = multipart({"key": "key"}, b"other")
        if operation is S3Operation.DELETE_OBJECTS:
            headers = {"content-md5": b64encode(hashlib.md5(body).digest()).decode()}
        named = tuple((name, value.replace("BUCKET", bucket)) for name, value in headers.items())
        path = root.get(operation, f"/{bucket}{path}")
        yield Asked(method, path, query, named, body, operation)
    unserved = [
        (each.method, each.path.removeprefix("/{Bucket}").replace("{Key+}", "key"))
        for each in model_operations()
        if not each.is_served and each.path.startswith("/{Bucket}")
    ]
    for method, rest in (*unserved, *UNKNOWN):
        path, _, query = rest.partition("?")
        yield Asked(method, f"/{bucket}{path}", query, body=b"other")


# A way to sign: what is asked, with which `x-amz-content-sha256`, by whom.
Way = Callable[[FrontDoorSite, Asked, str, Credentials], Sent]


def base(site: FrontDoorSite, asked: Asked, content_sha256: str) -> dict[str, str]:
    length = {"content-length": str(len(asked.body))} if asked.body else {}
    kind = {} if content_sha256 == MISSING else {"x-amz-content-sha256": content_sha256}
    return {"host": site.host, **length, **dict(asked.headers), **kind}


def unsigned(site: FrontDoorSite, asked: Asked, content_sha256: str, _: Credentials) -> Sent:
    headers = base(site, asked, content_sha256)
    return Sent(asked.method, asked.path, asked.query, headers, asked.body)


def header(site: FrontDoorSite, asked: Asked, content_sha256: str, by: Credentials) -> Sent:
    sent = unsigned(site, asked, content_sha256, by)
    hashed = UNSIGNED_PAYLOAD if content_sha256 == MISSING else content_sha256
    added, _ = sign_request(
        method=sent.method,
        path=sent.path,
        query=sent.query,
        headers=sent.headers,
        credentials=by,
        region=site.region,
        now=time.time(),
        content_sha256=hashed,
    )
    if content_sha256 == MISSING:
        del added["x-amz-content-sha256"]
    return dataclasses.replace(sent, headers={**sent.headers, **added})


def query(site: FrontDoorSite, asked: Asked, content_sha256: str, by: Credentials) -> Sent:
    sent = unsigned(site, asked, content_sha256, by)
    presigned = presign_query(
        method=sent.method,
        path=sent.path,
        query=sent.query,
        headers=sent.headers,
        credentials=by,
        region=site.region,
        now=time.time(),
        expires_s=60,
    )
    return dataclasses.replace(sent, query=presigned)


def version_2(site: FrontDoorSite, asked: Asked, content_sha256: str, by: Credentials) -> Sent:
    sent = unsigned(site, asked, content_sha256, by)
    expires, headers = str(int(time.time()) + 60), sent.headers
    ours = "".join(f"{n}:{headers[n]}\n" for n in sorted(headers) if n.startswith("x-amz-"))
    typed = f"{headers.get('content-md5', '')}\n{headers.get('content-type', '')}"
    text = f"{sent.method}\n{typed}\n{expires}\n{ours}{sent.path}"
    signature = b64encode(hmac.digest(by.secret_key.encode(), text.encode(), "sha1")).decode()
    mechanism = {"AWSAccessKeyId": by.access_key, "Signature": signature, "Expires": expires}
    signed = urlencode(mechanism, quote_via=quote)
    return dataclasses.replace(sent, query=f"{sent.query}&{signed}" if sent.query else signed)


def then_header(first: Way) -> Way:
    """`first`, and a header over all that it made."""

    def both(site: FrontDoorSite, asked: Asked, content_sha256: str, by: Credentials) -> Sent:
        once = dataclasses.replace(asked, query=first(site, asked, content_sha256, by).query)
        return header(site, once, content_sha256, by)

    return both


def query_and_version_2(
    site: FrontDoorSite, asked: Asked, content_sha256: str, by: Credentials
) -> Sent:
    once = dataclasses.replace(asked, query=version_2(site, asked, content_sha256, by).query)
    return query(site, once, content_sha256, by)


def state(site: FrontDoorSite) -> str:
    store = site.store
    return repr((store.buckets, store.objects, store.uploads, store.extents, store.open_bodies))


@pytest.fixture
def public_bucket(site: FrontDoorSite) -> str:
    """With an object and an upload; anybody may read and list it."""
    name = made(site, PUBLIC, "public-read")
    bucket, request_id = site.store.buckets[name], hashlib.md5(name.encode()).digest()
    upload = UploadRow(1_700_000_000_000, "alice")
    site.run(site.store.create_upload(bucket, b"key", bytes(16), upload, request_id))
    return name


def asked_in_every_way(
    site: FrontDoorSite, bucket: str, way: Way, by: Credentials
) -> Iterator[tuple[Asked, str, int, bytes]]:
    """What was asked with which kind of body, and the status and body of its answer."""
    cases = [(asked, kind) for asked in routes(bucket) for kind in CONTENT_SHA256]
    before = state(site)
    sent = [way(site, asked, kind, by) for asked, kind in cases]
    for (asked, kind), (status, body) in zip(cases, answers(site, sent), strict=True):
        yield asked, kind, status, body
    assert state(site) == before


@pytest.mark.parametrize("by", FORGERS, ids=["wrong secret", "no such key"])
@pytest.mark.parametrize("way", [header, query, version_2])
def test_what_is_forged_is_forbidden_whatever_it_asks_for(
    site: FrontDoorSite, public_bucket: str, way: Way, by: Credentials
) -> None:
    answered = asked_in_every_way(site, public_bucket, way, by)
    assert not [each for each in answered if each[2] != 403]


@pytest.mark.parametrize("by", [ALICE, FORGERS[0]], ids=["rightly signed", "forged"])
@pytest.mark.parametrize(
    "way",
    [then_header(query), then_header(version_2), query_and_version_2],
    ids=["header and query", "header and version 2", "query and version 2"],
)
def test_two_ways_at_once_are_refused_though_both_are_right(
    site: FrontDoorSite, public_bucket: str, way: Way, by: Credentials
) -> None:
    for asked, kind, status, body in asked_in_every_way(site, public_bucket, way, by):
        assert status == 400, (asked, kind, body)
        assert asked.method == "HEAD" or b"Only one auth mechanism allowed" in body


def test_nobody_is_let_in_to_anything_but_what_is_public(
    site: FrontDoorSite, public_bucket: str
) -> None:
    open_to_all = READS | LISTINGS
    for asked, kind, status, body in asked_in_every_way(site, public_bucket, unsigned, ALICE):
        public = asked.operation in open_to_all or asked.query == "no-such-thing"
        is_read = asked.method in ("GET", "HEAD") and public
        assert status == (200 if is_read else 403), (asked, kind, body)
    private = made(site, OPEN, "")
    for asked, kind, status, body in asked_in_every_way(site, private, unsigned, ALICE):
        assert status == 403, (asked, kind, body)


def test_a_form_is_no_way_around(site: FrontDoorSite, public_bucket: str) -> None:
    fields = {"key": "key"}
    headers, before = tuple(FORM.items()), state(site)

    def form(by: Credentials, query: str = "") -> Asked:
        body = multipart(signed_fields(public_bucket, fields, by, site.region), b"other")
        return Asked("POST", f"/{public_bucket}", query, headers, body)

    for kind in CONTENT_SHA256:
        forged = [unsigned(site, form(by), kind, by) for by in FORGERS]
        assert [status for status, _ in answers(site, forged)] == [403, 403]
    right = [
        header(site, form(ALICE), UNSIGNED_PAYLOAD, ALICE),
        query(site, form(ALICE), UNSIGNED_PAYLOAD, ALICE),
    ]
    assert [status for status, _ in answers(site, right)] == [400, 400]
    assert state(site) == before


@pytest.mark.parametrize("way", [header, query, version_2])
def test_the_same_requests_rightly_signed_are_let_in(
    site: FrontDoorSite, public_bucket: str, way: Way
) -> None:
    """Else the other tests would prove nothing."""
    expected = dict.fromkeys(CONTENT_SHA256, 200)
    expected["rubbish"] = 400
    expected |= {kind: 501 for kind in CONTENT_SHA256 if "ECDSA" in kind}
    if way is header:
        expected[MISSING] = 400
    if way is version_2:
        expected |= {kind: 403 for kind in CONTENT_SHA256 if kind.startswith("STREAMING-AWS4-HMAC")}
    asked = Asked("GET", f"/{public_bucket}/key")
    sent = [way(site, asked, kind, ALICE) for kind in CONTENT_SHA256]
    found = [status for status, _ in answers(site, sent)]
    assert dict(zip(CONTENT_SHA256, found, strict=True)) == expected
