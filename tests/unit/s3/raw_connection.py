"""One connection to a front door, byte by byte."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.unit.s3.front_door_site import ALICE, FrontDoorSite

from octad.client.s3.sigv4 import Credentials, sign_request
from octad.sharding.limits import MIB


def signed_head(
    site: FrontDoorSite,
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    credentials: Credentials = ALICE,
    version: str = "1.1",
) -> bytes:
    """A request up to its body, which is not signed."""
    sent = {"host": site.host, **(headers or {})}
    added, _ = sign_request(
        method=method,
        path=path,
        query="",
        headers=sent,
        credentials=credentials,
        region=site.region,
        now=time.time(),
    )
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**sent, **added}.items())
    return f"{method} {path} HTTP/{version}\r\n{lines}\r\n".encode()


class Wire:
    """One connection, byte by byte."""

    def __init__(self, site: FrontDoorSite) -> None:
        self._site = site
        self.socket = site.connect()
        self._received = bytearray()

    def send_head(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        credentials: Credentials = ALICE,
        version: str = "1.1",
    ) -> None:
        self.socket.sendall(signed_head(self._site, method, path, headers, credentials, version))

    def head(self) -> bytes:
        """The next status line and headers."""
        while b"\r\n\r\n" not in self._received:
            data = self.socket.recv(65536)
            assert data, f"closed after {self._received!r}"
            self._received += data
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        return bytes(head)

    def body(self, length: int) -> bytes:
        while len(self._received) < length:
            self._received += self.socket.recv(MIB)
        body = bytes(self._received[:length])
        del self._received[:length]
        return body

    def send_nothing_more(self) -> None:
        """The answers are still read; inside TLS, too, which Python would forget with its own."""
        with socket.socket(fileno=os.dup(self.socket.fileno())) as same:
            same.shutdown(socket.SHUT_WR)

    def is_closed(self) -> bool:
        """Whether the server closes the connection now."""
        return not self.socket.recv(65536)


@dataclass(frozen=True)
class Sent:
    """A request with everything in it that is sent."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def wire(self) -> bytes:
        target = f"{self.path}?{self.query}" if self.query else self.path
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        return f"{self.method} {target} HTTP/1.1\r\n{lines}\r\n".encode() + self.body


_SENT_AT_ONCE = 16


def answers(site: FrontDoorSite, requests: Sequence[Sent]) -> Iterator[tuple[int, bytes]]:
    """Status and body of each answer; some requests ahead on a connection, until it is closed."""
    done = 0
    while done < len(requests):
        wire = Wire(site)
        with wire.socket:
            open_still = True
            while open_still and done < len(requests):
                ahead = requests[done : done + _SENT_AT_ONCE]
                wire.socket.sendall(b"".join(each.wire for each in ahead))
                for each in ahead:
                    head = wire.head().decode("latin-1").lower()
                    _, _, after = head.partition("content-length: ")
                    length = int(after.split("\r\n")[0]) if after else 0
                    yield int(head.split()[1]), wire.body(0 if each.method == "HEAD" else length)
                    done += 1
                    open_still = "connection: close" not in head
                    if not open_still:
                        break
