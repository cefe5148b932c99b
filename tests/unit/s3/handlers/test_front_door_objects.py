"""Objects as boto3 sees them: written, read, copied, deleted, each exactly as S3 does it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from tests.unit.s3.front_door_site import FrontDoorSite

from octad.storage_node.shards.object_store import Damaged, DiskFull, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

LARGE = bytes(range(256)) * 4096

KEYS = [
    "plain",
    "with space",
    "with+plus",
    "with%percent",
    "with%2Fescape",
    "ünïcode/日本語/😀",
    "//double//slash",
    "a/../b/./c",
    "trailing/",
    "?query&like=1#x",
    "quote\"'<&>",
    "control\x01\x7f",
    "k" * 1024,
]


def code_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response: Any = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_an_object_of_its_own(
    site: FrontDoorSite, s3: S3Client, bucket: str, key: str
) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=b"data")
    assert site.keys(bucket) == [key.encode()]
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"data"
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [entry["Key"] for entry in listed] == [key]
    s3.delete_object(Bucket=bucket, Key=key)
    assert site.keys(bucket) == []


def test_an_object_and_a_directory_of_the_same_name_stand_side_by_side(
    s3: S3Client, bucket: str
) -> None:
    for key in ("a", "a/", "a/b"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in ("a", "a/", "a/b"):
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()


def test_headers_and_metadata_come_back(s3: S3Client, bucket: str) -> None:
    s3.put_object(
        Bucket=bucket,
        Key="key",
        Body=b"x",
        ContentType="text/plain; charset=utf-8",
        CacheControl="no-cache",
        ContentDisposition='attachment; filename="a.txt"',
        ContentEncoding="gzip",
        ContentLanguage="de",
        Metadata={"Color": "red", "empty": ""},
    )
    got = s3.head_object(Bucket=bucket, Key="key")
    assert got["ContentType"] == "text/plain; charset=utf-8"
    assert got["CacheControl"] == "no-cache"
    assert got["ContentDisposition"] == 'attachment; filename="a.txt"'
    assert got["ContentEncoding"] == "gzip"
    assert got["ContentLanguage"] == "de"
    assert got["Metadata"] == {"color": "red", "empty": ""}


def test_metadata_that_is_not_ascii_comes_back_in_encoded_words(
    site: FrontDoorSite, bucket: str
) -> None:
    as_utf_8 = "é".encode().decode("latin-1")
    for value in ("é", as_utf_8):
        signed = {"x-amz-meta-name": value if value == "é" else "é"}
        answer = site.request(
            "PUT",
            f"/{bucket}/key",
            headers=signed,
            unsigned_headers={"x-amz-meta-name": value},
        )
        assert answer.status == 200, answer.body
        assert (
            site.request("HEAD", f"/{bucket}/key").headers["x-amz-meta-name"] == "=?UTF-8?B?w6k=?="
        )


def test_an_object_without_a_type_is_a_stream_of_bytes(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    assert s3.head_object(Bucket=bucket, Key="key")["ContentType"] == "binary/octet-stream"


def test_an_etag_is_the_md5_of_the_bytes(s3: S3Client, bucket: str) -> None:
    for body in (b"", b"x", LARGE):
        etag = s3.put_object(Bucket=bucket, Key="key", Body=body)["ETag"]
        assert etag == f'"{hashlib.md5(body).hexdigest()}"'
        assert s3.head_object(Bucket=bucket, Key="key")["ETag"] == etag


def test_the_last_write_is_the_object(s3: S3Client, bucket: str) -> None:
    for body in (LARGE, b"small", LARGE[1:]):
        s3.put_object(Bucket=bucket, Key="key", Body=body)
    assert s3.get_object(Bucket=bucket, Key="key")["Body"].read() == LARGE[1:]


def test_deleting_what_is_not_there_is_a_success(s3: S3Client, bucket: str) -> None:
    answer = s3.delete_object(Bucket=bucket, Key="absent")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204


@pytest.mark.parametrize("operation", ["get_object", "head_object", "get_object_acl"])
def test_what_is_not_there_is_404(s3: S3Client, bucket: str, operation: str) -> None:
    with pytest.raises(ClientError) as refused:
        getattr(s3, operation)(Bucket=bucket, Key="absent")
    assert code_of(refused)[0] == 404


def test_a_bucket_that_is_not_there_is_named(s3: S3Client) -> None:
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket="no-such-bucket", Key="key", Body=LARGE)
    assert code_of(refused) == (404, "NoSuchBucket")


def test_metadata_of_more_than_2_kib_is_refused(
    site: FrontDoorSite, s3: S3Client, bucket: str
) -> None:
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="key", Body=b"x", Metadata={"a": "v" * 2048})
    assert code_of(refused) == (400, "MetadataTooLarge")
    assert site.keys(bucket) == []


def test_a_key_of_more_than_1024_bytes_is_refused(s3: S3Client, bucket: str) -> None:
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="k" * 1025, Body=b"x")
    assert code_of(refused) == (400, "KeyTooLongError")


@pytest.mark.parametrize(
    "settings",
    [
        {"ServerSideEncryption": "AES256"},
        {"StorageClass": "GLACIER"},
        {"ObjectLockMode": "GOVERNANCE"},
        {"WebsiteRedirectLocation": "/"},
    ],
)
def test_a_write_that_asks_for_more_than_we_do_is_501(
    site: FrontDoorSite, s3: S3Client, bucket: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="key", Body=b"x", **settings)
    assert code_of(refused) == (501, "NotImplemented")
    assert site.keys(bucket) == []


@pytest.mark.parametrize("body", [b"", b"small", LARGE], ids=["empty", "small", "large"])
def test_a_copy_has_the_bytes_and_the_metadata(s3: S3Client, bucket: str, body: bytes) -> None:
    put = s3.put_object(
        Bucket=bucket, Key="a b/ü", Body=body, Metadata={"k": "v"}, ContentType="a/b"
    )
    copied = s3.copy_object(
        Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "a b/ü"}
    )["CopyObjectResult"]
    got = s3.get_object(Bucket=bucket, Key="copy")
    assert got["Body"].read() == body
    assert got["ETag"] == copied["ETag"] == put["ETag"]
    assert (got["Metadata"], got["ContentType"]) == ({"k": "v"}, "a/b")


def test_a_copy_may_replace_the_metadata(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"x", Metadata={"k": "v"}, ContentType="a/b")
    s3.copy_object(
        Bucket=bucket,
        Key="key",
        CopySource=f"{bucket}/key",
        MetadataDirective="REPLACE",
        Metadata={"new": "1"},
    )
    got = s3.head_object(Bucket=bucket, Key="key")
    assert (got["Metadata"], got["ContentType"]) == ({"new": "1"}, "binary/octet-stream")


def test_a_copy_onto_itself_that_changes_nothing_is_refused(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    with pytest.raises(ClientError) as refused:
        s3.copy_object(Bucket=bucket, Key="key", CopySource=f"{bucket}/key")
    assert code_of(refused) == (400, "InvalidRequest")


def test_a_copy_gets_the_checksum_that_is_asked_for(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"x", ChecksumAlgorithm="CRC32")
    same = s3.copy_object(Bucket=bucket, Key="b", CopySource=f"{bucket}/key")
    other = s3.copy_object(
        Bucket=bucket, Key="c", CopySource=f"{bucket}/key", ChecksumAlgorithm="SHA256"
    )
    assert "ChecksumCRC32" in same["CopyObjectResult"]
    assert "ChecksumSHA256" in other["CopyObjectResult"]


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"CopySourceIfMatch": "ETAG"}, True),
        ({"CopySourceIfMatch": "other"}, False),
        ({"CopySourceIfNoneMatch": "other"}, True),
        ({"CopySourceIfNoneMatch": "ETAG"}, False),
    ],
)
def test_a_copy_may_depend_on_its_source(
    s3: S3Client, bucket: str, condition: dict[str, str], holds: bool
) -> None:
    etag = s3.put_object(Bucket=bucket, Key="key", Body=b"x")["ETag"]
    given: Any = {name: etag if value == "ETAG" else value for name, value in condition.items()}
    if holds:
        s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/key", **given)
    else:
        with pytest.raises(ClientError) as refused:
            s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/key", **given)
        assert code_of(refused) == (412, "PreconditionFailed")


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("no-such-bucket/key", "NoSuchBucket"),
        ("{bucket}/absent", "NoSuchKey"),
        ("{bucket}", "InvalidArgument"),
        ("{bucket}/", "InvalidArgument"),
        ("{bucket}/key?versionId=1", "InvalidArgument"),
    ],
)
def test_a_copy_needs_a_source(site: FrontDoorSite, bucket: str, source: str, code: str) -> None:
    headers = {"x-amz-copy-source": source.format(bucket=bucket)}
    assert site.request("PUT", f"/{bucket}/copy", headers=headers).code == code
    assert site.keys(bucket) == []


def test_nobody_copies_out_of_a_bucket_of_another(site: FrontDoorSite, bucket: str) -> None:
    site.run(site.store.create_bucket(f"{bucket}-bob", "bob"))
    headers = {"x-amz-copy-source": f"{bucket}-bob/key"}
    assert site.request("PUT", f"/{bucket}/copy", headers=headers).code == "AccessDenied"


def test_many_are_deleted_at_once(site: FrontDoorSite, s3: S3Client, bucket: str) -> None:
    for number in range(5):
        s3.put_object(Bucket=bucket, Key=f"k<{number}>&ü", Body=b"x")
    named: Any = [{"Key": f"k<{number}>&ü"} for number in (0, 1, 2, 9)]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": named})
    assert [entry["Key"] for entry in answer["Deleted"]] == [entry["Key"] for entry in named]
    assert len(site.keys(bucket)) == 2


def test_quietly_deleting_many_names_failures_only(
    site: FrontDoorSite, s3: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    s3.put_object(Bucket=bucket, Key="b", Body=b"x")
    named: Any = [{"Key": "a"}, {"Key": "b", "ETag": "other"}, {"Key": "c", "VersionId": "1"}]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": named, "Quiet": True})
    assert "Deleted" not in answer
    assert [(e["Key"], e["Code"]) for e in answer["Errors"]] == [
        ("b", "PreconditionFailed"),
        ("c", "InvalidArgument"),
    ]
    assert site.keys(bucket) == [b"b"]


def test_many_are_not_deleted_by_an_unverified_document(
    site: FrontDoorSite, s3: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    document = b"<Delete><Object><Key>a</Key></Object></Delete>"
    answer = site.request("POST", f"/{bucket}", "delete", body=document)
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    headers = {"x-amz-checksum-crc32": "AAAAAA=="}
    answer = site.request("POST", f"/{bucket}", "delete", headers=headers, body=document)
    assert answer.code == "BadDigest"
    assert site.keys(bucket) == [b"a"]


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (Unavailable("no primary"), 503, "ServiceUnavailable"),
        (DiskFull("disk"), 507, "InsufficientStorage"),
        (Damaged("segment 1"), 500, "InternalError"),
    ],
)
@pytest.mark.parametrize("body", [b"small", LARGE], ids=["small", "large"])
def test_what_the_store_cannot_do_is_said_in_s3s_words(
    site: FrontDoorSite,
    bucket: str,
    failure: Exception,
    status: int,
    code: str,
    body: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    site.store.failure = failure  # type: ignore[assignment]
    try:
        put = site.request("PUT", f"/{bucket}/key", body=body)
        got = site.request("GET", f"/{bucket}/key")
    finally:
        site.store.failure = None
    for answer in (put, got):
        assert (answer.status, answer.code) == (status, code)
        assert ("retry-after" in answer.headers) == (status == 503)
    logged = [record for record in caplog.records if record.name == "octad.front_door"]
    assert bool(logged) == (status != 507), "a log of every refusal would fill a full disk further"
    assert site.keys(bucket) == []
    assert not site.store.open_bodies
