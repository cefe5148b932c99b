"""On the connection: waiting clients, large bodies, clients that leave, and the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.unit.s3.front_door_site import ALICE, FrontDoorSite
from tests.unit.s3.raw_connection import Wire

from octad.client.s3.sigv4 import Credentials
from octad.sharding.limits import MIB

IMPOSTOR = Credentials(ALICE.access_key, "not alice's secret")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def largest_piece(site: FrontDoorSite) -> Iterator[list[int]]:
    """The largest piece that a body's writer was given meanwhile."""
    seen: list[int] = []
    new_body = site.store.new_body

    def watched(*args: object) -> object:
        body = new_body(*args)  # type: ignore[arg-type]
        bodies.append(body)
        return body

    bodies: list[object] = []
    site.store.new_body = watched  # type: ignore[assignment,method-assign]
    try:
        yield seen
    finally:
        site.store.new_body = new_body  # type: ignore[method-assign]
        seen += [body.largest_write for body in bodies]  # type: ignore[attr-defined]


def test_a_waiting_client_is_asked_for_its_body(
    site: FrontDoorSite, bucket: str, wire: Callable[[], Wire]
) -> None:
    client = wire()
    client.send_head("PUT", f"/{bucket}/key", {"content-length": "4", "expect": "100-continue"})
    assert client.head() == b"HTTP/1.1 100 Continue"
    client.socket.sendall(b"data")
    assert client.head().startswith(b"HTTP/1.1 200 OK")
    client.send_head("GET", f"/{bucket}/key")
    assert client.head().startswith(b"HTTP/1.1 200 OK"), "the connection goes on"
    assert client.body(4) == b"data"


@pytest.mark.parametrize(
    ("path", "length", "credentials", "status"),
    [
        ("/BUCKET/key", "4", IMPOSTOR, b"403"),
        ("/no-such-bucket/key", "4", ALICE, b"404"),
        ("/BUCKET/key", str(6 * 2**30), ALICE, b"400"),
        ("/BUCKET/" + "k" * 1025, "4", ALICE, b"400"),
    ],
)
def test_a_waiting_client_is_refused_before_it_sends_anything(
    bucket: str,
    wire: Callable[[], Wire],
    path: str,
    length: str,
    credentials: Credentials,
    status: bytes,
) -> None:
    client = wire()
    headers = {"content-length": length, "expect": "100-continue"}
    client.send_head("PUT", path.replace("BUCKET", bucket), headers, credentials)
    head = client.head()
    assert head.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in head
    client.socket.settimeout(2)
    while not client.is_closed():
        pass


def test_a_refused_body_is_read_on_so_that_the_refusal_can_be_read(
    bucket: str, wire: Callable[[], Wire]
) -> None:
    client = wire()
    client.send_head("PUT", f"/{bucket}/key", {"content-length": str(32 * MIB)}, IMPOSTOR)
    for _ in range(32):
        client.socket.sendall(bytes(MIB))
    head = client.head()
    assert head.startswith(b"HTTP/1.1 403")
    assert b"Connection: close" in head


def test_requests_follow_each_other_on_a_connection(bucket: str, wire: Callable[[], Wire]) -> None:
    client = wire()
    for _ in range(3):
        client.send_head("GET", f"/{bucket}/absent")
    for _ in range(3):
        head = client.head()
        assert head.startswith(b"HTTP/1.1 404")
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        assert b"NoSuchKey" in client.body(length)


def test_http_1_0_is_closed_unless_it_asks_otherwise(bucket: str, wire: Callable[[], Wire]) -> None:
    client = wire()
    client.send_head("HEAD", f"/{bucket}", {"connection": "keep-alive"}, version="1.0")
    assert b"Connection: keep-alive" in client.head()
    client.send_head("HEAD", f"/{bucket}", version="1.0")
    assert b"Connection: close" in client.head()
    assert client.is_closed()


