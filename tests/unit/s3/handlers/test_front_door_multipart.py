"""Multipart uploads from beginning to end, and every way they go wrong."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from tests.unit.s3.front_door_site import FrontDoorSite

from octad.client.s3.checksums import ALGORITHMS, checksum_of
from octad.sharding.limits import MIB, PART_BYTES_MIN

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CHECKSUMS = tuple(f"Checksum{algorithm}" for algorithm in ALGORITHMS)
PARTS = [bytes([number]) * PART_BYTES_MIN for number in (1, 2)] + [b"the rest"]


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    response: Any = error.value.response
    code: str = response["Error"]["Code"]
    return code


def begun(s3: S3Client, bucket: str, **settings: Any) -> dict[str, Any]:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="key", **settings)
    return {"Bucket": bucket, "Key": "key", "UploadId": upload["UploadId"]}


def sent(s3: S3Client, upload: dict[str, Any], bodies: list[bytes], **settings: Any) -> list[Any]:
    """The parts as CompleteMultipartUpload names them."""
    parts = []
    for number, body in enumerate(bodies, 1):
        answer = s3.upload_part(**upload, PartNumber=number, Body=body, **settings)
        checksums = {name: value for name, value in answer.items() if name in CHECKSUMS}
        parts.append({"PartNumber": number, "ETag": answer["ETag"], **checksums})
    return parts


def test_three_parts_become_one_object(site: FrontDoorSite, s3: S3Client, bucket: str) -> None:
    upload = begun(s3, bucket, Metadata={"k": "v"}, ContentType="a/b")
    parts = sent(s3, upload, PARTS)
    assert site.keys(bucket) == [], "nothing is visible before the end"
    done = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    digests = b"".join(hashlib.md5(body).digest() for body in PARTS)
    assert done["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-3"'
    got = s3.get_object(Bucket=bucket, Key="key")
    assert got["Body"].read() == b"".join(PARTS)
    assert (got["ETag"], got["Metadata"], got["ContentType"]) == (done["ETag"], {"k": "v"}, "a/b")
    assert not site.store.uploads


def test_a_part_is_read_by_its_number(s3: S3Client, bucket: str) -> None:
    upload = begun(s3, bucket)
    parts = sent(s3, upload, PARTS)
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    for number, body in enumerate(PARTS, 1):
        got = s3.get_object(Bucket=bucket, Key="key", PartNumber=number)
        assert (got["Body"].read() == body, got["PartsCount"]) == (True, 3)
        head = s3.head_object(Bucket=bucket, Key="key", PartNumber=number)
        assert (head["ContentLength"], head["PartsCount"]) == (len(body), 3)
    with pytest.raises(ClientError):
        s3.get_object(Bucket=bucket, Key="key", PartNumber=4)


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("CRC32", "COMPOSITE"),
        ("CRC32", "FULL_OBJECT"),
        ("CRC32C", "COMPOSITE"),
        ("CRC32C", "FULL_OBJECT"),
        ("CRC64NVME", "FULL_OBJECT"),
        ("SHA1", "COMPOSITE"),
        ("SHA256", "COMPOSITE"),
    ],
)
def test_a_checksum_is_of_the_whole_or_of_the_parts(
    s3: S3Client, bucket: str, algorithm: Any, kind: Any
) -> None:
    upload = begun(s3, bucket, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    parts = sent(s3, upload, PARTS[1:], ChecksumAlgorithm=algorithm)
    done = s3.complete_multipart_upload(
        **upload, MultipartUpload={"Parts": parts}, ChecksumType=kind
    )
    value = done[f"Checksum{algorithm}"]  # type: ignore[literal-required]
    if kind == "FULL_OBJECT":
        assert value == checksum_of(algorithm, b"".join(PARTS[1:]))
    else:
        assert value.endswith("-2")
    head: Any = s3.head_object(Bucket=bucket, Key="key", ChecksumMode="ENABLED")
    assert (head[f"Checksum{algorithm}"], head["ChecksumType"]) == (value, kind)


def test_a_checksum_sent_at_the_end_is_of_the_object(s3: S3Client, bucket: str) -> None:
    upload = begun(s3, bucket, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    named: Any = {"Parts": sent(s3, upload, [b"only"])}
    with pytest.raises(ClientError) as refused:
        s3.complete_multipart_upload(**upload, MultipartUpload=named, ChecksumCRC32="AAAAAA==")
    assert code_of(refused) == "BadDigest"
    value = checksum_of("CRC32", b"only")
    done = s3.complete_multipart_upload(**upload, MultipartUpload=named, ChecksumCRC32=value)
    assert done["ChecksumCRC32"] == value


def test_a_wrong_checksum_of_the_whole_comes_before_a_missing_one_of_a_part(
    s3: S3Client, bucket: str
) -> None:
    upload = begun(s3, bucket, ChecksumAlgorithm="SHA256")
    named: Any = {"Parts": sent(s3, upload, [b"only"], ChecksumAlgorithm="SHA256")}
    del named["Parts"][0]["ChecksumSHA256"]
    stated: Any
    for stated, code in (({"ChecksumSHA256": "bad"}, "BadDigest"), ({}, "InvalidRequest")):
        with pytest.raises(ClientError) as refused:
            s3.complete_multipart_upload(**upload, MultipartUpload=named, **stated)
        assert code_of(refused) == code


@pytest.mark.parametrize(
    ("algorithm", "kind"), [("CRC64NVME", "COMPOSITE"), ("SHA1", "FULL_OBJECT")]
)
def test_a_checksum_that_cannot_be_so_is_refused(
    s3: S3Client, bucket: str, algorithm: Any, kind: Any
) -> None:
    with pytest.raises(ClientError) as refused:
        begun(s3, bucket, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    assert code_of(refused) == "InvalidRequest"


def test_a_part_with_another_checksum_than_its_upload_is_refused(s3: S3Client, bucket: str) -> None:
    upload = begun(s3, bucket, ChecksumAlgorithm="SHA256")
    with pytest.raises(ClientError, match="Checksum Type mismatch occurred"):
        s3.upload_part(**upload, PartNumber=1, Body=b"x", ChecksumAlgorithm="CRC32")


def test_a_part_sent_again_replaces_the_first(s3: S3Client, bucket: str) -> None:
    upload = begun(s3, bucket)
    s3.upload_part(**upload, PartNumber=1, Body=b"first")
    part = s3.upload_part(**upload, PartNumber=1, Body=b"second")
    named: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(**upload, MultipartUpload=named)
    assert s3.get_object(Bucket=bucket, Key="key")["Body"].read() == b"second"


def test_a_list_of_parts_that_is_wrong_leaves_the_upload_usable(
    site: FrontDoorSite, s3: S3Client, bucket: str
) -> None:
    upload = begun(s3, bucket)
    first, second = sent(s3, upload, [b"small", b"last"])
    cases: list[tuple[Any, str]] = [
        ([second, first], "InvalidPartOrder"),
        ([first, first], "InvalidPartOrder"),
        ([{**first, "ETag": '"0"'}], "InvalidPart"),
        ([{**first, "PartNumber": 9}], "InvalidPart"),
        ([{**first, "ChecksumCRC32": "AAAAAA=="}], "InvalidPart"),
        ([first, second], "EntityTooSmall"),
        ([], "MalformedXML"),
    ]
    for parts, code in cases:
        with pytest.raises(ClientError) as refused:
            s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        assert code_of(refused) == code
        assert site.keys(bucket) == []
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [second]})
    assert s3.get_object(Bucket=bucket, Key="key")["Body"].read() == b"last"


def test_completing_twice_is_the_same_success(s3: S3Client, bucket: str) -> None:
    upload = begun(s3, bucket)
    parts = sent(s3, upload, [b"only"])
    first = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    again = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert again["ETag"] == first["ETag"]


def test_an_aborted_upload_is_gone(site: FrontDoorSite, s3: S3Client, bucket: str) -> None:
    upload = begun(s3, bucket)
    parts = sent(s3, upload, [b"only"])
    s3.abort_multipart_upload(**upload)
    attempts: Any = (
        lambda: s3.abort_multipart_upload(**upload),
        lambda: s3.list_parts(**upload),
        lambda: s3.upload_part(**upload, PartNumber=1, Body=b"x"),
        lambda: s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}),
    )
    for attempt in attempts:
        with pytest.raises(ClientError) as refused:
            attempt()
        assert code_of(refused) == "NoSuchUpload"
    assert site.keys(bucket) == []


def test_parts_are_listed_in_pages(s3: S3Client, bucket: str) -> None:
    upload = begun(s3, bucket, ChecksumAlgorithm="CRC32", ChecksumType="COMPOSITE")
    sent(s3, upload, [b"a", b"bb", b"ccc"])
    first = s3.list_parts(**upload, MaxParts=2)
    assert [part["PartNumber"] for part in first["Parts"]] == [1, 2]
    assert (first["IsTruncated"], first["NextPartNumberMarker"]) == (True, 2)
    rest = s3.list_parts(**upload, PartNumberMarker=2)
    assert [(part["PartNumber"], part["Size"]) for part in rest["Parts"]] == [(3, 3)]
    assert (rest["IsTruncated"], rest["ChecksumAlgorithm"]) == (False, "CRC32")
    assert rest["Parts"][0]["ChecksumCRC32"] == checksum_of("CRC32", b"ccc")


def test_open_uploads_are_listed_in_pages(s3: S3Client, bucket: str) -> None:
    for key in ("a/1", "a/2", "b", "b", "c/1/x", "d ü"):
        s3.create_multipart_upload(Bucket=bucket, Key=key)
    seen: list[str] = []
    markers: dict[str, Any] = {}
    while True:
        page = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/", MaxUploads=2, **markers)
        seen += [upload["Key"] for upload in page.get("Uploads", [])]
        seen += [prefix["Prefix"] for prefix in page.get("CommonPrefixes", [])]
        if not page["IsTruncated"]:
            break
        markers = {
            "KeyMarker": page["NextKeyMarker"],
            "UploadIdMarker": page.get("NextUploadIdMarker", ""),
        }
    assert sorted(seen) == ["a/", "b", "b", "c/", "d ü"]
    under = s3.list_multipart_uploads(Bucket=bucket, Prefix="a/")
    assert [upload["Key"] for upload in under["Uploads"]] == ["a/1", "a/2"]
    past = s3.list_multipart_uploads(Bucket=bucket, KeyMarker="b")
    assert [upload["Key"] for upload in past["Uploads"]] == ["c/1/x", "d ü"]


def test_a_part_can_be_copied_from_an_object(s3: S3Client, bucket: str) -> None:
    source = b"".join(PARTS)
    s3.put_object(Bucket=bucket, Key="source", Body=source)
    upload = begun(s3, bucket)
    size = len(source)
    parts = []
    for number, (first, last) in enumerate(((1, PART_BYTES_MIN), (0, size - 1)), 1):
        copied = s3.upload_part_copy(
            **upload,
            PartNumber=number,
            CopySource=f"{bucket}/source",
            CopySourceRange=f"bytes={first}-{last}",
        )["CopyPartResult"]
        parts.append({"PartNumber": number, "ETag": copied["ETag"]})
    named: Any = {"Parts": parts}
    s3.complete_multipart_upload(**upload, MultipartUpload=named)
    got = s3.get_object(Bucket=bucket, Key="key")["Body"].read()
    assert got == source[1 : PART_BYTES_MIN + 1] + source


def test_a_copied_range_must_lie_in_the_source(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=b"12345")
    upload = begun(s3, bucket)
    with pytest.raises(ClientError) as refused:
        s3.upload_part_copy(
            **upload, PartNumber=1, CopySource=f"{bucket}/source", CopySourceRange="bytes=0-5"
        )
    assert code_of(refused) == "InvalidArgument"


@pytest.mark.parametrize("number", ["0", "10001", "x"])
def test_a_part_number_that_is_none_is_refused(
    site: FrontDoorSite, bucket: str, number: str
) -> None:
    query = f"partNumber={number}&uploadId={'00' * 16}"
    assert site.request("PUT", f"/{bucket}/key", query, body=b"x").code == "InvalidArgument"


def test_a_part_that_is_spoilt_on_the_way_leaves_nothing(
    site: FrontDoorSite, s3: S3Client, bucket: str
) -> None:
    upload = begun(s3, bucket)
    query = f"partNumber=1&uploadId={upload['UploadId']}"
    answer = site.request(
        "PUT",
        f"/{bucket}/key",
        query,
        body=PARTS[0],
        content_sha256=hashlib.sha256(PARTS[1]).hexdigest(),
    )
    assert answer.code == "XAmzContentSHA256Mismatch"
    assert "Parts" not in s3.list_parts(**upload)
    assert not site.store.open_bodies


def test_boto3_uploads_and_downloads_a_large_file_in_parts(
    site: FrontDoorSite, s3: S3Client, bucket: str, tmp_path: Any
) -> None:
    body = bytes(range(256)) * 4096 * 17
    (tmp_path / "up").write_bytes(body)
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB)
    s3.upload_file(str(tmp_path / "up"), bucket, "key", Config=config)
    assert s3.head_object(Bucket=bucket, Key="key")["ETag"].endswith('-3"')
    s3.download_file(bucket, "key", str(tmp_path / "down"), Config=config)
    assert (tmp_path / "down").read_bytes() == body
