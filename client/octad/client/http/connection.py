"""One connection to a server: a request out, its response in, over whichever transport.

A connection is good for another request once the body of the last response was read to its end and
the server keeps it. Whoever cannot read to the end closes it.
"""

from __future__ import annotations

from typing import Final

from octad.client.http.responses import (
    HEAD_BYTES_MAX,
    HEAD_END,
    BodyReader,
    ResponseHead,
    body_reader,
    not_http,
    parse_head,
)
from octad.client.http.transport import Bytes, ConnectionFailed, SilentPeer, Transport

JOINED_BYTES_MAX: Final = 64 * 1024  # A body of this much is sent with its head, in one call.
CONTINUE_S_MAX: Final = 1.0  # A server that says nothing for so long knows no `Expect`.


class Connection:
    """`used`: it has carried a request, so that the server may have closed it meanwhile."""

    __slots__ = ("_body", "_head", "_rest", "idle_since", "transport", "used")

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.used = False
        self.idle_since = 0.0
        self._rest = b""
        self._head: ResponseHead | None = None
        self._body: BodyReader | None = None

    async def send(self, head: bytes, body: Bytes, until: float) -> None:
        """Send a request. One that the server refuses before its end has an answer to be read."""
        self._head = self._body = None
        if len(body) <= JOINED_BYTES_MAX:
            await self.transport.send(head + body if body else head, until)
            return
        try:
            await self.transport.send(head, until)
            await self.transport.send(body, until)
        except SilentPeer:
            raise
        except ConnectionFailed:
            if not self.transport.is_readable():
                raise

    async def send_when_invited(
        self, method: str, head: bytes, body: Bytes, now: float, until: float
    ) -> ResponseHead | None:
        """Send a head with `Expect: 100-continue`, and the body unless it is refused before.

        The head of the refusal is returned.
        """
        self._head = self._body = None
        await self.transport.send(head, until)
        if await self.transport.wait_readable(min(until, now + CONTINUE_S_MAX)):
            answer = await self._next_head(until)
            if answer.status != 100:
                return self._begin(method, answer._replace(keep_alive=False))
        await self.send(b"", body, until)
        return None

    async def read_head(self, method: str, until: float) -> ResponseHead:
        """The head of the response to the request, which was a `method`."""
        answer = await self._next_head(until)
        while answer.status < 200:
            answer = await self._next_head(until)
        return self._begin(method, answer)

    async def read_piece(self, until: float) -> bytes:
        """The next bytes of the body, or b"" at its end."""
        body = self._body
        assert body is not None, "a body comes behind its head"
        while not body.ended:
            data = self._rest or await self.transport.receive(until)
            self._rest = b""
            if piece := body.feed(data):
                return piece
        return b""

    @property
    def body_ended(self) -> bool:
        """Whether nothing more of the answer will come."""
        return self._body is not None and self._body.ended

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow."""
        head, body = self._head, self._body
        return (
            head is not None
            and body is not None
            and body.ended
            and head.keep_alive
            and not self._rest
        )

    def close(self) -> None:
        self.transport.close()

    def _begin(self, method: str, head: ResponseHead) -> ResponseHead:
        self.used = True
        self._head = head
        self._body = body_reader(method, head)
        return head

    async def _next_head(self, until: float) -> ResponseHead:
        data = self._rest
        while (end := data.find(HEAD_END)) < 0:
            if len(data) > HEAD_BYTES_MAX or (data and not data.startswith(b"HTTP"[: len(data)])):
                raise not_http(data)
            more = await self.transport.receive(until)
            if not more:
                raise ConnectionFailed("the connection was closed without an answer")
            data = data + more if data else more
        end += len(HEAD_END)
        self._rest = data[end:]
        return parse_head(data[:end])
