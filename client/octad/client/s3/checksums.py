"""The checksums that S3 clients send with their data, and what S3 does with those of parts.

    claim     the one checksum a request says its body has: in a header, or announced for a trailer
    composite the hash of the parts' checksums, with "-N" for N parts
    full      the checksum of the whole object; for CRCs it follows from those of the parts

Values are base64 of the big-endian digest, as in headers. CRC32C and CRC64NVME need `awscrt`, which
servers have; an SDK without it says so instead of doing without a check that was asked for.
"""

from __future__ import annotations

import binascii
import hashlib
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hmac import compare_digest
from types import MappingProxyType
from typing import Final, Protocol

from xxhash import xxh3_64, xxh3_128, xxh64

from octad.client.s3.errors import S3Error

try:
    from awscrt import checksums as crt
except ImportError:
    crt = None

COMPOSITE: Final = "COMPOSITE"
FULL_OBJECT: Final = "FULL_OBJECT"

_DIGEST_BYTES: Final = MappingProxyType(
    {
        "CRC32": 4,
        "CRC32C": 4,
        "CRC64NVME": 8,
        "SHA1": 20,
        "SHA256": 32,
        "SHA512": 64,
        "MD5": 16,
        "XXHASH64": 8,
        "XXHASH3": 8,
        "XXHASH128": 16,
    }
)
ALGORITHMS: Final = tuple(_DIGEST_BYTES)
_HEADER_PREFIX: Final = "x-amz-checksum-"
_HEADER_ALGORITHMS: Final = MappingProxyType(
    {_HEADER_PREFIX + algorithm.lower(): algorithm for algorithm in ALGORITHMS}
)
# These begin like a checksum's header but are not one.
_HEADER_SETTINGS: Final = frozenset(
    {f"{_HEADER_PREFIX}algorithm", f"{_HEADER_PREFIX}mode", f"{_HEADER_PREFIX}type"}
)

Bytes = bytes | bytearray | memoryview
CrcFunction = Callable[[Bytes, int], int]
CombineFunction = Callable[[int, int, int], int]


class ChecksumUnavailable(S3Error):
    """This installation cannot compute the algorithm."""

    def __init__(self, algorithm: str) -> None:
        super().__init__(
            "NotImplemented",
            f"{algorithm} needs the package awscrt: run: pip install awscrt",
        )


class Checksum(Protocol):
    """A checksum under way."""

    def update(self, data: Bytes, /) -> None:
        """Take the next bytes."""

    def digest(self) -> bytes:
        """The checksum of what was taken so far."""


@dataclass(frozen=True, slots=True)
class ChecksumClaim:
    """A checksum that a request claims. `value` is "" while it is still to come in a trailer."""

    algorithm: str
    value: str

    @property
    def header(self) -> str:
        """Its name as a header or trailer."""
        return checksum_header(self.algorithm)


