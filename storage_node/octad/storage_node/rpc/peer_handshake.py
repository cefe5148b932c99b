"""The handshake: two nodes prove to each other who they are, and that they know the secret.

    record := "octadrpc" | version:u16 | kind:u8 | payload length:u16 | payload       (big-endian)

    dialer                                        acceptor
    HELLO   cluster, node, boot, nonce      →     refuses another version, cluster, or itself
    refuses the wrong node or proof         ←     ANSWER  cluster, node, boot, nonce | proof
    PROOF   proof                           →     refuses a wrong proof
    REFUSED reason (either side, instead)  ←→     a hint for the log, not authenticated

A proof is an HMAC-SHA256, under the cluster's key for RPC, of the role and of a hash over both
sides' records, which covers the version, both identities and both nonces; the session's keys, one
for each direction, are derived from the same by HKDF. Hence nothing recorded on one connection
passes on another, and what one side says is of no use when sent back to it.

A state machine over bytes: it draws no random numbers and opens no socket.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from octad.sharding.ids import NodeId, node_name
from octad.sharding.limits import NODE_ID_MAX
from octad.storage_node.rpc.frame_format import DirectionKey
from octad.storage_node.rpc.peer_refusal import PeerRefused, Refusal

RPC_HANDSHAKE_BYTES_MAX: Final = 512  # Read from strangers, so no more than it takes.

PROTOCOL_VERSION: Final = 1
MAGIC: Final = b"octadrpc"
RECORD = struct.Struct(">8sHBH")
HELLO: Final = 1
ANSWER: Final = 2
PROOF: Final = 3
REFUSED: Final = 4
TLS_HANDSHAKE: Final = b"\x16\x03"  # How a dialer that uses TLS begins.

NONCE_BYTES: Final = 32
PROOF_BYTES: Final = 32
KEY_BYTES: Final = 16
NONCE_PREFIX_BYTES: Final = 4


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """The sender's identity. Fields are only ever appended."""

    cluster: Annotated[str, msgspec.Meta(max_length=64)]
    node: Annotated[int, msgspec.Meta(ge=0, le=NODE_ID_MAX)]
    boot: Annotated[str, msgspec.Meta(max_length=64)]
    nonce: Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]


@dataclass(frozen=True, slots=True)
class PeerSession:
    """The result of a handshake: the peer's identity, and the keys of both directions."""

    node: NodeId
    boot: str
    outgoing: DirectionKey
    incoming: DirectionKey


