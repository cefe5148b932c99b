"""What clients send that asks for nothing, or in their own spelling: served, as S3 serves it."""

from __future__ import annotations

import base64
import hashlib
import logging
import string
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.s3.front_door_site import FrontDoorSite, RawAnswer
from tests.unit.s3.raw_connection import Wire

from octad.client.s3.checksums import checksum_of
from octad.client.s3.http_dates import http_date
from octad.storage_node.s3.handlers.unknown_headers import NAMES_LOGGED_MAX
from octad.storage_node.shards.object_store import BucketAlreadyExists

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

PAST = "Thu, 01 Dec 1994 16:00:00 GMT"


def test_headers_that_nobody_knows_are_counted_and_the_first_hundred_names_logged(
    site: FrontDoorSite, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "octad.front_door")
    before = site.door.unknown_headers.count
    asked = NAMES_LOGGED_MAX + 20
    for number in range(0, asked, 20):
        headers = {f"x-amz-new-{n}": "1" for n in range(number, number + 20)}
        assert site.request("PUT", f"/{bucket}/key", headers=headers).status == 200
    assert site.door.unknown_headers.count - before == asked
    assert len([line for line in caplog.messages if "x-amz-new-" in line]) <= NAMES_LOGGED_MAX


def test_a_header_that_was_not_signed_is_refused_before_it_is_known_or_not(
    site: FrontDoorSite, bucket: str
) -> None:
    before = site.door.unknown_headers.count
    unsigned = {"x-amz-new": "1"}
    assert site.request("PUT", f"/{bucket}/key", unsigned_headers=unsigned).status == 403
    assert site.door.unknown_headers.count == before


def test_a_bucket_without_versions_shows_every_object_once(s3: S3Client, bucket: str) -> None:
    for key in ("a", "b/1", "b/2", "c"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    paginator = s3.get_paginator("list_object_versions")
    pages = list(paginator.paginate(Bucket=bucket, PaginationConfig={"PageSize": 1}))
    versions = [version for page in pages for version in page["Versions"]]
    assert [(v["Key"], v["VersionId"], v["IsLatest"]) for v in versions] == [
        (key, "null", True) for key in ("a", "b/1", "b/2", "c")
    ]
    rolled_up = list(
        paginator.paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 1})
    )
    names = [[p["Prefix"] for p in page.get("CommonPrefixes", [])] for page in rolled_up]
    assert names == [[], ["b/"], []]


@pytest.mark.parametrize(
    "query",
    ["versions&version-id-marker=null", "versions&key-marker=a&version-id-marker=other"],
)
def test_a_version_marker_that_names_none_is_refused(
    site: FrontDoorSite, bucket: str, query: str
) -> None:
    assert site.request("GET", f"/{bucket}", query).code == "InvalidArgument"


def test_the_null_version_is_the_object(s3: S3Client, site: FrontDoorSite, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"data")
    assert s3.get_object(Bucket=bucket, Key="key", VersionId="null")["Body"].read() == b"data"
    source = {"Bucket": bucket, "Key": "key", "VersionId": "null"}
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=source)  # type: ignore[arg-type]
    s3.delete_object(Bucket=bucket, Key="copy", VersionId="null")
    answer = s3.delete_objects(
        Bucket=bucket,
        Delete={"Objects": [{"Key": "key", "VersionId": "null"}]},
        BypassGovernanceRetention=True,
    )
    assert answer["Deleted"] == [{"Key": "key", "VersionId": "null"}]
    assert site.keys(bucket) == []


def test_a_source_may_be_encoded_as_one_string(site: FrontDoorSite, bucket: str) -> None:
    site.request("PUT", f"/{bucket}/a/b%20%C3%BC", body=b"data")
    for source in (
        f"%2F{bucket}%2Fa%2Fb%20%C3%BC",
        f"{bucket}%2fa%2fb%20%c3%bc",
        f"/{bucket}%2Fa/b%20%C3%BC?versionId=null",
    ):
        copied = site.request("PUT", f"/{bucket}/to", headers={"x-amz-copy-source": source})
        assert copied.status == 200, copied
        assert site.request("GET", f"/{bucket}/to").body == b"data"


