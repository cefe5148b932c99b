"""Peers: this node's connections to all others, one each, for one-way messages and calls.

The node with the lower id dials; both directions carry requests. One-way messages to one node
arrive in the order in which they were sent, each at most once, but that urgent ones pass the
others. What is under way to a peer is bounded: a message beyond that is dropped, a call fails. A
lost connection loses what was under way, and nothing is sent again. It does not know what a message
means, nor who is in the cluster: callers say so.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping

from octad.client.cluster.join_token import JoinToken
from octad.sharding.ids import NodeId, node_name
from octad.sharding.limits import CALL_TIMEOUT_S, RPC_BEAT_S, RPC_HANDSHAKES_MAX
from octad.storage_node.rpc.frame_format import ONE_WAY, Frame
from octad.storage_node.rpc.messages import Message, Reply, Request
from octad.storage_node.rpc.peer import Peer, PeerHandlers
from octad.storage_node.rpc.peer_connection import Body, PeerConnection
from octad.storage_node.rpc.peer_dialer import PeerDialer
from octad.storage_node.rpc.peer_figures import PeerFigures
from octad.storage_node.rpc.peer_handshake import NONCE_BYTES, Handshake, Hello, PeerSession
from octad.storage_node.rpc.peer_refusal import PeerRefused, Refusal
from octad.storage_node.rpc.peer_tls import TlsContexts
from octad.storage_node.rpc.refusal_log import RefusalLog
from octad.storage_node.rpc.rpc_errors import PeerUnavailable

logger = logging.getLogger(__name__)


class Peers:
    """All of one node's connections. Make it inside the running loop; close it at the end.

    `handle` comes before anything that connects.
    """

    def __init__(
        self,
        node: NodeId,
        boot: str,
        token: JoinToken,
        tls: TlsContexts | None = None,
    ) -> None:
        self._node = node
        self._boot = boot
        self._cluster = token.cluster
        self._key = token.key_for("rpc")
        self._handlers: PeerHandlers | None = None
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._dialers: dict[NodeId, PeerDialer] = {}
        self._named: set[NodeId] = set()
        self._connections: dict[PeerConnection, None] = {}  # Including those in a handshake.
        # Accepted connections in a handshake; the oldest comes first.
        self._strangers: dict[PeerConnection, None] = {}
        self._open: dict[NodeId, Peer] = {}
        self._refusals = RefusalLog()
        self.figures = PeerFigures()
        self._beat_timer = self._loop.call_later(RPC_BEAT_S, self._beat)

    @property
    def refusals(self) -> Counter[Refusal]:
        """The number of refusals, by reason."""
        return self._refusals.counts

    @property
    def named(self) -> int:
        """The number of other nodes with an address."""
        return len(self._named)

    @property
    def open(self) -> int:
        """The number of other nodes connected."""
        return len(self._open)

    def handle(self, handlers: PeerHandlers) -> None:
        """Sets the receiver of the other nodes' messages."""
        self._handlers = handlers

    async def listen(self, host: str, port: int) -> int:
        """Takes connections from nodes with lower ids; the actual port (for port 0)."""
        self._server = await self._loop.create_server(
            lambda: self._new_connection(None), host, port
        )
        actual: int = self._server.sockets[0].getsockname()[1]
        return actual

    def set_addresses(self, addresses: Mapping[NodeId, str]) -> None:
        """Everyone in the cluster (host:port): dials higher ids, drops who is no longer named."""
        for node in self._named - addresses.keys():
            self._stop_dialing(node)
            if peer := self._open.get(node):
                peer.connection.drop()
        self._named = set(addresses)
        for node, address in addresses.items():
            dialer = self._dialers.get(node)
            if node <= self._node or (dialer and dialer.address == address):
                continue
            self._stop_dialing(node)
            self._dialers[node] = PeerDialer(node, address, self._new_connection)

    def connected(self, node: NodeId) -> bool:
        """Whether messages to `node` have somewhere to go."""
        return node in self._open

    def heard_boot(self, node: NodeId) -> str | None:
        """The boot of the process at the other end, if it was heard recently."""
        peer = self._open.get(node)
        return None if peer is None or peer.connection.is_silent else peer.boot

    def send(self, node: NodeId, message: Message, body: Body = b"") -> bool:
        """Sends without waiting, at the end of this loop tick or in queue order.

        False when not connected, or when too much is waiting to be sent to that node. True does not
        mean that it arrives. The body is not copied, so it must not change until it
        has been written. A body that is a sequence is joined.
        """
        peer = self._open.get(node)
        if peer is None:
            return False
        if peer.connection.send(ONE_WAY, 0, message, body):
            return True
        self.figures.messages_dropped += 1
        return False

    async def call(
        self,
        node: NodeId,
        message: Request[Reply],
        body: Body = b"",
        timeout_s: float = CALL_TIMEOUT_S,
        *,
        about: int | None = None,
    ) -> tuple[Reply, memoryview]:
        """The answer; raises PeerUnavailable, CallTimeout or RemoteError. `about`: see `give_up`.

        PeerUnavailable at once when the node is not connected, does not answer our Pings, or has
        too much waiting for it: calls to a dead node do not wait for it.
        """
        peer = self._open.get(node)
        if peer is None:
            self.figures.calls_refused += 1
            raise PeerUnavailable(node, self._why_not_connected(node), sent=False)
        return await peer.call(message, body, timeout_s, about)

    def give_up(self, node: NodeId, about: int) -> None:
        """No answer of `node` to the calls under way `about` this is worth waiting for any more.

        They raise PeerUnavailable.
        """
        peer = self._open.get(node)
        if peer is not None:
            peer.give_up(about)

    def outgoing_bytes(self, node: NodeId) -> int:
        """Bytes accepted for `node` and not yet taken by the kernel; 0 when not connected."""
        peer = self._open.get(node)
        return 0 if peer is None else peer.connection.outgoing_bytes

    async def drained(self, node: NodeId) -> None:
        """Waits while the outgoing bytes are above the high-water mark and the connection lasts."""
        peer = self._open.get(node)
        if peer is not None:
            await peer.connection.drained()

    async def close(self) -> None:
        """Stops listening and dialing, ends every connection and every handler under way."""
        self._beat_timer.cancel()
        if self._server is not None:
            self._server.close()
        dialing = [dialer.stop() for dialer in self._dialers.values()]
        self._dialers.clear()
        connections = list(self._connections)
        for connection in connections:
            connection.drop()
        answers = [] if self._handlers is None else list(self._handlers.answers)
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*dialing, *answers, return_exceptions=True)
        for connection in connections:
            await connection.lost.wait()
        if self._server is not None:
            await self._server.wait_closed()

    # Events of connections (ConnectionOwner).

    def on_open(self, connection: PeerConnection, session: PeerSession) -> Callable[[Frame], None]:
        """The latest connection of a pair counts: the other end may not know of an older one."""
        assert self._handlers is not None, "no one takes what comes in"
        node = session.node
        if older := self._open.get(node):
            older.connection.drop()
        self._strangers.pop(connection, None)
        self.figures.connections += 1
        peer = self._open[node] = Peer(
            node, session.boot, connection, self._handlers, self._refusals, self.figures
        )
        logger.info("connected with %s at %s", node_name(node), connection.address)
        try:
            self._handlers.on_connected(node, session.boot)
        except Exception:
            logger.exception("the connection with %s hit a bug", node_name(node))
        return peer.on_frame

    def on_lost(self, connection: PeerConnection, refused: PeerRefused | None) -> None:
        self._connections.pop(connection, None)
        self._strangers.pop(connection, None)
        node = connection.node
        if refused is not None:
            self._refusals.add(connection.host if node is None else node_name(node), refused)
        if node is None or self._handlers is None:
            return
        logger.info("disconnected from %s", node_name(node))
        self._open.pop(node).end()
        try:
            self._handlers.on_disconnected(node)
        except Exception:
            logger.exception("the loss of %s hit a bug", node_name(node))

    def _new_connection(self, wanted: NodeId | None) -> PeerConnection:
        own = Hello(self._cluster, self._node, self._boot, os.urandom(NONCE_BYTES))
        tls = None if self._tls is None else self._tls.new(dialing=wanted is not None)
        connection = PeerConnection(self._loop, Handshake(own, self._key, wanted), self, tls)
        self._connections[connection] = None
        if wanted is None:
            self._strangers[connection] = None
            if len(self._strangers) > RPC_HANDSHAKES_MAX:
                # A node needs two round trips: a crowd that just waits does not keep it out.
                slowest = next(iter(self._strangers))
                slowest.drop(PeerRefused(Refusal.TOO_MANY, "too many handshakes at a time"))
        return connection

    def _why_not_connected(self, node: NodeId) -> str:
        if dialer := self._dialers.get(node):
            return f"not connected ({dialer.trouble}); it is dialed again within a second"
        if node in self._named:
            return "not connected: it has to dial this node"
        return "not connected: its address is not known"

    def _stop_dialing(self, node: NodeId) -> None:
        if dialer := self._dialers.pop(node, None):
            dialer.stop()

    def _beat(self) -> None:
        self._beat_timer = self._loop.call_later(RPC_BEAT_S, self._beat)
        for connection in list(self._connections):
            connection.beat()
