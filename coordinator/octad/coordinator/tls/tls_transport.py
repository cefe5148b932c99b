"""TLS of a client's connection: a transport to the connection's protocol, a protocol to its socket.

    SILENT ──a TLS hello──> SHAKING ──> OPEN ──close──> CLOSED
       └──anything else: an answer that names the protocol──> DEAF

The protocol behind it is made when a client connects, so one rule counts all connections, lets go
of idle ones and ends silent ones, with TLS and without. It hears the same as from a plain socket;
the end of what a client sends included, after which it is still answered (the event loop's own TLS
hangs up there, and takes no count of who is in a handshake).

A stranger's use is bounded: a number in a handshake at once, the oldest of which makes room
for a newcomer; a time and a number of bytes for each.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, cast

from octad.client.runtime.logs.seldom_log import SeldomLog
from octad.client.runtime.wrong_protocol import TLS_BEGINS, TLS_IS_SPOKEN
from octad.coordinator.tls.certificate import Certificate
from octad.sharding.limits import KIB

HANDSHAKE_S_MAX: Final = 10.0
HANDSHAKES_MAX: Final = 1024
HANDSHAKE_BYTES_MAX: Final = 64 * KIB
DEAF_S_MAX: Final = 5.0  # Else a client that keeps sending could not read the answer.
SEALED_BYTES: Final = 64 * KIB  # Bytes read from the socket at a time.
# What goes through OpenSSL's buffers at a time, which never give back what they once took. It is
# also the most that a record holds.
PIECE_BYTES: Final = 16 * KIB
# Of answers of TLS itself, as to a client that asks for new keys, which may ask for ever.
UNSENT_BYTES_MAX: Final = 16 * KIB

HELD_BYTES: Final = "held_bytes"  # A transport's name for bytes already read from the socket.

_PLAIN_MET: Final = "somebody tried plain HTTP (http://) on the %s, which speaks TLS (https://)"
_FAILED: Final = "somebody's TLS handshake with the %s failed: %s"
_NOTHING: Final = memoryview(b"")

_logger = logging.getLogger(__name__)


class _State(Enum):
    SILENT = auto()
    SHAKING = auto()
    OPEN = auto()
    DEAF = auto()  # Nothing more is written, and received bytes are dropped.
    CLOSED = auto()


@dataclass(slots=True)
class TlsListener:
    """Shared by the connections of one listener; `new` makes the protocol behind each of them.

    `port` is its name in the log; `refusal` returns the answer to bytes that are not TLS, from the
    first of them and what is wrong with it.
    """

    certificate: Certificate
    new: Callable[[], asyncio.BaseProtocol]
    port: str
    refusal: Callable[[bytes, str], bytes]
    # Not yet OPEN, oldest first.
    shaking: dict[TlsTransport, None] = field(default_factory=dict)
    space: memoryview = field(default_factory=lambda: memoryview(bytearray(SEALED_BYTES)))
    tells_of_plain: SeldomLog = field(default_factory=lambda: SeldomLog(_logger))
    tells_of_failures: SeldomLog = field(default_factory=lambda: SeldomLog(_logger))

    def __call__(self) -> TlsTransport:
        return TlsTransport(self, self.new())


class TlsTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """See the module."""

    _socket: asyncio.Transport  # From `connection_made` on.
    _incoming: ssl.MemoryBIO  # All three once there was a hello.
    _outgoing: ssl.MemoryBIO
    _tls: ssl.SSLObject

    __slots__ = (
        "_incoming",
        "_is_last",
        "_is_told",
        "_listener",
        "_outgoing",
        "_paused",
        "_protocol",
        "_reads_into",
        "_sealed",
        "_shaken_bytes",
        "_socket",
        "_state",
        "_timer",
        "_tls",
    )

    def __init__(self, listener: TlsListener, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self._listener = listener
        self._protocol = protocol
        self._reads_into = isinstance(protocol, asyncio.BufferedProtocol)
        self._state = _State.SILENT
        self._timer: asyncio.TimerHandle | None = None
        self._shaken_bytes = 0
        self._sealed = _NOTHING  # Read from the socket, and not by OpenSSL yet.
        self._paused = False  # The protocol wants nothing more for now.
        self._is_last = False  # Nothing more arrives from the socket,
        self._is_told = False  # or inside TLS, and the protocol knows.

    # -- events of the socket --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._socket = cast(asyncio.Transport, transport)
        shaking = self._listener.shaking
        if len(shaking) >= HANDSHAKES_MAX:
            next(iter(shaking)).abort()
        shaking[self] = None
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_S_MAX, self.abort)
        self._protocol.connection_made(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """The shared buffer for the next bytes: they are consumed before others arrive."""
        return self._listener.space

    def buffer_updated(self, nbytes: int) -> None:
        """They are there."""
        if self._state is _State.SILENT:
            self._begin(nbytes)
        if self._state not in (_State.SHAKING, _State.OPEN):
            return
        self._sealed = self._listener.space[:nbytes]
        if self._state is _State.SHAKING:
            self._shake()
        if self._state is _State.OPEN:
            self._open()
        if self._sealed:
            self._sealed = memoryview(bytes(self._sealed))  # The space is everybody's.

    def eof_received(self) -> bool:
        """The client sends nothing more, but may still read its answer."""
        self._is_last = True
        if self._state is not _State.OPEN:
            return False
        self._open()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._end_as(_State.CLOSED)
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._protocol.resume_writing()

    # -- from a hello to an open connection -----------------------------------------------------

    def _begin(self, nbytes: int) -> None:
        begin = bytes(self._listener.space[: min(nbytes, KIB)])
        if not begin.startswith(TLS_BEGINS):
            self._listener.tells_of_plain.warning(_PLAIN_MET, self._listener.port)
            self._socket.write(self._listener.refusal(begin, TLS_IS_SPOKEN))
            self._socket.write_eof()
            self._end_as(_State.DEAF)
            self._timer = asyncio.get_running_loop().call_later(DEAF_S_MAX, self.abort)
            return
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = self._listener.certificate.context
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._state = _State.SHAKING

    def _shake(self) -> None:
        while self._sealed and self._state is _State.SHAKING:
            piece, self._sealed = self._sealed[:PIECE_BYTES], self._sealed[PIECE_BYTES:]
            self._shaken_bytes += len(piece)
            if self._shaken_bytes > HANDSHAKE_BYTES_MAX:
                self.abort()
                return
            self._incoming.write(piece)
            try:
                self._tls.do_handshake()
                self._end_as(_State.OPEN)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                why = (error.reason or str(error)).replace("_", " ").lower()
                self._listener.tells_of_failures.warning(_FAILED, self._listener.port, why)
                self._end_as(_State.CLOSED)
            self._flush()  # Also the alert that says why.
        if self._state is _State.CLOSED:
            self._socket.close()

    def _end_as(self, state: _State) -> None:
        """The connection has left the handshake."""
        self._state = state
        self._listener.shaking.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- what the client sends ------------------------------------------------------------------

    def _open(self) -> None:
        """Pass received data to the protocol until it pauses; in pieces, see PIECE_BYTES."""
        try:
            while not self._paused and not self._is_told and self._state is _State.OPEN:
                if self._incoming.pending or self._tls.pending():
                    with suppress(ssl.SSLWantReadError):  # The rest of a record is to come.
                        self._deliver()
                    if self._outgoing.pending:
                        self._reply()
                elif self._sealed:
                    self._incoming.write(self._sealed[:PIECE_BYTES])
                    self._sealed = self._sealed[PIECE_BYTES:]
                elif self._is_last:
                    self._tell_end()
                else:
                    return
        except ssl.SSLError:
            self.abort()  # It was altered on its way, or the client does not speak TLS.

    def _deliver(self) -> None:
        if self._reads_into:
            protocol = cast(asyncio.BufferedProtocol, self._protocol)
            space = cast(memoryview, protocol.get_buffer(-1))
            count = cast(int, self._tls.read(len(space), space))  # A count, given where to put it.
            if count:
                protocol.buffer_updated(count)
        else:
            data = self._tls.read(PIECE_BYTES)
            count = len(data)
            if count:
                cast(asyncio.Protocol, self._protocol).data_received(data)
        if not count:
            self._tell_end()

    def _tell_end(self) -> None:
        self._is_told = True
        if not cast(asyncio.Protocol, self._protocol).eof_received():
            self.close()

    def _go_on(self) -> None:
        """Reading was resumed while something had come already."""
        if self._paused or self._state is not _State.OPEN:
            return
        self._open()
        if not self._paused and not self._is_last and not self.is_closing():
            self._socket.resume_reading()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._socket.write(self._outgoing.read())

    def _reply(self) -> None:
        """Send what OpenSSL says by itself; who asks it ever more and reads nothing is let go."""
        if not self._socket.get_write_buffer_size():
            self._flush()
        elif self._outgoing.pending > UNSENT_BYTES_MAX:
            self.abort()

    def _say_goodbye(self) -> None:
        with suppress(ssl.SSLError):  # The client's close_notify: not waited for.
            self._tls.unwrap()
        self._flush()

    # -- the transport of the protocol ----------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of the socket; `HELD_BYTES`: the most bytes of the client held here, unread."""
        if name != HELD_BYTES:
            return self._socket.get_extra_info(name, default)
        return len(self._sealed) + self._incoming.pending + self._tls.pending() + PIECE_BYTES

    def pause_reading(self) -> None:
        """The protocol wants nothing more for now."""
        self._paused = True
        if not self._is_last:
            self._socket.pause_reading()

    def resume_reading(self) -> None:
        """Resume; bytes held here come first, and not from within this call."""
        self._paused = False
        if self._sealed or self._is_last or self._incoming.pending or self._tls.pending():
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            self._socket.resume_reading()

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._state is _State.CLOSED or self._socket.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Seal and send it."""
        if self._state is not _State.OPEN:
            return
        if len(data) <= PIECE_BYTES:
            self._tls.write(data)
            self._socket.write(self._outgoing.read())
            return
        view = memoryview(data)
        sealed = []
        for start in range(0, len(view), PIECE_BYTES):
            self._tls.write(view[start : start + PIECE_BYTES])
            sealed.append(self._outgoing.read())
        self._socket.writelines(sealed)

    def write_eof(self) -> None:
        """Nothing more is written; bytes still received are dropped."""
        if self._state is _State.OPEN:
            self._say_goodbye()
            self._socket.write_eof()
            self._end_as(_State.DEAF)

    def close(self) -> None:
        """Send what is written, and end."""
        if self._state is _State.OPEN:
            self._say_goodbye()
        self._end_as(_State.CLOSED)
        self._socket.close()

    def abort(self) -> None:
        """End at once, dropping unsent bytes."""
        self._end_as(_State.CLOSED)
        self._socket.abort()
