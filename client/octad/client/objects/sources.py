"""What a put takes, cut into parts: bytes, a file, a path, iterators of bytes.

A part is bytes in memory, so that it can be signed, checked and sent again; there are only as many
at a time as are sent in parallel, however long the source is.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import BinaryIO, Final, Protocol, runtime_checkable

from octad.client.errors import ConfigurationError
from octad.client.http.transport import Bytes, Runtime
from octad.sharding.limits import MIB, PART_NUMBER_MAX


@runtime_checkable
class ReadableFile(Protocol):
    """A file opened for reading bytes."""

    def read(self, size: int, /) -> bytes: ...


@runtime_checkable
class _SeekableFile(Protocol):
    def tell(self) -> int: ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...


BlockingSource = Bytes | ReadableFile | os.PathLike[str] | Iterable[Bytes]
Source = BlockingSource | AsyncIterable[Bytes]

PART_BYTES: Final = 8 * MIB
SINGLE_PUT_BYTES_MAX: Final = 2 * PART_BYTES
_PARTS_BEFORE_DOUBLING: Final = 1000


def part_bytes(number: int) -> int:
    """The size of part `number` (from 1) of a source whose length is not known."""
    return PART_BYTES << (number - 1) // _PARTS_BEFORE_DOUBLING


def part_bytes_of(length: int) -> int:
    """The size of each part of `length` bytes."""
    least = -(-length // PART_NUMBER_MAX)
    return max(PART_BYTES, -(-least // MIB) * MIB)


class Parts:
    """The parts of a source, one after the other. `length` is None where no one knows it.

    `fixed_bytes`: the size of each part but the last, where it is not 0.
    """

    def __init__(self, length: int | None) -> None:
        self.length = length
        self.number = 0
        self.fixed_bytes = 0

    def next_size(self) -> int:
        """Bytes of the next part, unless the source ends before."""
        if self.fixed_bytes:
            return self.fixed_bytes
        self.number += 1
        return part_bytes(self.number) if self.length is None else part_bytes_of(self.length)

    async def next(self) -> Bytes:
        """b"" at the end."""
        raise NotImplementedError

    async def all(self) -> Bytes:
        """The source as one, where it has no more than `SINGLE_PUT_BYTES_MAX`."""
        first, second = await self.next(), await self.next()
        return b"".join((first, second)) if len(second) else first

    async def close(self) -> None:
        """Give back what was opened."""


class ByteParts(Parts):
    """Views of bytes that the caller holds."""

    def __init__(self, data: Bytes) -> None:
        self._view = memoryview(data).cast("B")
        super().__init__(len(self._view))
        self._at = 0

    async def next(self) -> Bytes:
        begin = self._at
        self._at += self.next_size()
        return self._view[begin : self._at]

    async def all(self) -> Bytes:
        return self._view


class FileParts(Parts):
    """From where a file stands to its end. `opened`: what is to be closed with this."""

    def __init__(
        self, file: ReadableFile, runtime: Runtime, opened: BinaryIO | None = None
    ) -> None:
        super().__init__(_bytes_left(file))
        self._file = file
        self._runtime = runtime
        self._opened = opened

    async def next(self) -> Bytes:
        size = self.next_size()
        return await self._runtime.aside(lambda: _read(self._file, size))

    async def close(self) -> None:
        if self._opened is not None:
            self._opened.close()


class IteratedParts(Parts):
    """Pieces of any size, joined and cut."""

    def __init__(self, pieces: Iterator[Bytes] | AsyncIterator[Bytes]) -> None:
        super().__init__(None)
        self._pieces = pieces
        self._rest: Bytes = b""
        self._ended = False

    async def next(self) -> Bytes:
        size = self.next_size()
        part = bytearray(self._rest[:size])
        self._rest = self._rest[size:]
        while len(part) < size and not self._ended:
            piece = memoryview(await self._next_piece()).cast("B")
            take = size - len(part)
            part += piece[:take]
            self._rest = piece[take:]
        return part

    async def _next_piece(self) -> Bytes:
        try:
            if isinstance(self._pieces, Iterator):
                return next(self._pieces)
            return await anext(self._pieces)
        except (StopIteration, StopAsyncIteration):
            self._ended = True
            return b""


async def parts_of(source: Source, runtime: Runtime) -> Parts:
    """Raises ConfigurationError for what is no source."""
    if isinstance(source, Bytes):
        return ByteParts(source)
    if isinstance(source, str):
        raise ConfigurationError("text is put in some encoding", "encode it: text.encode()")
    if isinstance(source, os.PathLike):
        path = os.fspath(source)
        file = await runtime.aside(lambda: open(path, "rb"))  # noqa: SIM115 (`close` closes it)
        return FileParts(file, runtime, file)
    if isinstance(source, ReadableFile):
        return FileParts(source, runtime)
    if isinstance(source, Iterable):
        return IteratedParts(iter(source))
    if isinstance(source, AsyncIterable):
        return IteratedParts(aiter(source))
    raise ConfigurationError(
        f"{type(source).__name__} cannot be put",
        "put bytes, a file, a path or an iterator of bytes",
    )


def _bytes_left(file: ReadableFile) -> int | None:
    if not isinstance(file, _SeekableFile):
        return None
    try:
        at = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(at)
    except (OSError, ValueError):  # A pipe.
        return None
    return end - at


def _read(file: ReadableFile, size: int) -> bytes:
    """`size` bytes, or what there is: raw files and pipes give less at a time."""
    pieces = []
    while size and (piece := file.read(size)):
        if isinstance(piece, str):
            raise ConfigurationError("the file is opened as text", "open it with mode 'rb'")
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
