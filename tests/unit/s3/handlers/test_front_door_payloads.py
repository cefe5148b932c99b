"""All five ways to vouch for a body, all of them verified before anything is committed."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest
from tests.unit.s3.front_door_site import ALICE, FrontDoorSite, RawAnswer

from octad.client.s3.aws_chunked import ChunkedEncoder
from octad.client.s3.checksums import ALGORITHMS, checksum_header, checksum_of
from octad.client.s3.sigv4 import PayloadMode, sign_request
from octad.sharding.limits import INLINE_BYTES_MAX

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

SMALL, LARGE = b"hello", bytes(range(256)) * 4096
BODIES = pytest.mark.parametrize("body", [SMALL, LARGE], ids=["in memory", "streamed"])
CHUNK_BYTES = 65536
FRAMED = [mode for mode in PayloadMode if mode.name.startswith("STREAMING")]


def put_framed(
    site: FrontDoorSite,
    path: str,
    mode: PayloadMode,
    body: bytes,
    *,
    decoded_length: int | None = None,
    trailer: Mapping[str, str] | None = None,
    spoil: tuple[bytes, bytes] = (b"", b""),
    cut: int = 0,
) -> RawAnswer:
    """A PUT in one of the three framed modes, as its SDKs make it."""
    headers = {
        "host": site.host,
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(
            len(body) if decoded_length is None else decoded_length
        ),
    }
    if trailer:
        headers["x-amz-trailer"] = ",".join(trailer)
    added, seed = sign_request(
        method="PUT",
        path=path,
        query="",
        headers=headers,
        credentials=ALICE,
        region=site.region,
        now=time.time(),
        content_sha256=mode.value,
    )
    encoder = ChunkedEncoder(mode, seed)
    wire = b"".join(
        bytes(piece)
        for start in range(0, len(body), CHUNK_BYTES)
        for piece in encoder.chunk(body[start : start + CHUNK_BYTES])
    )
    wire = (wire + encoder.finish(trailer or {})).replace(*spoil, 1)
    wire = wire[: len(wire) - cut]
    return site.raw("PUT", path, {**headers, **added, "content-length": str(len(wire))}, wire)


def trailer_of(mode: PayloadMode, body: bytes) -> dict[str, str]:
    if mode is PayloadMode.STREAMING_SIGNED:
        return {}
    return {"x-amz-checksum-crc32c": checksum_of("CRC32C", body)}


def assert_nothing_is_left(site: FrontDoorSite, bucket: str) -> None:
    assert site.keys(bucket) == []
    assert not site.store.open_bodies


@BODIES
def test_a_signed_body_arrives(site: FrontDoorSite, bucket: str, body: bytes) -> None:
    answer = site.request(
        "PUT", f"/{bucket}/key", body=body, content_sha256=hashlib.sha256(body).hexdigest()
    )
    assert answer.headers["etag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert site.request("GET", f"/{bucket}/key").body == body


@BODIES
def test_a_body_other_than_the_signed_one_is_refused(
    site: FrontDoorSite, bucket: str, body: bytes
) -> None:
    sha256 = hashlib.sha256(body).hexdigest()
    answer = site.request("PUT", f"/{bucket}/key", body=body[:-1] + b"!", content_sha256=sha256)
    assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")
    assert_nothing_is_left(site, bucket)


@BODIES
def test_an_unsigned_body_arrives(site: FrontDoorSite, bucket: str, body: bytes) -> None:
    assert site.request("PUT", f"/{bucket}/key", body=body).status == 200
    assert site.request("GET", f"/{bucket}/key").body == body


@BODIES
@pytest.mark.parametrize("mode", FRAMED)
def test_a_framed_body_arrives_without_its_frames(
    site: FrontDoorSite, bucket: str, mode: PayloadMode, body: bytes
) -> None:
    answer = put_framed(site, f"/{bucket}/key", mode, body, trailer=trailer_of(mode, body))
    assert answer.status == 200, answer.body
    got = site.request("GET", f"/{bucket}/key")
    assert got.body == body
    assert "content-encoding" not in got.headers


@BODIES
@pytest.mark.parametrize("mode", FRAMED)
def test_a_framed_body_that_was_changed_on_the_way_is_refused(
    site: FrontDoorSite, bucket: str, mode: PayloadMode, body: bytes
) -> None:
    answer = put_framed(
        site,
        f"/{bucket}/key",
        mode,
        body,
        trailer=trailer_of(mode, body),
        spoil=(body[:5], b"HELLO"),
    )
    signed = mode is not PayloadMode.STREAMING_UNSIGNED_TRAILER
    assert answer.code == ("SignatureDoesNotMatch" if signed else "BadDigest")
    assert_nothing_is_left(site, bucket)


@BODIES
def test_a_wrong_trailer_is_refused(site: FrontDoorSite, bucket: str, body: bytes) -> None:
    wrong = {"x-amz-checksum-crc32c": checksum_of("CRC32C", b"other")}
    mode = PayloadMode.STREAMING_UNSIGNED_TRAILER
    answer = put_framed(site, f"/{bucket}/key", mode, body, trailer=wrong)
    assert (answer.status, answer.code) == (400, "BadDigest")
    assert_nothing_is_left(site, bucket)


@BODIES
@pytest.mark.parametrize("mode", FRAMED)
def test_a_framed_body_that_ends_early_is_refused(
    site: FrontDoorSite, bucket: str, mode: PayloadMode, body: bytes
) -> None:
    trailer = trailer_of(mode, body)
    answer = put_framed(site, f"/{bucket}/key", mode, body, trailer=trailer, cut=3)
    assert (answer.status, answer.code) == (400, "IncompleteBody")
    assert_nothing_is_left(site, bucket)


@pytest.mark.parametrize("decoded_length", [len(SMALL) - 1, len(SMALL) + 1])
def test_a_framed_body_of_another_length_is_refused(
    site: FrontDoorSite, bucket: str, decoded_length: int
) -> None:
    mode = PayloadMode.STREAMING_SIGNED
    answer = put_framed(site, f"/{bucket}/key", mode, SMALL, decoded_length=decoded_length)
    assert (answer.status, answer.code) == (400, "IncompleteBody")
    assert_nothing_is_left(site, bucket)


def test_a_framed_body_without_its_length_is_411(site: FrontDoorSite, bucket: str) -> None:
    answer = site.request(
        "PUT", f"/{bucket}/key", content_sha256=PayloadMode.STREAMING_SIGNED.value
    )
    assert (answer.status, answer.code) == (411, "MissingContentLength")


def test_a_body_without_any_length_is_411(site: FrontDoorSite, bucket: str) -> None:
    answer = site.request(
        "PUT",
        f"/{bucket}/key",
        headers={"transfer-encoding": "chunked"},
        body=b"5\r\nhello\r\n0\r\n\r\n",
        drop=("content-length",),
    )
    assert (answer.status, answer.code) == (411, "MissingContentLength")
    assert_nothing_is_left(site, bucket)


@BODIES
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_checksum_is_verified_kept_and_told(
    site: FrontDoorSite, bucket: str, algorithm: str, body: bytes
) -> None:
    header, value = checksum_header(algorithm), checksum_of(algorithm, body)
    answer = site.request("PUT", f"/{bucket}/key", headers={header: value}, body=body)
    assert (answer.headers[header], answer.headers["x-amz-checksum-type"]) == (value, "FULL_OBJECT")
    got = site.request("HEAD", f"/{bucket}/key", headers={"x-amz-checksum-mode": "ENABLED"})
    assert got.headers[header] == value
    assert header not in site.request("HEAD", f"/{bucket}/key").headers


@BODIES
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_checksum_of_other_bytes_is_refused(
    site: FrontDoorSite, bucket: str, algorithm: str, body: bytes
) -> None:
    headers = {checksum_header(algorithm): checksum_of(algorithm, b"other")}
    answer = site.request("PUT", f"/{bucket}/key", headers=headers, body=body)
    assert (answer.status, answer.code) == (400, "BadDigest")
    assert_nothing_is_left(site, bucket)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-amz-checksum-crc32": "AAAA"}, "InvalidRequest"),
        ({"x-amz-checksum-crc32": "no base64"}, "InvalidRequest"),
        (
            {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-crc32c": "AAAAAA=="},
            "InvalidRequest",
        ),
        ({"x-amz-checksum-xxhash3": "AAAAAA=="}, "InvalidRequest"),
        ({"x-amz-checksum-crc16": "AAAAAA=="}, "NotImplemented"),
        ({"content-md5": "AAAA"}, "InvalidDigest"),
        ({"content-md5": base64.b64encode(bytes(16)).decode()}, "BadDigest"),
    ],
)
def test_a_checksum_that_is_none_is_refused(
    site: FrontDoorSite, bucket: str, headers: dict[str, str], code: str
) -> None:
    assert site.request("PUT", f"/{bucket}/key", headers=headers, body=SMALL).code == code
    assert_nothing_is_left(site, bucket)


def test_an_object_without_a_checksum_gets_one(site: FrontDoorSite, bucket: str) -> None:
    answer = site.request("PUT", f"/{bucket}/key", body=SMALL)
    assert answer.headers["x-amz-checksum-crc64nvme"] == checksum_of("CRC64NVME", SMALL)


def test_what_no_put_may_be_is_refused_before_it_is_sent(site: FrontDoorSite, bucket: str) -> None:
    headers = {"content-length": str(5 * 2**30 + 1), "expect": "100-continue"}
    answer = site.request("PUT", f"/{bucket}/key", headers=headers)
    assert (answer.status, answer.code) == (400, "EntityTooLarge")


@pytest.mark.parametrize(
    "size", [0, 1, INLINE_BYTES_MAX - 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1]
)
def test_boto3s_default_upload_arrives_at_every_border(
    site: FrontDoorSite, s3: S3Client, bucket: str, size: int
) -> None:
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    s3.put_object(Bucket=bucket, Key="key", Body=body)
    assert s3.get_object(Bucket=bucket, Key="key")["Body"].read() == body
    stored = site.store.objects[site.store.buckets[bucket].id, b"key"]
    assert bool(stored.row.extents) == (size > INLINE_BYTES_MAX)


def test_boto3s_older_default_signs_the_body(site: FrontDoorSite, bucket: str) -> None:
    client = site.client(
        request_checksum_calculation="when_required", response_checksum_validation="when_required"
    )
    client.put_object(Bucket=bucket, Key="key", Body=SMALL)
    assert client.get_object(Bucket=bucket, Key="key")["Body"].read() == SMALL