@pytest.mark.parametrize(
    "change",
    [
        {"x-amz-metadata-directive": "REPLACE"},
        {"x-amz-storage-class": "STANDARD"},
        {"x-amz-tagging-directive": "REPLACE"},
    ],
)
def test_a_copy_in_place_that_names_a_change_is_made(
    site: FrontDoorSite, bucket: str, change: dict[str, str]
) -> None:
    site.request("PUT", f"/{bucket}/key", headers={"x-amz-meta-a": "1"}, body=b"data")
    source = {"x-amz-copy-source": f"{bucket}/key"}
    assert site.request("PUT", f"/{bucket}/key", headers=source).code == "InvalidRequest"
    assert site.request("PUT", f"/{bucket}/key", headers=source | change).status == 200
    kept = site.request("GET", f"/{bucket}/key")
    assert kept.body == b"data"
    assert ("x-amz-meta-a" in kept.headers) is ("x-amz-metadata-directive" not in change)


def test_a_date_in_the_future_is_no_condition_of_a_read_or_a_copy(
    site: FrontDoorSite, bucket: str
) -> None:
    site.request("PUT", f"/{bucket}/key", body=b"data")
    future = http_date(4_000_000_000_000)
    read = site.request("GET", f"/{bucket}/key", headers={"if-modified-since": future})
    assert read.status == 200
    copy = {
        "x-amz-copy-source": f"{bucket}/key",
        "x-amz-copy-source-if-modified-since": future,
    }
    assert site.request("PUT", f"/{bucket}/copy", headers=copy).status == 200


def test_not_modified_says_how_long_the_copy_is_fresh(site: FrontDoorSite, bucket: str) -> None:
    fresh = {"cache-control": "max-age=60", "expires": PAST}
    put = site.request("PUT", f"/{bucket}/key", headers=fresh, body=b"data")
    for method in ("GET", "HEAD"):
        answer = site.request(
            method, f"/{bucket}/key", headers={"if-none-match": put.headers["etag"]}
        )
        assert answer.status == 304
        assert fresh.items() <= answer.headers.items()


@pytest.mark.parametrize(
    ("owner", "status"),
    [
        ("alice", 200),
        ("bob", 403),
        ("123456789012", 403),
        ("1234", 400),
        ("Alice!", 400),
        ("", 400),
    ],
)
def test_an_owner_that_is_expected_is_one_that_can_be(
    site: FrontDoorSite, bucket: str, owner: str, status: int
) -> None:
    expected = {"x-amz-expected-bucket-owner": owner}
    answer = site.request("GET", f"/{bucket}", headers=expected)
    assert answer.status == status
    if status == 400:
        assert answer.code == "InvalidBucketOwnerAWSAccountID"


def test_a_client_of_http_1_0_is_answered_without_being_told_to_go_on(
    site: FrontDoorSite, bucket: str, wire: Callable[[], Wire]
) -> None:
    for size in (3, 200_000):
        client = wire()
        headers = {"expect": "100-continue", "content-length": str(size)}
        client.send_head("PUT", f"/{bucket}/key", headers, version="1.0")
        client.socket.sendall(bytes(size))
        assert client.head().startswith(b"HTTP/1.1 200")


