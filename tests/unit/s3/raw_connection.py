"""One connection to a front door, byte by byte."""

from __future__ import annotations

import os
import socket
import time

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
