"""What the RPC tests share: two sides of a handshake, a cluster of Peers, a tampering proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from octad.client.cluster.join_token import JoinToken
from octad.sharding.ids import NodeId
from octad.storage_node.rpc.frame_format import PREFIX, Frame, FrameReader
from octad.storage_node.rpc.messages import Message, Request, message
from octad.storage_node.rpc.peer import OnRequest, PeerHandlers
from octad.storage_node.rpc.peer_handshake import RECORD, Handshake, Hello, PeerSession
from octad.storage_node.rpc.peer_tls import TlsContexts
from octad.storage_node.rpc.peers import Peers

TOKEN = JoinToken("00c0ffee", bytes(range(32)))
ONE, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)


@message
class Note(Request[Message], frozen=True, tag=126):
    """What these tests send."""

    number: int
    text: str = ""


def hello(node: int, *, boot: str = "", cluster: str = TOKEN.cluster) -> Hello:
    return Hello(cluster, node, boot or f"boot-{node}", bytes([node]) * 32)


def handshakes(
    dialer: Hello | None = None,
    acceptor: Hello | None = None,
    *,
    acceptor_key: bytes = b"k" * 32,
    wanted: NodeId = TWO,
) -> tuple[Handshake, Handshake]:
    return (
        Handshake(dialer or hello(1), b"k" * 32, wanted),
        Handshake(acceptor or hello(2), acceptor_key, None),
    )


def give(handshake: Handshake, data: bytes) -> bytes:
    """Delivers `data` as a socket would: into the space there is, as long as there is any."""
    answer = b""
    while data and handshake.session is None:
        space = handshake.space()
        portion = data[: len(space)]
        space[: len(portion)] = portion
        answer += handshake.received(len(portion))
        data = data[len(portion) :]
    return answer


def shake_hands() -> tuple[PeerSession, PeerSession]:
    """The sessions of node 1, which dials, and of node 2."""
    dialer, acceptor = handshakes()
    give(acceptor, give(dialer, give(acceptor, dialer.start())))
    assert dialer.session is not None
    assert acceptor.session is not None
    return dialer.session, acceptor.session


def read_all(reader: FrameReader, data: bytes, portion_bytes: int = 1 << 30) -> list[Frame]:
    """The frames in `data`, delivered in portions; stops as the reader does."""
    frames: list[Frame] = []
    while data:
        space = reader.space()
        portion = data[: min(len(space), portion_bytes)]
        space[: len(portion)] = portion
        frames.extend(reader.received(len(portion)))
        data = data[len(portion) :]
    return frames


class PeerNode:
    """One node's Peers, and everything they have told."""

    def __init__(
        self,
        node: NodeId,
        *,
        boot: str = "",
        token: JoinToken = TOKEN,
        on_request: OnRequest | None = None,
        tls: TlsContexts | None = None,
    ) -> None:
        self.node = node
        self.events: list[str] = []
        self.received: list[tuple[NodeId, Message, memoryview]] = []
        self.address = ""
        self.peers = Peers(
            node,
            boot or f"boot-{node}",
            token,
            tls,
        )
        self.handlers = PeerHandlers(
            lambda *one_way: self.received.append(one_way),
            on_request or (lambda _, asked, body: (asked, body)),
            lambda peer, boot: self.events.append(f"+{peer} {boot}"),
            lambda peer: self.events.append(f"-{peer}"),
        )
        self.peers.handle(self.handlers)

    async def listen(self) -> None:
        self.address = f"127.0.0.1:{await self.peers.listen('127.0.0.1', 0)}"

    def numbers(self) -> list[int]:
        return [note.number for _, note, _ in self.received if isinstance(note, Note)]

    def writes(self, to: NodeId) -> int:
        return self.peers._open[to].connection.writes


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Waits for something that is about to become true."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.002)


Tamper = Callable[[list[bytes]], list[bytes]]


class TamperingProxy:
    """Stands between a dialer and an acceptor; `tamper` changes the dialer's frames on their way.

    The handshake passes untouched. Frames are collected while `holding`, then sent on, tampered
    with, by `release`; at other times they pass one by one. `frozen`: nothing passes any more.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self.target = (host, int(port))
        self.held: list[bytes] = []
        self.links: list[ProxyLink] = []
        self.holding = False
        self.frozen = False
        self._server: asyncio.Server | None = None

    async def listen(self) -> str:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: ProxyLink(self), "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def release(self, count: int, tamper: Tamper) -> None:
        """Waits until `count` frames are held, and sends on what `tamper` makes of them."""
        await until(lambda: len(self.held) >= count)
        held, self.held = self.held, []
        self.to_acceptor.write(b"".join(tamper(held)))

    @property
    def to_acceptor(self) -> asyncio.Transport:
        transport = self.links[-1].acceptor.transport
        assert transport is not None
        return transport

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for link in self.links:
            link.end()
        await until(lambda: all(link.ended for link in self.links))


class ProxyLink(asyncio.Protocol):
    """One connection from a dialer, and the one that belongs to it to the acceptor."""

    def __init__(self, proxy: TamperingProxy) -> None:
        self._proxy = proxy
        self._records_left = 2  # HELLO and PROOF.
        self._unread = b""
        self._to_dialer: asyncio.Transport | None = None
        self._connecting: object = None  # Holds the task.
        self._dialer_ended = False
        self.acceptor = ProxyAcceptorEnd(self)

    @property
    def ended(self) -> bool:
        return self._dialer_ended and self.acceptor.ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._to_dialer = cast(asyncio.Transport, transport)
        self._proxy.links.append(self)
        loop = asyncio.get_running_loop()
        connect = loop.create_connection(lambda: self.acceptor, *self._proxy.target)
        self._connecting = asyncio.ensure_future(connect)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while self.acceptor.transport is not None and (unit := self._next_unit()):
            self._unread = self._unread[len(unit) :]
            if self._records_left:
                self._records_left -= 1
                self.acceptor.transport.write(unit)
            elif self._proxy.holding:
                self._proxy.held.append(unit)
            elif not self._proxy.frozen:
                self.acceptor.transport.write(unit)

    def connection_lost(self, exc: Exception | None) -> None:
        self._dialer_ended = True
        self.end()

    def on_acceptor_data(self, data: bytes) -> None:
        if not self._proxy.frozen and self._to_dialer is not None:
            self._to_dialer.write(data)

    def end(self) -> None:
        for transport in (self._to_dialer, self.acceptor.transport):
            if transport is not None:
                transport.abort()

    def _next_unit(self) -> bytes:
        """The next whole record or frame of the dialer, if there is one."""
        head = RECORD if self._records_left else PREFIX
        if len(self._unread) < head.size:
            return b""
        fields = head.unpack_from(self._unread)
        length = head.size + (fields[3] if self._records_left else fields[1] + fields[2])
        return self._unread[:length] if len(self._unread) >= length else b""


class ProxyAcceptorEnd(asyncio.Protocol):
    """The proxy's connection to the acceptor."""

    def __init__(self, link: ProxyLink) -> None:
        self._link = link
        self.transport: asyncio.Transport | None = None
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._link.data_received(b"")

    def data_received(self, data: bytes) -> None:
        self._link.on_acceptor_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self._link.end()