def test_uploads_after_a_marker_inside_a_common_prefix_skip_all_of_it(
    site: FrontDoorSite, s3: S3Client, bucket: str
) -> None:
    for key in ("a/1", "a/2", "a/3", "b"):
        s3.create_multipart_upload(Bucket=bucket, Key=key)
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    uploads = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/", KeyMarker="a/2")
    assert "CommonPrefixes" not in uploads
    assert [upload["Key"] for upload in uploads["Uploads"]] == ["b"]
    objects = s3.list_objects(Bucket=bucket, Delimiter="/", Marker="a/2")
    assert "CommonPrefixes" not in objects
    assert (objects["Marker"], [each["Key"] for each in objects["Contents"]]) == ("a/2", ["b"])
    later = s3.list_objects_v2(Bucket=bucket, Delimiter="/", StartAfter="a/2")
    assert [each["Prefix"] for each in later["CommonPrefixes"]] == ["a/"]


def test_an_empty_token_is_that_of_the_first_page_of_buckets(
    site: FrontDoorSite, bucket: str
) -> None:
    answer = site.request("GET", "/", "continuation-token=")
    assert f"<Name>{bucket}</Name>".encode() in answer.body


def test_a_length_on_the_wire_without_the_last_line_break_is_enough(
    site: FrontDoorSite, bucket: str
) -> None:
    headers = {
        "x-amz-decoded-content-length": "4",
        "x-amz-trailer": "x-amz-checksum-crc32",
        "content-encoding": "aws-chunked, gzip , br",
    }
    body = f"4 \r\ndata\r\n0\r\nx-amz-checksum-crc32:{checksum_of('CRC32', b'data')}\r\n".encode()
    answer = site.request(
        "PUT",
        f"/{bucket}/key",
        headers=headers,
        body=body,
        content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    )
    assert answer.status == 200, answer
    kept = site.request("GET", f"/{bucket}/key")
    assert (kept.body, kept.headers["content-encoding"]) == (b"data", "gzip , br")


def test_a_digest_that_does_not_fit_is_shown_in_hex(site: FrontDoorSite, bucket: str) -> None:
    wrong = hashlib.md5(b"other", usedforsecurity=False)
    headers = {"content-md5": base64.b64encode(wrong.digest()).decode()}
    answer = site.request("PUT", f"/{bucket}/key", headers=headers, body=b"data")
    assert (answer.code, answer.element("ExpectedDigest")) == ("BadDigest", wrong.hexdigest())
    right = base64.b64encode(hashlib.md5(b"data", usedforsecurity=False).digest()).decode()
    assert answer.element("CalculatedDigest") == right


def test_a_digest_has_one_spelling(site: FrontDoorSite, bucket: str) -> None:
    def put(header: str, digest: bytes) -> RawAnswer:
        spelt = base64.b64encode(digest).decode().rstrip("=")
        alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
        other = spelt[:-1] + alphabet[alphabet.index(spelt[-1]) + 1]
        padding = "=" * (-len(spelt) % 4)
        return site.request(
            "PUT", f"/{bucket}/key", headers={header: other + padding}, body=b"data"
        )

    crc = zlib.crc32(b"data").to_bytes(4, "big")
    assert put("x-amz-checksum-crc32", crc).code == "InvalidRequest"
    md5 = hashlib.md5(b"data", usedforsecurity=False).digest()
    assert put("content-md5", md5).code == "InvalidDigest"
    assert site.keys(bucket) == []