class Handshake:
    """One side of one handshake. `wanted` is the node that a dialer means to reach, else None."""

    def __init__(self, own: Hello, key: bytes, wanted: NodeId | None) -> None:
        self._own = own
        self._key = key
        self._wanted = wanted
        self._buffer = memoryview(bytearray(RPC_HANDSHAKE_BYTES_MAX))
        self._have = 0
        self._need = RECORD.size
        self._expected = HELLO if wanted is None else ANSWER
        self._transcript = hashlib.sha256()
        self._peer: Hello | None = None
        self.session: PeerSession | None = None

    @property
    def is_dialer(self) -> bool:
        """Whether this side speaks first."""
        return self._wanted is not None

    def start(self) -> bytes:
        """Returns the bytes to send before anything is received."""
        if self._wanted is None:
            return b""
        hello = record(HELLO, msgspec.msgpack.encode(self._own))
        self._transcript.update(hello)
        return hello

    def space(self) -> memoryview:
        """The buffer for the next bytes: never larger than the rest of the handshake."""
        return self._buffer[self._have : self._need]

    def received(self, count: int) -> bytes:
        """Take `count` more bytes; returns what to send now. Raises PeerRefused."""
        assert self.session is None, "the handshake is over"
        self._have += count
        if self._have < self._need:
            return b""
        kind, length = self._parse_record_head()
        if self._have < RECORD.size + length:
            self._need = RECORD.size + length
            return b""
        whole = bytes(self._buffer[: self._have])
        self._have, self._need = 0, RECORD.size
        return self._on_record(kind, whole)

    def _parse_record_head(self) -> tuple[int, int]:
        magic, version, kind, length = RECORD.unpack_from(self._buffer)
        if magic.startswith(TLS_HANDSHAKE):
            raise _refuse(Refusal.TLS, "it uses TLS, and this node does not")
        if magic != MAGIC:
            raise PeerRefused(Refusal.MALFORMED, "not the protocol of octad nodes")
        if kind == REFUSED:
            self._expected = REFUSED
        elif version != PROTOCOL_VERSION:
            raise _refuse(Refusal.VERSION, f"version {version}, not {PROTOCOL_VERSION}")
        if kind != self._expected:
            raise _refuse(Refusal.MALFORMED, f"record {kind} instead of {self._expected}")
        if not 0 < length <= RPC_HANDSHAKE_BYTES_MAX - RECORD.size:
            raise _refuse(Refusal.LENGTH, f"a handshake record of {length} bytes")
        return kind, length

    def _on_record(self, kind: int, whole: bytes) -> bytes:
        if kind == HELLO:
            return self._on_hello(whole)
        if kind == ANSWER:
            return self._on_answer(whole)
        if kind == PROOF:
            return self._on_proof(whole[RECORD.size :])
        raise _refused_by_peer(whole[RECORD.size :])

    def _on_hello(self, whole: bytes) -> bytes:
        peer = _parse_hello(whole[RECORD.size :])
        self._check_cluster(peer)
        if peer.node == self._own.node:
            if peer.boot == self._own.boot:
                raise _refuse(Refusal.SELF, "dialed itself")
            raise _refuse(Refusal.DUPLICATE, f"a second {node_name(NodeId(peer.node))}")
        if peer.node > self._own.node:
            raise _refuse(Refusal.DIRECTION, f"{node_name(NodeId(peer.node))} has the higher id")
        self._peer = peer
        self._transcript.update(whole)
        own = msgspec.msgpack.encode(self._own)
        answer = record(ANSWER, own + bytes(PROOF_BYTES))[:-PROOF_BYTES]
        self._transcript.update(answer)
        self._expected = PROOF
        return answer + self._proof(b"acceptor")

    def _on_answer(self, whole: bytes) -> bytes:
        peer = _parse_hello(whole[RECORD.size : -PROOF_BYTES])
        self._check_cluster(peer)
        if peer.node != self._wanted:
            raise _refuse(Refusal.WRONG_NODE, f"{node_name(NodeId(peer.node))} is at this address")
        self._peer = peer
        self._transcript.update(whole[:-PROOF_BYTES])
        self._check_proof(whole[-PROOF_BYTES:], b"acceptor")
        proof = record(PROOF, self._proof(b"dialer"))
        self.session = self._derive_session(peer, self._own.nonce + peer.nonce)
        return proof

    def _on_proof(self, proof: bytes) -> bytes:
        assert self._peer is not None, "a proof is expected after a hello only"
        self._check_proof(proof, b"dialer")
        self.session = self._derive_session(self._peer, self._peer.nonce + self._own.nonce)
        return b""

    def _check_cluster(self, peer: Hello) -> None:
        if peer.cluster != self._own.cluster:
            raise _refuse(Refusal.CLUSTER, f"a node of cluster {peer.cluster!r}")

    def _check_proof(self, proof: bytes, role: bytes) -> None:
        if not hmac.compare_digest(proof, self._proof(role)):
            raise _refuse(Refusal.KEY, "it does not have this cluster's secret")

    def _proof(self, role: bytes) -> bytes:
        return hmac.digest(
            self._key, b"octad rpc proof " + role + self._transcript.digest(), "sha256"
        )

    def _derive_session(self, peer: Hello, nonces: bytes) -> PeerSession:
        size = KEY_BYTES + NONCE_PREFIX_BYTES
        info = b"octad rpc session" + self._transcript.digest()
        material = hkdf_sha256(self._key, nonces, info, 2 * size)
        dialer, acceptor = (
            DirectionKey(part[:KEY_BYTES], part[KEY_BYTES:])
            for part in (material[:size], material[size:])
        )
        dialing = self._wanted is not None
        outgoing, incoming = (dialer, acceptor) if dialing else (acceptor, dialer)
        return PeerSession(NodeId(peer.node), peer.boot, outgoing, incoming)


def hkdf_sha256(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869."""
    extracted = hmac.digest(salt, key, "sha256")
    output, block = b"", b""
    while len(output) < length:
        counter = len(output) // hashlib.sha256().digest_size + 1
        block = hmac.digest(extracted, block + info + bytes([counter]), "sha256")
        output += block
    return output[:length]


def record(kind: int, payload: bytes) -> bytes:
    """The bytes of one record."""
    return RECORD.pack(MAGIC, PROTOCOL_VERSION, kind, len(payload)) + payload


def _parse_hello(payload: bytes) -> Hello:
    try:
        return msgspec.msgpack.decode(payload, type=Hello)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _refuse(Refusal.MALFORMED, f"a hello that does not parse: {error}") from error


def _refuse(reason: Refusal, text: str) -> PeerRefused:
    """Our refusal, with the record that has the reason for the other side."""
    return PeerRefused(reason, text, record(REFUSED, reason.value.encode()))


def _refused_by_peer(payload: bytes) -> PeerRefused:
    """The other side's refusal. Anyone may have sent it: only known reasons are repeated."""
    try:
        reason = Refusal(payload.decode())
    except ValueError:
        return PeerRefused(Refusal.MALFORMED, "the other side refused us without a known reason")
    if reason is Refusal.TLS:
        return PeerRefused(reason, "it uses TLS, and this node does not")
    return PeerRefused(reason, "the other side refused us")
