"""What a quota refuses at the door, before a byte of it is read; and whose buckets are whose."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import pytest
from botocore.exceptions import ClientError
from tests.unit.s3.front_door_site import ALICE, BOB, CLUSTER, FrontDoorSite, RawAnswer
from tests.unit.s3.raw_connection import Wire
from tests.unit.s3.sharing.posted_form import FORM, multipart, signed_fields

from octad.client.s3.owners import canonical_id

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

ALICE_ID = canonical_id(CLUSTER, "alice")
OVER = ("QuotaExceeded", 403)


def limit(site: FrontDoorSite, bucket: str, quota: int | None) -> None:
    limited = msgspec.structs.replace(site.store.buckets[bucket], quota_bytes=quota)
    site.store.buckets[bucket] = limited


def refused(call: Callable[[], object]) -> tuple[str, int]:
    with pytest.raises(ClientError) as found:
        call()
    answer = found.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def post(site: FrontDoorSite, bucket: str, file: bytes) -> RawAnswer:
    """An upload by a form."""
    body = multipart(signed_fields(bucket, {"key": "b"}, ALICE, site.region), file)
    headers = {"host": site.host, "content-length": str(len(body)), **FORM}
    return site.raw("POST", f"/{bucket}", headers, body)


@pytest.fixture
def upload(site: FrontDoorSite, s3: S3Client, bucket: str) -> str:
    """The id of an open upload in a bucket of 100 bytes with a quota of 110."""
    s3.put_object(Bucket=bucket, Key="a", Body=b"x" * 100)
    limit(site, bucket, 110)
    return s3.create_multipart_upload(Bucket=bucket, Key="b")["UploadId"]


def test_whatever_brings_more_bytes_than_the_quota_is_refused(
    site: FrontDoorSite, s3: S3Client, bucket: str, upload: str
) -> None:
    source = f"{bucket}/a"
    assert refused(lambda: s3.put_object(Bucket=bucket, Key="b", Body=b"x" * 11)) == OVER
    assert refused(lambda: s3.put_object(Bucket=bucket, Key="b", Body=b"x" * 200_000)) == OVER
    assert refused(lambda: s3.copy_object(Bucket=bucket, Key="b", CopySource=source)) == OVER
    assert (
        refused(
            lambda: s3.upload_part(
                Bucket=bucket, Key="b", UploadId=upload, PartNumber=1, Body=b"x" * 11
            )
        )
        == OVER
    )
    assert (
        refused(
            lambda: s3.upload_part_copy(
                Bucket=bucket, Key="b", UploadId=upload, PartNumber=1, CopySource=source
            )
        )
        == OVER
    )
    for size in (11, 200_000):
        answer = post(site, bucket, b"x" * size)
        assert (answer.code, answer.status) == OVER
    assert site.keys(bucket) == [b"a"]


def test_what_fits_is_taken_and_deletes_make_room(
    site: FrontDoorSite, s3: S3Client, bucket: str, upload: str
) -> None:
    part = s3.upload_part(Bucket=bucket, Key="b", UploadId=upload, PartNumber=1, Body=b"x" * 10)
    assert refused(lambda: s3.put_object(Bucket=bucket, Key="c", Body=b"x")) == OVER
    s3.put_object(Bucket=bucket, Key="c", Body=b"")
    s3.complete_multipart_upload(
        Bucket=bucket,
        Key="b",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    s3.delete_object(Bucket=bucket, Key="a")
    s3.put_object(Bucket=bucket, Key="c", Body=b"x" * 50)
    assert post(site, bucket, b"x").status == 204  # It replaces ten bytes.
    limit(site, bucket, None)
    s3.put_object(Bucket=bucket, Key="d", Body=b"x" * 1000)


def test_a_client_that_waits_to_be_asked_sends_nothing_to_a_full_bucket(
    site: FrontDoorSite, s3: S3Client, bucket: str, upload: str, wire: Callable[[], Wire]
) -> None:
    url = s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "b"})
    path = url.partition(site.host)[2]
    connection = wire()
    head = f"PUT {path} HTTP/1.1\r\nHost: {site.host}\r\nContent-Length: 300000\r\n"
    connection.socket.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
    answer = connection.socket.recv(65536)
    assert answer.startswith(b"HTTP/1.1 403 "), answer
    assert b"<Code>QuotaExceeded</Code>" in answer


def test_an_owner_is_shown_with_its_canonical_id(
    site: FrontDoorSite, s3: S3Client, bucket: str
) -> None:
    assert s3.list_buckets()["Owner"] == {"ID": ALICE_ID, "DisplayName": "alice"}
    assert s3.get_bucket_acl(Bucket=bucket)["Owner"]["ID"] == ALICE_ID
    assert len(ALICE_ID) == 64
    assert canonical_id("5d6e7f80", "alice") != ALICE_ID


@pytest.mark.parametrize(
    ("expected", "status"),
    [
        ("alice", 200),
        (ALICE_ID, 200),
        ("bob", 403),
        (canonical_id(CLUSTER, "bob"), 403),
        ("123456789012", 403),
    ],
)
def test_the_expected_owner_is_named_by_id_or_by_name(
    s3: S3Client, bucket: str, expected: str, status: int
) -> None:
    if status == 200:
        s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=expected)
    else:
        found = refused(lambda: s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=expected))
        assert found[1] == status


def test_a_bucket_is_its_owners_alone(site: FrontDoorSite, s3: S3Client, bucket: str) -> None:
    bob = site.client(BOB)
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    assert refused(lambda: bob.get_object(Bucket=bucket, Key="a")) == ("AccessDenied", 403)
    assert refused(lambda: bob.put_object(Bucket=bucket, Key="b", Body=b"")) == (
        "AccessDenied",
        403,
    )
    assert refused(lambda: bob.create_bucket(Bucket=bucket)) == ("BucketAlreadyExists", 409)
