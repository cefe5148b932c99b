"""A request as either way into the node hands it over: values, and a body that may be on its way.

Nothing here knows which of the two read it from the connection.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final, Protocol

from octad.storage_node.s3.payload import ObjectBytes

CONTINUE_EXPECTED: Final = "100-continue"


class Body(Protocol):
    """The body of one request, without what HTTP wraps around it."""

    held: bytes | None
    """All of it where it has arrived already; None where `pieces` gives it as it comes."""

    async def invite(self) -> None:
        """The client waits for our word before it sends the body: let it."""

    def pieces(self) -> AsyncGenerator[ObjectBytes]:
        """The body as it arrives, at least a byte each; raises S3Error where it does not."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent, as it sent it."""

    method: str
    target: str
    headers: dict[str, str]  # Lower-case names; values as Latin-1 of their bytes.
    body: Body


class HeldBody:
    """A body that arrived together with its request."""

    __slots__ = ("held",)

    def __init__(self, held: bytes) -> None:
        self.held: bytes | None = held

    async def invite(self) -> None:
        """It is here."""

    async def pieces(self) -> AsyncGenerator[ObjectBytes]:
        """All of it in one."""
        if self.held:
            yield self.held
