"""Amazon's published examples of Signature Version 4 for S3, signed and verified."""

from __future__ import annotations

import hashlib
from urllib.parse import parse_qsl

from tests.unit.s3.signatures.signed_request import CREDENTIALS, HOST, NOW, REGION, Request

from octad.client.s3.aws_chunked import ChunkedEncoder, body_decoder, encoded_length
from octad.client.s3.sigv4 import (
    EMPTY_SHA256,
    PayloadMode,
    SignatureSeed,
    presign_url,
    sign_request,
)

CHUNKED_BODY = b"a" * 66_560
CHUNK_BYTES = 65_536


def signature_in(request: Request) -> str:
    return request.headers["authorization"].rpartition("Signature=")[2]


def test_get_object_example() -> None:
    request = Request(headers={"host": HOST, "range": "bytes=0-9"}).signed(
        content_sha256=EMPTY_SHA256
    )
    assert request.headers["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )
    assert request.verified().access_key == CREDENTIALS.access_key


def test_put_object_example() -> None:
    request = Request(
        "PUT",
        "/test%24file.text",
        headers={
            "host": HOST,
            "date": "Fri, 24 May 2013 00:00:00 GMT",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
        },
    ).signed(content_sha256=hashlib.sha256(b"Welcome to Amazon S3.").hexdigest())
    assert signature_in(request) == (
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )
    assert request.verified().payload_mode is PayloadMode.SIGNED


def test_put_object_example_sent_with_a_bare_dollar_sign() -> None:
    request = Request(
        "PUT",
        "/test%24file.text",
        headers={"host": HOST, "x-amz-storage-class": "REDUCED_REDUNDANCY"},
    ).signed()
    request.path = "/test$file.text"
    assert request.verified().access_key == CREDENTIALS.access_key


def test_get_bucket_lifecycle_example() -> None:
    request = Request(path="/", query="lifecycle").signed(content_sha256=EMPTY_SHA256)
    assert signature_in(request) == (
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    )
    assert request.verified().access_key == CREDENTIALS.access_key


def test_list_objects_example() -> None:
    request = Request(path="/", query="max-keys=2&prefix=J").signed(content_sha256=EMPTY_SHA256)
    assert signature_in(request) == (
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    )
    request.query = "prefix=J&max-keys=2"
    assert request.verified().access_key == CREDENTIALS.access_key


def test_presigned_url_example() -> None:
    url = presign_url(
        f"https://{HOST}/test.txt",
        method="GET",
        credentials=CREDENTIALS,
        region=REGION,
        now=NOW,
        expires_s=86_400,
    )
    address, _, query = url.partition("?")
    assert address == f"https://{HOST}/test.txt"
    assert dict(parse_qsl(query, strict_parsing=True)) == {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request",
        "X-Amz-Date": "20130524T000000Z",
        "X-Amz-Expires": "86400",
        "X-Amz-SignedHeaders": "host",
        "X-Amz-Signature": "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
    }
    verified = Request(query=query).verified()
    assert verified.presigned
    assert verified.payload_mode is PayloadMode.UNSIGNED


def chunked_headers(**more: str) -> dict[str, str]:
    return {
        "host": "s3.amazonaws.com",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(len(CHUNKED_BODY)),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }


def sign_chunked(mode: PayloadMode, headers: dict[str, str]) -> tuple[Request, SignatureSeed]:
    added, seed = sign_request(
        method="PUT",
        path="/examplebucket/chunkObject.txt",
        query="",
        headers=headers,
        credentials=CREDENTIALS,
        region=REGION,
        now=NOW,
        content_sha256=mode.value,
    )
    return Request("PUT", "/examplebucket/chunkObject.txt", "", {**headers, **added}), seed


def encode(mode: PayloadMode, seed: SignatureSeed, trailers: dict[str, str]) -> bytes:
    encoder = ChunkedEncoder(mode, seed)
    chunks = (CHUNKED_BODY[:CHUNK_BYTES], CHUNKED_BODY[CHUNK_BYTES:])
    return b"".join(
        [*(b"".join(encoder.chunk(chunk)) for chunk in chunks), encoder.finish(trailers)]
    )


def decode(request: Request, body: bytes) -> tuple[bytes, dict[str, str]]:
    verified = request.verified()
    decoder = body_decoder(
        verified.payload_mode, verified.content_sha256, verified.seed, request.headers
    )
    decoded = b"".join(decoder.feed(body))
    decoder.finish()
    return decoded, dict(decoder.trailers)


def test_chunked_upload_example() -> None:
    mode = PayloadMode.STREAMING_SIGNED
    length = encoded_length(mode, len(CHUNKED_BODY), CHUNK_BYTES, {})
    assert length == 66_824
    request, seed = sign_chunked(mode, chunked_headers(content_length=str(length)))
    assert seed.signature == "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    body = encode(mode, seed, {})
    assert len(body) == length
    for signature in (
        b"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        b"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        b"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ):
        assert b";chunk-signature=" + signature + b"\r\n" in body
    assert decode(request, body) == (CHUNKED_BODY, {})


def test_chunked_upload_with_a_trailer_example() -> None:
    mode = PayloadMode.STREAMING_SIGNED_TRAILER
    request, seed = sign_chunked(mode, chunked_headers(x_amz_trailer="x-amz-checksum-crc32c"))
    assert seed.signature == "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
    trailers = {"x-amz-checksum-crc32c": "sOO8/Q=="}
    body = encode(mode, seed, trailers)
    for signature in (
        b"b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        b"1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        b"2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ):
        assert b";chunk-signature=" + signature + b"\r\n" in body
    assert body.endswith(
        b"\r\nx-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:"
        b"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
    )
    assert len(body) == encoded_length(
        mode, len(CHUNKED_BODY), CHUNK_BYTES, {name: len(value) for name, value in trailers.items()}
    )
    assert decode(request, body) == (CHUNKED_BODY, trailers)