class _Crc:
    """A CRC as a `Checksum`."""

    __slots__ = ("_function", "_value", "_width")

    def __init__(self, function: CrcFunction, width: int) -> None:
        self._function = function
        self._width = width
        self._value = 0

    def update(self, data: Bytes, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


def _crc_functions() -> Mapping[str, CrcFunction]:
    available: dict[str, CrcFunction] = {"CRC32": zlib.crc32}
    if crt is not None:
        available |= {"CRC32C": crt.crc32c, "CRC64NVME": crt.crc64nvme}
    return available


def _combine_functions() -> Mapping[str, CombineFunction]:
    if crt is None:
        return {}
    return {
        "CRC32": crt.combine_crc32,
        "CRC32C": crt.combine_crc32c,
        "CRC64NVME": crt.combine_crc64nvme,
    }


# All but CRCs: the object's cannot be computed from its parts'.
_HASHES: Final[Mapping[str, Callable[[], Checksum]]] = MappingProxyType(
    {
        "SHA1": partial(hashlib.sha1, usedforsecurity=False),
        "SHA256": hashlib.sha256,
        "SHA512": hashlib.sha512,
        "MD5": partial(hashlib.md5, usedforsecurity=False),
        "XXHASH64": xxh64,
        "XXHASH3": xxh3_64,
        "XXHASH128": xxh3_128,
    }
)
_FORBIDDEN_TYPES: Final = MappingProxyType(
    {"CRC64NVME": COMPOSITE, **dict.fromkeys(_HASHES, FULL_OBJECT)}
)
_CRCS: Final = _crc_functions()
_COMBINERS: Final = _combine_functions()
COMBINABLE: Final = tuple(_COMBINERS)  # The object's follows from those of its parts.
# For objects whose client named no checksum: S3's own choice, if installed.
DEFAULT_ALGORITHM: Final = "CRC64NVME" if "CRC64NVME" in _CRCS else "CRC32"


def checksum_header(algorithm: str) -> str:
    """The header or trailer that carries a checksum of `algorithm`."""
    return _HEADER_PREFIX + algorithm.lower()


def is_of_no_bytes(header: str, value: str) -> bool:
    """Whether a header (its name in lower case) is the checksum of nothing at all."""
    algorithm = _HEADER_ALGORITHMS.get(header)
    return algorithm is not None and value == checksum_of(algorithm, b"")


def new_checksum(algorithm: str) -> Checksum:
    """An empty checksum; raises ChecksumUnavailable."""
    if (crc := _CRCS.get(algorithm)) is not None:
        return _Crc(crc, _DIGEST_BYTES[algorithm])
    if (new_hash := _HASHES.get(algorithm)) is not None:
        return new_hash()
    assert algorithm in _DIGEST_BYTES, f"{algorithm} was never offered"
    raise ChecksumUnavailable(algorithm)


def checksum_of(algorithm: str, data: Bytes) -> str:
    """The checksum of `data`, in base64."""
    checksum = new_checksum(algorithm)
    checksum.update(data)
    return encode_digest(checksum.digest())


def encode_digest(digest: bytes) -> str:
    """A digest as headers, trailers and documents carry it."""
    return b64encode(digest).decode("ascii")


def decode_digest(algorithm: str, value: str) -> bytes | None:
    """The inverse of `encode_digest`, or None where it is not base64 of the right length."""
    return _decoded(value, _DIGEST_BYTES[algorithm])


def claimed_checksum(headers: Mapping[str, str]) -> ChecksumClaim | None:
    """The checksum that the request's headers (lower-case names) state or announce, if any."""
    stated = [
        name for name in headers if name.startswith(_HEADER_PREFIX) and name not in _HEADER_SETTINGS
    ]
    announced = [name for name in trailer_names(headers) if name.startswith(_HEADER_PREFIX)]
    if not stated and not announced:
        if "x-amz-sdk-checksum-algorithm" not in headers:
            return None
        raise S3Error(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or "
            "x-amz-trailer headers were found.",
        )
    if len(stated) + len(announced) > 1:
        raise S3Error(
            "InvalidRequest",
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        )
    name = (stated or announced)[0]
    algorithm = _HEADER_ALGORITHMS.get(name)
    if algorithm is None:
        raise S3Error("NotImplemented", f"The checksum of {name} is not implemented.")
    if headers.get("x-amz-sdk-checksum-algorithm", algorithm).upper() != algorithm:
        raise S3Error("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")
    value = _valid(algorithm, headers[name], "header") if stated else ""
    return ChecksumClaim(algorithm, value)


def trailer_names(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The trailers that `x-amz-trailer` announces, in lower case."""
    announced = headers.get("x-amz-trailer")
    if not announced:
        return ()
    return tuple(name.strip().lower() for name in announced.split(",") if name.strip())


def claim_in_trailer(claim: ChecksumClaim, trailers: Mapping[str, str]) -> ChecksumClaim:
    """`claim` with the value that came in the trailer it announced."""
    value = trailers.get(claim.header)
    if value is None:
        raise S3Error("MalformedTrailerError")
    return ChecksumClaim(claim.algorithm, _valid(claim.algorithm, value, "trailing header"))


def verify_claim(claim: ChecksumClaim, digest: bytes) -> None:
    """Raises BadDigest where the body's digest is not the claimed one."""
    assert claim.value, "the trailer's value is filled in before it is verified"
    if not compare_digest(claim.value, encode_digest(digest)):
        raise S3Error(
            "BadDigest",
            f"The {claim.algorithm} you specified did not match the calculated checksum.",
        )


def requested_algorithm(headers: Mapping[str, str]) -> tuple[str, str]:
    """(algorithm, type) that CreateMultipartUpload asks for; ("", "") where it names none."""
    algorithm = headers.get("x-amz-checksum-algorithm", "").upper()
    kind = headers.get("x-amz-checksum-type", "").upper()
    if not algorithm and not kind:
        return "", ""
    if not algorithm:
        raise S3Error(
            "InvalidRequest",
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm "
            "header.",
        )
    if algorithm not in ALGORITHMS:
        raise S3Error(
            "InvalidRequest",
            "Checksum algorithm provided is unsupported. Please try again with any of the valid "
            f"types: [{', '.join(ALGORITHMS)}]",
        )
    if kind not in ("", COMPOSITE, FULL_OBJECT):
        raise S3Error("InvalidRequest", "Value for x-amz-checksum-type header is invalid.")
    kind = kind or (FULL_OBJECT if algorithm == "CRC64NVME" else COMPOSITE)
    if kind == _FORBIDDEN_TYPES.get(algorithm):
        raise S3Error(
            "InvalidRequest",
            f"The {kind} checksum type cannot be used with the {algorithm.lower()} checksum "
            "algorithm.",
        )
    return algorithm, kind


def composite_checksum(algorithm: str, part_values: Sequence[str]) -> str:
    """The checksum of the parts' checksums: base64, a dash and the number of parts."""
    joined = b"".join(_stored(algorithm, value) for value in part_values)
    return f"{checksum_of(algorithm, joined)}-{len(part_values)}"


def full_object_checksum(algorithm: str, parts: Iterable[tuple[str, int]]) -> str:
    """The object's CRC from (value, length) of its parts, without reading a byte of them."""
    combine = _COMBINERS.get(algorithm)
    if combine is None:
        raise ChecksumUnavailable(algorithm)
    crc = 0
    for value, length in parts:
        crc = combine(crc, int.from_bytes(_stored(algorithm, value), "big"), length)
    return encode_digest(crc.to_bytes(_DIGEST_BYTES[algorithm], "big"))


def multipart_etag(part_etags: Sequence[str]) -> str:
    """The entity tag of a multipart object: MD5 of the parts' MD5s, a dash, how many."""
    joined = b"".join(bytes.fromhex(etag) for etag in part_etags)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(part_etags)}"


def appended_etag(etag: str, piece_etag: str, pieces: int) -> str:
    """The entity tag of an object with one piece more: MD5 of both tags, a dash, how many."""
    joined = f"{etag}{piece_etag}".encode()
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{pieces}"


def parse_content_md5(value: str) -> bytes:
    """The digest in a `Content-MD5` header; raises InvalidDigest."""
    digest = decode_digest("MD5", value)
    if digest is None:
        raise S3Error("InvalidDigest")
    return digest


def verify_content_md5(claimed: bytes, digest: bytes) -> None:
    """Raises BadDigest where the body's MD5 is not the claimed one."""
    if not compare_digest(claimed, digest):
        raise S3Error(
            "BadDigest",
            fields={
                "ExpectedDigest": claimed.hex(),  # S3 writes the two in two ways.
                "CalculatedDigest": encode_digest(digest),
            },
        )


def _valid(algorithm: str, value: str, where: str) -> str:
    if decode_digest(algorithm, value) is None:
        raise S3Error(
            "InvalidRequest", f"Value for {checksum_header(algorithm)} {where} is invalid."
        )
    return value


def _stored(algorithm: str, value: str) -> bytes:
    digest = decode_digest(algorithm, value)
    assert digest is not None, f"a stored {algorithm} is {value!r}"
    return digest


def _decoded(value: str, length: int) -> bytes | None:
    try:
        digest = binascii.a2b_base64(value, strict_mode=True)
    except ValueError:  # Not base64, or not ASCII.
        return None
    # One digest has one spelling: bits that no one reads must not be set in the last character.
    return digest if len(digest) == length and encode_digest(digest) == value else None
