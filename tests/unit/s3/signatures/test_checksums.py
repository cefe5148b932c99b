"""Checksums as S3 takes, refuses, composes and combines them."""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64encode

import pytest
from awscrt.checksums import XXHash
from hypothesis import given
from hypothesis import strategies as st

from octad.client.s3 import checksums
from octad.client.s3.checksums import (
    ALGORITHMS,
    ChecksumClaim,
    ChecksumUnavailable,
    checksum_header,
    checksum_of,
    claim_in_trailer,
    claimed_checksum,
    composite_checksum,
    decode_digest,
    encode_digest,
    full_object_checksum,
    multipart_etag,
    new_checksum,
    parse_content_md5,
    requested_algorithm,
    verify_claim,
    verify_content_md5,
)
from octad.client.s3.errors import S3Error

CRCS = ("CRC32", "CRC32C", "CRC64NVME")
# The check values of the catalogue of CRC algorithms, over "123456789"; others by another library.
CHECK = b"123456789"
CHECK_VALUES = {
    "CRC32": (0xCBF43926).to_bytes(4, "big"),
    "CRC32C": (0xE3069283).to_bytes(4, "big"),
    "CRC64NVME": (0xAE8B14860A799888).to_bytes(8, "big"),
    "SHA1": hashlib.sha1(CHECK).digest(),
    "SHA256": hashlib.sha256(CHECK).digest(),
    "SHA512": hashlib.sha512(CHECK).digest(),
    "MD5": hashlib.md5(CHECK).digest(),
    "XXHASH64": (0x8CB841DB40E6AE83).to_bytes(8, "big"),
    "XXHASH3": XXHash.compute_xxhash3_64(CHECK),
    "XXHASH128": XXHash.compute_xxhash3_128(CHECK),
}


def refused(headers: dict[str, str]) -> S3Error:
    with pytest.raises(S3Error) as caught:
        claimed_checksum(headers)
    return caught.value


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_gives_its_check_value(algorithm: str) -> None:
    assert checksum_of(algorithm, CHECK) == encode_digest(CHECK_VALUES[algorithm])
    assert decode_digest(algorithm, checksum_of(algorithm, b"")) is not None


@given(st.sampled_from(ALGORITHMS), st.lists(st.binary(max_size=40), max_size=5))
def test_pieces_give_the_checksum_of_the_whole(algorithm: str, pieces: list[bytes]) -> None:
    checksum = new_checksum(algorithm)
    for piece in pieces:
        checksum.update(memoryview(piece))
    assert encode_digest(checksum.digest()) == checksum_of(algorithm, b"".join(pieces))


@given(st.sampled_from(CRCS), st.lists(st.binary(max_size=40), max_size=6))
def test_the_crc_of_an_object_follows_from_those_of_its_parts(
    algorithm: str, parts: list[bytes]
) -> None:
    combined = full_object_checksum(
        algorithm, [(checksum_of(algorithm, part), len(part)) for part in parts]
    )
    assert combined == checksum_of(algorithm, b"".join(parts))


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256"])
def test_a_composite_is_the_checksum_of_the_parts_checksums(algorithm: str) -> None:
    def hashed(data: bytes) -> bytes:
        if algorithm == "CRC32":
            return zlib.crc32(data).to_bytes(4, "big")
        return hashlib.sha256(data).digest()

    parts = [b"one", b"two", b"three"]
    expected = b64encode(hashed(b"".join(hashed(part) for part in parts))).decode() + "-3"
    values = [checksum_of(algorithm, part) for part in parts]
    assert composite_checksum(algorithm, values) == expected


def test_the_tag_of_a_multipart_object_is_the_md5_of_the_parts_md5s() -> None:
    digests = [hashlib.md5(part).digest() for part in (b"one", b"two")]
    expected = hashlib.md5(b"".join(digests)).hexdigest() + "-2"
    assert multipart_etag([digest.hex() for digest in digests]) == expected


def test_without_awscrt_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "_CRCS", {"CRC32": zlib.crc32})
    monkeypatch.setattr(checksums, "_COMBINERS", {})
    assert checksum_of("CRC32", CHECK) == encode_digest(CHECK_VALUES["CRC32"])
    for compute in (
        lambda: new_checksum("CRC32C"),
        lambda: new_checksum("CRC64NVME"),
        lambda: full_object_checksum("CRC32", [("AAAAAA==", 1)]),
    ):
        with pytest.raises(ChecksumUnavailable, match=r"pip install awscrt") as caught:
            compute()
        assert caught.value.http_status == 501


# What a request claims.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_header_states_the_checksum(algorithm: str) -> None:
    value = checksum_of(algorithm, CHECK)
    claim = claimed_checksum({"host": "h", checksum_header(algorithm): value})
    assert claim == ChecksumClaim(algorithm, value)
    verify_claim(claim, CHECK_VALUES[algorithm])
    with pytest.raises(S3Error) as caught:
        verify_claim(claim, bytes(len(CHECK_VALUES[algorithm])))
    assert (caught.value.code, caught.value.http_status) == ("BadDigest", 400)
    assert caught.value.message == (
        f"The {algorithm} you specified did not match the calculated checksum."
    )


