"""One check: a connection to an address that was looked up once and may be connected to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from octad.client.cluster.service_records import InstanceCheck
from octad.client.runtime.address import Address, parse_address
from octad.coordinator.checks.check_rules import (
    Network,
    first_allowed,
    http_request,
    is_address,
    is_success,
)

_LINE_BYTES_MAX = 1024  # Of an answer nothing more is read.


async def probe(address: str, check: InstanceCheck, networks: Sequence[Network]) -> bool:
    """Whether the instance at `address` passes; in time, or it does not."""
    target = parse_address(address)
    port = target.port if check.port is None else check.port
    try:
        async with asyncio.timeout(check.timeout_s):
            found = [target.host] if is_address(target.host) else await _look_up(target.host)
            allowed = first_allowed(found, networks)
            if allowed is None:
                return False
            return await _connect(allowed, port, str(Address(target.host, port)), check)
    except (OSError, TimeoutError, ValueError):  # ValueError: a line without end.
        return False


async def _look_up(host: str) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


async def _connect(address: str, port: int, host: str, check: InstanceCheck) -> bool:
    reader, writer = await asyncio.open_connection(address, port, limit=_LINE_BYTES_MAX)
    try:
        if check.kind == "tcp":
            return True
        writer.write(http_request(host, check.path))
        return is_success(await reader.readline())
    finally:
        writer.transport.abort()
