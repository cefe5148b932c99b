"""The proxies: they pass bytes on, hold them back in one direction only, and know who is who."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from octad.chaos.cluster.free_ports import free_port
from octad.chaos.cluster.network import Network
from octad.chaos.cluster.socket_owners import owner_of
from octad.client.runtime.address import Address

HERE, THERE = "127.0.1.77", "127.0.2.77"
SOON_S, NOT_SOON_S = 2.0, 0.15


class Echo(asyncio.Protocol):
    """Sends back whatever comes, and remembers it."""

    received: bytearray

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._transport.write(data)


class Line:
    """A client `a` of an echo `b`, with a proxy between them."""

    def __init__(self, network: Network, received: bytearray) -> None:
        self.network = network
        self.received = received
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def says(self, text: bytes, within_s: float = SOON_S) -> bool:
        """Whether the echo of `text` comes back in time."""
        self.writer.write(text)
        return await self.hears(text, within_s)

    async def hears(self, text: bytes, within_s: float = SOON_S) -> bool:
        try:
            return await asyncio.wait_for(self.reader.readexactly(len(text)), within_s) == text
        except TimeoutError:
            return False


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    port, received = free_port([0], [HERE]), bytearray()

    def make_echo() -> Echo:
        echo = Echo()
        echo.received = received
        return echo

    echoing = await asyncio.get_running_loop().create_server(make_echo, HERE, port)
    network = Network(lambda local, remote: owner_of(local, remote, {"a": os.getpid()}) or "?")
    await network.add("b", Address(THERE, port), Address(HERE, port))
    line = Line(network, received)
    line.reader, line.writer = await asyncio.open_connection(THERE, port)
    try:
        assert await line.says(b"hello")
        yield line
    finally:
        line.writer.transport.abort()
        await network.close()
        echoing.close()
        await echoing.wait_closed()
        await asyncio.sleep(0)


async def test_a_cut_one_way_holds_back_that_way_only(line: Line) -> None:
    line.network.cut("b", "a")
    assert not await line.says(b"1", NOT_SOON_S)
    assert line.received.endswith(b"1"), "it did not get there"
    line.network.heal("b", "a")
    assert await line.hears(b"1")
    line.network.cut("a", "b")
    assert not await line.says(b"2", NOT_SOON_S)
    assert line.received.endswith(b"1"), "it got there"
    line.network.heal_all()
    assert await line.hears(b"2"), "what was held back is lost"


async def test_a_cut_between_others_is_nothing_to_a_pair(line: Line) -> None:
    for source, target in (("?", "b"), ("b", "?"), ("a", "c")):
        line.network.cut(source, target)
    assert await line.says(b"1")


async def test_a_delay_is_one(line: Line) -> None:
    line.network.link("a", "b").delay_s = NOT_SOON_S
    assert not await line.says(b"1", NOT_SOON_S / 2)
    assert await line.hears(b"1")


async def test_a_reset_ends_connections_of_the_pair_only(line: Line) -> None:
    line.network.reset("a", ["c"])
    assert await line.says(b"1")
    line.network.reset("b", ["a"])
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await line.says(b"2")
