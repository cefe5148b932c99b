"""Reading: ranges, parts, conditions, overrides; each as recorded of S3."""

from __future__ import annotations

from http.client import IncompleteRead
from typing import TYPE_CHECKING

import pytest
from tests.unit.s3.front_door_site import FrontDoorSite

from octad.client.s3.http_dates import http_date
from octad.storage_node.s3.protocol.requests.header_text import ascii_value
from octad.storage_node.shards.object_store import Damaged

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

SMALL = b"0123456789"
LARGE = bytes(range(256)) * 12288  # Three pieces of 1 MiB.


@pytest.fixture(params=[SMALL, LARGE], ids=["inline", "extents"])
def body(request: pytest.FixtureRequest, site: FrontDoorSite, bucket: str) -> bytes:
    """The object at /bucket/key."""
    data: bytes = request.param
    assert site.request("PUT", f"/{bucket}/key", body=data).status == 200
    return data


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [("bytes=2-5", 2, 6), ("bytes=0-0", 0, 1), ("bytes=4-", 4, None), ("bytes=-3", -3, None)],
)
def test_a_range_is_206_and_says_which(
    site: FrontDoorSite, bucket: str, body: bytes, header: str, start: int, end: int | None
) -> None:
    answer = site.request("GET", f"/{bucket}/key", headers={"range": header})
    assert (answer.status, answer.body) == (206, body[start:end])
    first = start % len(body)
    last = first + len(body[start:end]) - 1
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(body)}"
    head = site.request("HEAD", f"/{bucket}/key", headers={"range": header})
    assert (head.status, head.headers["content-length"]) == (206, str(last - first + 1))


def test_a_range_over_several_pieces_is_whole(site: FrontDoorSite, bucket: str) -> None:
    site.request("PUT", f"/{bucket}/key", body=LARGE)
    answer = site.request("GET", f"/{bucket}/key", headers={"range": "bytes=1000-3000000"})
    assert answer.body == LARGE[1000:3000001]


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=0-1,3-4", "pages=1-2", "bytes=x-"])
def test_a_range_that_makes_no_sense_is_the_whole_object(
    site: FrontDoorSite, bucket: str, body: bytes, header: str
) -> None:
    answer = site.request("GET", f"/{bucket}/key", headers={"range": header})
    assert (answer.status, answer.body) == (200, body)


def test_a_range_outside_is_416_and_says_what_there_is(
    site: FrontDoorSite, bucket: str, body: bytes
) -> None:
    answer = site.request("GET", f"/{bucket}/key", headers={"range": "bytes=99999999-"})
    assert (answer.status, answer.code) == (416, "InvalidRange")
    assert answer.element("ActualObjectSize") == str(len(body))
    assert answer.element("RangeRequested") == "bytes=99999999-"


def test_an_empty_object_has_no_range(site: FrontDoorSite, bucket: str) -> None:
    site.request("PUT", f"/{bucket}/key")
    assert site.request("GET", f"/{bucket}/key").body == b""
    answer = site.request("GET", f"/{bucket}/key", headers={"range": "bytes=0-"})
    assert answer.code == "InvalidRange"


def test_a_range_of_an_older_version_is_not_mixed_into_a_newer_one(
    site: FrontDoorSite, bucket: str, body: bytes
) -> None:
    headers = {"range": "bytes=2-5", "if-range": '"older"'}
    assert site.request("GET", f"/{bucket}/key", headers=headers).body == body


