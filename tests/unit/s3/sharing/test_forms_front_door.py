"""Forms from browsers: what a policy allows is stored, and nothing else leaves a trace."""

from __future__ import annotations

import http.client
import json
import socket
import time
from base64 import b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from tests.unit.s3.front_door_site import ALICE, BOB, FrontDoorSite, RawAnswer
from tests.unit.s3.http.test_front_door_connections import wait_until
from tests.unit.s3.raw_connection import Wire
from tests.unit.s3.sharing.posted_form import BOUNDARY, FORM, multipart, signed_fields

from octad.client.s3.checksums import checksum_of
from octad.client.s3.sigv4 import Credentials
from octad.sharding.limits import INLINE_BYTES_MAX
from octad.storage_node.s3.handlers.forms import form_upload

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

LARGE = bytes(range(256)) * (5 * INLINE_BYTES_MAX // 256)


def posted(
    site: FrontDoorSite,
    bucket: str,
    fields: dict[str, str],
    file: bytes | None = b"data",
    **form: Any,
) -> RawAnswer:
    body = multipart(fields, file, **form)
    headers = {"host": site.host, "content-length": str(len(body)), **FORM}
    return site.raw("POST", f"/{bucket}", headers, body)


def signed(site: FrontDoorSite, bucket: str, fields: dict[str, str], **how: Any) -> dict[str, str]:
    return signed_fields(bucket, fields, how.pop("by", ALICE), site.region, **how)


@pytest.mark.parametrize("size", [0, 1, 4, INLINE_BYTES_MAX - 300, INLINE_BYTES_MAX, len(LARGE)])
def test_a_form_that_boto3_signed_stores_its_file(
    site: FrontDoorSite, s3: S3Client, bucket: str, size: int
) -> None:
    post = s3.generate_presigned_post(
        bucket,
        "photos/${filename}",
        Fields={"Content-Type": "image/jpeg", "x-amz-meta-by": "Zoë", "Cache-Control": "no-store"},
        Conditions=[
            {"Content-Type": "image/jpeg"},
            ["starts-with", "$x-amz-meta-by", ""],
            ["eq", "$Cache-Control", "no-store"],
            ["content-length-range", 0, len(LARGE)],
        ],
    )
    answer = posted(site, bucket, post["fields"], LARGE[:size], filename=r"C:\\pictures\\a b.jpg")
    assert answer.status == 204, answer.body
    stored = s3.get_object(Bucket=bucket, Key="photos/a b.jpg")
    assert stored["Body"].read() == LARGE[:size]
    assert stored["ContentType"] == "image/jpeg"
    assert stored["CacheControl"] == "no-store"
    assert stored["ETag"] == answer.headers["etag"]
    assert answer.headers["location"] == f"http://{site.host}/{bucket}/photos/a%20b.jpg"
    assert not site.store.open_bodies


def test_the_form_says_what_it_is_answered_with(site: FrontDoorSite, bucket: str) -> None:
    for status, expected in (("200", 200), ("201", 201), ("204", 204), ("404", 204)):
        fields = signed(site, bucket, {"key": "a<b", "success_action_status": status})
        answer = posted(site, bucket, fields)
        assert answer.status == expected
    created = posted(
        site, bucket, signed(site, bucket, {"key": "a<b", "success_action_status": "201"})
    )
    document = ElementTree.fromstring(created.body)
    assert document.tag == "PostResponse"
    said = {element.tag: element.text for element in document}  # Without S3's namespace.
    assert said == {
        "Location": f"http://{site.host}/{bucket}/a%3Cb",
        "Bucket": bucket,
        "Key": "a<b",
        "ETag": created.headers["etag"],
    }


def test_a_browser_is_sent_on_where_the_form_says(site: FrontDoorSite, bucket: str) -> None:
    page = "https://example.org/done?a=1"
    answer = posted(
        site, bucket, signed(site, bucket, {"key": "ä", "success_action_redirect": page})
    )
    etag = answer.headers["etag"].strip('"')
    assert answer.status == 303
    assert answer.headers["location"] == f"{page}&bucket={bucket}&key=%C3%A4&etag=%22{etag}%22"
    for nowhere in ("javascript:alert(1)", "/done", "http:", "http://[", "http://\u2100/"):
        fields = signed(site, bucket, {"key": "b", "success_action_redirect": nowhere})
        assert posted(site, bucket, fields).status == 204


def test_what_comes_behind_the_file_changes_nothing(site: FrontDoorSite, bucket: str) -> None:
    after = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="key"\r\n\r\nother\r\n'.encode()
    answer = posted(site, bucket, signed(site, bucket, {"key": "key"}), LARGE, after=after * 100)
    assert answer.status == 204
    assert site.keys(bucket) == [b"key"]
    assert site.request("GET", f"/{bucket}/key").body == LARGE


FIELDS = {"key": "user/photo.jpg", "Content-Type": "image/png", "acl": "private"}
CONDITIONS: list[Any] = [
    ["starts-with", "$key", "user/"],
    ["starts-with", "$Content-Type", "image/"],
    {"acl": "private"},
    ["content-length-range", 2, 10],
]


@pytest.mark.parametrize(
    ("changed", "file", "status", "code"),
    [
        ({}, b"data", 204, ""),
        ({"key": "other/photo.jpg"}, b"data", 403, "AccessDenied"),
        ({"Content-Type": "text/html"}, b"data", 403, "AccessDenied"),
        ({"Content-Type": "image/png, text/html"}, b"data", 403, "AccessDenied"),
        ({"acl": "public-read"}, b"data", 403, "AccessDenied"),
        ({"x-amz-meta-more": "1"}, b"data", 403, "AccessDenied"),
        ({"success_action_redirect": "http://evil"}, b"data", 403, "AccessDenied"),
        ({"bucket": "another"}, b"data", 403, "AccessDenied"),
        ({"x-ignore-me": "1"}, b"data", 204, ""),
        ({}, b"d", 400, "EntityTooSmall"),
        ({}, b"d" * 11, 400, "EntityTooLarge"),
        ({}, LARGE, 400, "EntityTooLarge"),
        ({}, None, 400, "InvalidArgument"),
        ({"policy": "e30="}, b"data", 403, "SignatureDoesNotMatch"),
        ({"x-amz-signature": "0" * 64}, b"data", 403, "SignatureDoesNotMatch"),
        ({"x-amz-signature": "ü"}, b"data", 403, "SignatureDoesNotMatch"),
        ({"x-amz-signature": ""}, b"data", 400, "InvalidArgument"),
        ({"x-amz-algorithm": "AWS4-ECDSA"}, b"data", 400, "AuthorizationQueryParametersError"),
        ({"x-amz-date": "20200101T000000Z"}, b"data", 400, "AuthorizationQueryParametersError"),
        ({"x-amz-security-token": "t"}, b"data", 400, "InvalidToken"),
        ({"key": ""}, b"data", 400, "InvalidArgument"),
    ],
)
def test_each_condition_and_each_field_counts(
    site: FrontDoorSite,
    bucket: str,
    changed: dict[str, str],
    file: bytes | None,
    status: int,
    code: str,
) -> None:
    fields = {**signed(site, bucket, FIELDS, conditions=CONDITIONS), **changed}
    answer = posted(site, bucket, fields, file)
    assert (answer.status, answer.code if answer.body else "") == (status, code)
    assert site.keys(bucket) == ([b"user/photo.jpg"] if status == 204 else [])
    assert not site.store.open_bodies


@pytest.mark.parametrize(
    ("by", "how", "status", "code"),
    [
        (BOB, {}, 403, "AccessDenied"),
        (Credentials("NOBODY", "secret"), {}, 403, "InvalidAccessKeyId"),
        (Credentials(ALICE.access_key, "not hers"), {}, 403, "SignatureDoesNotMatch"),
        (ALICE, {"expires_s": -1}, 403, "AccessDenied"),
        (ALICE, {"conditions": []}, 403, "AccessDenied"),
        (ALICE, {"more": [["content-length-range", 0]]}, 400, "InvalidPolicyDocument"),
        (ALICE, {"more": [["content-length-range", -1, 5]]}, 400, "InvalidPolicyDocument"),
        (ALICE, {"more": [["eq", "key", "key"]]}, 400, "InvalidPolicyDocument"),
        (ALICE, {"more": [["ends-with", "$key", "key"]]}, 400, "InvalidPolicyDocument"),
        (ALICE, {"more": [{"a": "b", "c": "d"}]}, 400, "InvalidPolicyDocument"),
        (ALICE, {"more": ["key"]}, 400, "InvalidPolicyDocument"),
    ],
)
def test_a_form_is_good_as_its_signer_and_his_policy_are(
    site: FrontDoorSite, bucket: str, by: Credentials, how: dict[str, Any], status: int, code: str
) -> None:
    answer = posted(site, bucket, signed(site, bucket, {"key": "key"}, by=by, **how))
    assert (answer.status, answer.code) == (status, code)
    assert site.keys(bucket) == []


def test_a_policy_is_for_the_bucket_that_it_names(site: FrontDoorSite, bucket: str) -> None:
    elsewhere = signed_fields("another", {"key": "key"}, ALICE, site.region)
    assert posted(site, bucket, elsewhere).code == "AccessDenied"


def test_a_form_without_a_signature_is_denied_and_an_old_one_told_why(
    site: FrontDoorSite, bucket: str
) -> None:
    assert posted(site, bucket, {"key": "key"}).code == "AccessDenied"
    policy = b64encode(json.dumps({"conditions": []}).encode()).decode()
    old = {"key": "k", "AWSAccessKeyId": ALICE.access_key, "policy": policy, "signature": "s"}
    answer = posted(site, bucket, old)
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert "AWS4-HMAC-SHA256" in answer.element("Message")
    assert site.keys(bucket) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-storage-class", "GLACIER"),
        ("tagging", "<Tagging><TagSet><Tag/></TagSet></Tagging>"),
        ("x-amz-grant-read", "id=a"),
        ("acl", "public-read-write"),
        ("If-None-Match", "*"),
        ("x-octad-if-version", "1-1-1"),
    ],
)
def test_a_form_cannot_ask_for_what_a_put_cannot(
    site: FrontDoorSite, bucket: str, name: str, value: str
) -> None:
    answer = posted(site, bucket, signed(site, bucket, {"key": "key", name: value}))
    assert answer.status in (400, 501)
    assert site.keys(bucket) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-amz-meta-a", "1\r\nset-cookie: a=b"), ("x-amz-meta-a\nset-cookie: a", "b")],
)
def test_no_field_starts_a_header_of_its_own(
    site: FrontDoorSite, bucket: str, name: str, value: str
) -> None:
    answer = posted(site, bucket, signed(site, bucket, {"key": "key", name: value}))
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert site.keys(bucket) == []


