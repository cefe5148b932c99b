"""The frame: what two nodes exchange once their handshake is done. Big-endian:

    frame     := version:u8 | sealed length:u32 | body length:u32 | sealed | body
    sealed    := AES-128-GCM(plaintext, associated data = body)   (ciphertext and 16-byte tag)
    plaintext := kind:u8 | call id:u64 | message (msgpack)
    nonce     := the direction's 4-byte prefix | number of the frame in this direction:u64

- The nonce is never sent: both sides count. A frame that is repeated, left out, moved or altered in
  any bit fails its tag, and the connection ends there. The lengths are covered by the tag, and the
  version by being compared.
- The body is authenticated but not encrypted, so that its bytes are never copied to be sealed.
- A length beyond the limits is refused before anything is allocated.

This file knows bytes only: no socket, no message types. Byte by byte: `docs/reference/rpc.md`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from octad.sharding.limits import FRAME_BODY_BYTES_MAX, KIB, MIB
from octad.storage_node.memory.unwritten_memory import unwritten
from octad.storage_node.rpc.peer_refusal import PeerRefused, Refusal

FRAME_HEADER_BYTES_MAX: Final = 8 * MIB  # A page of 1,000 keys with metadata is the largest header.

FRAME_VERSION: Final = 1
REQUEST: Final = 1
RESPONSE: Final = 2
ERROR: Final = 3
ONE_WAY: Final = 4
KINDS: Final = frozenset((REQUEST, RESPONSE, ERROR, ONE_WAY))

PREFIX = struct.Struct(">BII")
HEADER = struct.Struct(">BQ")
TAG_BYTES: Final = 16
SEALED_BYTES_MIN: Final = HEADER.size + TAG_BYTES
SEALED_BYTES_MAX: Final = SEALED_BYTES_MIN + FRAME_HEADER_BYTES_MAX
assert PREFIX.size == 9, "wire format: changing this needs a new version"
assert HEADER.size == 9, "wire format: changing this needs a new version"

# The receive buffer: it takes several small frames at once. A frame of LARGE_BYTES or more that is
# incomplete gets a buffer of its own, so that most of its body is never moved.
SCRATCH_BYTES: Final = 128 * KIB
LARGE_BYTES: Final = 32 * KIB
assert LARGE_BYTES <= SCRATCH_BYTES, "a frame that is not large must fit"

Buffer = bytes | bytearray | memoryview
NO_BODY: Final = memoryview(b"")


@dataclass(frozen=True, slots=True)
class DirectionKey:
    """Seals the frames of one direction of one connection; its key is used for nothing else."""

    key: bytes = field(repr=False)
    nonce_prefix: bytes


class Frame(msgspec.Struct, gc=False):
    """One frame, opened."""

    kind: int
    call_id: int
    message: bytes
    body: memoryview


class FrameTooLarge(ValueError):
    """The sender's mistake: the receiver would refuse this and close the connection."""


class FrameSealer:
    """One direction of one connection, at its sending end."""

    def __init__(self, key: DirectionKey) -> None:
        self._encrypt = AESGCM(key.key).encrypt
        self._nonce_prefix = key.nonce_prefix
        self._count = 0

    def seal(self, kind: int, call_id: int, message: bytes, body: Buffer) -> bytes:
        """Returns the next frame without its body, which follows these bytes unchanged."""
        body_length = len(body)
        if len(message) > FRAME_HEADER_BYTES_MAX or body_length > FRAME_BODY_BYTES_MAX:
            raise _too_large(message, body)
        nonce = self._nonce_prefix + self._count.to_bytes(8, "big")
        sealed = self._encrypt(nonce, HEADER.pack(kind, call_id) + message, body)
        self._count += 1
        return PREFIX.pack(FRAME_VERSION, len(sealed), body_length) + sealed


