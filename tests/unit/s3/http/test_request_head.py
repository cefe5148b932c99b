"""Which heads we read ourselves, what they say, and which we leave to aiohttp."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.storage_node.s3.http.request_head import HEADERS_MAX, begins_a_head, read_head
from octad.storage_node.s3.protocol.requests.request_headers import header_values

TOKEN = st.text("abcXYZ019-_!#$%&'*+.^`|~", min_size=1, max_size=12)
VALUE = st.binary(max_size=20).map(
    lambda raw: bytes(byte for byte in raw if byte >= 32 and byte != 127).strip(b" \t")
)
ONCE = ["content-type", "content-length", "host", "user-agent", "etag", "server"]
OWN = {*ONCE, "content-location", "content-range", "max-forwards"}
OWN |= {"transfer-encoding", "connection", "upgrade", "expect"}


def head(*lines: bytes, start: bytes = b"GET /b/k HTTP/1.1", host: bytes = b"host: x") -> bytes:
    return b"\r\n".join([start, host, *lines, b"", b""])


@given(
    st.lists(st.tuples(TOKEN.filter(lambda name: name.lower() not in OWN), VALUE), max_size=8),
    st.sampled_from([b"", b" ", b"\t "]),
)
def test_headers_are_read_as_through_aiohttp(pairs: list[tuple[str, bytes]], pad: bytes) -> None:
    raw = [(name.encode(), value) for name, value in pairs]
    read = read_head(head(*(name + b":" + pad + value + pad for name, value in raw)))
    assert read is not None
    assert read.headers == header_values([(b"host", b"x"), *raw])


@given(st.text("abc/%20+~?=&;", max_size=30))
def test_the_target_is_what_was_sent(text: str) -> None:
    read = read_head(head(start=f"GET /{text} HTTP/1.1".encode()))
    assert read is not None
    assert (read.method, read.target, read.body_bytes) == ("GET", f"/{text}", 0)


@pytest.mark.parametrize(
    ("lines", "version", "keep_alive"),
    [
        ([], b"1.1", True),
        ([b"Connection: close"], b"1.1", False),
        ([b"Connection: x, Close"], b"1.1", False),
        ([b"Connection: keep-alive"], b"1.1", True),
        ([], b"1.0", False),
        ([b"connection: Keep-Alive"], b"1.0", True),
        ([b"connection: keep-alive", b"connection: close"], b"1.0", False),
    ],
)
@pytest.mark.parametrize("size", [b"0", b"7"])
def test_whether_the_connection_goes_on(
    lines: list[bytes], version: bytes, keep_alive: bool, size: bytes
) -> None:
    start = b"PUT /b/k HTTP/" + version
    read = read_head(head(*lines, b"content-length: " + size, start=start))
    assert read is not None
    assert read.keep_alive is keep_alive
    assert read.persistent is (version == b"1.1")
    assert read.body_bytes == int(size)


@pytest.mark.parametrize(
    "unusual",
    [
        b"\r\n\r\n",
        head(start=b"GET /b/k HTTP/2.0"),
        head(start=b"GET /b/k HTTP/0.9"),
        head(start=b"GET  /b/k"),
        head(start=b"GET /b/\xff HTTP/1.1"),
        head(b"transfer-encoding: chunked", start=b"PUT /b/k HTTP/1.1"),
        head(b"transfer-encoding: chunked", b"content-length: 4", start=b"PUT /b/k HTTP/1.1"),
        head(b"content-length: 4", b"content-length: 4", start=b"PUT /b/k HTTP/1.1"),
        head(b"content-length: +4", start=b"PUT /b/k HTTP/1.1"),
        head(b"content-length: 4,4", start=b"PUT /b/k HTTP/1.1"),
        head(b"content-length: 1" + b"0" * 16, start=b"PUT /b/k HTTP/1.1"),
        *(head(f"{name}: 1".encode(), f"{name.title()}: 1".encode()) for name in ONCE),
        head(host=b"name: value"),
        head(b"name : value"),
        head(b"name: value", b" folded"),
        head(b"name: a\x00b"),
        head(b"name: a\rb"),
        head(start=b"CONNECT /b/k HTTP/1.1"),
        head(start=b"GET * HTTP/1.1"),
        head(start=b"GET http://x/b/k HTTP/1.1"),
        head(*[b"a:"] * HEADERS_MAX),
        b"GET /b/k HTTP/1.1\nhost: x\n\r\n\r\n",
    ],
)
def test_what_is_unusual_is_left_to_aiohttp(unusual: bytes) -> None:
    assert read_head(unusual) is None


def test_nobody_has_to_follow_an_upgrade() -> None:
    read = read_head(head(b"upgrade: h2c", b"connection: upgrade", b"content-length: 4"))
    assert read is not None
    assert (read.keep_alive, read.body_bytes) == (True, 4)


def test_what_no_head_begins_with_need_not_be_waited_for() -> None:
    for begin in (b"G", b"GET /b", b"GET /b/k HTTP/1.1\r\nhost: x\r", b"PRI * HT"):
        assert begins_a_head(begin)
    for begin in (
        b"\x16\x03",
        b"data",
        b"GET /b/k HTTP/1.1\nhost: x\n\n",
        b"GET /\x00",
        b"GET /\r\n",
    ):
        assert not begins_a_head(begin)


def test_a_client_of_http_1_0_is_not_waited_for() -> None:
    read = read_head(
        head(b"expect: 100-continue", b"content-length: 4", start=b"PUT /b/k HTTP/1.0")
    )
    assert read is not None
    assert not read.expects_continue


def test_only_the_word_that_we_know_is_waited_for() -> None:
    for expected, waits in ((b"100-continue", True), (b"100-Continue", True), (b"200-ok", False)):
        read = read_head(head(b"expect: " + expected, b"content-length: 4"))
        assert read is not None
        assert read.expects_continue is waits