def test_a_form_may_carry_tags(site: FrontDoorSite, s3: S3Client, bucket: str) -> None:
    tagging = "<Tagging><TagSet><Tag><Key>a b</Key><Value>ü</Value></Tag></TagSet></Tagging>"
    answer = posted(site, bucket, signed(site, bucket, {"key": "key", "tagging": tagging}))
    assert answer.status == 204
    tags = s3.get_object_tagging(Bucket=bucket, Key="key")["TagSet"]
    assert tags == [{"Key": "a b", "Value": "ü"}]


def test_checksums_in_fields_are_verified(site: FrontDoorSite, bucket: str) -> None:
    for data, status in ((b"data", 204), (b"other", 400)):
        fields = {"key": "key", "x-amz-checksum-sha256": checksum_of("SHA256", data)}
        answer = posted(site, bucket, signed(site, bucket, fields))
        assert answer.status == status
        if status == 204:
            assert answer.headers["x-amz-checksum-sha256"] == checksum_of("SHA256", data)
    assert site.request("GET", f"/{bucket}/key").body == b"data"


def test_fields_before_the_file_have_a_bound(site: FrontDoorSite, bucket: str) -> None:
    fields = signed(site, bucket, {"key": "key", "x-ignore-this": "x" * 21_000})
    answer = posted(site, bucket, fields)
    assert (answer.status, answer.code) == (400, "MaxPostPreDataLengthExceededError")
    close = signed(site, bucket, {"key": "key"})
    close["x-ignore-this"] = "x" * (20_000 - len(multipart(close, b"")))
    assert posted(site, bucket, close).status == 204


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("multipart/form-data", b"--x\r\n", "MalformedPOSTRequest"),
        ("multipart/form-data; boundary=x", b"nonsense", "MalformedPOSTRequest"),
        ("multipart/form-data; boundary=x", b"--x", "MalformedPOSTRequest"),
        ("multipart/form-data; boundary=x", b"--x--\r\n", "InvalidArgument"),
        ("multipart/form-data; boundary=x", b"", "MalformedPOSTRequest"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nvalue\r\n--x--", "MalformedPOSTRequest"),
    ],
)
def test_what_is_no_form_is_refused(
    site: FrontDoorSite, bucket: str, content_type: str, body: bytes, code: str
) -> None:
    headers = {"host": site.host, "content-length": str(len(body)), "content-type": content_type}
    answer = site.raw("POST", f"/{bucket}", headers, body)
    assert (answer.status, answer.code) == (400, code)


