"""Proxies on the way out: which requests go by one, and what both faces do there."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from octad import AsyncClient, CannotReach, Client, ConfigurationError
from octad.client.http.proxy import proxy_of
from octad.client.http.transport import Address, Proxy

S3 = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 5\r\n\r\nhello'
FAR = "far.example.com"


@pytest.mark.parametrize(
    ("url", "variables", "expected"),
    [
        ("http://far.example.com", {"http_proxy": "http://p:3128"}, Address("p", 3128)),
        ("http://far.example.com", {"http_proxy": "p:3128"}, Address("p", 3128)),
        ("http://far.example.com", {"http_proxy": "http://p"}, Address("p", 80)),
        ("https://far.example.com", {"http_proxy": "http://p:3128"}, None),
        ("https://far.example.com", {"https_proxy": "http://p:3128"}, Address("p", 3128)),
        ("http://localhost", {"http_proxy": "http://p"}, None),
        ("http://127.0.0.9", {"http_proxy": "http://p"}, None),
        ("http://far.example.com", {"http_proxy": "http://p", "no_proxy": "*"}, None),
        ("http://far.example.com", {"http_proxy": "http://p", "no_proxy": "a, .example.com"}, None),
        ("http://far.example.com", {"http_proxy": "http://p", "no_proxy": "example.com"}, None),
        ("http://far.example.com", {"http_proxy": "p", "no_proxy": "ample.com"}, Address("p", 80)),
        (
            "http://far.example.com",
            {"http_proxy": "p", "no_proxy": "example.com:1"},
            Address("p", 80),
        ),
    ],
)
def test_the_environment_says_what_goes_by_a_proxy(
    url: str, variables: dict[str, str], expected: Address | None
) -> None:
    scheme, _, host = url.partition("://")
    address = Address(host, 443 if scheme == "https" else 80, scheme == "https")
    found = proxy_of(address, variables)
    assert found == (None if expected is None else Proxy(expected))


def test_a_proxy_that_is_none_is_named_when_the_client_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for wrong in ("socks5://p:1080", "http://", "http://p:port"):
        monkeypatch.setenv("HTTP_PROXY", wrong)
        with pytest.raises(ConfigurationError, match="http://host:port"):
            Client(f"http://{FAR}", "key", "secret")


@contextmanager
def proxy(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Says `answer` to each head, which it keeps."""
    heads: list[bytes] = []
    connections: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += connection.recv(65536)
                heads.append(head)
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], heads
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
        for connection in connections:
            connection.close()


def got(endpoint: str, face: str) -> bytes:
    if face == "sync":
        with Client(endpoint, "key", "secret", deadline=5.0) as client:
            return client.bucket("photos").get("k").data

    async def awaited() -> bytes:
        async with AsyncClient(endpoint, "key", "secret", deadline=5.0) as client:
            return (await client.bucket("photos").get("k")).data

    return asyncio.run(awaited())


@pytest.mark.parametrize("face", ["sync", "async"])
def test_plain_http_is_asked_for_with_its_whole_url(
    face: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(S3) as (port, heads):
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@127.0.0.1:{port}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        assert got(f"http://{FAR}:9000", face) == b"hello"
    assert heads[0].startswith(b"GET http://far.example.com:9000/photos/k HTTP/1.1\r\nhost: far.")
    assert b"\r\nproxy-authorization: Basic bWU6cEBzcw==\r\n" in heads[0]
    assert b"proxy-authorization" not in heads[0].partition(b"SignedHeaders=")[2].partition(b",")[0]


@pytest.mark.parametrize("face", ["sync", "async"])
def test_a_proxy_that_opens_no_tunnel_says_why(face: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy(b"HTTP/1.1 407 Who are you\r\n\r\n") as (port, heads):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(CannotReach, match=r"opens no way to far\.example.*Who are you"):
            got(f"https://{FAR}", face)
    assert heads[0].startswith(b"CONNECT far.example.com:443 HTTP/1.1\r\n")