def test_a_client_that_leaves_in_the_middle_leaves_nothing(
    site: FrontDoorSite, bucket: str, wire: Callable[[], Wire]
) -> None:
    client = wire()
    client.send_head("PUT", f"/{bucket}/key", {"content-length": str(8 * MIB)})
    client.socket.sendall(bytes(4 * MIB))
    wait_until(lambda: bool(site.store.open_bodies))
    client.socket.close()
    wait_until(lambda: not site.store.open_bodies)
    assert site.keys(bucket) == []


def test_a_large_body_is_stored_as_it_comes(
    site: FrontDoorSite, bucket: str, wire: Callable[[], Wire]
) -> None:
    with largest_piece(site) as seen:
        client = wire()
        client.send_head("PUT", f"/{bucket}/key", {"content-length": str(32 * MIB)})
        for _ in range(32):
            client.socket.sendall(bytes(MIB))
        assert client.head().startswith(b"HTTP/1.1 200")
    assert max(seen) <= MIB // 4


def test_a_client_that_reads_slowly_holds_up_the_reading_of_extents(
    site: FrontDoorSite, bucket: str, wire: Callable[[], Wire]
) -> None:
    site.request("PUT", f"/{bucket}/key", body=bytes(64 * MIB))
    site.store.pieces_read = 0
    client = wire()
    client.send_head("GET", f"/{bucket}/key")
    client.head()
    time.sleep(0.3)
    assert site.store.pieces_read < 32, "read far ahead of a client that takes nothing"
    assert len(client.body(64 * MIB)) == 64 * MIB


def test_a_request_in_progress_is_finished_before_the_end() -> None:
    with FrontDoorSite() as site:
        site.run(site.store.create_bucket("bucket", "alice"))
        busy, idle = Wire(site), Wire(site)
        busy.send_head("PUT", "/bucket/key", {"content-length": "4", "expect": "100-continue"})
        assert busy.head() == b"HTTP/1.1 100 Continue"
        stopping = site.begin(site.door.stop(grace_s=5))
        assert idle.is_closed(), "a connection without a request is closed at once"
        busy.socket.sendall(b"data")
        head = busy.head()
        assert head.startswith(b"HTTP/1.1 200")
        assert b"Connection: close" in head
        stopping.result(5)
        assert site.keys("bucket") == [b"key"]
        for one in (busy, idle):
            one.socket.close()


def test_a_request_that_outlasts_the_grace_is_cut_and_leaves_nothing() -> None:
    with FrontDoorSite() as site:
        site.run(site.store.create_bucket("bucket", "alice"))
        busy = Wire(site)
        busy.send_head("PUT", "/bucket/key", {"content-length": str(8 * MIB)})
        busy.socket.sendall(bytes(MIB))
        wait_until(lambda: bool(site.store.open_bodies))
        site.run(site.door.stop(grace_s=0.1))
        assert not site.store.open_bodies
        assert site.keys("bucket") == []
        busy.socket.close()


def test_a_port_in_use_is_an_error_of_its_own(site: FrontDoorSite) -> None:
    with FrontDoorSite() as other:
        other.run(other.door.stop(0))
        with pytest.raises(OSError, match="in use"):
            other.run(other.door.start("127.0.0.1", site.door.port))


def test_a_bug_is_500_and_logged_with_the_request_id(
    site: FrontDoorSite, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    site.store.failure = ZeroDivisionError("a bug")  # type: ignore[assignment]
    try:
        answer = site.request("GET", f"/{bucket}/key")
    finally:
        site.store.failure = None
    assert (answer.status, answer.code) == (500, "InternalError")
    assert b"a bug" not in answer.body
    assert answer.headers["x-amz-request-id"] in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_the_front_door_runs_in_the_loop_of_its_caller() -> None:
    site = FrontDoorSite()
    await site.door.start("127.0.0.1", 0)
    answer = await asyncio.to_thread(site.request, "GET", "/")
    assert answer.status == 200
    await site.door.stop(0)
    site.close_loop()