class FrameReader:
    """One direction of one connection, at its receiving end.

    Read bytes into `space()`, pass their number to `received(count)`, and take the complete frames.
    Bytes may arrive in any portions.
    """

    def __init__(self, key: DirectionKey) -> None:
        self._decrypt = AESGCM(key.key).decrypt
        self._nonce_prefix = key.nonce_prefix
        self._count = 0
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._start = 0  # Range in the scratch buffer that is not yet part of a frame.
        self._end = 0  # Where the bytes in the buffer in use end.
        self._large: memoryview | None = None  # Exactly one frame, when that is a large one.
        self._large_lengths = (0, 0)

    def space(self) -> memoryview:
        """The buffer for the next bytes; never empty."""
        if self._large is not None:
            return self._large[self._end :]
        return self._scratch[self._end :]

    def received(self, count: int) -> Iterator[Frame]:
        """The frames that `count` more bytes complete; then PeerRefused, if what follows is bad."""
        self._end += count
        if self._large is None:
            return self._frames_of_scratch()
        return self._frame_of_large(self._large)

    @property
    def within_frame(self) -> bool:
        """Whether the stream would be cut short if it ended here."""
        return self._end > self._start

    def _frames_of_scratch(self) -> Iterator[Frame]:
        scratch, end = self._scratch, self._end
        whole = 0
        while end - self._start >= PREFIX.size:
            start = self._start
            version, sealed_length, body_length = PREFIX.unpack_from(scratch, start)
            if (
                version != FRAME_VERSION
                or not SEALED_BYTES_MIN <= sealed_length <= SEALED_BYTES_MAX
                or body_length > FRAME_BODY_BYTES_MAX
            ):
                raise _bad_prefix(version, sealed_length, body_length)
            sealed_end = start + PREFIX.size + sealed_length
            whole = sealed_end - start + body_length
            if start + whole > end:
                break
            body = NO_BODY
            if body_length:
                body = memoryview(bytes(scratch[sealed_end : start + whole]))
            self._start = start + whole
            yield self._open(scratch[start + PREFIX.size : sealed_end], body)
        self._make_room(whole)

    def _make_room(self, whole: int) -> None:
        """Ready the buffers for the rest of a frame of `whole` bytes (if that many are known)."""
        kept = self._scratch[self._start : self._end]
        if len(kept) >= PREFIX.size and whole >= LARGE_BYTES:
            _, *lengths = PREFIX.unpack_from(kept)
            self._large_lengths = (lengths[0], lengths[1])
            self._large = memoryview(unwritten(whole))
            self._large[: len(kept)] = kept
        elif self._start:
            self._scratch[: len(kept)] = kept
        self._start, self._end = 0, len(kept)

    def _frame_of_large(self, large: memoryview) -> Iterator[Frame]:
        if self._end < len(large):
            return
        sealed_end = PREFIX.size + self._large_lengths[0]
        self._large = None
        self._end = 0
        yield self._open(large[PREFIX.size : sealed_end], large[sealed_end:].toreadonly())

    def _open(self, sealed: memoryview, body: memoryview) -> Frame:
        nonce = self._nonce_prefix + self._count.to_bytes(8, "big")
        try:
            plaintext = self._decrypt(nonce, sealed, body)
        except InvalidTag:
            raise PeerRefused(Refusal.TAG, f"frame {self._count} is not what was sent") from None
        self._count += 1
        kind, call_id = HEADER.unpack_from(plaintext)
        if kind not in KINDS:
            raise PeerRefused(Refusal.MALFORMED, f"frame of unknown kind {kind}")
        return Frame(kind, call_id, plaintext[HEADER.size :], body)


def check_size(message: bytes, body: Buffer) -> None:
    """Raises what sealing would raise."""
    if len(message) > FRAME_HEADER_BYTES_MAX or len(body) > FRAME_BODY_BYTES_MAX:
        raise _too_large(message, body)


def _too_large(message: bytes, body: Buffer) -> FrameTooLarge:
    return FrameTooLarge(f"a message of {len(message)} bytes, a body of {len(body)}")


def _bad_prefix(version: int, sealed_length: int, body_length: int) -> PeerRefused:
    if version != FRAME_VERSION:
        return PeerRefused(Refusal.VERSION, f"frame of version {version}, not {FRAME_VERSION}")
    lengths = f"{sealed_length} sealed bytes, a body of {body_length}"
    return PeerRefused(Refusal.LENGTH, f"a frame of {lengths}")
