"""Many uploads at once to one node, each sent as fast as the node takes it, and what that costs."""

from __future__ import annotations

import os
import resource
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from octad.sharding.limits import MIB

_SEND_BYTES = 256 * 1024
_LOOK_S = 0.2


def resident_mib(pid: int) -> int:
    """Of one process."""
    pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    return pages * resource.getpagesize() // MIB


@dataclass(slots=True)
class Outcome:
    """What the clients saw, and how large the processes were meanwhile."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    resident_mib_max: dict[int, int] = field(default_factory=dict)  # By process.

    def look(self, pids: Sequence[int]) -> None:
        for pid in pids:
            self.resident_mib_max[pid] = max(self.resident_mib_max.get(pid, 0), resident_mib(pid))


@dataclass(slots=True)
class _Upload:
    connection: socket.socket
    head: bytes
    left: int  # Bytes of the body not sent yet.
    answer: bytes = b""


def upload_all(
    urls: Sequence[str], size: int, pids: Sequence[int], *, seconds_max: float
) -> Outcome:
    """PUT `size` bytes to each of `urls` at once; whoever has no answer by then counts as 0."""
    body = memoryview(os.urandom(_SEND_BYTES))
    outcome = Outcome()
    begun, looked = time.monotonic(), 0.0
    with selectors.DefaultSelector() as selector:
        for url in urls:
            upload = _Upload(*begin_upload(url, size), size)
            upload.connection.setblocking(False)
            both = selectors.EVENT_READ | selectors.EVENT_WRITE
            selector.register(upload.connection, both, upload)
        while selector.get_map() and time.monotonic() - begun < seconds_max:
            for key, events in selector.select(_LOOK_S):
                _go_on(selector, key.data, events, body, outcome)
            if time.monotonic() - looked > _LOOK_S:
                looked = time.monotonic()
                outcome.look(pids)
        for key in list(selector.get_map().values()):
            outcome.statuses[0] += 1
            key.data.connection.close()
    outcome.seconds = time.monotonic() - begun
    return outcome


def begin_upload(url: str, size: int) -> tuple[socket.socket, bytes]:
    """A connection, and the head of a PUT of `size` bytes to a signed URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = socket.create_connection((parts.hostname, parts.port), timeout=20)
    head = (
        f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
        f"content-length: {size}\r\n\r\n"
    )
    return connection, head.encode()


def _go_on(
    selector: selectors.BaseSelector,
    upload: _Upload,
    events: int,
    body: memoryview,
    outcome: Outcome,
) -> None:
    connection = upload.connection
    try:
        if events & selectors.EVENT_READ:
            status = int(connection.recv(4096)[9:12] or b"0")
            outcome.statuses[status] += 1
            selector.unregister(connection)
            connection.close()
        elif upload.head:
            upload.head = upload.head[connection.send(upload.head) :]
        elif upload.left:
            upload.left -= connection.send(body[: upload.left])
        else:
            selector.modify(connection, selectors.EVENT_READ, upload)
    except BlockingIOError:
        pass
    except ConnectionError:
        outcome.statuses[0] += 1
        selector.unregister(connection)
        connection.close()


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Fails where it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
