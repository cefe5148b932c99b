"""Bodies in every framing: what is encoded decodes, however it is cut, and no forgery passes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise

import pytest
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from hypothesis import given, settings
from hypothesis import strategies as st

from octad.client.s3.aws_chunked import (
    CHUNK_BYTES_MIN,
    CHUNK_HEADER_BYTES_MAX,
    TRAILER_BYTES_MAX,
    BodyDecoder,
    ChunkedDecoder,
    ChunkedEncoder,
    body_decoder,
    encoded_length,
    stored_content_encoding,
)
from octad.client.s3.checksums import checksum_of
from octad.client.s3.errors import S3Error
from octad.client.s3.sigv4 import PayloadMode, SignatureSeed
from octad.sharding.limits import PUT_BYTES_MAX

SEED = SignatureSeed("5" * 64, b"k" * 32, "20130524/us-east-1/s3/aws4_request", "20130524T000000Z")
SIGNED = PayloadMode.STREAMING_SIGNED
SIGNED_TRAILER = PayloadMode.STREAMING_SIGNED_TRAILER
UNSIGNED_TRAILER = PayloadMode.STREAMING_UNSIGNED_TRAILER
STREAMING = (SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER)
WITH_SIGNATURES = (SIGNED, SIGNED_TRAILER)
WITH_TRAILERS = (SIGNED_TRAILER, UNSIGNED_TRAILER)
CRC = "x-amz-checksum-crc32"
BIG = bytes(range(256)) * 32  # Exactly the least that a chunk in the middle may have.
assert len(BIG) == CHUNK_BYTES_MIN


def trailers_of(mode: PayloadMode) -> dict[str, str]:
    return {} if mode is SIGNED else {CRC: "AAAAAA=="}


def encode(mode: PayloadMode, chunks: Sequence[bytes], seed: SignatureSeed = SEED) -> list[bytes]:
    """The chunks as they are framed, and at the end what ends the body."""
    encoder = ChunkedEncoder(mode, seed)
    framed = [b"".join(encoder.chunk(chunk)) for chunk in chunks]
    return [*framed, encoder.finish(trailers_of(mode))]


def new_decoder(mode: PayloadMode, length: int) -> ChunkedDecoder:
    return ChunkedDecoder(mode, SEED, length, list(trailers_of(mode)))


def deliver(decoder: BodyDecoder, pieces: Sequence[bytes]) -> bytes:
    decoded = b"".join(bytes(part) for piece in pieces for part in decoder.feed(piece))
    decoder.finish()
    return decoded


def outcome(decoder: BodyDecoder, pieces: Sequence[bytes]) -> tuple[str, bytes]:
    """("", the data) or (the error's code, nothing)."""
    try:
        return "", deliver(decoder, pieces)
    except S3Error as error:
        return error.code, b""


def code_of(mode: PayloadMode, length: int, body: bytes) -> str:
    """The error's code; the same for the whole body and for its bytes one by one."""
    whole, _ = outcome(new_decoder(mode, length), [body])
    single, _ = outcome(new_decoder(mode, length), [bytes([byte]) for byte in body])
    assert whole == single
    return whole


# Large chunks are numbered 2-byte words, so that no two places are alike; hypothesis draws only
# where the words start and how many bytes there are.
LARGE = st.builds(
    lambda first, size: b"".join(n.to_bytes(2, "big") for n in range(first, first + 4200))[:size],
    st.integers(0, 60_000),
    st.integers(CHUNK_BYTES_MIN, CHUNK_BYTES_MIN + 100),
)
CHUNKS = st.tuples(st.lists(LARGE, max_size=2), st.binary(max_size=50)).map(
    lambda parts: [*parts[0], parts[1]] if parts[1] else parts[0]
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(STREAMING), CHUNKS, st.lists(st.integers(0, 25_000), max_size=12))
def test_a_body_decodes_to_itself_however_it_is_cut(
    mode: PayloadMode, chunks: list[bytes], cuts: list[int]
) -> None:
    data, body = b"".join(chunks), b"".join(encode(mode, chunks))
    at = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[start:end] for start, end in pairwise(at)]
    decoder = new_decoder(mode, len(data))
    assert deliver(decoder, pieces) == data
    assert decoder.trailers == trailers_of(mode)


