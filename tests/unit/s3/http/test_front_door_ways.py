"""Two ways into the node: which requests take which, on one connection, and what each refuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from io import BytesIO
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import StreamReader, web
from tests.unit.s3.front_door_site import ALICE, FrontDoorSite
from tests.unit.s3.raw_connection import Wire, signed_head

from octad.client.s3.sigv4 import Credentials
from octad.sharding.limits import INLINE_BYTES_MAX, MIB
from octad.storage_node.s3.http.connections import Connection, HttpBody
from octad.storage_node.s3.http.request_head import HEAD_BYTES_MAX

Connect = Callable[[], Wire]
IMPOSTOR = Credentials(ALICE.access_key, "not alice's secret")
LARGE = bytes(range(256)) * (4 * INLINE_BYTES_MAX // 256)


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What aiohttp is given, piece by piece."""
    seen: list[bytes] = []
    feed = Connection.data_received

    def watched(self: Connection, data: bytes) -> None:
        seen.append(data)
        feed(self, data)

    monkeypatch.setattr(Connection, "data_received", watched)
    return seen


def put(site: FrontDoorSite, path: str, body: bytes, **headers: str) -> bytes:
    return signed_head(site, "PUT", path, {"content-length": str(len(body)), **headers}) + body


def get(site: FrontDoorSite, path: str) -> bytes:
    return signed_head(site, "GET", path)


def statuses(client: Wire, count: int) -> list[int]:
    """Of the next answers, whose bodies are read past."""
    return [status_and_body(client)[0] for _ in range(count)]


def status_and_body(client: Wire) -> tuple[int, bytes]:
    head = client.head().decode("latin-1")
    status = int(head.split()[1])
    lengths = [line for line in head.split("\r\n") if line.startswith("Content-Length: ")]
    return status, client.body(int(lengths[0].split(": ")[1])) if lengths else b""


def only_hot(site: FrontDoorSite) -> None:
    if site.all_through_aiohttp:
        pytest.skip("of our own protocol")


def test_small_requests_never_reach_aiohttp(
    site: FrontDoorSite, bucket: str, wire: Connect, handed_over: list[bytes]
) -> None:
    only_hot(site)
    client, path = wire(), f"/{bucket}/a%20key"
    client.socket.sendall(put(site, path, b"data") + get(site, path))
    client.socket.sendall(signed_head(site, "DELETE", path) + get(site, f"/{bucket}"))
    assert statuses(client, 4) == [200, 200, 204, 200]
    assert handed_over == []


def test_neither_large_bodies_nor_what_is_sent_with_them_reach_aiohttp(
    site: FrontDoorSite, bucket: str, wire: Connect, handed_over: list[bytes]
) -> None:
    large, small = put(site, f"/{bucket}/large", LARGE), put(site, f"/{bucket}/small", b"data")
    client = wire()
    client.socket.sendall(
        small + large + get(site, f"/{bucket}/large") + large + get(site, f"/{bucket}/small")
    )
    assert [status_and_body(client) for _ in range(5)] == [
        (200, b""),
        (200, b""),
        (200, LARGE),
        (200, b""),
        (200, b"data"),
    ]
    if not site.all_through_aiohttp:
        assert handed_over == []


def test_what_nobody_can_see_the_end_of_stays_with_aiohttp(
    site: FrontDoorSite, bucket: str, wire: Connect
) -> None:
    client = wire()
    headers = {"transfer-encoding": "chunked"}
    client.socket.sendall(
        signed_head(site, "PUT", f"/{bucket}/key", headers)
        + b"4\r\ndata\r\n0\r\n\r\n"
        + get(site, f"/{bucket}/key")
    )
    assert statuses(client, 2) == [411, 404]


