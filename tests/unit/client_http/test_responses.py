"""Responses of HTTP/1.1: however their bytes are cut, they are read the same."""

from __future__ import annotations

import pytest
from tests.unit.client_http.scripted_transport import ScriptedTransport

from octad.client.http.blocking import drive
from octad.client.http.connection import Connection
from octad.client.http.transport import ConnectionFailed, NotHttp

PLAIN = b'HTTP/1.1 200 OK\r\nETag: "abc"\r\nContent-Length: 5\r\n\r\nhello'
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nx-late: 1\r\n\r\n"
)
TO_THE_END = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"
AFTER_OTHERS = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\na: b\r\n\r\n" + PLAIN


def read(*pieces: bytes, method: str = "GET") -> tuple[int, dict[str, str], bytes, Connection]:
    connection = Connection(ScriptedTransport(pieces))

    async def exchange() -> tuple[int, dict[str, str], bytes, Connection]:
        head = await connection.read_head(method, 1.0)
        body = b""
        while piece := await connection.read_piece(1.0):
            body += piece
        return head.status, head.headers, body, connection

    return drive(exchange())


@pytest.mark.parametrize("response", [PLAIN, CHUNKED, TO_THE_END, AFTER_OTHERS])
def test_whole_and_byte_by_byte_agree(response: bytes) -> None:
    status, headers, body, connection = read(response)
    assert (status, body) == (200, b"hello")
    single = [response[at : at + 1] for at in range(len(response))]
    byte_status, byte_headers, byte_body, byte_connection = read(*single)
    assert (byte_status, byte_headers, byte_body) == (status, headers, body)
    assert byte_connection.is_reusable == connection.is_reusable


def test_names_of_headers_are_in_lower_case() -> None:
    assert read(PLAIN)[1] == {"etag": '"abc"', "content-length": "5"}


def test_a_connection_serves_again_only_when_all_was_read_and_the_server_keeps_it() -> None:
    assert read(PLAIN)[3].is_reusable
    assert read(CHUNKED)[3].is_reusable
    assert not read(TO_THE_END)[3].is_reusable
    assert not read(PLAIN.replace(b"1.1 200", b"1.0 200"))[3].is_reusable
    unread = Connection(ScriptedTransport([PLAIN]))
    drive(unread.read_head("GET", 1.0))
    assert not unread.is_reusable


def test_an_answer_to_head_has_no_body_whatever_its_length_says() -> None:
    status, headers, body, connection = read(PLAIN[: -len(b"hello")], method="HEAD")
    assert (status, headers["content-length"], body) == (200, "5", b"")
    assert connection.is_reusable


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_some_statuses_have_no_body(status: bytes) -> None:
    head = b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n"
    assert read(head)[3].is_reusable


@pytest.mark.parametrize("cut", [PLAIN[:-1], CHUNKED[:-9]])
def test_a_body_that_breaks_off_is_an_error(cut: bytes) -> None:
    with pytest.raises(ConnectionFailed, match="ended"):
        read(cut)


def test_no_answer_at_all_is_an_error_that_may_have_been_done() -> None:
    with pytest.raises(ConnectionFailed, match="without an answer") as failure:
        read()
    assert failure.value.sent


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"\x15\x03\x03\x00\x02\x02\x46", "speaks TLS"),
        (b"220 mail.example.org ESMTP\r\n", "not HTTP"),
        (b"HTTP/1.1 abc\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP"),
        (PLAIN + b"and more", "longer than it said"),
    ],
)
def test_what_is_no_http_says_so(answer: bytes, said: str) -> None:
    with pytest.raises(NotHttp, match=said):
        read(answer)


def test_a_head_without_end_has_an_end() -> None:
    with pytest.raises(NotHttp):
        read(b"HTTP/1.1 200 OK\r\n", *[b"x: y\r\n" * 1000] * 20)