def test_a_form_has_to_say_how_long_it_is(site: FrontDoorSite, bucket: str) -> None:
    body = multipart(signed(site, bucket, {"key": "key"}), b"data")
    headers = {"host": site.host, "transfer-encoding": "chunked", **FORM}
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    answer = site.raw("POST", f"/{bucket}", headers, framed)
    assert (answer.status, answer.code) == (411, "MissingContentLength")


@pytest.mark.parametrize("cut", [10, 500, 3000, len(LARGE) // 2, len(LARGE)])
def test_a_form_that_breaks_off_leaves_nothing(
    site: FrontDoorSite, bucket: str, wire: Callable[[], Wire], cut: int
) -> None:
    body = multipart(signed(site, bucket, {"key": "key"}), LARGE)
    client = wire()
    head = f"POST /{bucket} HTTP/1.1\r\nHost: {site.host}\r\nContent-Length: {len(body)}\r\n"
    client.socket.sendall(f"{head}Content-Type: {FORM['content-type']}\r\n\r\n".encode())
    client.socket.sendall(body[:cut])
    client.socket.shutdown(socket.SHUT_WR)
    client.socket.settimeout(10)
    while client.socket.recv(65536):
        pass
    until = time.monotonic() + 10
    while site.store.open_bodies and time.monotonic() < until:
        time.sleep(0.01)
    assert site.keys(bucket) == []
    assert not site.store.open_bodies


def test_a_file_without_its_last_boundary_leaves_nothing(site: FrontDoorSite, bucket: str) -> None:
    for file in (b"data", LARGE):
        body = multipart(signed(site, bucket, {"key": "key"}), file)
        body = body[: -len(f"\r\n--{BOUNDARY}--\r\n")]
        headers = {"host": site.host, "content-length": str(len(body)), **FORM}
        answer = site.raw("POST", f"/{bucket}", headers, body)
        assert (answer.status, answer.code) == (400, "MalformedPOSTRequest")
    assert site.keys(bucket) == []
    assert not site.store.open_bodies


def test_a_client_that_waits_is_told_to_send_its_form(site: FrontDoorSite, bucket: str) -> None:
    body = multipart(signed(site, bucket, {"key": "key"}), LARGE)
    connection = http.client.HTTPConnection(site.host, timeout=10)
    connection.putrequest("POST", f"/{bucket}")
    for name, value in {"content-length": str(len(body)), "expect": "100-continue", **FORM}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(body)
    assert connection.getresponse().status == 204
    connection.close()
    assert site.request("GET", f"/{bucket}/key").body == LARGE


def test_forms_that_stay_half_sent_keep_no_other_form_out(
    site: FrontDoorSite, bucket: str, wire: Callable[[], Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form_upload, "FORMS_AT_ONCE", 4)
    headers = {"host": site.host, "content-length": "10000", **FORM}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    half = f"POST /{bucket} HTTP/1.1\r\n{lines}\r\n--{BOUNDARY}\r\n".encode()
    crowd = [wire() for _ in range(4)]
    for one in crowd:
        one.socket.sendall(half)
    wait_until(lambda: site.door.figures.in_flight == 4)
    assert posted(site, bucket, signed(site, bucket, {"key": "key"})).status == 204
    assert crowd[0].head().startswith(b"HTTP/1.1 503 "), "the oldest made room"
