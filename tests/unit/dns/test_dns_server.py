"""DNS over real sockets: the C library's own resolver asks, and strangers try what they can."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress

import pytest
from tests.unit.dns.test_dns_messages import asked

from octad.client.cluster.service_records import ServiceInstance
from octad.client.runtime.listener import datagrams_beside, listen_on
from octad.coordinator.dns import dns_server
from octad.coordinator.dns.dns_messages import UDP_BYTES, Kind
from octad.coordinator.dns.dns_server import DnsServer

MANY = [
    ServiceInstance(service="web", instance=str(n), address=f"10.0.{n}.1:80") for n in range(100)
]


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """Its port."""
    with (
        closing(listen_on("127.0.0.1:0", "--dns")) as tcp,
        closing(datagrams_beside(tcp, "--dns")) as udp,
    ):
        server = DnsServer(lambda name: MANY if name == "web" else [])
        await server.start(tcp, udp)
        try:
            yield tcp.getsockname()[1]
        finally:
            await server.stop()


async def over_udp(port: int, question: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(("127.0.0.1", port))
        await loop.sock_sendall(client, question)
        async with asyncio.timeout(10):
            return await loop.sock_recv(client, 65_535)


async def over_tcp(port: int, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(len(question).to_bytes(2, "big") + question)
        async with asyncio.timeout(10):
            length = int.from_bytes(await reader.readexactly(2), "big")
            return await reader.readexactly(length)
    finally:
        writer.close()


def counted(answer: bytes) -> tuple[bool, int]:
    """Whether it was cut off, and how many records are in it."""
    _, flags, _, records, _, _ = struct.unpack_from(">HHHHHH", answer)
    return bool(flags & 0x0200), records


async def test_what_does_not_fit_a_datagram_comes_over_tcp() -> None:
    async with serving() as port:
        question = asked("web.service.octad")
        short = await over_udp(port, question)
        assert len(short) <= UDP_BYTES
        cut, records = counted(short)
        assert cut
        assert records > 10
        assert counted(await over_tcp(port, question)) == (False, 100)
        one, other = await over_udp(port, question), await over_udp(port, question)
        assert one != other, "everyone begins with another instance"
        assert counted(await over_tcp(port, asked("web.service.octad", Kind.SRV)))[1] == 100


async def test_strangers_get_nothing_that_is_larger_than_it_may_be_or_lasts() -> None:
    async with serving() as port:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for junk in (b"", b"x", bytes(600), asked("web.service.octad", flags=0x8000)):
                client.sendto(junk, ("127.0.0.1", port))
        assert len(await over_udp(port, asked("web.example.com"))) < 60
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((600).to_bytes(2, "big"))
        assert await reader.read() == b"", "a question has no 600 bytes"
        writer.close()


async def test_connections_are_bounded_and_idle_ones_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_server, "TCP_CONNECTIONS_MAX", 2)
    monkeypatch.setattr(dns_server, "_TCP_IDLE_S_MAX", 0.3)
    async with serving() as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        async with asyncio.timeout(10):
            for reader, writer in idle:
                with suppress(ConnectionResetError):
                    assert await reader.read() == b""
                writer.close()
        assert counted(await over_tcp(port, asked("web.service.octad"))) == (False, 100)