@pytest.mark.parametrize("mode", STREAMING)
@pytest.mark.parametrize("chunks", [[], [b"x"], [BIG], [BIG, b"x"], [BIG, BIG + b"y", b"z" * 9000]])
def test_a_body_decodes_to_itself_byte_by_byte(mode: PayloadMode, chunks: list[bytes]) -> None:
    data, body = b"".join(chunks), b"".join(encode(mode, chunks))
    assert deliver(new_decoder(mode, len(data)), [bytes([byte]) for byte in body]) == data


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(STREAMING),
    st.integers(0, 20),
    st.binary(max_size=12),
    st.integers(0, 300),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_a_spoiled_body_is_judged_alike_however_it_is_cut(
    mode: PayloadMode, length: int, spoil: bytes, where: int, cuts: list[int]
) -> None:
    body = b"".join(encode(mode, [b"a" * length] if length else []))
    where = min(where, len(body))
    body = body[:where] + spoil + body[where + len(spoil) :]
    at = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[start:end] for start, end in pairwise(at)]
    whole = outcome(new_decoder(mode, length), [body])
    assert outcome(new_decoder(mode, length), pieces) == whole
    assert outcome(new_decoder(mode, length), [bytes([byte]) for byte in body]) == whole


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(STREAMING), st.data())
def test_a_body_that_ends_early_is_incomplete(mode: PayloadMode, data: st.DataObject) -> None:
    body = b"".join(encode(mode, [BIG, b"tail"]))
    end = data.draw(st.integers(0, len(body) - 3))  # Only the last line break may be missing.
    whole, _ = outcome(new_decoder(mode, len(BIG) + 4), [body[:end]])
    assert whole == "IncompleteBody"


@pytest.mark.parametrize("mode", STREAMING)
def test_the_length_on_the_wire_is_known_beforehand(mode: PayloadMode) -> None:
    trailers = {name: len(value) for name, value in trailers_of(mode).items()}
    for length in (0, 1, 8191, 8192, 8193, 16_384, 30_000):
        data = b"q" * length
        chunks = [data[at : at + 8192] for at in range(0, length, 8192)]
        body = b"".join(encode(mode, chunks))
        assert encoded_length(mode, length, 8192, trailers) == len(body)


def test_large_chunks_are_not_copied() -> None:
    data = b"d" * 1_000_000
    body = b"".join(encode(UNSIGNED_TRAILER, [data]))
    pieces = new_decoder(UNSIGNED_TRAILER, len(data)).feed(body)
    assert [piece.obj for piece in pieces if isinstance(piece, memoryview)] == [body]


@pytest.mark.parametrize("mode", STREAMING)
@pytest.mark.parametrize("missing", [1, 2])
def test_the_empty_line_at_the_end_may_be_missing(mode: PayloadMode, missing: int) -> None:
    for chunks in ([], [BIG, b"tail"]):
        data, body = b"".join(chunks), b"".join(encode(mode, chunks))[:-missing]
        decoder = new_decoder(mode, len(data))
        assert deliver(decoder, [body]) == data
        assert decoder.trailers == trailers_of(mode)


def test_without_the_empty_line_no_trailer_may_be_missing() -> None:
    unsigned = b"".join(encode(UNSIGNED_TRAILER, [b"abc"]))
    assert code_of(UNSIGNED_TRAILER, 3, unsigned[: unsigned.index(b"x-amz")]) == "IncompleteBody"
    signed = b"".join(encode(SIGNED_TRAILER, [b"abc"]))
    where = signed.index(b"x-amz-trailer-signature")
    assert code_of(SIGNED_TRAILER, 3, signed[:where]) == "IncompleteBody"
    forged = signed[: where + 24] + b"0" * 64 + b"\r\n"
    assert code_of(SIGNED_TRAILER, 3, forged) == "SignatureDoesNotMatch"


def test_blanks_may_stand_around_what_a_chunk_says() -> None:
    assert (
        code_of(UNSIGNED_TRAILER, 3, b"3 \t\r\nabc\r\n0 \r\n" + f"{CRC}:AAAAAA==\r\n\r\n".encode())
        == ""
    )
    for mode in WITH_SIGNATURES:
        body = b"".join(encode(mode, [BIG, b"abc"]))
        spaced = body.replace(b";chunk-signature=", b" ;\tchunk-signature = ")
        assert code_of(mode, len(BIG) + 3, spaced) == ""


# Signatures.


