"""One request at one node, or at two: the way to the head of an answer.

For every request that was begun at a node its outcome is told to that node exactly once, and its
connection is kept or closed, whichever way the caller's coroutine ends.
"""

from __future__ import annotations

import time
from typing import Final

from octad.client.calls.nodes import Node, Nodes, Outcome
from octad.client.calls.requests import Request
from octad.client.calls.settings import Settings
from octad.client.errors import BreakerOpen, Overloaded
from octad.client.http.connection import Connection
from octad.client.http.responses import ResponseHead
from octad.client.http.transport import ConnectionFailed, Runtime, SilentPeer
from octad.client.resilience.latencies import Latencies

READ_SILENCE_S: Final = 5.0  # Then another node is asked.
WRITE_SILENCE_S: Final = 15.0  # A node gives up on a write's replicas after ten.
CONNECT_S_MAX: Final = 3.0
BYTES_A_SECOND: Final = 1024 * 1024  # What a body may take beyond a deadline that no one chose.
WATCHED_S_MIN: Final = 0.05  # How often a late read is looked at that could not be hedged at once.
_FAILURES: Final = frozenset({500, 502, 504})
_OVERLOADS: Final = frozenset({429, 503})


class Answer:
    """A response whose head has come. Its body must be read to the end, or it is closed."""

    __slots__ = ("_connection", "_exchanges", "_node", "_outcome", "_silence_s", "body", "head")

    def __init__(
        self,
        exchanges: Exchanges,
        node: Node,
        connection: Connection,
        head: ResponseHead,
        silence_s: float,
    ) -> None:
        self.head = head
        self.body = b""
        self._silence_s = silence_s
        self._exchanges = exchanges
        self._node: Node | None = node
        self._connection = connection
        self._outcome = _outcome_of(head.status)

    async def read_piece(self, until: float = float("inf")) -> bytes:
        """The next bytes, b"" at the end. Raises ConnectionFailed."""
        if self._node is None:
            return b""
        exchanges = self._exchanges
        if not exchanges.is_home:
            self.close()
            raise ConnectionFailed("it was begun in this process's parent, or on another loop")
        try:
            by = min(until, exchanges.runtime.now() + self._silence_s)
            piece = await self._connection.read_piece(by)
        except BaseException as error:
            if isinstance(error, ConnectionFailed):
                self._outcome = Outcome.FAILURE
            self.close()
            raise
        if not piece:
            self.close()
        return piece

    async def read_all(self, until: float) -> None:
        """Fill `body`. Raises ConnectionFailed."""
        piece = await self.read_piece(until)
        if self._connection.body_ended:
            self.close()
        pieces = [piece]
        while piece := await self.read_piece(until):
            pieces.append(piece)
        self.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @property
    def allowance_s(self) -> float:
        """How long its body may take beyond a deadline that no one chose."""
        return int(self.head.headers.get("content-length", 0)) / BYTES_A_SECOND

    def close(self) -> None:
        """Its connection is kept where the body has ended."""
        node, self._node = self._node, None
        if node is not None:
            self._exchanges.end(node, self._connection, self._outcome)


class _Sent:
    """A request that is out, and whose answer is awaited."""

    __slots__ = ("began", "connection", "node", "reused")

    def __init__(self, node: Node, connection: Connection, began: float) -> None:
        self.node = node
        self.connection = connection
        self.began = began
        self.reused = connection.used


