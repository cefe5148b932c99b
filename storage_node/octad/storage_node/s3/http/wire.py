"""Writes an answer to a connection, no faster than the client reads it.

Both ways into the node write through here.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

from octad.sharding.limits import KIB, MIB
from octad.storage_node.s3.protocol.answers import Answer, head_bytes

STALLED_S_MAX: Final = 60.0  # A body or an answer of which no byte moves.
_JOINED_BYTES_MAX: Final = 64 * KIB  # Up to here a copy is cheaper than a second system call.
_WRITE_BYTES_MAX: Final = MIB

_logger = logging.getLogger("octad.front_door")


class Wire(Protocol):
    """The writing end of a connection."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """None once the client is gone."""

    @property
    def writing_paused(self) -> bool:
        """Whether more unread bytes are buffered for the client than we want to hold."""

    async def drained(self) -> None:
        """Returns when it no longer does; raises ConnectionError where the client is gone."""


async def write_answer(
    wire: Wire, method: str, answer: Answer, *, request_id: str, date: str, connection: str
) -> None:
    """Write `answer` to a request by `method`; `connection` is a header line or "".

    Raises ConnectionError where the client is gone or does not read at all.
    """
    transport = open_transport(wire)
    head = head_bytes(answer, request_id=request_id, date=date, connection=connection)
    if method == "HEAD" or answer.length == 0:
        transport.write(head)
    elif answer.stream is None and len(answer.body) <= _JOINED_BYTES_MAX:
        transport.write(head + answer.body)  # One packet where it fits, one system call.
        answer.sent = answer.length
    else:
        transport.write(head)
        await _write_body(wire, answer, request_id)
    if wire.writing_paused:
        await _drain(wire)


def open_transport(wire: Wire) -> asyncio.Transport:
    """Raises ConnectionError where the client is gone."""
    transport = wire.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client is gone")
    return transport


async def _write_body(wire: Wire, answer: Answer, request_id: str) -> None:
    try:
        await _write(wire, answer, answer.body)
        if answer.stream is not None:
            async for data in answer.stream:
                await _write(wire, answer, data)
    except ConnectionError:
        raise
    except Exception as error:
        # Part of the object is out already: only a broken connection can still say that it is bad.
        _logger.error("%s: answer broken off: %r", request_id, error)
        _abort(wire)
        raise ConnectionResetError("answer broken off") from error


async def _write(wire: Wire, answer: Answer, data: bytes | memoryview) -> None:
    view = memoryview(data)
    for start in range(0, len(view), _WRITE_BYTES_MAX):
        piece = view[start : start + _WRITE_BYTES_MAX]
        open_transport(wire).write(piece)
        answer.sent += len(piece)
        if wire.writing_paused:
            await _drain(wire)


async def _drain(wire: Wire) -> None:
    try:
        async with asyncio.timeout(STALLED_S_MAX):
            await wire.drained()
    except TimeoutError:
        _abort(wire)  # A plain close would wait for the same client to read.
        raise ConnectionResetError("the client reads nothing") from None


def _abort(wire: Wire) -> None:
    """Drop the connection and its unsent bytes."""
    if wire.transport is not None:
        wire.transport.abort()
