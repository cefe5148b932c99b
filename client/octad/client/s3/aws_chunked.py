"""The bodies of S3 requests, decoded and verified without I/O; and the aws-chunked encoder.

    body      := chunk* last trailers CRLF
    chunk     := size in hex [";chunk-signature=" signature] CRLF data CRLF
    last      := a chunk of size 0, without data and without the CRLF after it
    trailers  := (name ":" value CRLF)*     the last of them x-amz-trailer-signature where signed

The last CRLF may be missing, as some clients leave it out, and blanks may stand around `;` and `=`.

    SIZE ──> DATA ──> DATA_END ──> SIZE         SIZE ──(size 0)──> TRAILER ──(empty line)──> DONE

Each signature covers the one before it, from the request's own on, so chunks can neither be changed
nor left out nor change places. How the bytes are cut into calls of `feed` changes nothing.

A decoder hands out data before it is proved: nothing of it may become visible before `finish`
has returned. One that has raised is spent.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, Protocol

from octad.client.s3.checksums import trailer_names
from octad.client.s3.errors import S3Error
from octad.client.s3.sigv4 import (
    ALGORITHM,
    EMPTY_SHA256,
    PayloadMode,
    SignatureSeed,
    signature_of,
)
from octad.sharding.limits import KIB, PUT_BYTES_MAX

CHUNK_BYTES_MIN: Final = 8 * KIB  # S3 requires it of every chunk but the last.
CHUNK_HEADER_BYTES_MAX: Final = 256  # Size in hex and a signature take 100.
TRAILER_BYTES_MAX: Final = 2 * KIB  # A checksum and a signature take 200.

Bytes = bytes | bytearray | memoryview

CONTENT_ENCODING: Final = "aws-chunked"
TRAILER_SIGNATURE: Final = "x-amz-trailer-signature"
_CRLF: Final = b"\r\n"
_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*")
_SIGNED_SIZE: Final = re.compile(
    rb"([0-9a-fA-F]{1,16})[ \t]*;[ \t]*chunk-signature[ \t]*=[ \t]*([0-9a-f]{64})[ \t]*"
)
_STREAMING: Final = frozenset(
    {
        PayloadMode.STREAMING_SIGNED,
        PayloadMode.STREAMING_SIGNED_TRAILER,
        PayloadMode.STREAMING_UNSIGNED_TRAILER,
    }
)


class BodyDecoder(Protocol):
    """The body of one request on its way in."""

    @property
    def length(self) -> int:
        """The object's length in bytes."""

    @property
    def trailers(self) -> Mapping[str, str]:
        """The trailers, complete once `finish` has returned."""

    def feed(self, data: Bytes) -> Sequence[Bytes]:
        """The object's bytes in `data`; raises S3Error. They may be views of `data`."""

    def finish(self) -> None:
        """The body has ended; raises S3Error if it is incomplete or does not match its claims."""


class ChunkSigner:
    """The chain of signatures of one body: each covers the one before."""

    def __init__(self, seed: SignatureSeed) -> None:
        self._key = seed.signing_key
        self._context = f"{seed.timestamp}\n{seed.scope}"
        self._previous = seed.signature

    def sign_chunk(self, data_sha256: str) -> str:
        """The signature of the next chunk."""
        text = (
            f"{ALGORITHM}-PAYLOAD\n{self._context}\n{self._previous}\n{EMPTY_SHA256}\n{data_sha256}"
        )
        self._previous = signature_of(self._key, text)
        return self._previous

    def sign_trailers(self, trailers: Mapping[str, str]) -> str:
        """The signature of the trailers, which end the chain."""
        lines = "".join(f"{name}:{value}\n" for name, value in trailers.items())
        hashed = hashlib.sha256(lines.encode()).hexdigest()
        text = f"{ALGORITHM}-TRAILER\n{self._context}\n{self._previous}\n{hashed}"
        return signature_of(self._key, text)