class Exchanges:
    """Those of one client, in one process and on one loop."""

    def __init__(self, settings: Settings, runtime: Runtime, nodes: Nodes) -> None:
        self.runtime = runtime
        self.nodes = nodes
        self.closed = False
        self._settings = settings
        self._latencies = Latencies()
        self._home = runtime.home()

    @property
    def is_home(self) -> bool:
        """Whether its connections may be used here."""
        return self._home == self.runtime.home()

    def close(self) -> None:
        """Let go of what is idle; what is under way goes when it ends."""
        self.closed = True
        if self.is_home:
            self.nodes.close()

    def end(self, node: Node, connection: Connection, outcome: Outcome) -> None:
        """A request at `node` is over."""
        now = self.runtime.now()
        if self.closed or not self.is_home:
            connection.close()
        else:
            node.keep(connection, now)
        node.finish(outcome, now)

    async def answered(self, node: Node, request: Request, tries: int, until: float) -> Answer:
        """Whatever `node`, or another one that was quicker, answers, whatever its status.

        Raises ConnectionFailed, Overloaded.
        """
        while not node.start():
            if not await node.gate.wait(until):
                node.breaker.on_nothing()
                what = f"{node.address.url} has as many requests of this client as it can take"
                raise Overloaded(what, "make fewer at a time")
        silence_s = READ_SILENCE_S
        if not request.is_read:
            silence_s = WRITE_SILENCE_S + len(request.body) / BYTES_A_SECOND
        sent = await self._sent(node, request, tries, until, silence_s)
        if self._settings.hedge and request.is_read:
            sent = await self._sooner(sent, request, tries, until)
        try:
            head = await self._head(sent, request, tries, min(until, sent.began + silence_s))
        except BaseException as error:
            self._drop(sent, error)
            raise
        if request.is_read:
            self._latencies.add(self.runtime.now() - sent.began)
        return Answer(self, sent.node, sent.connection, head, silence_s)

    async def _sent(
        self, node: Node, request: Request, tries: int, until: float, silence_s: float
    ) -> _Sent:
        """Begin it at `node`, which has been told."""
        connection: Connection | None = None
        try:
            now = self.runtime.now()
            connection = node.take_idle(now) or await self._connected(node, until)
            sent = _Sent(node, connection, now)
            if not request.expects_continue:
                head = self._request_head(node, request, tries)
                await connection.send(head, request.body, min(until, now + silence_s))
        except BaseException as error:
            if connection is not None and connection.used and _is_stale(error):
                return sent  # Its answer's absence shows it, and that has its remedy.
            if connection is not None:
                connection.close()
            self._finish(node, error)
            raise
        return sent

    async def _head(self, sent: _Sent, request: Request, tries: int, until: float) -> ResponseHead:
        """The head of the answer.

        A connection that had been used may have been closed by the server before the request
        came: that says nothing of the node, and another connection is made for it.
        """
        try:
            return await self._head_at(sent, request, tries, until)
        except ConnectionFailed as error:
            if not sent.reused or not _is_stale(error):
                raise
        sent.connection.close()
        sent.connection = await self._connected(sent.node, until)
        sent.reused = False
        if not request.expects_continue:
            head = self._request_head(sent.node, request, tries + 1)
            await sent.connection.send(head, request.body, until)
        return await self._head_at(sent, request, tries + 1, until)

    async def _head_at(
        self, sent: _Sent, request: Request, tries: int, until: float
    ) -> ResponseHead:
        if request.expects_continue:
            head = self._request_head(sent.node, request, tries)
            refused = await sent.connection.send_when_invited(
                request.method, head, request.body, self.runtime.now(), until
            )
            if refused is not None:
                return refused
        return await sent.connection.read_head(request.method, until)

    async def _sooner(self, first: _Sent, request: Request, tries: int, until: float) -> _Sent:
        """`first`, or the same at another node, where that answers before it."""
        late_s = self._latencies.late_after_s()
        if late_s is None:
            return first
        until = min(until, first.began + READ_SILENCE_S)
        transport = first.connection.transport
        try:
            look = first.began + late_s
            while not await transport.wait_readable(min(look, until)):
                now = self.runtime.now()
                if now >= until:
                    return first
                # Away from a node that fails already it costs no more than a retry would.
                failing = first.node.breaker.state(now) != "closed"
                if failing or self._latencies.take_hedge():
                    return await self._race(first, request, tries, until)
                look = now + max(late_s, WATCHED_S_MIN)
        except BaseException as error:
            self._drop(first, error)
            raise
        return first

    async def _race(self, first: _Sent, request: Request, tries: int, until: float) -> _Sent:
        try:
            node = self.nodes.choose(None, (first.node,), self.runtime.now())
        except BreakerOpen:
            return first
        if node is first.node or not node.start():
            node.breaker.on_nothing()
            return first
        try:
            second = await self._sent(node, request, tries, until, READ_SILENCE_S)
        except ConnectionFailed:
            return first
        try:
            pair = first.connection.transport, second.connection.transport
            quicker = await self.runtime.first_readable(pair, until)
        except BaseException as error:
            self._drop(second, error)
            raise
        if quicker != 1:
            self._drop(second, None)
            return first
        self._latencies.add(self.runtime.now() - first.began)
        self._drop(first, SilentPeer("another node was quicker"))
        return second

    async def _connected(self, node: Node, until: float) -> Connection:
        by = min(until, self.runtime.now() + CONNECT_S_MAX)
        authority_file = self._settings.authority_file
        connect = self.runtime.connect(node.address, authority_file, by, node.proxy)
        return Connection(await connect)

    def _request_head(self, node: Node, request: Request, tries: int) -> bytes:
        settings = self._settings
        return request.head(
            node.address,
            settings.credentials,
            region=settings.region,
            now=time.time(),
            tries=tries,
            session_token=settings.session_token,
            proxy=node.proxy,
        )

    def _drop(self, sent: _Sent, error: BaseException | None) -> None:
        sent.connection.close()
        self._finish(sent.node, error)

    def _finish(self, node: Node, error: BaseException | None) -> None:
        failed = isinstance(error, ConnectionFailed)
        node.finish(Outcome.FAILURE if failed else Outcome.NOTHING, self.runtime.now())


def _is_stale(error: BaseException) -> bool:
    return isinstance(error, ConnectionFailed) and not isinstance(error, SilentPeer)


def _outcome_of(status: int) -> Outcome:
    if status in _FAILURES:
        return Outcome.FAILURE
    return Outcome.OVERLOAD if status in _OVERLOADS else Outcome.SUCCESS