@pytest.mark.parametrize("mode", WITH_SIGNATURES)
@pytest.mark.parametrize("spoiled", [0, 1, 2])
def test_a_changed_chunk_breaks_its_signature(mode: PayloadMode, spoiled: int) -> None:
    chunks = [b"a" * 8192, b"b" * 8192, b"c" * 10]
    framed = encode(mode, chunks)
    letter = b"abc"[spoiled : spoiled + 1]
    framed[spoiled] = framed[spoiled][:-3] + b"!\r\n"
    assert letter + b"!" in framed[spoiled]
    assert code_of(mode, 8192 * 2 + 10, b"".join(framed)) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("mode", WITH_SIGNATURES)
@pytest.mark.parametrize("seed", ["signature", "signing_key", "scope", "timestamp"])
def test_a_chain_from_another_request_is_refused(mode: PayloadMode, seed: str) -> None:
    values = SEED._asdict()
    values[seed] = b"x" * 32 if seed == "signing_key" else "6" * 64
    body = b"".join(encode(mode, [b"abc"], SignatureSeed(**values)))
    assert code_of(mode, 3, body) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("mode", WITH_SIGNATURES)
def test_chunks_that_change_places_are_refused(mode: PayloadMode) -> None:
    first, second, end = encode(mode, [b"a" * 8192, b"b" * 8192])
    assert code_of(mode, 16_384, second + first + end) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("mode", WITH_SIGNATURES)
def test_a_chunk_that_is_left_out_is_missed(mode: PayloadMode) -> None:
    first, _, end = encode(mode, [b"a" * 8192, b"b" * 8192])
    assert code_of(mode, 8192, first + end) == "SignatureDoesNotMatch"
    assert code_of(mode, 16_384, first + end) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("mode", WITH_SIGNATURES)
def test_a_chunk_that_comes_twice_is_refused(mode: PayloadMode) -> None:
    chunk, end = encode(mode, [b"a" * 8192])
    assert code_of(mode, 16_384, chunk + chunk + end) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("mode", WITH_SIGNATURES)
def test_the_last_chunk_is_signed_too(mode: PayloadMode) -> None:
    chunk, end = encode(mode, [b"abc"])
    forged = b"0;chunk-signature=" + b"0" * 64 + end[end.index(b"\r\n") :]
    assert code_of(mode, 3, chunk + forged) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("mode", WITH_SIGNATURES)
def test_a_chunk_without_a_signature_is_refused_where_they_are_signed(mode: PayloadMode) -> None:
    assert code_of(mode, 3, b"3\r\nabc\r\n0\r\n\r\n") == "IncompleteBody"
    unsigned = b"".join(encode(UNSIGNED_TRAILER, [b"abc"]))
    assert code_of(mode, 3, unsigned) == "IncompleteBody"


def test_a_signature_on_an_unsigned_chunk_is_refused() -> None:
    signed = b"".join(encode(SIGNED_TRAILER, [b"abc"]))
    assert code_of(UNSIGNED_TRAILER, 3, signed) == "IncompleteBody"


def test_a_changed_trailer_breaks_the_trailers_signature() -> None:
    body = b"".join(encode(SIGNED_TRAILER, [b"abc"]))
    spoiled = body.replace(b"AAAAAA==", b"BAAAAA==")
    assert code_of(SIGNED_TRAILER, 3, spoiled) == "SignatureDoesNotMatch"


def test_a_signed_trailer_needs_its_signature() -> None:
    body = b"".join(encode(SIGNED_TRAILER, [b"abc"]))
    cut = body[: body.index(b"x-amz-trailer-signature")] + b"\r\n"
    assert code_of(SIGNED_TRAILER, 3, cut) == "SignatureDoesNotMatch"


def test_nothing_follows_the_trailers_signature() -> None:
    decoder = ChunkedDecoder(SIGNED_TRAILER, SEED, 0, [CRC, "x-amz-meta-a"])
    end = ChunkedEncoder(SIGNED_TRAILER, SEED).finish({CRC: "AAAAAA=="})
    body = end[:-2] + b"x-amz-meta-a:1\r\n\r\n"
    assert outcome(decoder, [body])[0] == "MalformedTrailerError"


# Framing.


