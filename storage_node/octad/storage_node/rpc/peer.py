"""One peer while it is connected: frames become messages, requests and answers find each other.

Ends with its connection; when the peer comes back there is a new one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from octad.sharding.ids import NodeId, node_name
from octad.sharding.limits import (
    MIB,
    RPC_BEAT_S,
    RPC_CALLS_MAX,
    RPC_REQUESTS_MAX,
    RPC_SILENT_BEATS_MAX,
)
from octad.storage_node.rpc.frame_format import ERROR, ONE_WAY, REQUEST, RESPONSE, Frame
from octad.storage_node.rpc.messages import (
    BadMessage,
    Failure,
    Message,
    Ping,
    Pong,
    Reply,
    Request,
    decode_message,
    reply_to,
)
from octad.storage_node.rpc.peer_calls import PeerCalls
from octad.storage_node.rpc.peer_connection import Body, Buffer, PeerConnection
from octad.storage_node.rpc.peer_figures import PeerFigures
from octad.storage_node.rpc.peer_refusal import PeerRefused, Refusal
from octad.storage_node.rpc.refusal_log import RefusalLog
from octad.storage_node.rpc.rpc_errors import (
    BAD_MESSAGE,
    BUSY,
    INTERNAL,
    CallTimeout,
    PeerUnavailable,
    RemoteError,
    RpcRefusal,
)

RPC_REQUEST_BYTES_MAX = 256 * MIB  # The bodies of all requests under way.

Answer = tuple[Message, Body]
OnOneWay = Callable[[NodeId, Message, memoryview], None]
OnRequest = Callable[[NodeId, Message, memoryview], Answer | Awaitable[Answer]]


class Call(Protocol):
    """Asks a node, and returns its answer: `Peers.call`, `ShardClient.call`."""

    def __call__(
        self, node: NodeId, message: Request[Reply], body: bytes, timeout_s: float, /
    ) -> Awaitable[tuple[Reply, Buffer]]:
        """See the two for what they raise."""


PONG = Pong()
_SILENT = (
    "it does not answer; it is asked again every"
    f" {RPC_BEAT_S:g} s, and let go after {RPC_BEAT_S * RPC_SILENT_BEATS_MAX:g} s"
)

logger = logging.getLogger(__name__)


OnConnected = Callable[[NodeId, str], None]
OnDisconnected = Callable[[NodeId], None]


@dataclass(frozen=True, slots=True)
class PeerHandlers:
    """Receives peers' messages, and tracks answers under way.

    `on_request` returns its answer; or, where it has to wait, a future of it; or a coroutine, which
    costs a task. It refuses by raising RpcRefusal. A body stays valid as long as it is referenced.
    Any other error of a handler is logged, and affects only that message.
    """

    on_one_way: OnOneWay
    on_request: OnRequest
    on_connected: OnConnected  # With the boot of the remote process.
    on_disconnected: OnDisconnected
    answers: dict[asyncio.Future[Answer], None] = field(default_factory=dict)


class Peer:
    """`node` at the other end of `connection`."""

    def __init__(
        self,
        node: NodeId,
        boot: str,
        connection: PeerConnection,
        handlers: PeerHandlers,
        refusals: RefusalLog,
        figures: PeerFigures,
    ) -> None:
        self.node = node
        self.boot = boot
        self.connection = connection
        self._handlers = handlers
        self._refusals = refusals
        self._figures = figures
        self._requests = 0  # The peer's requests under way.
        self._request_bytes = 0  # The sum of their bodies.
        self._loop = asyncio.get_running_loop()
        self._calls = PeerCalls(self._loop, node)

    async def call(
        self, message: Request[Reply], body: Body, timeout_s: float, about: int | None
    ) -> tuple[Reply, memoryview]:
        """See `Peers.call`."""
        if self.connection.is_silent:
            raise self._refused_call(_SILENT)
        if len(self._calls) >= RPC_CALLS_MAX:
            raise self._refused_call(f"{RPC_CALLS_MAX} calls to it are under way")
        call_id, answered = self._calls.start(timeout_s, about)
        try:
            if not self.connection.send(REQUEST, call_id, message, body):
                waiting = self.connection.outgoing_bytes
                raise self._refused_call(f"{waiting:,} bytes are waiting to be sent to it")
            answer, data = await answered
            return reply_to(message, answer), data
        except CallTimeout:
            self._figures.calls_timed_out += 1
            raise
        except BadMessage as error:
            self._count_bad_message(error)
            raise RemoteError(self.node, INTERNAL, str(error)) from error
        finally:
            self._calls.forget(call_id)

    def give_up(self, about: int) -> None:
        """See `Peers.give_up`."""
        self._calls.give_up(about)

    def end(self) -> None:
        """The connection is lost."""
        self._calls.end()

    def on_frame(self, frame: Frame) -> None:
        """Takes what the peer has sent. Raises nothing: bugs of handlers are logged."""
        kind = frame.kind
        if kind == ONE_WAY:
            self._on_one_way(frame)
        elif kind == REQUEST:
            self._on_request(frame)
        else:
            self._on_answer(frame)

    def _on_one_way(self, frame: Frame) -> None:
        try:
            message = decode_message(frame.message)
            if type(message) is Ping:
                self.connection.send(ONE_WAY, 0, PONG)
            elif type(message) is not Pong:
                self._handlers.on_one_way(self.node, message, frame.body)
        except BadMessage as error:
            self._count_bad_message(error)
        except Exception:
            logger.exception("a message from %s hit a bug", node_name(self.node))

    def _on_answer(self, frame: Frame) -> None:
        result: tuple[Message, memoryview] | Exception
        try:
            message = decode_message(frame.message)
        except BadMessage as error:
            self._count_bad_message(error)
            result = RemoteError(self.node, BAD_MESSAGE, str(error))
        else:
            result = (message, frame.body)
            if frame.kind == ERROR:
                result = self._remote_error(message)
        # No waiter any more: the call timed out or was cancelled.
        self._calls.answer(frame.call_id, result)

    def _remote_error(self, message: Message) -> RemoteError:
        if isinstance(message, Failure):
            return RemoteError(self.node, message.code, message.text)
        return RemoteError(self.node, BAD_MESSAGE, f"{message} instead of a failure")

    def _on_request(self, frame: Frame) -> None:
        call_id, size = frame.call_id, len(frame.body)
        if self._requests >= RPC_REQUESTS_MAX or self._request_bytes > RPC_REQUEST_BYTES_MAX:
            self._figures.requests_refused += 1
            self._fail(call_id, BUSY, f"it works on {self._requests} requests of this node")
            return
        try:
            message = decode_message(frame.message)
            answer = self._handlers.on_request(self.node, message, frame.body)
        except Exception as error:
            self._refuse(call_id, error)
            return
        if isinstance(answer, tuple):
            self._answer(call_id, answer)
            return
        future = asyncio.ensure_future(answer, loop=self._loop)
        self._handlers.answers[future] = None
        self._requests += 1
        self._request_bytes += size
        future.add_done_callback(lambda done: self._on_answer_ready(call_id, size, done))

    def _on_answer_ready(self, call_id: int, size: int, done: asyncio.Future[Answer]) -> None:
        self._handlers.answers.pop(done, None)
        self._requests -= 1
        self._request_bytes -= size
        if done.cancelled():
            self._fail(call_id, INTERNAL, "the request was cancelled")
            return
        error = done.exception()
        if error is None:
            self._answer(call_id, done.result())
        else:
            self._refuse(call_id, error)

    def _answer(self, call_id: int, answer: Answer) -> None:
        if self.connection.is_lost:
            return
        message, body = answer
        try:
            if not self.connection.send(RESPONSE, call_id, message, body):
                self._fail(call_id, BUSY, "too many answers are waiting to be sent")
        except Exception as error:
            self._refuse(call_id, error)

    def _refuse(self, call_id: int, error: BaseException) -> None:
        if isinstance(error, RpcRefusal):
            self._fail(call_id, error.code, error.text)
        elif isinstance(error, BadMessage):
            self._count_bad_message(error)
            self._fail(call_id, BAD_MESSAGE, str(error))
        else:
            logger.error("a request of %s hit a bug", node_name(self.node), exc_info=error)
            self._fail(call_id, INTERNAL, f"{type(error).__name__} (see that node's log)")

    def _fail(self, call_id: int, code: str, text: str) -> None:
        connection = self.connection
        if not connection.is_lost and not connection.send(ERROR, call_id, Failure(code, text)):
            connection.drop(PeerRefused(Refusal.OVERRUN, "it does not read its answers"))

    def _refused_call(self, text: str) -> PeerUnavailable:
        self._figures.calls_refused += 1
        return PeerUnavailable(self.node, text, sent=False)

    def _count_bad_message(self, error: BadMessage) -> None:
        self._refusals.add(node_name(self.node), PeerRefused(Refusal.MESSAGE, str(error)))