def body_decoder(
    mode: PayloadMode, content_sha256: str, seed: SignatureSeed, headers: Mapping[str, str]
) -> BodyDecoder:
    """The decoder for a body whose request was authenticated; raises S3Error for bad headers."""
    if mode in _STREAMING:
        length = _declared_length(headers, "x-amz-decoded-content-length")
        return ChunkedDecoder(mode, seed, length, trailer_names(headers))
    length = _declared_length(headers, "Content-Length")
    return PlainDecoder(length, content_sha256 if mode is PayloadMode.SIGNED else None)


def stored_content_encoding(content_encoding: str) -> str:
    """`Content-Encoding` as the object keeps it: to the letter, but for the framing that ended."""
    codings = content_encoding.split(",")
    kept = [coding for coding in codings if coding.strip().lower() != CONTENT_ENCODING]
    return content_encoding if len(kept) == len(codings) else ",".join(kept).strip()


class PlainDecoder:
    """A body that is the object's bytes; with their SHA-256 where the request signed it."""

    def __init__(self, length: int, sha256: str | None) -> None:
        self.length = length
        self.trailers: Mapping[str, str] = {}
        self._received = 0
        self._claimed = sha256
        self._hash = None if sha256 is None else hashlib.sha256()

    def feed(self, data: Bytes) -> Sequence[Bytes]:
        """Returns all of `data`, counted and hashed."""
        self._received += len(data)
        if self._received > self.length:
            raise S3Error("IncompleteBody")
        if self._hash is not None:
            self._hash.update(data)
        return (data,) if data else ()

    def finish(self) -> None:
        """Raises IncompleteBody or XAmzContentSHA256Mismatch."""
        if self._received != self.length:
            raise S3Error("IncompleteBody")
        if self._hash is None or self._claimed is None:
            return
        computed = self._hash.hexdigest()
        if not hmac.compare_digest(computed, self._claimed.lower()):
            raise S3Error(
                "XAmzContentSHA256Mismatch",
                fields={
                    "ClientComputedContentSHA256": self._claimed,
                    "S3ComputedContentSHA256": computed,
                },
            )


class _State(Enum):
    SIZE = "a chunk's size line"
    DATA = "a chunk's data"
    DATA_END = "the line break after a chunk's data"
    TRAILER = "a trailer line, or the empty line that ends the body"
    DONE = "nothing more"
    FAILED = "nothing: an error was raised"


