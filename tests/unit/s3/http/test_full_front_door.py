"""More connections than the front door has room for: who goes, who is told what, both ways in."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from tests.unit.s3.front_door_site import ALICE, FrontDoorSite, RawAnswer
from tests.unit.s3.http.test_front_door_connections import wait_until
from tests.unit.s3.raw_connection import Wire

from octad.client.runtime import connection_room
from octad.client.runtime.longest_idle import IDLE_S_MIN
from octad.client.s3.sigv4 import Credentials
from octad.sharding.limits import TURNED_AWAY_MAX
from octad.storage_node.s3.http import server as server_module
from octad.storage_node.s3.http.connections import CLIENT_HEAD_BYTES_MAX

ROOM = 4


@pytest.fixture(params=["hot", "aiohttp"])
def site(request: pytest.FixtureRequest) -> Iterator[FrontDoorSite]:
    """A front door with room for four connections."""
    aiohttp_alone = request.param == "aiohttp"
    with FrontDoorSite(all_through_aiohttp=aiohttp_alone, connections_max=ROOM) as site:
        site.run(site.store.create_bucket("bucket", "alice"))
        yield site


def fill(site: FrontDoorSite, wire: Callable[[], Wire], count: int = ROOM) -> list[Wire]:
    """Idle connections, one after the other."""
    room = site.door.room
    assert room is not None
    wires = []
    for _ in range(count):
        before = len(room.present)
        wires.append(wire())
        wait_until(lambda before=before: len(room.present) > before)  # type: ignore[misc]
    return wires


def make_busy(wires: list[Wire]) -> None:
    for one in wires:
        one.send_head("PUT", "/bucket/key", {"content-length": "4", "expect": "100-continue"})
        assert one.head() == b"HTTP/1.1 100 Continue"


def refused(answer: RawAnswer) -> bool:
    return (answer.status, answer.headers.get("retry-after")) == (503, "1")


def test_the_longest_idle_makes_room_and_nobody_else_notices(
    site: FrontDoorSite, wire: Callable[[], Wire]
) -> None:
    first, second, *rest = fill(site, wire)
    first.send_head("GET", "/bucket/absent")
    assert first.head().startswith(b"HTTP/1.1 404"), "so the second is idle for longer"
    time.sleep(IDLE_S_MIN)
    assert site.request("PUT", "/bucket/key", body=b"data").status == 200
    assert second.is_closed()
    for one in (first, *rest):
        one.send_head("HEAD", "/bucket/key")
    assert [one.head()[:15] for one in rest] == [b"HTTP/1.1 200 OK"] * 2


def test_whoever_is_busy_stays_and_a_newcomer_is_told_to_slow_down(
    site: FrontDoorSite, wire: Callable[[], Wire]
) -> None:
    wires = fill(site, wire)
    make_busy(wires)
    answer = site.request("GET", "/bucket/key")
    assert (answer.status, answer.code) == (503, "SlowDown")
    assert answer.element("RequestId") == answer.headers["x-amz-request-id"]
    assert refused(answer)
    assert answer.headers["connection"] == "close"
    large = site.request("PUT", "/bucket/large", body=bytes(1_000_000))
    assert (large.status, large.code) == (503, "SlowDown"), "its body is read on meanwhile"
    head = site.request("HEAD", "/bucket/key")
    assert (head.status, head.body) == (503, b"")
    assert site.door.requests["none", 503] == 3
    for one in wires:
        one.socket.sendall(b"data")
        assert one.head().startswith(b"HTTP/1.1 200")


def test_those_who_are_turned_away_are_bounded_too(
    site: FrontDoorSite, wire: Callable[[], Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_room, "_TELL_S_MAX", 60.0)
    make_busy(fill(site, wire))
    room = site.door.room
    assert room is not None
    crowd = [wire() for _ in range(TURNED_AWAY_MAX + 20)]
    wait_until(lambda: room.turned_away == len(crowd))
    wait_until(lambda: len(room.turning_away) == TURNED_AWAY_MAX)
    assert len(room.present) == ROOM
    for one in crowd:
        one.socket.close()
    wait_until(lambda: not room.turning_away)


def test_who_is_turned_away_and_says_nothing_is_not_waited_for(
    site: FrontDoorSite, wire: Callable[[], Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_room, "_TELL_S_MAX", 0.05)
    make_busy(fill(site, wire))
    silent = wire()
    with suppress(ConnectionResetError):
        assert silent.is_closed()


def test_a_head_that_never_ends_makes_room_like_any_idle_connection(
    site: FrontDoorSite, wire: Callable[[], Wire]
) -> None:
    slow = fill(site, wire)
    for one in slow:
        one.socket.sendall(b"GET /bucket/key HTTP/1.1\r\nx-slow: ")
    time.sleep(IDLE_S_MIN)
    for _ in range(2 * ROOM):
        for one in slow[2:]:
            one.socket.sendall(b"x")
        assert site.request("PUT", "/bucket/key", body=b"data").status == 200


def test_a_crowd_that_says_nothing_is_closed_after_a_while(
    site: FrontDoorSite, wire: Callable[[], Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "IDLE_S_MAX", 0.0)
    monkeypatch.setattr("octad.storage_node.s3.http.hot_connection.IDLE_S_MAX", 0.0)
    for one in fill(site, wire, 2):
        assert one.is_closed()


@pytest.mark.parametrize("line", [b"x-%d: " + b"v" * 1000, b"x-%d: v"], ids=["long", "short"])
def test_a_head_without_end_is_refused_before_it_takes_memory(
    site: FrontDoorSite, wire: Callable[[], Wire], line: bytes
) -> None:
    """Also on a connection that has had an answer, and whatever its headers are cut into."""
    client = wire()
    client.send_head("GET", "/bucket/absent")
    head = client.head()
    client.body(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
    client.socket.sendall(b"GET /bucket/key HTTP/1.1\r\nhost: x\r\n")
    sent = number = 0
    try:
        while sent < 4 * CLIENT_HEAD_BYTES_MAX:
            piece = b"\r\n".join(line % (number + each) for each in range(8)) + b"\r\n"
            client.socket.sendall(piece)
            number, sent = number + 8, sent + len(piece)
    except (BrokenPipeError, ConnectionResetError):
        pass  # It is closed while we still send.
    assert sent <= 2 * CLIENT_HEAD_BYTES_MAX + 1_000_000
    answer = b""
    with suppress(ConnectionResetError):
        while data := client.socket.recv(65536):
            answer += data
    assert not answer or re.match(rb"HTTP/1.. 4\d\d ", answer)


def test_large_heads_and_bodies_are_no_heads_without_end(
    site: FrontDoorSite, wire: Callable[[], Wire]
) -> None:
    """What follows a head, refused or stored, small or in chunks, is not counted as one."""
    long = {f"x-amz-meta-{number}": "v" * 200 for number in range(8)} | {"x-long": "v" * 7000}
    client = wire()
    for credentials, status in ((ALICE, b"200"), (Credentials("NOBODY", "secret"), b"403")):
        client.send_head("PUT", "/bucket/key", long | {"content-length": "2000000"}, credentials)
        client.socket.sendall(bytes(2_000_000))
        head = client.head()
        assert head.startswith(b"HTTP/1.1 " + status)
    while not client.is_closed():
        pass  # The rest of the refusal; then its body has been read to the end.
    chunked = wire()
    sha = {"transfer-encoding": "chunked", "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    chunked.send_head("PUT", "/bucket/key", sha)
    for _ in range(30):
        chunked.socket.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
    chunked.socket.sendall(b"0\r\n\r\n")
    assert chunked.head()[:12] in (b"HTTP/1.1 200", b"HTTP/1.1 411")


_WITHOUT_DESCRIPTORS = """
import asyncio, os, resource, socket, sys, time, uvloop
sys.path.insert(0, {root!r})
from tests.unit.s3.front_door_site import FrontDoorSite