@pytest.mark.parametrize(
    "body",
    [
        b"3\nabc\r\n0\r\n\r\n",  # A bare line feed.
        b" 3\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"\r\nabc\r\n0\r\n\r\n",
        b"3;name=value\r\nabc\r\n0\r\n\r\n",  # A chunk extension.
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nabc0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"4\r\nabcd\r\n0\r\n\r\n",  # More than was declared.
        b"2\r\nab\r\n0\r\n\r\n",  # Less than was declared.
        b"ffffffffffffffff\r\nabc",
        b"0000000000000000000000003\r\nabc\r\n0\r\n\r\n",
        b"3" + b"0" * 5000,
        b"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\nmore",
        b"",
    ],
)
def test_a_badly_framed_body_is_incomplete(body: bytes) -> None:
    assert code_of(UNSIGNED_TRAILER, 3, body) == "IncompleteBody"


def test_a_chunk_header_without_an_end_is_not_waited_for() -> None:
    decoder = new_decoder(UNSIGNED_TRAILER, 10)
    for _ in range(CHUNK_HEADER_BYTES_MAX + 1):
        assert decoder.feed(b"0") == []
    with pytest.raises(S3Error, match="IncompleteBody"):
        decoder.feed(b"0")


def test_a_chunk_that_is_larger_than_what_was_declared_is_refused_at_its_header() -> None:
    decoder = new_decoder(UNSIGNED_TRAILER, 10)
    with pytest.raises(S3Error, match="IncompleteBody"):
        decoder.feed(b"b\r\n")


@pytest.mark.parametrize("mode", STREAMING)
def test_only_the_last_chunk_may_be_small(mode: PayloadMode) -> None:
    body = b"".join(encode(mode, [b"a" * 8192, b"b" * 8191, b"c"]))
    length = 8192 + 8191 + 1
    assert code_of(mode, length, body) == "InvalidChunkSizeError"
    with pytest.raises(S3Error) as caught:
        new_decoder(mode, length).feed(body)
    assert dict(caught.value.fields) == {"Chunk": "2", "BadChunkSize": "8191"}


def test_a_spent_decoder_takes_nothing_more() -> None:
    decoder = new_decoder(UNSIGNED_TRAILER, 3)
    with pytest.raises(S3Error):
        decoder.feed(b"zzz\r\n")
    with pytest.raises(S3Error):
        decoder.feed(b"".join(encode(UNSIGNED_TRAILER, [b"abc"])))
    with pytest.raises(S3Error):
        decoder.finish()


# Trailers.


def end_with(trailers: bytes) -> bytes:
    return b"3\r\nabc\r\n0\r\n" + trailers + b"\r\n"


@pytest.mark.parametrize(
    "trailers",
    [
        b"",  # It was announced.
        b"x-amz-checksum-crc32 AAAAAA==\r\n",
        b"x-amz-checksum-crc32:AAAAAA==\r\nx-amz-checksum-crc32:AAAAAA==\r\n",
        b"x-amz-checksum-sha1:AAAAAA==\r\n",
        b"x-amz-checksum-crc32:AAAAAA==\r\nx-amz-meta-a:1\r\n",
        b"x-amz-checksum-crc32:AAAAAA==\r\nx-amz-trailer-signature:00\r\n",
        b"x-amz-checksum-crc32:\xff\r\n",
        b"x-amz-checksum-crc32:AA\nAA\r\n",
        b"x-amz-checksum-crc32:" + b"A" * TRAILER_BYTES_MAX + b"\r\n",
        b"x-amz-checksum-crc32:" + b"A" * 100_000,
        b" folded\r\n",
    ],
)
def test_a_trailer_that_was_not_announced_or_is_none_is_refused(trailers: bytes) -> None:
    assert code_of(UNSIGNED_TRAILER, 3, end_with(trailers)) == "MalformedTrailerError"