class ChunkedDecoder:
    """An aws-chunked body, in any of its three modes."""

    def __init__(
        self, mode: PayloadMode, seed: SignatureSeed, length: int, announced: Sequence[str]
    ) -> None:
        assert mode in _STREAMING
        self.length = length
        self.trailers: dict[str, str] = {}
        self._announced = frozenset(announced) - {TRAILER_SIGNATURE}
        self._signer = None if mode is PayloadMode.STREAMING_UNSIGNED_TRAILER else ChunkSigner(seed)
        self._trailer_signed = mode is PayloadMode.STREAMING_SIGNED_TRAILER
        self._has_trailers = mode is not PayloadMode.STREAMING_SIGNED
        self._state = _State.SIZE
        self._line = bytearray()  # The beginning of a line whose end has not arrived.
        self._received = 0  # Decoded bytes, chunks under way included.
        self._left = 0  # Bytes of the open chunk still to come.
        self._chunk_count = 0
        self._chunk_size = 0
        self._chunk_signature = b""
        self._hash = hashlib.sha256()
        self._trailer_bytes = 0
        self._trailer_signature: str | None = None

    def feed(self, data: Bytes) -> Sequence[Bytes]:
        """The payload in `data`, as views of it: nothing is copied."""
        state, self._state = self._state, _State.FAILED
        if state is _State.FAILED:
            raise S3Error("IncompleteBody")
        pieces: list[Bytes] = []
        view = memoryview(data)
        at, end = 0, len(view)
        while at < end:
            if state is _State.DATA:
                piece = view[at : at + self._left]
                at += len(piece)
                state = self._on_data(piece)
                pieces.append(piece)
                continue
            if state is _State.DONE:
                raise S3Error("IncompleteBody")
            line, at = self._take_line(view, at, state)
            if line is None:
                break
            if state is _State.SIZE:
                state = self._on_size(line)
            elif state is _State.TRAILER:
                state = self._on_trailer(line)
            else:
                state = self._on_data_end(line)
        self._state = state
        return pieces

    def finish(self) -> None:
        """Raises IncompleteBody where the end of the body is missing or it was too short."""
        if self._lacks_only_its_last_line():
            self._state = self._on_end()
        if self._state is not _State.DONE:
            raise S3Error("IncompleteBody")
        assert self._received == self.length, "checked at the last chunk"

    def _lacks_only_its_last_line(self) -> bool:
        """Whether everything but the final empty line has arrived."""
        if self._state is not _State.TRAILER or self._line not in (b"", _CRLF[:1]):
            return False
        signed = not self._trailer_signed or self._trailer_signature is not None
        return signed and (not self._has_trailers or self.trailers.keys() == self._announced)

    def _take_line(self, view: memoryview, at: int, state: _State) -> tuple[bytes | None, int]:
        """The next line and where it ends, or None where its end has not arrived."""
        if state is _State.SIZE:
            line_max = CHUNK_HEADER_BYTES_MAX
        else:
            line_max = 0 if state is _State.DATA_END else TRAILER_BYTES_MAX
        window = self._line + view[at : at + line_max + len(_CRLF) - len(self._line)]
        found = window.find(_CRLF)
        if found >= 0:
            at += found + len(_CRLF) - len(self._line)
            self._line = bytearray()
            return bytes(window[:found]), at
        if len(window) >= line_max + len(_CRLF):
            raise S3Error("MalformedTrailerError" if state is _State.TRAILER else "IncompleteBody")
        self._line = window
        return None, len(view)

    def _on_size(self, line: bytes) -> _State:
        match = (_SIZE if self._signer is None else _SIGNED_SIZE).fullmatch(line)
        if match is None:
            raise S3Error("IncompleteBody")
        size = int(match[1], 16)
        if self._signer is not None:
            self._chunk_signature = match[2]
        if size == 0:
            return self._on_last_chunk()
        if 0 < self._chunk_size < CHUNK_BYTES_MIN:
            raise S3Error(
                "InvalidChunkSizeError",
                fields={"Chunk": str(self._chunk_count), "BadChunkSize": str(self._chunk_size)},
            )
        self._received += size
        if self._received > self.length:
            raise S3Error("IncompleteBody")
        self._chunk_count += 1
        self._chunk_size = self._left = size
        return _State.DATA

    def _on_last_chunk(self) -> _State:
        self._check_chunk_signature()
        if self._received != self.length:
            raise S3Error("IncompleteBody")
        return _State.TRAILER

    def _on_data(self, piece: memoryview) -> _State:
        if self._signer is not None:
            self._hash.update(piece)
        self._left -= len(piece)
        if self._left:
            return _State.DATA
        self._check_chunk_signature()
        return _State.DATA_END

    def _on_data_end(self, line: bytes) -> _State:
        assert not line, "a line here may have no bytes"
        return _State.SIZE

    def _check_chunk_signature(self) -> None:
        if self._signer is None:
            return
        expected = self._signer.sign_chunk(self._hash.hexdigest())
        self._hash = hashlib.sha256()
        if not hmac.compare_digest(expected.encode(), self._chunk_signature):
            raise S3Error("SignatureDoesNotMatch")

    def _on_trailer(self, line: bytes) -> _State:
        if not line:
            return self._on_end()
        self._trailer_bytes += len(line) + len(_CRLF)
        if not self._has_trailers or self._trailer_bytes > TRAILER_BYTES_MAX:
            raise S3Error("MalformedTrailerError")
        # Some clients end the value with a newline of its own before the line's end.
        name_bytes, colon, value_bytes = line.rstrip(b"\n").partition(b":")
        if not (colon and line.isascii()) or b"\n" in name_bytes or b"\n" in value_bytes:
            raise S3Error("MalformedTrailerError")
        name, value = name_bytes.decode().strip().lower(), value_bytes.decode().strip()
        if name == TRAILER_SIGNATURE and self._trailer_signed and self._trailer_signature is None:
            self._trailer_signature = value
        elif (
            name in self._announced
            and name not in self.trailers
            and self._trailer_signature is None  # It ends what it signs.
        ):
            self.trailers[name] = value
        else:
            raise S3Error("MalformedTrailerError")
        return _State.TRAILER

    def _on_end(self) -> _State:
        if self._has_trailers and self.trailers.keys() != self._announced:
            raise S3Error("MalformedTrailerError")
        if self._trailer_signed and self._signer is not None:
            expected = self._signer.sign_trailers(self.trailers)
            given = (self._trailer_signature or "").encode()
            if not hmac.compare_digest(expected.encode(), given):
                raise S3Error("SignatureDoesNotMatch")
        return _State.DONE


