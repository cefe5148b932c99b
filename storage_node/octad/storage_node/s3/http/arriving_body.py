"""A body of stated length that arrives on a connection of our own protocol, read as it is wanted.

Its bytes go from the socket to where they stay. While no one asks for them they stay in the socket.
"""

from __future__ import annotations

from typing import Protocol

from octad.storage_node.s3.http.wire import Wire, open_transport
from octad.storage_node.s3.protocol.answers import CONTINUE


class Source(Wire, Protocol):
    """The connection that a body arrives on."""

    def take_into(self, space: memoryview) -> int:
        """The bytes that came with the request's head, up to the space."""

    async def receive_into(self, space: memoryview, wait_s: float) -> int:
        """Arriving bytes, up to the space; fewer once `wait_s` are over.

        Raises ConnectionError where no more will come.
        """


class ArrivingBody:
    """See the module."""

    __slots__ = ("_invited", "_source", "held", "is_awaited", "left")

    def __init__(self, source: Source, size: int, *, is_awaited: bool) -> None:
        self._source = source
        self._invited = False
        self.is_awaited = is_awaited  # The client waits for our word, and may not send it at all.
        self.left = size
        self.held: bytes | None = None

    async def invite(self) -> None:
        """Let the client send it, also an empty one: see `may_be_passed`."""
        self._invited = True
        open_transport(self._source).write(CONTINUE)

    async def read_into(self, space: memoryview, wait_s: float) -> int:
        """See `Body.read_into`."""
        space = space[: self.left]
        count = self._source.take_into(space)
        self.left -= count
        if count < len(space):
            came = await self._source.receive_into(space[count:], wait_s)
            self.left -= came
            count += came
        return count

    @property
    def may_be_passed(self) -> bool:
        """Whether the connection can go on after the rest of the body.

        Not where the client was answered instead of invited: botocore takes the status of such an
        answer for that of the next one, too, on the same connection.
        """
        return self._invited or not self.is_awaited