asyncio.new_event_loop = lambda: uvloop.new_event_loop()
with FrontDoorSite(all_through_aiohttp={aiohttp}) as site:
    site.run(site.store.create_bucket("bucket", "alice"))
    assert site.request("GET", "/bucket/absent").status == 404
    while site.door.room.present:
        time.sleep(0.01)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    ready = [socket.socket() for _ in range(20)]
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    before = time.process_time()
    for one in ready:
        one.settimeout(5)
        one.connect(("127.0.0.1", site.door.port))
    for one in ready:
        try:
            assert one.recv(1) == b"", "shed"
        except ConnectionResetError:
            pass
    assert time.process_time() - before < 2, "it does not spin"
    for one in taken:
        os.close(one)
    assert site.request("GET", "/bucket/absent").status == 404
    for one in ready:
        one.close()
print("goes on")
"""


@pytest.mark.parametrize("aiohttp", [False, True])
def test_no_descriptor_left_to_accept_with_ends_nothing(
    aiohttp: bool, pytestconfig: pytest.Config
) -> None:
    """With uvloop, as in a node."""
    code = _WITHOUT_DESCRIPTORS.format(root=str(pytestconfig.rootpath), aiohttp=aiohttp)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "goes on\n", done.stderr
    assert done.stderr.count("\n") <= 1, "and it does not fill the log"
