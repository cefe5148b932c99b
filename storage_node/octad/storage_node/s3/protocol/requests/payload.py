"""The body of a request: what its headers promise, and whether the bytes keep every promise.

A body may be vouched for in many ways at once: its length, the SHA-256 that was signed, signatures
of its chunks, a trailer, a checksum, a Content-MD5. `PlannedPayload` is what the headers say, known
before a byte of the body is; `PayloadReader` takes the bytes of the wire, returns those of the
object and says at the end what they are, or raises what is wrong. No one commits anything before
that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import cast

import msgspec

from octad.client.s3.aws_chunked import BodyDecoder, PlainDecoder, body_decoder
from octad.client.s3.checksums import (
    ChecksumClaim,
    claim_in_trailer,
    claimed_checksum,
    encode_digest,
    new_checksum,
    parse_content_md5,
    verify_claim,
    verify_content_md5,
)
from octad.client.s3.errors import S3Error
from octad.client.s3.sigv4_verify import Authenticated

ObjectBytes = bytes | memoryview


class PlannedPayload(msgspec.Struct, frozen=True):
    """A request's headers about its body."""

    decoder: BodyDecoder
    content_md5: bytes | None
    claim: ChecksumClaim | None

    @property
    def length(self) -> int:
        """The number of the object's bytes, without the framing of aws-chunked."""
        return self.decoder.length

    @property
    def is_plain(self) -> bool:
        """Whether the bytes on the wire are those of the object."""
        return isinstance(self.decoder, PlainDecoder)

    @property
    def claimed_algorithm(self) -> str | None:
        """The checksum that the client states or announces."""
        return None if self.claim is None else self.claim.algorithm


class VerifiedPayload(msgspec.Struct, frozen=True):
    """The entity tag and checksums of a body that matched all its claims."""

    etag: str
    checksums: dict[str, str]


def plan_payload(
    headers: Mapping[str, str], signature: Authenticated, bytes_max: int
) -> PlannedPayload:
    """Raises the errors known in advance: a length missing or too great, an invalid checksum."""
    decoder = body_decoder(
        signature.payload_mode, signature.content_sha256, signature.seed, headers
    )
    if decoder.length > bytes_max:
        raise S3Error(
            "EntityTooLarge",
            fields={"ProposedSize": str(decoder.length), "MaxSizeAllowed": str(bytes_max)},
        )
    content_md5 = headers.get("content-md5")
    return PlannedPayload(
        decoder,
        None if content_md5 is None else parse_content_md5(content_md5),
        claimed_checksum(headers),
    )


def plan_copy(length: int) -> PlannedPayload:
    """The bytes of an object that is already here."""
    return PlannedPayload(PlainDecoder(length, sha256=None), content_md5=None, claim=None)


class PayloadReader:
    """Decodes a body and hashes it on the way: all the work of it that takes time."""

    __slots__ = ("_checksums", "_decoder", "_md5", "_plan", "_shows_md5")

    def __init__(self, plan: PlannedPayload, algorithms: Sequence[str]) -> None:
        """`algorithms`: the checksums that the result shall have."""
        self._plan = plan
        self._decoder = plan.decoder
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._checksums = {name: new_checksum(name) for name in algorithms if name != "MD5"}
        self._shows_md5 = "MD5" in algorithms  # Computed for every body.

    def feed(self, wire: ObjectBytes) -> Sequence[ObjectBytes]:
        """The object's bytes in `wire`; they are not verified before `finish`."""
        # Pieces of what is immutable are immutable: no decoder makes a bytearray of it.
        pieces = cast(Sequence[ObjectBytes], self._decoder.feed(wire))
        for piece in pieces:
            self._md5.update(piece)
            for checksum in self._checksums.values():
                checksum.update(piece)
        return pieces

    def finish(self) -> VerifiedPayload:
        """The body has ended; raises if it does not match its claims."""
        self._decoder.finish()
        md5 = self._md5.digest()
        plan = self._plan
        if plan.content_md5 is not None:
            verify_content_md5(plan.content_md5, md5)
        digests = {name: checksum.digest() for name, checksum in self._checksums.items()}
        if self._shows_md5:
            digests["MD5"] = md5
        if plan.claim is not None:
            claim = plan.claim
            if not claim.value:
                claim = claim_in_trailer(claim, self._decoder.trailers)
            verify_claim(claim, digests[claim.algorithm])
        return VerifiedPayload(
            md5.hex(), {name: encode_digest(digest) for name, digest in digests.items()}
        )
