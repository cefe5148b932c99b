"""One connection to one peer, as an asyncio protocol: handshake, then sealed frames both ways.

Bytes are received where they stay (BufferedProtocol), and everything sent within one loop tick is
written at once. Little is handed to the socket before the kernel takes it; what comes meanwhile
waits in two bounded lanes, so that a beat passes bulk. It notifies its owner when it opens, when a
frame is there, and, once, when it is lost. What a frame means, and whether to dial again, is the
owner's business.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from octad.client.runtime.steady_clock import now
from octad.sharding.ids import NodeId
from octad.sharding.limits import (
    KIB,
    MIB,
    RPC_PING_BEATS,
    RPC_SILENT_BEATS_MAX,
    RPC_SUSPECT_BEATS,
    RPC_UNSEEN_S_MAX,
    RPC_WRITE_HIGH_WATER_BYTES,
)
from octad.storage_node.rpc.frame_format import (
    ONE_WAY,
    Frame,
    FrameReader,
    FrameSealer,
    check_size,
)
from octad.storage_node.rpc.messages import Message, Ping, encode_message
from octad.storage_node.rpc.outgoing_frames import OutgoingFrames
from octad.storage_node.rpc.peer_handshake import Handshake, PeerSession
from octad.storage_node.rpc.peer_refusal import PeerRefused, Refusal
from octad.storage_node.rpc.peer_tls import PeerTls

RPC_HANDSHAKE_BEATS_MAX = 6  # From the first byte to the last proof.
RPC_BATCH_BYTES_MAX = 256 * KIB  # Written at once, even within a loop tick.
RPC_SOCKET_BYTES_MAX = 256 * KIB  # Handed on before the kernel takes it: out of our order.
RPC_TICK_BYTES_MAX = MIB  # Read from one peer before anything else has its turn.
RPC_RECEIVE_BYTES = MIB  # The socket's send buffer; the kernel doubles it for its own use.

Buffer = bytes | bytearray | memoryview
Body = Buffer | Sequence[Buffer]


class ConnectionOwner(Protocol):
    """Events of a connection. None of these may raise, nor may the receiver of frames."""

    def on_open(self, connection: PeerConnection, session: PeerSession) -> Callable[[Frame], None]:
        """Returns who takes the frames, from the first one on."""

    def on_lost(self, connection: PeerConnection, refused: PeerRefused | None) -> None:
        """Called once. `refused` is the reason, unless the owner or the network closed it."""


class PeerConnection(asyncio.BufferedProtocol):
    """Handshaking, then open, then lost; never back."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handshake: Handshake,
        owner: ConnectionOwner,
        tls: PeerTls | None,
    ) -> None:
        self._loop = loop
        self._owner = owner
        self._handshake: Handshake | None = handshake
        self._reader: FrameReader | None = None
        self._on_frame: Callable[[Frame], None] = _unexpected
        self._sealer: FrameSealer | None = None
        self._tls = tls
        self._waiting: OutgoingFrames | None = None  # Not empty only while congested.
        self._transport: asyncio.Transport | None = None
        self._batch: list[Buffer] = []  # To be written when this tick ends.
        self._batch_bytes = 0
        self._tick_bytes = 0  # Read without a rest.
        self._looked_at = now()
        self._heard = False  # Since the last beat.
        self._silent_beats = 0
        self._congested = False
        self._waiters: list[asyncio.Future[None]] = []
        self.node: NodeId | None = None  # Known, and proved, once the connection is open.
        self.host = self.address = "an unknown address"
        self.is_silent = False  # Asked whether it is there, and did not answer so far.
        self.is_lost = False
        self.refused: PeerRefused | None = None  # Why it was lost.
        self.lost = asyncio.Event()  # The socket is closed, too.
        self.writes = 0

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self._handshake is not None
        transport = self._transport = cast(asyncio.Transport, transport)  # By shape, with uvloop.
        transport.set_write_buffer_limits(high=RPC_SOCKET_BYTES_MAX)
        if name := transport.get_extra_info("peername"):
            self.host, self.address = name[0], f"{name[0]}:{name[1]}"
        configure_socket(transport.get_extra_info("socket"))
        if self.is_lost:
            transport.abort()
        elif self._handshake.is_dialer:
            if self._tls is None:
                self._write([self._handshake.start()])
            else:
                self._tls.start()
                transport.write(self._tls.outgoing())

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._space() if self._tls is None else self._tls.space()

    def buffer_updated(self, nbytes: int) -> None:
        self._heard = True
        self.is_silent = False
        if self._has_slept():
            self.drop()
        if self.is_lost:
            return  # Bytes read after we broke off.
        try:
            if self._tls is None:
                self._take(nbytes)
            else:
                self._take_sealed(self._tls, nbytes)
        except PeerRefused as refused:
            self.drop(refused)
        self._tick_bytes += nbytes
        if self._tick_bytes > RPC_TICK_BYTES_MAX and not self.is_lost:
            self._rest()

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
        self._flush()  # Sealed before what waits, so it goes before it.
        while self._waiting and not self._congested:
            if frames := self._waiting.take(RPC_BATCH_BYTES_MAX, now()):
                self._write(frames)
        if self.outgoing_bytes <= RPC_WRITE_HIGH_WATER_BYTES:
            self._wake_waiters()

    # What the owner calls.

    def send(self, kind: int, call_id: int, message: Message, body: Body = b"") -> bool:
        """Writes at the end of the tick, or in its turn; False when too much is waiting already.

        Only on an open connection. Raises ValueError when message or body is beyond the limits of a
        frame.
        """
        if not isinstance(body, bytes):
            body = _as_one_buffer(body)
        encoded = encode_message(message)
        if self._congested:
            check_size(encoded, body)
            assert self._waiting is not None
            return self._waiting.add(kind, call_id, encoded, body, message.urgent, now())
        assert self._sealer is not None
        head = self._sealer.seal(kind, call_id, encoded, body)
        if not self._batch:
            self._loop.call_soon(self._flush)
        self._batch.append(head)
        self._batch_bytes += len(head)
        if body:
            self._batch.append(body)
            self._batch_bytes += len(body)
        if self._batch_bytes > RPC_BATCH_BYTES_MAX:
            self._flush()
        return True

    @property
    def outgoing_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        if self._transport is None or self.is_lost:
            return 0
        waiting = 0 if self._waiting is None else self._waiting.bytes
        return waiting + self._batch_bytes + self._transport.get_write_buffer_size()

    async def drained(self) -> None:
        """Waits while more than the high-water mark is outgoing; returns at once when lost."""
        while self.outgoing_bytes > RPC_WRITE_HIGH_WATER_BYTES:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def beat(self) -> None:
        """Called every RPC_BEAT_S: on silence it pings, suspects, then breaks off.

        During the handshake received bytes do not count: a stranger has to finish it within that
        time.
        """
        if self._has_slept():
            self.drop()
        if self.is_lost or self._transport is None:
            return
        open_ = self._reader is not None
        self._silent_beats = 0 if open_ and self._heard else self._silent_beats + 1
        self._heard = False
        if self._silent_beats >= (RPC_SILENT_BEATS_MAX if open_ else RPC_HANDSHAKE_BEATS_MAX):
            self.drop(PeerRefused(Refusal.SILENT, "nothing was heard from it"))
        elif open_ and self._silent_beats >= RPC_PING_BEATS:
            self.is_silent = self._silent_beats >= RPC_SUSPECT_BEATS
            self.send(ONE_WAY, 0, Ping())

    def _has_slept(self) -> bool:
        """Whether this process did not run: then what lies in its sockets may be that old, too.

        The kernel keeps it for as long as that takes. Requests state their age as of when they were
        sent, and no one may take an old one for a young one (rule R16).
        """
        looked_at, self._looked_at = self._looked_at, now()
        return self._looked_at - looked_at > RPC_UNSEEN_S_MAX

    def drop(self, refused: PeerRefused | None = None) -> None:
        """Breaks off at once and notifies the owner; idempotent."""
        if self.is_lost:
            return
        self.is_lost = True
        self.refused = refused
        self._batch.clear()
        self._batch_bytes = 0
        if self._waiting is not None:
            self._waiting.clear()
        if self._transport is None:
            self.lost.set()
        elif refused is not None and refused.answer:
            if self._tls is not None and self._tls.is_established:
                self._write([refused.answer])
            else:
                self._transport.write(refused.answer)
            self._transport.close()
        else:
            self._transport.abort()
        self._wake_waiters()
        self._owner.on_lost(self, refused)

    def _rest(self) -> None:
        """Lets the rest of this tick happen: uvloop reads on and on while there is something."""
        assert self._transport is not None
        self._tick_bytes = 0
        self._transport.pause_reading()
        self._loop.call_soon(self._go_on_reading)

    def _go_on_reading(self) -> None:
        assert self._transport is not None
        if not self.is_lost:
            self._transport.resume_reading()

    def _space(self) -> memoryview:
        if self._reader is not None:
            return self._reader.space()
        assert self._handshake is not None
        return self._handshake.space()

    def _take(self, count: int) -> None:
        """`count` more bytes are in `_space()`."""
        if self._reader is None:
            self._on_handshake_bytes(count)
            return
        on_frame = self._on_frame
        for frame in self._reader.received(count):
            on_frame(frame)
            if self.is_lost:
                return

    def _take_sealed(self, tls: PeerTls, count: int) -> None:
        assert self._transport is not None
        was_established = tls.is_established
        tls.received(count)
        if not was_established:
            self._transport.write(tls.outgoing())
            if not tls.is_established:
                return
            assert self._handshake is not None
            if self._handshake.is_dialer:
                self._write([self._handshake.start()])
        while not self.is_lost and (opened := tls.read_into(self._space())):
            self._take(opened)

    def _on_handshake_bytes(self, count: int) -> None:
        assert self._handshake is not None
        if answer := self._handshake.received(count):
            self._write([answer])
        session = self._handshake.session
        if session is not None:
            self.node = session.node
            self._sealer = FrameSealer(session.outgoing)
            self._waiting = OutgoingFrames(self._sealer)
            self._reader = FrameReader(session.incoming)
            self._handshake = None
            self._on_frame = self._owner.on_open(self, session)

    def _flush(self) -> None:
        if not self._batch or self.is_lost:
            return
        batch, self._batch = self._batch, []
        self._batch_bytes = 0
        self._write(batch)

    def _write(self, buffers: list[Buffer]) -> None:
        assert self._transport is not None
        self.writes += 1
        if self._tls is None:
            self._transport.writelines(buffers)
        else:
            self._transport.writelines(self._tls.seal(buffers))

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def configure_socket(tcp: socket.socket) -> None:
    """No waiting for more to send; the kernel, too, looks for a peer that has vanished."""
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Bytes not on their way yet wait at the sender, where a beat can pass them, and few of them at
    # a receiver who is slow, where none can. The kernel would let that grow to 32 MiB.
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RPC_RECEIVE_BYTES)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, RPC_SOCKET_BYTES_MAX)


def _unexpected(frame: Frame) -> None:
    raise AssertionError(f"a frame of kind {frame.kind} before the connection was open")


def _as_one_buffer(body: Body) -> Buffer:
    if isinstance(body, memoryview):
        return body if body.itemsize == 1 and body.ndim == 1 else body.cast("B")
    if isinstance(body, (bytes, bytearray)):
        return body
    return _as_one_buffer(body[0]) if len(body) == 1 else b"".join(body)