def test_all_trailers_together_are_bounded() -> None:
    announced = [f"x-amz-meta-{number}" for number in range(3)]
    lines = [name.encode() + b":" + b"v" * (TRAILER_BYTES_MAX // 3) + b"\r\n" for name in announced]
    decoder = ChunkedDecoder(UNSIGNED_TRAILER, SEED, 3, announced)
    assert outcome(decoder, [end_with(b"".join(lines))])[0] == "MalformedTrailerError"


@pytest.mark.parametrize(
    "trailer",
    [
        b"x-amz-checksum-crc32:AAAAAA==\r\n",
        b"X-Amz-Checksum-CRC32: AAAAAA== \r\n",
        b"x-amz-checksum-crc32:AAAAAA==\n\r\n",  # As Amazon's documentation draws it.
    ],
)
def test_a_trailer_is_read_without_regard_to_case_and_space(trailer: bytes) -> None:
    decoder = new_decoder(UNSIGNED_TRAILER, 3)
    assert deliver(decoder, [end_with(trailer)]) == b"abc"
    assert decoder.trailers == {CRC: "AAAAAA=="}


def test_a_body_without_announced_trailers_has_none() -> None:
    body = b"".join(encode(SIGNED, [b"abc"]))[:-2] + b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    assert code_of(SIGNED, 3, body) == "MalformedTrailerError"
    decoder = ChunkedDecoder(UNSIGNED_TRAILER, SEED, 3, [])
    assert deliver(decoder, [end_with(b"")]) == b"abc"


# Plain bodies, and the choice between them.


def decoder_for(content_sha256: str, mode: PayloadMode, **headers: str) -> BodyDecoder:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return body_decoder(mode, content_sha256, SEED, named)


def test_a_plain_body_is_handed_through() -> None:
    decoder = decoder_for("UNSIGNED-PAYLOAD", PayloadMode.UNSIGNED, content_length="6")
    assert decoder.length == 6
    assert deliver(decoder, [b"abc", b"", b"def"]) == b"abcdef"


def test_a_signed_plain_body_must_have_its_hash() -> None:
    digest = hashlib.sha256(b"abc").hexdigest()
    for claimed in (digest, digest.upper()):
        decoder = decoder_for(claimed, PayloadMode.SIGNED, content_length="3")
        assert deliver(decoder, [b"a", b"bc"]) == b"abc"
    decoder = decoder_for(digest, PayloadMode.SIGNED, content_length="3")
    with pytest.raises(S3Error) as caught:
        deliver(decoder, [b"abd"])
    assert (caught.value.code, caught.value.http_status) == ("XAmzContentSHA256Mismatch", 400)
    assert caught.value.fields["ClientComputedContentSHA256"] == digest


@pytest.mark.parametrize("body", [b"", b"ab", b"abcd"])
def test_a_plain_body_of_another_length_is_incomplete(body: bytes) -> None:
    decoder = decoder_for("UNSIGNED-PAYLOAD", PayloadMode.UNSIGNED, content_length="3")
    assert outcome(decoder, [body])[0] == "IncompleteBody"


@pytest.mark.parametrize("mode", STREAMING)
def test_a_framed_body_takes_its_length_from_the_decoded_length(mode: PayloadMode) -> None:
    headers = {"content_length": "999", "x_amz_decoded_content_length": "3"}
    announced = {"x_amz_trailer": f" {CRC.upper()} "} if mode in WITH_TRAILERS else {}
    decoder = decoder_for(mode.value, mode, **headers, **announced)
    assert decoder.length == 3
    assert deliver(decoder, encode(mode, [b"abc"])) == b"abc"
    with pytest.raises(S3Error) as caught:
        decoder_for(mode.value, mode, content_length="3")
    assert (caught.value.code, caught.value.http_status) == ("MissingContentLength", 411)


@pytest.mark.parametrize(
    ("length", "code"),
    [
        ("-1", "InvalidArgument"),
        ("1e3", "InvalidArgument"),
        ("", "InvalidArgument"),
        ("٣", "InvalidArgument"),
        (str(PUT_BYTES_MAX + 1), "EntityTooLarge"),
        ("9" * 5000, "EntityTooLarge"),
    ],
)
def test_a_length_that_is_none_or_too_large_is_refused(length: str, code: str) -> None:
    for mode, name in (
        (PayloadMode.UNSIGNED, "content_length"),
        (SIGNED, "x_amz_decoded_content_length"),
    ):
        with pytest.raises(S3Error) as caught:
            decoder_for(mode.value, mode, **{name: length})
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("aws-chunked", ""),
        ("aws-chunked,gzip", "gzip"),
        ("gzip, AWS-Chunked", "gzip"),
        ("gzip, br", "gzip, br"),
        ("", ""),
    ],
)
def test_the_framing_is_no_encoding_of_the_stored_object(sent: str, stored: str) -> None:
    assert stored_content_encoding(sent) == stored


@pytest.mark.parametrize("length", [0, 1, 8192, 1024 * 1024, 1024 * 1024 + 1])
def test_what_botocore_frames_decodes(length: int) -> None:
    data = b"z" * length
    wrapper = AwsChunkedWrapper(BytesIO(data), checksum_cls=Crc32Checksum, checksum_name=CRC)
    decoder = new_decoder(UNSIGNED_TRAILER, length)
    assert deliver(decoder, list(wrapper)) == data
    assert decoder.trailers == {CRC: checksum_of("CRC32", data)}