def test_an_upload_and_its_refusals_name_it(site: FrontDoorSite, s3: S3Client, bucket: str) -> None:
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="key")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="key", UploadId=upload_id, PartNumber=1, Body=b"data")
    path, query = f"/{bucket}/key", f"uploadId={upload_id}"
    empty = site.request("POST", path, query)
    assert (empty.status, empty.code) == (400, "InvalidRequest")
    other = b"<CompleteMultipartUpload><Part><PartNumber>2</PartNumber><ETag>e</ETag></Part>"
    refused = site.request("POST", path, query, body=other + b"</CompleteMultipartUpload>")
    assert (refused.code, refused.element("UploadId")) == ("InvalidPart", upload_id)
    none = s3.list_parts(Bucket=bucket, Key="key", UploadId=upload_id, MaxParts=0)
    assert not none["IsTruncated"]
    assert "Parts" not in none
    s3.abort_multipart_upload(Bucket=bucket, Key="key", UploadId=upload_id)
    gone = site.request("GET", path, query)
    assert (gone.code, gone.element("UploadId")) == ("NoSuchUpload", upload_id)


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("eu-central-1", "IllegalLocationConstraintException"),
        ("EU", "IllegalLocationConstraintException"),
        ("us-east-1", "InvalidLocationConstraint"),
        ("moon", "InvalidLocationConstraint"),
        ("eu_central_1", "InvalidLocationConstraint"),
    ],
)
def test_a_location_that_is_not_here_is_refused_as_aws_words_it(
    site: FrontDoorSite, location: str, code: str
) -> None:
    document = (
        "<CreateBucketConfiguration>"
        f"<LocationConstraint>{location}</LocationConstraint></CreateBucketConfiguration>"
    )
    answer = site.request("PUT", "/elsewhere", body=document.encode())
    assert (answer.status, answer.code) == (400, code)
    assert answer.element("LocationConstraint") == location


def test_a_bucket_that_is_deleted_while_it_is_made_again_is_a_conflict(
    site: FrontDoorSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def just_deleted(*_: object, **__: object) -> None:
        raise BucketAlreadyExists("alice")

    monkeypatch.setattr(site.store, "create_bucket", just_deleted)
    answer = site.request("PUT", "/made-and-deleted")
    assert (answer.status, answer.code) == (409, "OperationAborted")


def test_the_checksum_of_parts_together_is_told_of_none_of_them(s3: S3Client, bucket: str) -> None:
    client: Any = s3
    for algorithm, kind, whole_is_part in (
        ("SHA256", "COMPOSITE", False),
        ("CRC32", "COMPOSITE", False),
        ("CRC32", "FULL_OBJECT", True),
    ):
        name: Any = f"Checksum{algorithm}"
        value = checksum_of(algorithm, b"data")
        upload: Any = client.create_multipart_upload(
            Bucket=bucket, Key="key", ChecksumAlgorithm=algorithm, ChecksumType=kind
        )
        named: Any = {"Bucket": bucket, "Key": "key", "UploadId": upload["UploadId"]}
        part: Any = client.upload_part(**named, PartNumber=1, Body=b"data", **{name: value})
        done: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"], name: value}]}
        client.complete_multipart_upload(**named, MultipartUpload=done)
        for read in (client.get_object, client.head_object):
            whole: Any = read(Bucket=bucket, Key="key", ChecksumMode="ENABLED")
            assert whole[name] == value if whole_is_part else whole[name].endswith("-1")
            of_part: Any = read(Bucket=bucket, Key="key", ChecksumMode="ENABLED", PartNumber=1)
            assert (of_part[name], of_part["ChecksumType"]) == (value, kind)


def test_a_last_page_of_uploads_says_where_it_ends(s3: S3Client, bucket: str) -> None:
    none = s3.list_multipart_uploads(Bucket=bucket)
    assert (none["NextKeyMarker"], none["NextUploadIdMarker"]) == ("", "")
    begun = [s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"] for key in "ab"]
    page = s3.list_multipart_uploads(Bucket=bucket)
    assert not page["IsTruncated"]
    assert (page["NextKeyMarker"], page["NextUploadIdMarker"]) == ("b", begun[1])


def test_a_header_is_named_in_its_own_case(site: FrontDoorSite, bucket: str) -> None:
    answer = site.request("PUT", f"/{bucket}/key", headers={"if-modified-since": PAST})
    assert answer.element("Header") == "If-Modified-Since"
    copy = {"x-amz-copy-source": f"{bucket}/key", "x-amz-copy-source-if-match": "other"}
    site.request("PUT", f"/{bucket}/key", body=b"data")
    refused = site.request("PUT", f"/{bucket}/copy", headers=copy)
    assert refused.element("Condition") == "x-amz-copy-source-If-Match"
