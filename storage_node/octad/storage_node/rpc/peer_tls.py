"""TLS between two nodes, over bytes: both show a certificate that the same authority has signed.

It goes around the handshake and the frames, which stay as they are: who is in the cluster is still
a matter of the cluster's secret. Kept apart from the event loop's own TLS so that strangers are
bounded and refused in the same place, and with the same words, with it and without.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from octad.sharding.limits import KIB
from octad.storage_node.rpc.peer_handshake import MAGIC, REFUSED, record
from octad.storage_node.rpc.peer_refusal import PeerRefused, Refusal

RPC_TLS_HANDSHAKE_BYTES_MAX: Final = 64 * KIB  # The same with TLS: chains of certificates.

RECEIVED_BYTES: Final = 128 * KIB
SEALED_AT_ONCE_BYTES: Final = 64 * KIB
TLS_RECORD_KINDS: Final = range(0x14, 0x19)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM: this node's certificate with what leads to the authority, its key, the authority."""

    certificate: Path
    key: Path
    authority: Path


class TlsContexts:
    """The TLS settings of a node's connections. Raises OSError when the files are not usable."""

    def __init__(self, files: TlsFiles) -> None:
        self._dialing = _context(ssl.PROTOCOL_TLS_CLIENT, files)
        self._accepting = _context(ssl.PROTOCOL_TLS_SERVER, files)
        self._accepting.num_tickets = 0  # Sessions are never resumed.

    def new(self, dialing: bool) -> PeerTls:
        """For one connection."""
        return PeerTls(self._dialing if dialing else self._accepting, dialing)


class PeerTls:
    """One side of one connection. Until it is established, send `outgoing()` each time."""

    def __init__(self, context: ssl.SSLContext, dialing: bool) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=not dialing)
        self._space = memoryview(bytearray(RPC_TLS_HANDSHAKE_BYTES_MAX))
        self._received_bytes = 0  # Until it is established.
        self.is_established = False

    def start(self) -> None:
        """The dialer speaks first."""
        self._go_on()

    def space(self) -> memoryview:
        """The buffer for the next bytes from the socket."""
        return self._space

    def received(self, count: int) -> None:
        """Take `count` more bytes from the socket. Raises PeerRefused."""
        if not self.is_established:
            if self._received_bytes == 0 and self._space[0] not in TLS_RECORD_KINDS:
                raise _without_tls(bytes(self._space[:count]))
            self._received_bytes += count
            if self._received_bytes > RPC_TLS_HANDSHAKE_BYTES_MAX:
                raise PeerRefused(Refusal.LENGTH, "a TLS handshake without end")
        self._incoming.write(self._space[:count])
        if not self.is_established:
            self._go_on()

    def read_into(self, space: memoryview) -> int:
        """Moves what has been opened to `space`; 0 when there is no more. Raises PeerRefused."""
        try:
            return cast(int, self._tls.read(len(space), space))  # A count, given where to put it.
        except ssl.SSLWantReadError:
            return 0
        except ssl.SSLError as error:
            raise _refused(error) from error

    def seal(self, buffers: Sequence[bytes | bytearray | memoryview]) -> list[bytes]:
        """Returns the bytes to write to the socket instead of `buffers`.

        They are joined, since each write to TLS is at least one record, and sealed piece by piece,
        since a MemoryBIO that grows copies all that is in it.
        """
        joined = memoryview(b"".join(buffers))
        sealed = []
        for start in range(0, len(joined), SEALED_AT_ONCE_BYTES):
            self._tls.write(joined[start : start + SEALED_AT_ONCE_BYTES])
            sealed.append(self._outgoing.read())
        return sealed

    def outgoing(self) -> bytes:
        """The bytes that the TLS handshake has to send now."""
        return self._outgoing.read()

    def _go_on(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise _refused(error, self._outgoing.read()) from error
        self.is_established = True
        self._space = memoryview(bytearray(RECEIVED_BYTES))


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # The authority vouches for nodes; the handshake says which.
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(files.authority)
    # A key that needs a password is an error, not a question on the terminal.
    context.load_cert_chain(files.certificate, files.key, password="")
    return context


def _without_tls(data: bytes) -> PeerRefused:
    if data[: len(MAGIC)] != MAGIC:
        return PeerRefused(Refusal.MALFORMED, "neither TLS nor the protocol of octad nodes")
    told = record(REFUSED, Refusal.TLS.value.encode())
    return PeerRefused(Refusal.TLS, "it does not use TLS, and this node does", told)


def _refused(error: ssl.SSLError, answer: bytes = b"") -> PeerRefused:
    """`answer`: the alert for the other side."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"its certificate does not pass: {error.verify_message}"
        return PeerRefused(Refusal.CERTIFICATE, text, answer)
    reason = error.reason or str(error)
    if "ALERT" in reason or "CERTIFICATE" in reason:
        words = reason.replace("_", " ").lower()
        return PeerRefused(Refusal.CERTIFICATE, f"a certificate is missing or wrong: {words}")
    return PeerRefused(Refusal.TAG, f"not the TLS that was sent: {reason}", answer)