def test_conditions_are_answered_as_s3_does(site: FrontDoorSite, bucket: str, body: bytes) -> None:
    etag = site.request("HEAD", f"/{bucket}/key").headers["etag"]
    long_ago = http_date(1_000_000_000_000)
    for headers, status in (
        ({"if-match": etag}, 200),
        ({"if-match": '"other"'}, 412),
        ({"if-none-match": etag}, 304),
        ({"if-none-match": '"other"'}, 200),
        ({"if-modified-since": long_ago}, 200),
        ({"if-unmodified-since": long_ago}, 412),
        ({"if-match": etag, "if-unmodified-since": long_ago}, 200),
        ({"if-none-match": etag, "if-modified-since": long_ago}, 304),
    ):
        for method in ("GET", "HEAD"):
            answer = site.request(method, f"/{bucket}/key", headers=headers)
            assert answer.status == status, (method, headers)
            if status == 304:
                assert (answer.body, answer.headers["etag"]) == (b"", etag)
            if method == "GET" and status == 412:
                assert answer.element("Condition").lower() in headers


def test_a_part_of_an_object_put_whole_is_all_of_it(
    site: FrontDoorSite, bucket: str, body: bytes
) -> None:
    answer = site.request("GET", f"/{bucket}/key", "partNumber=1")
    assert (answer.status, answer.body) == (206, body)
    answer = site.request("GET", f"/{bucket}/key", "partNumber=2")
    assert (answer.status, answer.code) == (416, "InvalidPartNumber")


def test_a_part_and_a_range_together_are_refused(
    site: FrontDoorSite, bucket: str, body: bytes
) -> None:
    answer = site.request("GET", f"/{bucket}/key", "partNumber=1", headers={"range": "bytes=0-1"})
    assert answer.code == "InvalidRequest"


def test_headers_of_the_answer_can_be_overridden(
    s3: S3Client, site: FrontDoorSite, bucket: str, body: bytes
) -> None:
    got = s3.get_object(
        Bucket=bucket,
        Key="key",
        ResponseContentType="a/b",
        ResponseContentDisposition="attachment; filename=ü",
        ResponseCacheControl="no-store",
    )
    assert (got["ContentType"], got["CacheControl"]) == ("a/b", "no-store")
    assert got["ContentDisposition"] == ascii_value("attachment; filename=ü")
    assert got["Body"].read() == body
    refused = site.request("GET", f"/{bucket}/key", "response-expires=a%0D%0Ax%3A%20b")
    assert refused.code == "InvalidArgument"


def test_a_checksum_is_told_when_asked_for_and_only_of_the_whole(
    site: FrontDoorSite, bucket: str, body: bytes
) -> None:
    wanted = {"x-amz-checksum-mode": "ENABLED"}
    whole = site.request("GET", f"/{bucket}/key", headers=wanted)
    part = site.request("GET", f"/{bucket}/key", headers={**wanted, "range": "bytes=0-3"})
    plain = site.request("GET", f"/{bucket}/key")
    assert "x-amz-checksum-crc64nvme" in whole.headers
    assert "x-amz-checksum-crc64nvme" not in part.headers
    assert "x-amz-checksum-crc64nvme" not in plain.headers


def test_a_head_has_the_length_and_no_body_also_when_refused(
    site: FrontDoorSite, bucket: str, body: bytes
) -> None:
    answer = site.request("HEAD", f"/{bucket}/key")
    assert (answer.headers["content-length"], answer.body) == (str(len(body)), b"")
    refused = site.request("HEAD", f"/{bucket}/absent")
    assert (refused.status, refused.body) == (404, b"")


def test_damage_found_at_the_first_byte_is_told(site: FrontDoorSite, bucket: str) -> None:
    site.request("PUT", f"/{bucket}/key", body=LARGE)
    site.store.damaged_from = 0
    try:
        answer = site.request("GET", f"/{bucket}/key")
    finally:
        site.store.damaged_from = None
    assert (answer.status, answer.code) == (500, "InternalError")


def test_damage_found_later_breaks_the_answer_off(
    site: FrontDoorSite, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    site.request("PUT", f"/{bucket}/key", body=LARGE)
    site.store.damaged_from = 2_000_000
    try:
        with pytest.raises((ConnectionError, IncompleteRead)):
            site.request("GET", f"/{bucket}/key")
    finally:
        site.store.damaged_from = None
    assert Damaged.__name__ in caplog.text
