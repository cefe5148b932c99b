"""Default deny: whoever is not proved to be somebody gets S3's own refusal, and leaves nothing."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from tests.unit.s3.front_door_site import ALICE, BOB, FrontDoorSite

from octad.client.s3.sigv4 import Credentials

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

NOBODY = Credentials("NOSUCHKEY", "whatever")
IMPOSTOR = Credentials(ALICE.access_key, "not alice's secret")


@pytest.mark.parametrize(
    ("credentials", "clock_offset_s", "status", "code"),
    [
        (None, 0, 403, "AccessDenied"),
        (NOBODY, 0, 403, "InvalidAccessKeyId"),
        (IMPOSTOR, 0, 403, "SignatureDoesNotMatch"),
        (ALICE, 16 * 60, 403, "RequestTimeTooSkewed"),
        (ALICE, -16 * 60, 403, "RequestTimeTooSkewed"),
    ],
)
def test_a_write_by_nobody_is_refused_and_leaves_nothing(
    site: FrontDoorSite,
    bucket: str,
    credentials: Credentials | None,
    clock_offset_s: float,
    status: int,
    code: str,
) -> None:
    answer = site.request(
        "PUT",
        f"/{bucket}/key",
        body=b"data",
        credentials=credentials,
        clock_offset_s=clock_offset_s,
    )
    assert (answer.status, answer.code) == (status, code)
    assert site.keys(bucket) == []


def test_a_clock_that_is_14_minutes_off_is_good_enough(site: FrontDoorSite, bucket: str) -> None:
    assert site.request("GET", f"/{bucket}", clock_offset_s=-14 * 60).status == 200


@pytest.mark.parametrize("path", ["/no-such-bucket", "/no-such-bucket/key", "/Bad_Name/key", "/"])
@pytest.mark.parametrize("query", ["", "acl", "foo", "uploads"])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"])
def test_a_stranger_learns_nothing_but_that_he_is_one(
    site: FrontDoorSite, method: str, path: str, query: str
) -> None:
    answer = site.request(method, path, query, credentials=None)
    # A browser that asks beforehand has no credentials, and is told what its question lacks.
    expected = (400, "BadRequest") if method == "OPTIONS" else (403, "AccessDenied")
    assert (answer.status, answer.code) == expected


def test_another_region_is_named(site: FrontDoorSite, bucket: str) -> None:
    elsewhere = FrontDoorSite.request
    region, site.region = site.region, "us-west-9"
    try:
        answer = elsewhere(site, "GET", f"/{bucket}")
    finally:
        site.region = region
    assert (answer.status, answer.code) == (400, "AuthorizationHeaderMalformed")
    assert answer.element("Region") == region


def test_a_header_added_after_signing_is_refused(site: FrontDoorSite, bucket: str) -> None:
    answer = site.request("PUT", f"/{bucket}/key", unsigned_headers={"x-amz-meta-role": "admin"})
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert site.keys(bucket) == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_bucket_is_its_owners_alone(site: FrontDoorSite, bucket: str, method: str) -> None:
    assert site.request("PUT", f"/{bucket}/key", body=b"1").status == 200
    answer = site.request(method, f"/{bucket}/key", credentials=BOB)
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert site.keys(bucket) == [b"key"]


def test_the_expected_owner_must_be_the_owner(s3: S3Client, bucket: str) -> None:
    s3.head_bucket(Bucket=bucket, ExpectedBucketOwner="alice")
    with pytest.raises(s3.exceptions.ClientError) as refused:
        s3.list_objects_v2(Bucket=bucket, ExpectedBucketOwner="bob")
    assert refused.value.response["Error"]["Code"] == "AccessDenied"


def test_a_presigned_url_reads_and_writes_for_anybody(s3: S3Client, bucket: str) -> None:
    parameters = {"Bucket": bucket, "Key": "a b/ü"}
    put = s3.generate_presigned_url("put_object", Params=parameters, ExpiresIn=60)
    with urllib.request.urlopen(urllib.request.Request(put, b"data", method="PUT")) as answer:
        assert answer.status == 200
    get = s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=60)
    with urllib.request.urlopen(get) as answer:
        assert answer.read() == b"data"


def test_a_presigned_url_is_good_for_its_own_key_only(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="other", Body=b"secret")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "mine"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url.replace("/mine?", "/other?"))
    with refused.value as answer:
        assert answer.status == 403
        assert b"SignatureDoesNotMatch" in answer.read()


def test_the_refusal_names_the_request_as_its_header_does(site: FrontDoorSite, bucket: str) -> None:
    answer = site.request("GET", f"/{bucket}/absent", "partNumber=1")
    assert answer.code == "NoSuchKey"
    assert answer.element("RequestId") == answer.headers["x-amz-request-id"]
    assert answer.element("Resource") == f"/{bucket}/absent"


def test_what_is_not_http_is_refused_in_s3s_words(site: FrontDoorSite) -> None:
    answer = site.raw("GET", "/bucket", {"host": site.host, "x-long": "x" * 9000}, b"")
    assert (answer.status, answer.code) == (400, "RequestHeaderSectionTooLarge")
    assert answer.element("RequestId") == answer.headers["x-amz-request-id"]
    connection = http.client.HTTPConnection(site.host)
    connection.connect()
    assert connection.sock is not None
    connection.sock.sendall(b"nonsense\r\n\r\n")
    assert b"<Code>BadRequest</Code>" in connection.sock.recv(65536)
    connection.close()