def test_no_header_claims_nothing() -> None:
    settings = {
        "x-amz-checksum-mode": "ENABLED",
        "x-amz-checksum-algorithm": "CRC32",
        "x-amz-checksum-type": "COMPOSITE",
    }
    assert claimed_checksum({}) is None
    assert claimed_checksum(settings) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "AAAA",
        "AAAAAA",
        "AAAAAA=",
        "AAAAAAA=",
        "AAAAAA==x",
        "AAA AAA==",
        "AAAAAB==",
        "é",
        "-1",
        "!!",
    ],
)
def test_a_value_that_is_not_base64_of_the_right_length_is_invalid(value: str) -> None:
    error = refused({"x-amz-checksum-crc32": value})
    assert (error.code, error.http_status) == ("InvalidRequest", 400)
    assert error.message == "Value for x-amz-checksum-crc32 header is invalid."


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-crc32c": "AAAAAA=="},
        {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-trailer": "x-amz-checksum-crc32"},
        {"x-amz-trailer": "x-amz-checksum-crc32, x-amz-checksum-sha1"},
    ],
)
def test_two_checksums_are_one_too_many(headers: dict[str, str]) -> None:
    error = refused(headers)
    assert (error.code, error.http_status) == ("InvalidRequest", 400)
    assert error.message.startswith("Expecting a single x-amz-checksum- header.")


@pytest.mark.parametrize("name", ["crc16", "sha384", "xxhash32"])
def test_an_algorithm_that_we_do_not_have_is_never_ignored(name: str) -> None:
    for headers in (
        {f"x-amz-checksum-{name}": "AA=="},
        {"x-amz-trailer": f"x-amz-checksum-{name}"},
    ):
        assert refused(headers).http_status == 501


def test_the_sdks_algorithm_needs_its_checksum() -> None:
    error = refused({"x-amz-sdk-checksum-algorithm": "CRC32"})
    assert error.code == "InvalidRequest"
    assert error.message.startswith("x-amz-sdk-checksum-algorithm specified, but no corresponding")
    error = refused({"x-amz-sdk-checksum-algorithm": "SHA1", "x-amz-checksum-crc32": "AAAAAA=="})
    assert error.message == "Value for x-amz-sdk-checksum-algorithm header is invalid."
    headers = {"x-amz-sdk-checksum-algorithm": "crc32", "x-amz-checksum-crc32": "AAAAAA=="}
    assert claimed_checksum(headers) == ChecksumClaim("CRC32", "AAAAAA==")


def test_a_trailer_brings_the_announced_value() -> None:
    claim = claimed_checksum({"x-amz-trailer": "X-Amz-Checksum-CRC32"})
    assert claim == ChecksumClaim("CRC32", "")
    assert claim_in_trailer(claim, {"x-amz-checksum-crc32": "AAAAAA=="}).value == "AAAAAA=="
    with pytest.raises(S3Error, match="MalformedTrailerError"):
        claim_in_trailer(claim, {})
    with pytest.raises(S3Error, match="x-amz-checksum-crc32 trailing header is invalid"):
        claim_in_trailer(claim, {"x-amz-checksum-crc32": "AAAA"})


@pytest.mark.parametrize(
    ("algorithm", "kind", "expected"),
    [
        ("", "", ("", "")),
        ("CRC32", "", ("CRC32", "COMPOSITE")),
        ("crc32c", "full_object", ("CRC32C", "FULL_OBJECT")),
        ("CRC64NVME", "", ("CRC64NVME", "FULL_OBJECT")),
        ("SHA256", "COMPOSITE", ("SHA256", "COMPOSITE")),
    ],
)
def test_an_upload_asks_for_an_algorithm_and_a_type(
    algorithm: str, kind: str, expected: tuple[str, str]
) -> None:
    headers = {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind}
    assert requested_algorithm(headers) == expected


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("CRC64NVME", "COMPOSITE"),
        ("SHA1", "FULL_OBJECT"),
        ("SHA256", "FULL_OBJECT"),
        ("SHA512", "FULL_OBJECT"),
        ("MD5", "FULL_OBJECT"),
        ("XXHASH64", "FULL_OBJECT"),
        ("XXHASH3", "FULL_OBJECT"),
        ("XXHASH128", "FULL_OBJECT"),
        ("MD4", ""),
        ("CRC32", "PARTIAL"),
        ("", "COMPOSITE"),
    ],
)
def test_a_type_that_does_not_go_with_the_algorithm_is_refused(algorithm: str, kind: str) -> None:
    with pytest.raises(S3Error) as caught:
        requested_algorithm({"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind})
    assert (caught.value.code, caught.value.http_status) == ("InvalidRequest", 400)


def test_content_md5_is_verified() -> None:
    digest = hashlib.md5(b"abc").digest()
    claimed = parse_content_md5(encode_digest(digest))
    verify_content_md5(claimed, digest)
    with pytest.raises(S3Error) as caught:
        verify_content_md5(claimed, hashlib.md5(b"abd").digest())
    assert (caught.value.code, caught.value.http_status) == ("BadDigest", 400)


@pytest.mark.parametrize("value", ["", "abc", "AAAA", "é", "rL0Y20zC+Fzt72VPzMSk2A", " ", "A" * 24])
def test_a_malformed_content_md5_is_an_invalid_digest(value: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_content_md5(value)
    assert (caught.value.code, caught.value.http_status) == ("InvalidDigest", 400)