class ChunkedEncoder:
    """Frames a body as aws-chunked. Every chunk but the last one has `CHUNK_BYTES_MIN` or more."""

    def __init__(self, mode: PayloadMode, seed: SignatureSeed) -> None:
        assert mode in _STREAMING
        self._mode = mode
        self._signer = None if mode is PayloadMode.STREAMING_UNSIGNED_TRAILER else ChunkSigner(seed)

    def chunk(self, data: Bytes) -> tuple[Bytes, Bytes, Bytes]:
        """A chunk as three buffers to write one after the other; `data` is not copied."""
        assert data, "an empty chunk would end the body"
        return self._size_line(data), data, _CRLF

    def finish(self, trailers: Mapping[str, str]) -> bytes:
        """Returns the end of the body, after the last chunk."""
        assert not trailers or self._mode is not PayloadMode.STREAMING_SIGNED
        lines = [f"{name}:{value}\r\n" for name, value in trailers.items()]
        last = self._size_line(b"")
        if self._mode is PayloadMode.STREAMING_SIGNED_TRAILER and self._signer is not None:
            lines.append(f"{TRAILER_SIGNATURE}:{self._signer.sign_trailers(trailers)}\r\n")
        return last + "".join(lines).encode() + _CRLF

    def _size_line(self, data: Bytes) -> bytes:
        if self._signer is None:
            return b"%x\r\n" % len(data)
        signature = self._signer.sign_chunk(hashlib.sha256(data).hexdigest())
        return b"%x;chunk-signature=%b\r\n" % (len(data), signature.encode())


def encoded_length(
    mode: PayloadMode, length: int, chunk_bytes: int, trailers: Mapping[str, int]
) -> int:
    """Bytes on the wire of a body of `length` in chunks of `chunk_bytes`: its `Content-Length`.

    `trailers` has the length of each trailer's value.
    """
    assert mode in _STREAMING
    signature = (
        0 if mode is PayloadMode.STREAMING_UNSIGNED_TRAILER else len(";chunk-signature=") + 64
    )
    whole, rest = divmod(length, chunk_bytes)
    sizes = [(whole, chunk_bytes), (1 if rest else 0, rest)]
    chunks = sum(count * (len(f"{size:x}") + signature + 4 + size) for count, size in sizes)
    lines = sum(len(name) + 1 + value_length + 2 for name, value_length in trailers.items())
    if mode is PayloadMode.STREAMING_SIGNED_TRAILER:
        lines += len(TRAILER_SIGNATURE) + 1 + 64 + 2
    return chunks + 1 + signature + 2 + lines + 2


def _declared_length(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name.lower())
    if text is None:
        raise S3Error("MissingContentLength")
    if not (text.isascii() and text.isdecimal()):
        raise S3Error(
            "InvalidArgument",
            f"{name} is not a number of bytes",
            fields={"ArgumentName": name, "ArgumentValue": text},
        )
    if len(text) > 20 or int(text) > PUT_BYTES_MAX:
        raise S3Error(
            "EntityTooLarge",
            fields={"ProposedSize": text, "MaxSizeAllowed": str(PUT_BYTES_MAX)},
        )
    return int(text)
