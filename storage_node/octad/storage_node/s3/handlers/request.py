"""A request as either way into the node hands it over: values, and a body that may be on its way.

Nothing here knows which of the two reads it from the connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from octad.storage_node.s3.protocol.forms.form_parts import FileDecoder

CONTINUE_EXPECTED: Final = "100-continue"


class Body(Protocol):
    """The body of one request, without what HTTP wraps around it.

    Nothing of it is read from the connection before it is asked for, but for what came with the
    request's head.
    """

    held: bytes | None
    """All of it where it has arrived already; None where `read_into` returns it as it arrives."""

    @property
    def left(self) -> int:
        """The most bytes still to be read; 0 at its end."""

    async def invite(self) -> None:
        """The client waits for our word before it sends the body: let it."""

    async def read_into(self, space: memoryview, wait_s: float) -> int:
        """Read the next bytes into `space`, up to its size; returns their number.

        Fewer at its end, and where no more have come within `wait_s`. Raises S3Error where its
        framing is broken, ConnectionError where the client is gone.
        """


class Request(msgspec.Struct):
    """A request as the client sent it, and facts found about it on the way."""

    method: str
    target: str
    headers: dict[str, str]  # Lower-case names; values as Latin-1 of their bytes.
    body: Body
    expects_continue: bool = False  # The client sends its body only after a 100 Continue.
    key_id: str = ""  # The access key that has signed it, once verified.
    operation: str = "none"  # S3's name; "none": refused before it was known.
    bucket: str = ""


def expects_continue(headers: Mapping[str, str], *, persistent: bool) -> bool:
    """Whether the client of a request does; one of HTTP/1.0 would take our word for its answer."""
    return persistent and headers.get("expect", "").lower() == CONTINUE_EXPECTED


class HeldBody:
    """A body that arrived together with its request."""

    __slots__ = ("_at", "held")

    def __init__(self, held: bytes) -> None:
        self.held: bytes | None = held
        self._at = 0

    @property
    def left(self) -> int:
        """The rest of the bytes in memory."""
        return len(self.held or b"") - self._at

    async def invite(self) -> None:
        """Nothing to do: the body is in memory."""

    async def read_into(self, space: memoryview, wait_s: float) -> int:
        """Returns at once."""
        assert self.held is not None
        piece = self.held[self._at : self._at + len(space)]
        space[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


class RestOfForm:
    """The bytes of a form's body from its file on: a `ByteSource`."""

    def __init__(self, body: Body, came: bytes, left: int) -> None:
        self._body = body
        self._came = came
        self._left = left

    @property
    def left(self) -> int:
        """The rest of the bytes that the request announced."""
        return self._left if self._came or self._body.left else 0

    async def read_into(self, space: memoryview, wait_s: float) -> int:
        """First the bytes that arrived with the fields."""
        if self._came:
            count = min(len(space), len(self._came))
            space[:count], self._came = self._came[:count], self._came[count:]
        else:
            count = await self._body.read_into(space, wait_s)
        self._left -= count
        return count


class Form(msgspec.Struct, frozen=True):
    """A form whose fields have been read, and whose sender is known."""

    fields: Mapping[str, str]  # By lower-case name.
    source: RestOfForm
    decoder: FileDecoder  # Decodes the file.
