"""Links as boto3 and awscli make them by default: of signature version 2, good for one object."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.unit.s3.front_door_site import ALICE, BOB, FrontDoorSite, RawAnswer

AWS = Path(sys.executable).with_name("aws")


@pytest.fixture(scope="module", params=["hot", "aiohttp"])
def site(request: pytest.FixtureRequest) -> Iterator[FrontDoorSite]:
    """In the region that everybody's client is set to."""
    with FrontDoorSite("us-east-1", all_through_aiohttp=request.param == "aiohttp") as site:
        yield site


def followed(
    site: FrontDoorSite, method: str, url: str, body: bytes = b"", **headers: str
) -> RawAnswer:
    """As somebody without keys follows a link."""
    parts = urlsplit(url)
    sent = {"host": parts.netloc, "content-length": str(len(body))}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return site.raw(method, f"{parts.path}?{parts.query}", sent, body)


def link(site: FrontDoorSite, operation: str, expires_s: int = 60, **parameters: Any) -> str:
    """boto3's, without a word on its version."""
    url = site.client().generate_presigned_url(
        operation, Params={"Key": "a b/ü+.txt", **parameters}, ExpiresIn=expires_s
    )
    assert "AWSAccessKeyId=" in url
    return url


def test_boto3s_own_links_are_good(site: FrontDoorSite, bucket: str) -> None:
    put = followed(site, "PUT", link(site, "put_object", Bucket=bucket), b"data")
    assert put.status == 200, put.body
    assert site.keys(bucket) == ["a b/ü+.txt".encode()]
    named = link(
        site,
        "get_object",
        Bucket=bucket,
        VersionId="null",
        ResponseContentDisposition='attachment; filename="a b.txt"',
    )
    got = followed(site, "GET", named)
    assert (got.status, got.body) == (200, b"data")
    assert got.headers["content-disposition"] == 'attachment; filename="a b.txt"'
    assert followed(site, "HEAD", link(site, "head_object", Bucket=bucket)).status == 200


def test_a_link_to_put_keeps_what_it_was_made_with(site: FrontDoorSite, bucket: str) -> None:
    url = link(
        site, "put_object", Bucket=bucket, ContentType="text/plain", Metadata={"colour": "red"}
    )
    headers = {"content_type": "text/plain", "x_amz_meta_colour": "red"}
    assert followed(site, "PUT", url, b"data", **headers).status == 200
    kept = site.request("HEAD", f"/{bucket}/a%20b/%C3%BC%2B.txt").headers
    assert (kept["content-type"], kept["x-amz-meta-colour"]) == ("text/plain", "red")
    for other in (
        {},
        {**headers, "content_type": "text/html"},
        {**headers, "x_amz_acl": "private"},
    ):
        assert followed(site, "PUT", url, b"other", **other).status == 403


def test_a_link_is_good_for_its_object_and_method(site: FrontDoorSite, bucket: str) -> None:
    url = link(site, "get_object", Bucket=bucket)
    for method in ("HEAD", "PUT", "DELETE", "POST"):
        assert followed(site, method, url).status == 403
    assert followed(site, "GET", url.replace("txt", "txx")).code == "SignatureDoesNotMatch"
    for more in ("&partNumber=1", "&uploadId=x", "&acl", "&utm_source=mail"):
        assert followed(site, "GET", url + more).code == "AccessDenied"
    others: tuple[tuple[str, dict[str, Any]], ...] = (
        ("delete_object", {}),
        ("upload_part", {"UploadId": "00" * 16, "PartNumber": 1}),
        ("create_multipart_upload", {}),
    )
    for operation, parameters in others:
        answer = followed(site, "PUT", link(site, operation, Bucket=bucket, **parameters), b"x")
        assert answer.status == 403
    listing = site.client().generate_presigned_url("list_objects_v2", Params={"Bucket": bucket})
    assert followed(site, "GET", listing).code == "AccessDenied"
    assert site.keys(bucket) == []


def test_a_link_expires(site: FrontDoorSite, bucket: str) -> None:
    assert followed(site, "PUT", link(site, "put_object", -1, Bucket=bucket)).status == 403
    week = 7 * 24 * 3600
    assert followed(site, "PUT", link(site, "put_object", week, Bucket=bucket)).status == 200
    late = link(site, "put_object", week + 100, Bucket=bucket)
    assert followed(site, "PUT", late).code == "AccessDenied"


def test_a_link_speaks_for_who_made_it(site: FrontDoorSite, bucket: str) -> None:
    url = site.client(BOB).generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "key"}
    )
    assert followed(site, "GET", url).code == "AccessDenied"
    spoilt = url.replace(BOB.access_key, ALICE.access_key)
    assert followed(site, "GET", spoilt).code == "SignatureDoesNotMatch"


def test_a_link_and_a_signature_at_once_are_one_too_many(site: FrontDoorSite, bucket: str) -> None:
    query = urlsplit(link(site, "get_object", Bucket=bucket)).query
    answer = site.request("GET", f"/{bucket}/key", query)
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_a_body_is_not_framed_where_the_link_does_not_say_so(
    site: FrontDoorSite, bucket: str
) -> None:
    framing = {
        "x_amz_content_sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x_amz_decoded_content_length": "4",
        "x_amz_trailer": "x-amz-checksum-crc32",
    }
    url = link(site, "put_object", Bucket=bucket)
    body = b"4\r\ndata\r\n0\r\nx-amz-checksum-crc32:rfPw6g==\r\n\r\n"
    # Nobody signed these headers, and such a body must not become an object, framing and all.
    assert followed(site, "PUT", url, body, **framing).status == 403
    assert site.keys(bucket) == []


def test_awscli_shares_what_a_browser_can_read(site: FrontDoorSite, bucket: str) -> None:
    site.request("PUT", f"/{bucket}/key", body=b"data")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ACCESS_KEY_ID": ALICE.access_key,
        "AWS_SECRET_ACCESS_KEY": ALICE.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{site.host}",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }
    presign = [str(AWS), "s3", "presign", f"s3://{bucket}/key"]
    made = subprocess.run(presign, env=environment, capture_output=True, text=True, check=True)
    answer = followed(site, "GET", made.stdout.strip())
    assert (answer.status, answer.body) == (200, b"data")


def test_they_can_be_switched_off() -> None:
    with FrontDoorSite("us-east-1", sigv2_urls=False) as site:
        site.run(site.store.create_bucket("bucket", "alice"))
        answer = followed(site, "PUT", link(site, "put_object", Bucket="bucket"))
        assert (answer.status, answer.code) == (400, "InvalidRequest")
        assert "AWS4-HMAC-SHA256" in answer.element("Message")
