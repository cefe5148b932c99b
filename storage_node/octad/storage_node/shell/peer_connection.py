"""One connection to one peer, as an asyncio protocol: handshake, then sealed frames both ways.

Bytes are received where they stay (BufferedProtocol), and everything sent within one loop tick is
written at once. It tells its owner when it is open, when a frame is there, and, once, when it is
lost. What a frame means, and whether to dial again, is the owner's business.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from octad.sharding.ids import NodeId
from octad.sharding.limits import (
    RPC_BATCH_BYTES_MAX,
    RPC_OUTGOING_BYTES_MAX,
    RPC_PING_BEATS,
    RPC_SILENT_BEATS_MAX,
    RPC_WRITE_HIGH_WATER_BYTES,
)
from octad.storage_node.core.frame_format import ONE_WAY, Frame, FrameReader, FrameSealer
from octad.storage_node.core.messages import Message, Ping, encode_message
from octad.storage_node.core.peer_handshake import Handshake, Session
from octad.storage_node.core.peer_refusal import PeerRefused, Refusal

Buffer = bytes | bytearray | memoryview
Body = Buffer | Sequence[Buffer]


class ConnectionOwner(Protocol):
    """What a connection tells. None of these may raise, nor may who takes the frames."""

    def on_open(self, connection: PeerConnection, session: Session) -> Callable[[Frame], None]:
        """Gives who takes the frames, from the first one on."""

    def on_lost(self, connection: PeerConnection, refused: PeerRefused | None) -> None:
        """Once. `refused` says why, unless it was the owner's wish or the network's."""


class PeerConnection(asyncio.BufferedProtocol):
    """Handshaking, then open, then lost; never back."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, handshake: Handshake, owner: ConnectionOwner
    ) -> None:
        self._loop = loop
        self._owner = owner
        self._handshake: Handshake | None = handshake
        self._reader: FrameReader | None = None
        self._on_frame: Callable[[Frame], None] = _unexpected
        self._sealer: FrameSealer | None = None
        self._transport: asyncio.Transport | None = None
        self._batch: list[Buffer] = []  # To be written when this tick ends.
        self._batch_bytes = 0
        self._heard = False  # Since the last beat.
        self._silent_beats = 0
        self._backlog = 0  # Bytes that the kernel had not taken at the last beat.
        self._congested = False
        self._waiters: list[asyncio.Future[None]] = []
        self.node: NodeId | None = None  # Known, and proved, once the connection is open.
        self.host = self.address = "an unknown address"
        self.is_lost = False
        self.lost = asyncio.Event()  # The socket is closed, too.
        self.writes = 0

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self._handshake is not None
        transport = self._transport = cast(asyncio.Transport, transport)  # By shape, with uvloop.
        transport.set_write_buffer_limits(high=RPC_WRITE_HIGH_WATER_BYTES)
        if name := transport.get_extra_info("peername"):
            self.host, self.address = name[0], f"{name[0]}:{name[1]}"
        configure_socket(transport.get_extra_info("socket"))
        if self.is_lost:
            transport.abort()
        elif hello := self._handshake.start():
            transport.write(hello)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._reader is not None:
            return self._reader.space()
        assert self._handshake is not None
        return self._handshake.space()

    def buffer_updated(self, nbytes: int) -> None:
        self._heard = True
        if self.is_lost:
            return  # What was read after we broke off.
        try:
            if self._reader is None:
                self._on_handshake_bytes(nbytes)
                return
            on_frame = self._on_frame
            for frame in self._reader.received(nbytes):
                on_frame(frame)
                if self.is_lost:
                    return
        except PeerRefused as refused:
            self.drop(refused)

    def eof_received(self) -> bool:
        within = self._reader is None or self._reader.within_frame
        self.drop(PeerRefused(Refusal.CUT_SHORT, "it closed half-way") if within else None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop()
        self.lost.set()

    def pause_writing(self) -> None:
        self._congested = True

    def resume_writing(self) -> None:
        self._congested = False
        self._wake_waiters()

    # What the owner calls.

    def send(self, kind: int, call_id: int, message: Message, body: Body = b"") -> None:
        """Seals now, writes at the end of the tick. Only on an open connection.

        Raises ValueError when message or body is beyond the limits of a frame.
        """
        assert self._sealer is not None
        if not isinstance(body, bytes):
            body = _as_one_buffer(body)
        head = self._sealer.seal(kind, call_id, encode_message(message), body)
        if not self._batch:
            self._loop.call_soon(self._flush)
        self._batch.append(head)
        self._batch_bytes += len(head)
        if body:
            self._batch.append(body)
            self._batch_bytes += len(body)
            if self._batch_bytes > RPC_BATCH_BYTES_MAX:
                self._flush()

    @property
    def outgoing_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        if self._transport is None or self.is_lost:
            return 0
        return self._batch_bytes + self._transport.get_write_buffer_size()

    async def drained(self) -> None:
        """Waits while more than the high-water mark is outgoing; returns at once when lost."""
        while self._congested and not self.is_lost:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def beat(self) -> None:
        """Called every RPC_BEAT_S: notices silence, asks first, then lets go.

        A backlog that shrinks is a sign of life too, since a Ping waits at the end of it. During
        the handshake nothing is: a stranger has that long to finish, not to dribble.
        """
        if self.is_lost or self._transport is None:
            return
        backlog = self._transport.get_write_buffer_size()
        if self._reader is not None and (self._heard or backlog < self._backlog):
            self._silent_beats = 0
        else:
            self._silent_beats += 1
        self._heard = False
        self._backlog = backlog
        if self._silent_beats >= RPC_SILENT_BEATS_MAX:
            self.drop(PeerRefused(Refusal.SILENT, "nothing was heard from it"))
        elif self._silent_beats >= RPC_PING_BEATS and self._sealer is not None:
            self.send(ONE_WAY, 0, Ping())

    def drop(self, refused: PeerRefused | None = None) -> None:
        """Breaks off at once and tells the owner; calling it again does nothing."""
        if self.is_lost:
            return
        self.is_lost = True
        self._batch.clear()
        self._batch_bytes = 0
        if self._transport is None:
            self.lost.set()
        elif refused is not None and refused.answer:
            self._transport.write(refused.answer)
            self._transport.close()
        else:
            self._transport.abort()
        self._wake_waiters()
        self._owner.on_lost(self, refused)

    def _on_handshake_bytes(self, count: int) -> None:
        assert self._handshake is not None
        assert self._transport is not None
        if answer := self._handshake.received(count):
            self._transport.write(answer)
        session = self._handshake.session
        if session is not None:
            self.node = session.node
            self._sealer = FrameSealer(session.outgoing)
            self._reader = FrameReader(session.incoming)
            self._handshake = None
            self._on_frame = self._owner.on_open(self, session)

    def _flush(self) -> None:
        if not self._batch or self.is_lost:
            return
        assert self._transport is not None
        self.writes += 1
        self._transport.writelines(self._batch)
        self._batch = []
        self._batch_bytes = 0
        if self._congested and self._transport.get_write_buffer_size() > RPC_OUTGOING_BYTES_MAX:
            self.drop(PeerRefused(Refusal.OVERRUN, "too much is waiting to be sent to it"))

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def configure_socket(tcp: socket.socket) -> None:
    """No waiting for more to send; the kernel, too, looks for a peer that has vanished."""
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _unexpected(frame: Frame) -> None:
    raise AssertionError(f"a frame of kind {frame.kind} before the connection was open")


def _as_one_buffer(body: Body) -> Buffer:
    if isinstance(body, memoryview):
        return body if body.itemsize == 1 and body.ndim == 1 else body.cast("B")
    if isinstance(body, (bytes, bytearray)):
        return body
    return b"".join(body)