def test_a_large_body_that_is_refused_does_not_block_its_connection(
    site: FrontDoorSite, bucket: str, wire: Connect
) -> None:
    client = wire()
    headers = {"content-length": str(len(LARGE))}
    client.socket.sendall(signed_head(site, "PUT", f"/{bucket}/key", headers, IMPOSTOR) + LARGE)
    head = client.head()
    assert head.startswith(b"HTTP/1.1 403")
    client.body(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
    if b"Connection: close" not in head:
        client.socket.sendall(put(site, f"/{bucket}/key", LARGE) + get(site, f"/{bucket}/key"))
        assert statuses(client, 2) == [200, 200]


@pytest.mark.parametrize(
    ("garbage", "code"),
    [
        (b"GET /\xff\xfe HTTP/1.1\r\n\x00: \r\n\r\n", b"BadRequest"),
        (b"no request at all\r\n\r\n", b"BadRequest"),
        (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", b"BadRequest"),
        (
            b"PUT /b/k HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            b"BadRequest",
        ),
        (
            b"GET / HTTP/1.1\r\nx-long: " + b"x" * 3 * HEAD_BYTES_MAX,
            b"RequestHeaderSectionTooLarge",
        ),
    ],
)
def test_what_is_no_request_is_refused_after_one_that_is(
    site: FrontDoorSite, bucket: str, wire: Connect, garbage: bytes, code: bytes
) -> None:
    client = wire()
    client.send_head("GET", f"/{bucket}/absent")
    assert statuses(client, 1) == [404]
    client.socket.sendall(garbage)
    status, document = status_and_body(client)
    assert status == 400
    assert code in document
    assert client.is_closed()


def test_a_head_beyond_our_own_bound_is_aiohttps(
    site: FrontDoorSite, bucket: str, wire: Connect
) -> None:
    client = wire()
    headers = {f"x-filler-{number}": "x" * 2000 for number in range(HEAD_BYTES_MAX // 2000 + 1)}
    client.send_head("GET", f"/{bucket}/absent", headers)
    client.send_head("GET", f"/{bucket}/absent")
    assert statuses(client, 2) == [404, 404]


def test_a_body_in_small_pieces_arrives(site: FrontDoorSite, bucket: str, wire: Connect) -> None:
    client = wire()
    request = put(site, f"/{bucket}/key", b"0123456789")
    for byte in range(len(request)):
        client.socket.sendall(request[byte : byte + 1])
    client.send_head("GET", f"/{bucket}/key")
    assert [status_and_body(client)[1] for _ in range(2)] == [b"", b"0123456789"]


def test_a_client_that_waits_may_send_its_body_in_pieces_and_more_behind_it(
    site: FrontDoorSite, bucket: str, wire: Connect
) -> None:
    client = wire()
    client.send_head("PUT", f"/{bucket}/key", {"content-length": "8", "expect": "100-continue"})
    assert client.head() == b"HTTP/1.1 100 Continue"
    client.socket.sendall(b"0123")
    time.sleep(0.05)
    client.socket.sendall(b"4567" + get(site, f"/{bucket}/key"))
    assert [status_and_body(client) for _ in range(2)] == [(200, b""), (200, b"01234567")]


def test_a_client_that_expects_to_wait_and_does_not_is_served_all_the_same(
    site: FrontDoorSite, bucket: str, wire: Connect
) -> None:
    client = wire()
    client.socket.sendall(
        put(site, f"/{bucket}/key", b"data", expect="100-continue") + get(site, f"/{bucket}/key")
    )
    assert client.head() == b"HTTP/1.1 100 Continue"
    assert client.head().startswith(b"HTTP/1.1 200")
    assert status_and_body(client) == (200, b"data")


def half_closed(client: Wire, *requests: bytes) -> Wire:
    """`client` after it has sent these and ended its side."""
    client.socket.sendall(b"".join(requests))
    client.send_nothing_more()
    return client


def chunked(site: FrontDoorSite, path: str) -> bytes:
    """Refused for want of a length, but by aiohttp's way and with all of it read."""
    head = signed_head(site, "PUT", path, {"transfer-encoding": "chunked"})
    return head + b"4\r\ndata\r\n0\r\n\r\n"


def test_a_client_may_end_its_side_before_the_answer(
    site: FrontDoorSite, bucket: str, wire: Connect
) -> None:
    path = f"/{bucket}/key"
    long_head = {f"x-filler-{number}": "x" * 2000 for number in range(5)}
    for request, status in (
        (get(site, path), 404),
        (put(site, path, b"data"), 200),
        (put(site, path, LARGE), 200),
        (put(site, path, bytes(2 * MIB)), 200),
        (signed_head(site, "HEAD", path, long_head), 200),
        (chunked(site, path), 411),
    ):
        client = half_closed(wire(), request)
        assert int(client.head().split()[1]) == status
        assert closes(client)


def test_all_that_was_whole_is_answered_though_the_client_has_ended_its_side(
    site: FrontDoorSite, bucket: str, wire: Connect
) -> None:
    path = f"/{bucket}/key"
    whole = [put(site, path, b"data"), get(site, path), put(site, path, LARGE), get(site, path)]
    client = half_closed(wire(), *whole)
    assert [status_and_body(client)[0] for _ in whole] == [200] * 4
    assert closes(client)
    client = half_closed(wire(), put(site, path, b"data"), chunked(site, path), get(site, path))
    assert statuses(client, 3) == [200, 411, 200]
    assert closes(client)


def test_a_request_that_is_cut_short_is_not_waited_for(
    site: FrontDoorSite, bucket: str, wire: Connect
) -> None:
    path = f"/{bucket}/key"
    for request in (put(site, path, b"data"), put(site, path, LARGE), chunked(site, path)):
        assert closes(half_closed(wire(), request[:-1]))
        assert closes(half_closed(wire(), request[:20]))
    assert site.keys(bucket) == []


def closes(client: Wire) -> bool:
    """Whether the connection ends, with whatever was still to come."""
    while client.socket.recv(65536):
        pass
    return True


def test_the_path_is_signed_as_it_was_sent(site: FrontDoorSite, bucket: str, wire: Connect) -> None:
    keys = {b"a b": "a%20b", b"a+b": "a+b", b"//": "//", b"a/../b": "a/../b", b"\xc3\xa9": "%c3%A9"}
    client = wire()
    for path in keys.values():
        client.socket.sendall(put(site, f"/{bucket}/{path}", b"data"))
    assert statuses(client, len(keys)) == [200] * len(keys)
    assert site.keys(bucket) == sorted(keys)


def test_a_target_may_name_the_host(site: FrontDoorSite, bucket: str, wire: Connect) -> None:
    site.request("PUT", f"/{bucket}/key", body=b"data")
    request = get(site, f"/{bucket}/key").replace(b"GET /", f"GET http://{site.host}/".encode(), 1)
    client = wire()
    client.socket.sendall(request)
    assert status_and_body(client) == (200, b"data")


def test_boto3_mixes_small_and_large_on_its_connections(site: FrontDoorSite, bucket: str) -> None:
    client = site.client(max_pool_connections=1)
    for number, size in enumerate((4096, MIB, 0, 2 * MIB, 100_000)):
        client.put_object(Bucket=bucket, Key=f"key-{number}", Body=bytes(size))
        stored = client.get_object(Bucket=bucket, Key=f"key-{number}")
        assert len(stored["Body"].read()) == size
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 5


def test_a_file_without_bytes_does_not_confuse_boto3(site: FrontDoorSite, bucket: str) -> None:
    client = site.client(max_pool_connections=1)
    for size in (0, 0, 7, 0, MIB):
        client.put_object(Bucket=bucket, Key="file", Body=BytesIO(bytes(size)))
        assert client.head_object(Bucket=bucket, Key="file")["ContentLength"] == size


def test_a_client_that_left_before_its_body_was_read_is_no_fault_of_ours(
    site: FrontDoorSite,
) -> None:
    async def reads() -> None:
        assert site.door._listener is not None
        content = StreamReader(site.door._listener(), 1, loop=asyncio.get_running_loop())
        gone = cast(web.BaseRequest, SimpleNamespace(content=content, transport=None))
        with pytest.raises(ConnectionError):
            await HttpBody(gone).read_into(memoryview(bytearray(1)), 1)

    site.run(reads())


def test_a_client_that_left_before_aiohttp_began_leaves_no_failed_task(
    site: FrontDoorSite,
) -> None:
    async def comes_and_goes() -> None:
        assert site.door._listener is not None
        before, connection = asyncio.all_tasks(), site.door._listener()
        connection.connection_made(ClosedTransport())
        begun = asyncio.all_tasks() - before
        connection.connection_lost(None)
        await asyncio.gather(*begun)

    site.run(comes_and_goes())


class ClosedTransport(asyncio.Transport):
    """Of a connection that is gone."""

    def close(self) -> None:
        """It is."""
