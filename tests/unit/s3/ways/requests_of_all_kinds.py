"""Requests that are good, odd or broken, for both ways of a front door: a corpus, and a grammar."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st
from tests.unit.s3.ways.twin_doors import BUCKET, SIGN_HERE

_HOST: Final = b"host: 127.0.0.1:9000\r\n"
_UPLOAD: Final = bytes(16).hex().encode()
_B: Final = BUCKET.encode()


def request(
    line: bytes, *headers: bytes, body: bytes = b"", sign: bool = True, version: bytes = b"1.1"
) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    head = line.replace(b"BUCKET", _B) + b" HTTP/" + version + b"\r\n" + _HOST + lines
    return head + (SIGN_HERE if sign else b"") + b"\r\n" + body


def put(line: bytes, body: bytes, *headers: bytes) -> bytes:
    return request(line, b"content-length: %d" % len(body), *headers, body=body)


_GET: Final = request(b"GET /BUCKET/key")
_CHUNKED: Final = b"transfer-encoding: chunked"
_TRAILED: Final = b"4\r\ndata\r\n0\r\nx-amz-checksum-crc32:rfPzYw==\r\n\r\n"

# Each by what it is; a fault that the fuzzers find comes in here.
CORPUS: Final = {
    "nothing": b"",
    "a request line alone": b"GET / HTTP/1.1\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a read": _GET,
    "a read by nobody": request(b"GET /BUCKET/key", sign=False),
    "a listing": request(b"GET /BUCKET?list-type=2&prefix=k"),
    "a write, then its read": put(b"PUT /BUCKET/new", b"hello") + request(b"GET /BUCKET/new"),
    "a write of HTTP/1.0": request(
        b"PUT /BUCKET/new", b"content-length: 2", body=b"hi", version=b"1.0"
    ),
    "a write cut short": put(b"PUT /BUCKET/new", b"hello")[:-2],
    "a write that waits": put(b"PUT /BUCKET/new", b"hello", b"expect: 100-continue"),
    "a write in chunks": request(b"PUT /BUCKET/new", _CHUNKED, body=b"2\r\nhi\r\n0\r\n\r\n") + _GET,
    "a write of aws-chunked": put(
        b"PUT /BUCKET/new",
        _TRAILED,
        b"x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        b"x-amz-decoded-content-length: 4",
        b"x-amz-trailer: x-amz-checksum-crc32",
    ),
    "a part": put(b"PUT /BUCKET/key?partNumber=1&uploadId=" + _UPLOAD, b"part"),
    "a deletion of many": put(
        b"POST /BUCKET?delete",
        b"<Delete><Object><Key>key</Key></Object></Delete>",
        b"content-md5: nmBCQjy8Ax9M5oYPHuL8nA==",
    ),
    "a form": request(
        b"POST /BUCKET",
        b"content-type: multipart/form-data; boundary=b",
        b"content-length: 72",
        body=b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\nk\r\n--b--\r\n',
        sign=False,
    ),
    "an append": put(b"PUT /BUCKET/key", b"more", b"x-amz-write-offset-bytes: 4"),
    "more headers than are allowed": request(b"GET /BUCKET/key", *[b"a:"] * 200, sign=False),
    "two lengths": request(b"PUT /BUCKET/new", b"content-length: 2", b"content-length: 2") + b"hi",
    "length and chunks": request(
        b"PUT /BUCKET/new", b"content-length: 4", _CHUNKED, body=b"0\r\n\r\n"
    ),
    "a folded header": request(b"GET /BUCKET/key", b"x-a: 1\r\n 2", sign=False),
    "lines that end in LF": b"GET /public-bucket/key HTTP/1.1\nhost: h\n\n",
    "an upgrade": request(b"GET /BUCKET/key", b"connection: upgrade", b"upgrade: websocket") + _GET,
    "an upgrade of Java's": put(
        b"PUT /BUCKET/new", b"hello", b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c"
    )
    + _GET,
    "a target with its host": request(b"GET http://127.0.0.1:9000/BUCKET/key"),
    "no host": b"GET /public-bucket/key HTTP/1.1\r\n\r\n",
}

LINES: Final = (
    b"GET /BUCKET/key",
    b"HEAD /BUCKET/key",
    b"PUT /BUCKET/new",
    b"DELETE /BUCKET/key",
    b"GET /BUCKET?list-type=2",
    b"GET /",
    b"POST /BUCKET?delete",
    b"PUT /BUCKET/a%20b+c%2F%c3%a9//..",
    b"PUT /BUCKET/key?tagging",
    b"OPTIONS /BUCKET/key",
    b"GET http://h/BUCKET/key",
    b"GET /BUCKET/key#f?x",
    b"GET /BUCKET/k\xc3\xa9y",
    b"GET //BUCKET/key",
    b"GET *",
    b"get /BUCKET/key",
    b"CONNECT h:1",
    b"CONNECT /BUCKET/key",
    b"BREW /BUCKET/key",
    b"GET  /BUCKET/key",
    b"GET\t/BUCKET/key",
    b"GET /BUCKET/\x00",
    b"",
)
HEADERS: Final = (
    b"range: bytes=1-2",
    b"expect: 100-continue",
    b"expect: other",
    b"connection: close",
    b"connection: keep-alive, x",
    b"connection: Upgrade",
    b"upgrade: h2c",
    b"if-none-match: *",
    b"x-amz-meta-a: \xc3\xa9",
    b"x-amz-meta-a:  b\t ",
    b"x-amz-meta-a:",
    b"X-AMZ-META-B: 1, 2",
    b"x-amz-meta-\xff: 1",
    b"x-amz-acl: public-read",
    b"origin: http://a",
    b"content-type: text/plain",
    b"content-encoding: gzip",
    b"content-encoding: aws-chunked,gzip",
    b"transfer-encoding: chunked",
    b"transfer-encoding: gzip, chunked",
    b"transfer-encoding: identity",
    b"Transfer-Encoding : chunked",
    b"content-length: 0",
    b"content-length: 4",
    b"content-length: 00004",
    b"content-length: +4",
    b"content-length: -1",
    b"content-length: 4, 4",
    b"content-length: 99999999999999999999",
    b"content-length:",
    b"host: other",
    b"cookie: a=b; c",
    b"trailer: x",
    b"te: trailers",
    b" folded",
    b"no colon",
    b": no name",
    b"na me: 1",
    b"a: b\x00c",
    b"a: b\rc",
    b"a: b\x7f\x01",
    b"a: " + b"x" * 8100,
    b"x-amz-content-sha256: UNSIGNED-PAYLOAD",
    b"x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    b"x-amz-decoded-content-length: 4",
    b"x-amz-copy-source: public-bucket/key",
)
BODIES: Final = (
    b"",
    b"data",
    b"data\r\n\r\n",
    b"4\r\ndata\r\n0\r\n\r\n",
    b"4;a=b\r\ndata\r\n0\r\nx: y\r\n\r\n",
    b"4\r\ndata",
    b"0\r\n\r\n",
    b"-1\r\n",
    b"ffffffffffffffffff\r\ndata",
    b"x" * 9000,
    _TRAILED,
)
_VERSIONS = st.sampled_from([b"1.1"] * 12 + [b"1.0", b"2.0", b"0.9", b"1.2", b"1.1 "])


@st.composite
def _requests(draw: st.DrawFn) -> bytes:
    headers, body = (
        draw(st.lists(st.sampled_from(HEADERS), max_size=4)),
        draw(st.sampled_from(BODIES)),
    )
    if draw(st.booleans()):
        headers.append(b"content-length: %d" % len(body))
    line, version = draw(st.sampled_from(LINES)), draw(_VERSIONS)
    sent = request(line, *headers, body=body, sign=draw(st.booleans()), version=version)
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):  # Something gets broken.
        at = draw(st.integers(0, max(0, len(sent) - 1)))
        sent = sent[:at] + draw(st.binary(max_size=2)) + sent[at + draw(st.integers(0, 2)) :]
    return sent


REQUESTS: Final = st.lists(_requests(), min_size=1, max_size=3).map(b"".join)
