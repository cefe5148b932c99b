"""Connections of the simulated network, as a protocol sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import cast

import pytest
from tests.simulation.virtual.boundary import simulated_machine
from tests.simulation.virtual.network import Network, Transport
from tests.simulation.virtual.timeline import Timeline
from tests.simulation.virtual.virtual_loop import Clock, VirtualLoop


class End(asyncio.BufferedProtocol):
    """Keeps what it sees."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.reads = 0
        self.seen: list[str] = []
        self._space = bytearray(4096)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("Transport", transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._space

    def buffer_updated(self, nbytes: int) -> None:
        self.reads += 1
        self.received += self._space[:nbytes]

    def eof_received(self) -> bool:
        self.seen.append("end")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.seen.append("lost" if exc is None else type(exc).__name__)

    def pause_writing(self) -> None:
        self.seen.append("full")

    def resume_writing(self) -> None:
        self.seen.append("room")


class Pair:
    """Two processes, connected."""

    def __init__(self) -> None:
        self.timeline = Timeline(11, steps_max=50_000)
        self.network = Network(self.timeline)
        self.a, self.b = (
            VirtualLoop(self.timeline, self.network, host, Clock(0.0, 1.0)) for host in "ab"
        )
        self.near, self.far = End(), End()

    async def connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self.near, "b", 1)

    async def listen(self) -> None:
        await asyncio.get_running_loop().create_server(lambda: self.far, "b", 1)

    def run(self, seconds: float) -> None:
        self.timeline.run_until(self.timeline.time + seconds)
        assert not self.timeline.failures


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    with simulated_machine(pair.timeline):
        pair.b.spawn(pair.listen(), "listen")
        pair.run(0.1)
        pair.a.spawn(pair.connect(), "connect")
        pair.run(0.1)
        yield pair


def test_bytes_arrive_in_order_in_pieces_of_any_size(pair: Pair) -> None:
    sent = b""
    for number in range(500):
        data = str(number).encode() * 40
        pair.near.transport.writelines([data[:7], data[7:]])
        sent += data
        pair.run(0.0001)
    pair.run(0.1)
    assert pair.far.received == sent
    assert pair.far.reads > 500


def test_what_is_sent_over_a_cut_link_arrives_when_it_is_healed(pair: Pair) -> None:
    pair.network.cuts.add(("a", "b"))
    pair.near.transport.write(b"later")
    pair.far.transport.write(b"now")
    pair.run(5.0)
    assert not pair.far.received
    assert pair.near.received == b"now"
    pair.network.cuts.clear()
    pair.run(0.5)
    assert pair.far.received == b"later"


def test_the_other_end_of_a_killed_process_hears_of_it_and_of_a_dark_machine_nothing(
    pair: Pair,
) -> None:
    pair.near.transport.write(b"said before")
    pair.a.kill()
    pair.network.process_ended(pair.a, silently=False)
    pair.run(1.0)
    assert pair.far.received == b"said before"
    assert pair.far.seen == ["ConnectionResetError"]


def test_the_other_end_of_a_machine_without_power_hears_nothing(pair: Pair) -> None:
    pair.a.kill()
    pair.network.process_ended(pair.a, silently=True)
    pair.run(10.0)
    assert not pair.far.seen


def test_what_is_not_read_holds_up_the_sender(pair: Pair) -> None:
    pair.b.pause(3.0)
    while "full" not in pair.near.seen:
        pair.near.transport.write(bytes(60_000))
        pair.run(0.1)
        assert pair.timeline.time < 3.0
    held = pair.near.transport.get_write_buffer_size()
    assert held
    pair.run(5.0)
    assert pair.near.transport.get_write_buffer_size() == 0
    assert pair.near.seen == ["full", "room"]


def test_what_was_written_before_a_close_arrives_before_the_end(pair: Pair) -> None:
    pair.near.transport.write(b"last words")
    pair.near.transport.close()
    pair.run(1.0)
    assert pair.far.received == b"last words"
    assert pair.far.seen == ["end", "lost"]
    assert pair.near.seen == ["lost"]


def test_no_one_is_reached_where_no_one_listens(pair: Pair) -> None:
    async def connect() -> None:
        await asyncio.get_running_loop().create_connection(End, "b", 2)

    task = pair.a.spawn(connect(), "connect")
    pair.run(1.0)
    assert isinstance(task.exception(), ConnectionRefusedError)
