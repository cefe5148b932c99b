"""GetObjectAttributes, and the checksums of parts that it and reads of parts tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from tests.unit.s3.front_door_site import FrontDoorSite

from octad.client.s3.checksums import (
    ALGORITHMS,
    checksum_of,
    composite_checksum,
    full_object_checksum,
)
from octad.sharding.limits import PART_BYTES_MIN

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

ALL: Any = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
PARTS = [b"1" * PART_BYTES_MIN, b"2" * PART_BYTES_MIN, b"the rest"]
KINDS = [
    *((algorithm, "COMPOSITE") for algorithm in ALGORITHMS if algorithm != "CRC64NVME"),
    *((algorithm, "FULL_OBJECT") for algorithm in ("CRC32", "CRC32C", "CRC64NVME")),
]


def completed(
    s3: S3Client, bucket: str, bodies: list[bytes], algorithm: str = "", kind: str = ""
) -> tuple[Any, Any]:
    """(what completing it has answered, the parts as they were listed)."""
    name = f"Checksum{algorithm}"
    chosen: Any = {"ChecksumAlgorithm": algorithm, "ChecksumType": kind} if algorithm else {}
    upload = s3.create_multipart_upload(Bucket=bucket, Key="key", **chosen)
    named: Any = {"Bucket": bucket, "Key": "key", "UploadId": upload["UploadId"]}
    parts = []
    for number, body in enumerate(bodies, 1):
        sent: Any = {name: checksum_of(algorithm, body)} if algorithm else {}
        part: Any = s3.upload_part(**named, PartNumber=number, Body=body, **sent)
        assert not algorithm or part[name] == sent[name]
        parts.append({"PartNumber": number, "ETag": part["ETag"], **sent})
    listed = s3.list_parts(**named)["Parts"]
    named["MultipartUpload"] = {"Parts": parts}
    return s3.complete_multipart_upload(**named), listed


@pytest.mark.parametrize(("algorithm", "kind"), KINDS)
def test_every_checksum_of_parts_and_of_the_whole_is_kept_and_told(
    s3: S3Client, bucket: str, algorithm: str, kind: str
) -> None:
    name = f"Checksum{algorithm}"
    bodies = [PARTS[0], PARTS[2]]
    values = [checksum_of(algorithm, body) for body in bodies]
    if kind == "COMPOSITE":
        value = composite_checksum(algorithm, values)
    else:
        value = full_object_checksum(algorithm, zip(values, map(len, bodies), strict=True))
        assert value == checksum_of(algorithm, b"".join(bodies))
    done, listed = completed(s3, bucket, bodies, algorithm, kind)
    assert (done[name], done["ChecksumType"]) == (value, kind)
    assert [part[name] for part in listed] == values
    head: Any = s3.head_object(Bucket=bucket, Key="key", ChecksumMode="ENABLED")
    assert (head[name], head["ChecksumType"]) == (value, kind)
    for number, (body, part_value) in enumerate(zip(bodies, values, strict=True), 1):
        part: Any = s3.get_object(
            Bucket=bucket, Key="key", PartNumber=number, ChecksumMode="ENABLED"
        )
        assert (part[name], part["ChecksumType"]) == (part_value, kind)
        assert part["Body"].read() == body
    told: Any = s3.get_object_attributes(Bucket=bucket, Key="key", ObjectAttributes=ALL)
    assert told["Checksum"] == {name: value, "ChecksumType": kind}
    assert [part[name] for part in told["ObjectParts"]["Parts"]] == values


def test_the_attributes_of_an_object_that_was_put_whole(s3: S3Client, bucket: str) -> None:
    put: Any = s3.put_object(Bucket=bucket, Key="key", Body=b"data", ChecksumAlgorithm="SHA256")
    told: Any = s3.get_object_attributes(Bucket=bucket, Key="key", ObjectAttributes=ALL)
    head = s3.head_object(Bucket=bucket, Key="key")
    assert told["ETag"] == put["ETag"].strip('"')
    assert (told["ObjectSize"], told["StorageClass"]) == (4, "STANDARD")
    assert told["Checksum"] == {
        "ChecksumSHA256": put["ChecksumSHA256"],
        "ChecksumType": "FULL_OBJECT",
    }
    assert told["LastModified"] == head["LastModified"]
    assert "ObjectParts" not in told
    only: Any = s3.get_object_attributes(Bucket=bucket, Key="key", ObjectAttributes=["ObjectSize"])
    assert "ETag" not in only
    assert only["ObjectSize"] == 4


def test_the_parts_of_an_object_are_told_page_by_page(s3: S3Client, bucket: str) -> None:
    completed(s3, bucket, PARTS)

    def page(**asked: Any) -> Any:
        told = s3.get_object_attributes(
            Bucket=bucket, Key="key", ObjectAttributes=["ObjectParts"], **asked
        )
        return told["ObjectParts"]

    first = page(MaxParts=2)
    assert [part["Size"] for part in first["Parts"]] == [PART_BYTES_MIN, PART_BYTES_MIN]
    assert (first["TotalPartsCount"], first["IsTruncated"], first["MaxParts"]) == (3, True, 2)
    last = page(MaxParts=2, PartNumberMarker=first["NextPartNumberMarker"])
    assert [(part["PartNumber"], part["Size"]) for part in last["Parts"]] == [(3, 8)]
    assert (last["IsTruncated"], last["PartNumberMarker"]) == (False, 2)
    past = page(PartNumberMarker=7)
    assert ("Parts" in past, past["IsTruncated"], past["NextPartNumberMarker"]) == (False, False, 7)
    assert not page(MaxParts=0)["IsTruncated"]


@pytest.mark.parametrize("header", ["", "  ,", "ETag,Owner", "etag"])
def test_an_attribute_that_no_object_has_is_refused(
    site: FrontDoorSite, bucket: str, header: str
) -> None:
    answer = site.request(
        "GET", f"/{bucket}/key", "attributes=", headers={"x-amz-object-attributes": header}
    )
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert answer.element("ArgumentName") == "x-amz-object-attributes"


def test_a_count_of_parts_that_is_none_is_refused(site: FrontDoorSite, bucket: str) -> None:
    for name in ("x-amz-max-parts", "x-amz-part-number-marker"):
        headers = {"x-amz-object-attributes": "ETag", name: "-1"}
        answer = site.request("GET", f"/{bucket}/key", "attributes=", headers=headers)
        assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_what_is_not_there_has_no_attributes(s3: S3Client, bucket: str) -> None:
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object_attributes(Bucket=bucket, Key="key", ObjectAttributes=ALL)


def test_before_every_node_knows_them_checksums_of_parts_are_not_kept(
    site: FrontDoorSite, s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.store, "keeps_extras", False)
    completed(s3, bucket, [b"data"], "SHA256", "COMPOSITE")
    row = site.run(site.store.get_row(site.store.buckets[bucket], b"key"))
    assert row is not None
    assert row.extras is None
    part: Any = s3.get_object(Bucket=bucket, Key="key", PartNumber=1, ChecksumMode="ENABLED")
    assert (part["Body"].read(), "ChecksumSHA256" in part) == (b"data", False)
    told: Any = s3.get_object_attributes(Bucket=bucket, Key="key", ObjectAttributes=ALL)
    assert told["ObjectParts"]["Parts"] == [{"PartNumber": 1, "Size": 4}]
