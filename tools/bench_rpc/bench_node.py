"""A node of the RPC bench: `Peers`, and the messages by which two of them load each other."""

from __future__ import annotations

import asyncio
import time
from multiprocessing.connection import Connection
from typing import ClassVar

import uvloop

from octad.client.cluster.join_token import JoinToken
from octad.sharding.ids import NodeId
from octad.storage_node.rpc.messages import Message, Request, message
from octad.storage_node.rpc.peer import Answer, PeerHandlers
from octad.storage_node.rpc.peer_tls import TlsContexts, TlsFiles
from octad.storage_node.rpc.peers import Peers

ONE, TWO = NodeId(1), NodeId(2)
TOKEN = JoinToken("00c0ffee", bytes(range(32)))


@message
class Filler(Message, frozen=True, tag=120):
    """A body to move; what a Prepare of a write is."""

    number: int


@message
class BenchBeat(Message, frozen=True, tag=121):
    """Comes back as it is."""

    urgent: ClassVar[bool] = True
    number: int
    back: bool = False


@message
class Load(Request[Message], frozen=True, tag=122):
    """Send bodies of 1 MiB for so long, and pause so long for each that comes in."""

    seconds: float
    queued_bytes: int
    pause_s: float


@message
class NodeFigures(Message, frozen=True, tag=124):
    """So far: frames received, seconds of CPU used."""

    received: int
    cpu_s: float


@message
class Figures(Request[NodeFigures], frozen=True, tag=123):
    """Asks for NodeFigures."""


class BenchNode:
    """One end of the connection."""

    def __init__(self, node: NodeId, tls: TlsFiles | None) -> None:
        self._other = TWO if node == ONE else ONE
        self._received = 0
        self._beats = 0
        self._beat: asyncio.Future[None] | None = None
        self._pause_s = 0.0
        self._work: asyncio.Future[None] | None = None
        self.peers = Peers(
            node,
            f"boot-{node}",
            TOKEN,
            None if tls is None else TlsContexts(tls),
        )
        self.peers.handle(
            PeerHandlers(self._on_one_way, self._on_request, lambda *_: None, lambda _: None)
        )

    async def beat(self) -> float:
        """Seconds that a beat takes to the other node and back."""
        self._beats += 1
        self._beat = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        self.peers.send(self._other, BenchBeat(self._beats))
        await self._beat
        return time.perf_counter() - started

    async def keep_sending(
        self, size: int, frames_a_tick: int, queued_bytes: int, seconds: float
    ) -> None:
        """Bodies of `size`, as fast as the other node takes them."""
        body = bytes(size)
        until = time.perf_counter() + seconds
        number = 0
        while time.perf_counter() < until:
            while self.peers.outgoing_bytes(self._other) > queued_bytes - 2 * frames_a_tick * size:
                await asyncio.sleep(0.0005)
            for _ in range(frames_a_tick):
                number += 1
                self.peers.send(self._other, Filler(number), body)
            await asyncio.sleep(0)

    def _on_one_way(self, node: NodeId, sent: Message, body: memoryview) -> None:
        if type(sent) is Filler:
            self._received += 1
            if self._pause_s:
                time.sleep(self._pause_s)  # The loop is busy that long.
        elif type(sent) is BenchBeat:
            if not sent.back:
                self.peers.send(node, BenchBeat(sent.number, back=True))
            elif self._beat is not None and sent.number == self._beats:
                self._beat.set_result(None)

    def _on_request(self, node: NodeId, asked: Message, body: memoryview) -> Answer:
        if isinstance(asked, Load):
            self._pause_s = asked.pause_s
            if asked.seconds:
                work = self.keep_sending(1 << 20, 1, asked.queued_bytes, asked.seconds)
                self._work = asyncio.ensure_future(work)
            return asked, b""
        return NodeFigures(self._received, time.process_time()), b""


def serve(pipe: Connection, tls: TlsFiles | None) -> None:
    """The other process: node 2, until the pipe is closed."""
    uvloop.run(_serve(pipe, tls))


async def _serve(pipe: Connection, tls: TlsFiles | None) -> None:
    node = BenchNode(TWO, tls)
    pipe.send(await node.peers.listen("127.0.0.1", 0))
    closed = asyncio.Event()
    asyncio.get_running_loop().add_reader(pipe.fileno(), closed.set)
    await closed.wait()
    await node.peers.close()
