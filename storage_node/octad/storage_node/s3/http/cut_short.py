"""Whether a body that waits in its socket is worth reading: not where its client has left it.

A client that goes away leaves up to some MiB in the socket of each of its connections. They are in
front of the news that nothing follows, which no one hears who does not read them.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import termios
from typing import Final

from octad.coordinator.tls.tls_transport import HELD_BYTES

_TCP_INFO: Final = getattr(socket, "TCP_INFO", None)  # Its first byte is the connection's state.
_CLOSE_WAIT: Final = 8  # The other side has closed its end.


def is_cut_short(transport: asyncio.Transport, left: int) -> bool:
    """Whether the client has ended, and fewer than `left` of its bytes are left to read."""
    if _TCP_INFO is None:
        return False
    connection = transport.get_extra_info("socket")
    if connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1)[0] != _CLOSE_WAIT:
        return False
    there = array.array("i", [0])
    fcntl.ioctl(connection.fileno(), termios.FIONREAD, there)
    return there[0] + int(transport.get_extra_info(HELD_BYTES, 0)) < left
