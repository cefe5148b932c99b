"""What a completed upload becomes, and everything that can be wrong with the list of its parts."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.s3.checksums import checksum_of
from octad.client.s3.errors import S3Error
from octad.sharding.limits import PART_BYTES_MIN
from octad.storage_node.index.rows import ExtentRef, PartRow, UploadRow
from octad.storage_node.s3.protocol.multipart import (
    check_completion,
    check_that_checksums_are_stated,
    completed_row,
    is_completed,
    new_upload_id,
    parse_upload_id,
    part_algorithms,
)
from octad.storage_node.s3.protocol.xml.requests import RequestedPart

NOW_MS = 1_700_000_000_000
UPLOAD_ID = bytes(range(16))
HEAD, TAIL = b"a" * PART_BYTES_MIN, b"the rest"


def part(data: bytes, algorithm: str = "CRC64NVME") -> PartRow:
    etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
    extent = ExtentRef(etag[:16].encode(), len(data))
    return PartRow(len(data), etag, 1, {algorithm: checksum_of(algorithm, data)}, (extent,))


def upload(algorithm: str = "", kind: str = "") -> UploadRow:
    return UploadRow(1, "alice", {"x-amz-meta-a": "b"}, algorithm, kind)


def requested(stored: dict[int, PartRow]) -> list[RequestedPart]:
    return [
        RequestedPart(number, row.etag, row.checksums) for number, row in sorted(stored.items())
    ]


def refused(parts: list[RequestedPart], stored: dict[int, PartRow]) -> S3Error:
    with pytest.raises(S3Error) as found:
        completed_row(UPLOAD_ID, upload(), parts, stored, NOW_MS)
    return found.value


def test_the_object_is_the_parts_in_order() -> None:
    stored = {2: part(HEAD), 7: part(TAIL)}
    row = completed_row(UPLOAD_ID, upload(), requested(stored), stored, NOW_MS)
    assert row.size == len(HEAD) + len(TAIL)
    assert row.part_sizes == (len(HEAD), len(TAIL))
    assert row.extents == stored[2].extents + stored[7].extents
    assert row.headers == {"x-amz-meta-a": "b"}


def test_its_etag_is_the_md5_of_the_parts_md5s_and_their_number() -> None:
    stored = {1: part(HEAD), 2: part(TAIL)}
    row = completed_row(UPLOAD_ID, upload(), requested(stored), stored, NOW_MS)
    joined = b"".join(hashlib.md5(data).digest() for data in (HEAD, TAIL))
    assert row.etag == f"{hashlib.md5(joined).hexdigest()}-2"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_a_full_object_checksum_is_that_of_the_whole(algorithm: str) -> None:
    stored = {1: part(HEAD, algorithm), 2: part(TAIL, algorithm)}
    row = completed_row(
        UPLOAD_ID, upload(algorithm, "FULL_OBJECT"), requested(stored), stored, NOW_MS
    )
    assert row.checksums == {algorithm: checksum_of(algorithm, HEAD + TAIL)}


def test_a_composite_checksum_is_that_of_the_parts_checksums() -> None:
    stored = {1: part(HEAD, "SHA256"), 2: part(TAIL, "SHA256")}
    row = completed_row(UPLOAD_ID, upload("SHA256", "COMPOSITE"), requested(stored), stored, NOW_MS)
    joined = b"".join(hashlib.sha256(data).digest() for data in (HEAD, TAIL))
    assert row.checksums == {"SHA256": f"{checksum_of('SHA256', joined)}-2"}


def test_an_upload_begun_without_a_checksum_gets_a_full_one() -> None:
    stored = {1: part(HEAD), 2: part(TAIL)}
    row = completed_row(UPLOAD_ID, upload(), requested(stored), stored, NOW_MS)
    assert row.checksums == {"CRC64NVME": checksum_of("CRC64NVME", HEAD + TAIL)}


def test_a_part_that_is_not_there_is_invalid() -> None:
    error = refused([RequestedPart(3, "0" * 32)], {})
    assert error.code == "InvalidPart"
    assert dict(error.fields) == {
        "UploadId": UPLOAD_ID.hex(),
        "PartNumber": "3",
        "ETag": "0" * 32,
    }


def test_a_part_that_has_changed_is_invalid() -> None:
    assert refused([RequestedPart(1, "0" * 32)], {1: part(TAIL)}).code == "InvalidPart"


def test_a_part_with_another_checksum_is_invalid() -> None:
    row = part(TAIL)
    named = RequestedPart(1, row.etag, {"CRC64NVME": checksum_of("CRC64NVME", HEAD)})
    assert refused([named], {1: row}).code == "InvalidPart"


def test_every_part_but_the_last_has_5_mib() -> None:
    stored = {1: part(HEAD[:-1]), 2: part(TAIL)}
    error = refused(requested(stored), stored)
    assert (error.code, error.fields["PartNumber"]) == ("EntityTooSmall", "1")


def test_completing_again_is_recognised_by_the_same_parts() -> None:
    stored = {1: part(HEAD), 2: part(TAIL)}
    row = completed_row(UPLOAD_ID, upload(), requested(stored), stored, NOW_MS)
    assert is_completed(row, requested(stored))
    assert not is_completed(row, requested(stored)[:1])
    assert not is_completed(row, [RequestedPart(1, "not hex"), RequestedPart(2, "neither")])


def test_a_composite_checksum_needs_that_of_every_part() -> None:
    parts = requested({1: part(HEAD, "SHA256"), 2: part(TAIL, "SHA256")})
    check_that_checksums_are_stated(upload("SHA256", "COMPOSITE"), parts)
    parts[1] = RequestedPart(2, parts[1].etag)
    with pytest.raises(S3Error, match="It was missing for part 2 in the request") as found:
        check_that_checksums_are_stated(upload("SHA256", "COMPOSITE"), parts)
    assert found.value.code == "InvalidRequest"


def test_a_full_object_checksum_needs_none_of_any_part() -> None:
    stored = {1: part(TAIL, "CRC32")}
    parts = [RequestedPart(1, stored[1].etag)]
    assert completed_row(UPLOAD_ID, upload("CRC32", "FULL_OBJECT"), parts, stored, NOW_MS)
    check_that_checksums_are_stated(upload("CRC32", "FULL_OBJECT"), parts)
    assert part_algorithms(upload("CRC32", "FULL_OBJECT"), None) == ("CRC32",)


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256"])
def test_a_part_of_a_composite_upload_states_its_checksum(algorithm: str) -> None:
    assert part_algorithms(upload(algorithm, "COMPOSITE"), algorithm) == (algorithm,)
    with pytest.raises(S3Error, match="actual checksum Type: null") as found:
        part_algorithms(upload(algorithm, "COMPOSITE"), None)
    assert found.value.code == "InvalidRequest"


def test_a_part_must_not_have_another_checksum_than_its_upload() -> None:
    assert part_algorithms(upload("SHA256"), "SHA256") == ("SHA256",)
    assert part_algorithms(upload("SHA256"), None) == ("SHA256",)
    with pytest.raises(S3Error) as found:
        part_algorithms(upload("SHA256"), "CRC32")
    assert found.value.message.startswith("Checksum Type mismatch occurred")


def test_a_part_of_an_upload_without_checksum_keeps_its_own_beside_the_default() -> None:
    assert part_algorithms(upload(), "CRC32") == ("CRC64NVME", "CRC32")


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("x-amz-mp-object-size", "1", "InvalidRequest"),
        ("x-amz-checksum-type", "COMPOSITE", "InvalidRequest"),
        ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=", "BadDigest"),
    ],
)
def test_what_the_request_says_of_the_object_must_be_so(name: str, value: str, code: str) -> None:
    stored = {1: part(TAIL)}
    row = completed_row(UPLOAD_ID, upload(), requested(stored), stored, NOW_MS)
    check_completion({"x-amz-mp-object-size": str(len(TAIL))}, row)
    with pytest.raises(S3Error) as found:
        check_completion({name: value}, row)
    assert found.value.code == code


@given(st.integers(0, 2**47), st.binary(min_size=10, max_size=10))
def test_an_upload_id_survives_the_text_that_clients_see(now_ms: int, randomness: bytes) -> None:
    upload_id = new_upload_id(now_ms, randomness)
    assert parse_upload_id(upload_id.hex()) == upload_id


def test_later_uploads_are_listed_later() -> None:
    assert new_upload_id(NOW_MS, b"\xff" * 10) < new_upload_id(NOW_MS + 1, b"\x00" * 10)


@pytest.mark.parametrize("text", ["", "abc", "zz" * 16, "00" * 15, "00" * 17, "ü"])
def test_what_cannot_be_an_upload_id_is_no_upload(text: str) -> None:
    with pytest.raises(S3Error) as found:
        parse_upload_id(text)
    assert found.value.code == "NoSuchUpload"
