"""No body takes memory before its request is signed, and none keeps what others wait for."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest
from tests.unit.s3.front_door_site import ALICE, FrontDoorSite
from tests.unit.s3.raw_connection import Wire
from tests.unit.upkeep.test_memory_of_extents import Site

from octad.client.s3.sigv4 import Credentials
from octad.sharding.limits import BODY_BUDGET_BYTES_MIN, MIB
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.objects.extents import ExtentWriter
from octad.storage_node.s3.handlers import bodies
from octad.storage_node.s3.http.cut_short import is_cut_short
from octad.storage_node.shards.object_store import Bucket

IMPOSTOR = Credentials(ALICE.access_key, "not alice's secret")
STEP_S = 0.2


@pytest.fixture(params=[False, True], ids=["hot", "aiohttp"])
def site(request: pytest.FixtureRequest) -> Iterator[FrontDoorSite]:
    with FrontDoorSite(all_through_aiohttp=request.param) as site:
        site.run(site.store.create_bucket("bucket", "alice"))
        yield site


@pytest.fixture
def wire(site: FrontDoorSite) -> Iterator[Callable[[], Wire]]:
    wires: list[Wire] = []

    def connect() -> Wire:
        wires.append(Wire(site))
        return wires[-1]

    yield connect
    for each in wires:
        each.socket.close()


async def take_all_small(budget: BodyBudget) -> None:
    await budget.small.take(budget.small.share.bytes_max)


async def give_all_small_back(budget: BodyBudget) -> None:
    budget.small.give_back(budget.small.share.bytes_max)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("size", [4, 100_000, 64 * MIB])
def test_a_request_whose_signature_is_wrong_is_answered_before_its_body_has_come(
    site: FrontDoorSite, wire: Callable[[], Wire], size: int
) -> None:
    client = wire()
    client.send_head("PUT", "/bucket/key", {"content-length": str(size)}, IMPOSTOR)
    assert client.head().startswith(b"HTTP/1.1 403")
    assert site.budget.used == 0


def test_a_small_body_waits_for_memory_and_gives_it_back(
    site: FrontDoorSite, wire: Callable[[], Wire]
) -> None:
    site.run(take_all_small(site.budget))
    client = wire()
    client.send_head("PUT", "/bucket/key", {"content-length": "100000"})
    client.socket.sendall(bytes(100_000))
    wait_until(lambda: site.budget.waiting == 100_000)
    site.run(give_all_small_back(site.budget))
    assert client.head().startswith(b"HTTP/1.1 200")
    wait_until(lambda: (site.budget.used, site.budget.waiting) == (0, 0))


@pytest.mark.parametrize("length", [4, 100_000])
def test_a_request_that_fails_or_whose_client_leaves_gives_its_memory_back(
    site: FrontDoorSite, wire: Callable[[], Wire], length: int
) -> None:
    client = wire()
    client.send_head("PUT", "/bucket/key", {"content-length": str(length)})
    wait_until(lambda: site.budget.used == length)
    client.socket.close()
    wait_until(lambda: site.budget.used == 0)


class SlowClients:
    """A door whose large bodies take memory as in a node, with room for few of them at a time."""

    def __init__(self, site: FrontDoorSite) -> None:
        self.site = site
        self.extents = Site()
        self.extents.budget = BodyBudget(BODY_BUDGET_BYTES_MIN)
        self.extents.durable.set()
        self.at_once = self.extents.budget.large.share.bytes_max // MIB
        site.store.new_body = self.new_body  # type: ignore[assignment,method-assign]

    def new_body(
        self, bucket: Bucket, key: bytes, size: int, upload_id: bytes = b""
    ) -> ExtentWriter:
        return self.extents.writer(size)

    def stored(self, key: str) -> bytes:
        bucket = self.site.store.buckets["bucket"].id
        return self.extents.stored(self.site.store.objects[bucket, key.encode()].row.extents)


@pytest.fixture
def slow(site: FrontDoorSite, monkeypatch: pytest.MonkeyPatch) -> SlowClients:
    monkeypatch.setattr(bodies, "BODY_STEP_S", STEP_S)
    return SlowClients(site)


def begin(client: Wire, name: str, sent: bytes) -> None:
    client.send_head("PUT", f"/bucket/{name}", {"content-length": str(2 * MIB)})
    client.socket.sendall(sent)


@pytest.mark.parametrize("sent", [0, 1, 300_000])
def test_slow_clients_keep_no_memory_that_others_wait_for_and_lose_nothing(
    wire: Callable[[], Wire], slow: SlowClients, sent: int
) -> None:
    count = 2 * slow.at_once
    clients = [wire() for _ in range(count)]
    body = bytes(range(256)) * (2 * MIB // 256)
    for number, client in enumerate(clients):
        begin(client, f"slow-{number}", body[:sent])
    wait_until(lambda: slow.extents.budget.large.is_wanted)
    quick = wire()
    begin(quick, "quick", body)
    assert quick.head().startswith(b"HTTP/1.1 200"), "in its turn, though nobody else was done"
    for client in clients:
        client.socket.sendall(body[sent:])
    for number, client in enumerate(clients):
        assert client.head().startswith(b"HTTP/1.1 200")
        assert slow.stored(f"slow-{number}") == body
    assert slow.extents.budget.used == 0


def test_a_client_that_sends_nothing_while_others_wait_is_told_so_in_the_end(
    wire: Callable[[], Wire], slow: SlowClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octad.storage_node.memory.body_pace.BODY_STALLED_S_MAX", 6.0)
    client = wire()
    begin(client, "slow", b"x")
    head = client.head()
    assert head.startswith(b"HTTP/1.1 400")
    assert b"Connection: close" in head
    assert slow.extents.budget.used == 0


async def test_a_client_that_has_left_is_told_from_one_that_has_sent_all() -> None:
    loop = asyncio.get_running_loop()
    accepted: Future[asyncio.Transport] = Future()

    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            loop.call_soon(transport.pause_reading)
            accepted.set_result(transport)

    server = await loop.create_server(Deaf, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        transport = await asyncio.wrap_future(accepted)
        await asyncio.sleep(0)
        client.sendall(bytes(1000))
        assert not is_cut_short(transport, 2000), "more may come"
    async with asyncio.timeout(5):
        while not is_cut_short(transport, 1001):
            await asyncio.sleep(0.01)
    assert not is_cut_short(transport, 1000), "all of it is there"
    transport.abort()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("site", [False], ids=["hot"], indirect=True)
def test_what_a_client_that_has_left_had_sent_is_not_stored(
    wire: Callable[[], Wire], slow: SlowClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octad.storage_node.s3.http.hot_connection.is_cut_short", lambda *_: True)
    large = slow.extents.budget.large
    slow.site.run(large.take(large.share.bytes_max))
    client = wire()
    begin(client, "left", bytes(MIB))
    wait_until(lambda: large.is_wanted)

    async def give_back() -> None:
        large.give_back(large.share.bytes_max)

    slow.site.run(give_back())
    wait_until(lambda: slow.extents.budget.used == 0)
    assert slow.extents.pieces == {}
