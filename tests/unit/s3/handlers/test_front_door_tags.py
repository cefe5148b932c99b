"""Tags of objects: kept with them, shown, changed, and copied."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from tests.unit.s3.front_door_site import FrontDoorSite

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


def tags_of(s3: S3Client, bucket: str, key: str = "key") -> dict[str, str]:
    shown = s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    return {tag["Key"]: tag["Value"] for tag in shown}


def put_tags(s3: S3Client, bucket: str, key: str = "key", **tags: str) -> None:
    tag_set: Any = [{"Key": name, "Value": value} for name, value in tags.items()]
    s3.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": tag_set})


def count_in(answer: Any) -> str | None:
    headers: dict[str, str] = answer["ResponseMetadata"]["HTTPHeaders"]
    return headers.get("x-amz-tagging-count")


@pytest.mark.parametrize("size", [0, 5, 300_000])
def test_tags_change_and_nothing_else_of_the_object_does(
    s3: S3Client, bucket: str, size: int
) -> None:
    body = b"x" * size
    s3.put_object(Bucket=bucket, Key="key", Body=body, Metadata={"a": "b"})
    before = s3.get_object(Bucket=bucket, Key="key", ChecksumMode="ENABLED")
    time.sleep(1.1)  # Last-Modified has whole seconds.
    assert tags_of(s3, bucket) == {}
    put_tags(s3, bucket, name="ü", b="")
    assert tags_of(s3, bucket) == {"b": "", "name": "ü"}
    after = s3.get_object(Bucket=bucket, Key="key", ChecksumMode="ENABLED")
    assert after["Body"].read() == body == before["Body"].read()
    for kept in ("ETag", "LastModified", "Metadata", "ChecksumCRC32", "ContentLength"):
        assert after[kept] == before[kept]
    assert (count_in(before), count_in(after)) == (None, "2")
    assert count_in(s3.head_object(Bucket=bucket, Key="key")) == "2"
    s3.delete_object_tagging(Bucket=bucket, Key="key")
    assert (tags_of(s3, bucket), count_in(s3.head_object(Bucket=bucket, Key="key"))) == ({}, None)
    assert s3.get_object(Bucket=bucket, Key="key")["Body"].read() == body


def test_an_object_is_put_with_its_tags_and_again_without(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"1", Tagging="a=1&b=%2F")
    assert tags_of(s3, bucket) == {"a": "1", "b": "/"}
    s3.put_object(Bucket=bucket, Key="key", Body=b"2")
    assert tags_of(s3, bucket) == {}


def test_an_upload_gives_its_tags_to_the_object(s3: S3Client, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="key", Tagging="Hello=World&foo=bar")
    named: Any = {"Bucket": bucket, "Key": "key", "UploadId": upload["UploadId"]}
    part = s3.upload_part(**named, PartNumber=1, Body=b"data")
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(**named, MultipartUpload=parts)
    assert tags_of(s3, bucket) == {"Hello": "World", "foo": "bar"}


def test_a_copy_has_the_tags_that_it_asks_for(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"1", Tagging="a=1")
    source: Any = {"Bucket": bucket, "Key": "key"}
    for given, tags in (
        ({}, {"a": "1"}),
        ({"Tagging": "b=2"}, {"a": "1"}),
        ({"TaggingDirective": "COPY"}, {"a": "1"}),
        ({"TaggingDirective": "REPLACE", "Tagging": "b=2"}, {"b": "2"}),
        ({"TaggingDirective": "REPLACE"}, {}),
    ):
        copy: Any = given
        s3.copy_object(Bucket=bucket, Key="copy", CopySource=source, **copy)
        assert tags_of(s3, bucket, "copy") == tags
    s3.copy_object(
        Bucket=bucket, Key="key", CopySource=source, TaggingDirective="REPLACE", Tagging="c=3"
    )
    assert tags_of(s3, bucket) == {"c": "3"}


def test_tags_that_may_not_be_change_nothing(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"1", Tagging="a=1")
    for wrong in ({f"n{n}": "" for n in range(11)}, {"a" * 129: ""}, {"a": "&"}):
        with pytest.raises(ClientError, match="InvalidTag"):
            put_tags(s3, bucket, **wrong)
        assert tags_of(s3, bucket) == {"a": "1"}
    with pytest.raises(ClientError, match="InvalidTag"):
        s3.put_object(Bucket=bucket, Key="key", Body=b"2", Tagging="a=%26")
    assert s3.get_object(Bucket=bucket, Key="key")["Body"].read() == b"1"


def test_what_is_not_there_has_no_tags(s3: S3Client, bucket: str) -> None:
    for ask in (
        lambda: tags_of(s3, bucket),
        lambda: put_tags(s3, bucket, a="1"),
        lambda: s3.delete_object_tagging(Bucket=bucket, Key="key"),
    ):
        with pytest.raises(ClientError, match="NoSuchKey"):
            ask()


def test_tags_wait_until_every_node_knows_them(
    site: FrontDoorSite, s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.store, "keeps_extras", False)
    with pytest.raises(ClientError, match="once every node knows them"):
        s3.put_object(Bucket=bucket, Key="key", Body=b"1", Tagging="a=1")
    assert site.keys(bucket) == []
    s3.put_object(Bucket=bucket, Key="key", Body=b"1", Tagging="")
    with pytest.raises(ClientError, match="ServiceUnavailable"):
        put_tags(s3, bucket, a="1")
    assert tags_of(s3, bucket) == {}
