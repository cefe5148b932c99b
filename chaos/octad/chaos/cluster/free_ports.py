"""Ports for the processes of a cluster under test."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Sequence

from octad.chaos.cluster.process import ProcessFailed

EPHEMERAL_PORTS = 32_768  # From here on the system uses ports for outgoing connections.


def free_port(offsets: Iterable[int] = range(1), hosts: Sequence[str] = ("127.0.0.1",)) -> int:
    """A port such that it plus each offset is free on all hosts, below the ephemeral ones."""
    wanted = list(offsets)
    for _ in range(200):
        first = random.randrange(20_000, EPHEMERAL_PORTS - max(wanted) - 1)
        if all(_is_free(host, first + offset) for host in hosts for offset in wanted):
            return first
    raise ProcessFailed(f"there are no free ports at {wanted} from one another on {hosts}")


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
