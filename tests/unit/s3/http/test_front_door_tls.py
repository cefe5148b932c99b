"""TLS at the front door: what it takes, what strangers get, and a certificate that is renewed.

That everything else is as without TLS is told by the other tests here, which run in both.
"""

from __future__ import annotations

import _ssl
import ctypes
import http.client
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from tests.unit.s3.front_door_site import FrontDoorSite, TlsFiles
from tests.unit.s3.raw_connection import Wire, signed_head

from octad.coordinator.tls import tls_transport
from octad.sharding.limits import KIB, MIB

BODY = bytes(range(256)) * (4 * KIB)


@pytest.fixture(params=["hot", "aiohttp"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FrontDoorSite]:
    with FrontDoorSite(
        all_through_aiohttp=request.param == "aiohttp", tls=TlsFiles(tmp_path)
    ) as site:
        yield site
        assert not site.store.open_bodies, "a body was neither finished nor abandoned"


def plain(site: FrontDoorSite) -> socket.socket:
    """A connection that has said nothing yet."""
    return socket.create_connection(("127.0.0.1", site.door.port), timeout=10)


def all_of(connection: socket.socket) -> bytes:
    """What comes until the other side ends."""
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


def is_ended(connection: socket.socket) -> bool:
    """Whether the other side ends it, before it has said nothing for 10 s."""
    try:
        all_of(connection)
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def lists_buckets(connection: socket.socket, site: FrontDoorSite) -> bool:
    """One request, after which the connection goes on."""
    connection.sendall(signed_head(site, "GET", "/"))
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status == 200


@pytest.mark.parametrize(
    "begin",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PUT /bucket/key HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n",
        b"HEAD / HTTP/1.1\r\n",
        b"\r\n",
        b"\x80\x2e\x01\x00\x02",  # SSL 2.
    ],
)
def test_plain_http_on_the_tls_port_is_answered_at_once_and_in_words(
    site: FrontDoorSite, begin: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "octad.front_door")
    began = time.monotonic()
    for _ in range(3):
        with plain(site) as stranger:
            stranger.sendall(begin)
            if begin.startswith(b"PUT"):
                stranger.sendall(bytes(3_000_000))  # It reads its answer when all is out.
            answer = all_of(stranger)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"\r\nx-amz-request-id: " in answer
        assert (b"https://" in answer) == (not begin.startswith(b"HEAD"))
    assert time.monotonic() - began < tls_transport.DEAF_S_MAX
    assert len([line for line in caplog.messages if "plain HTTP" in line]) == 1


def test_tls_1_2_and_1_3_are_spoken_and_nothing_older(site: FrontDoorSite) -> None:
    assert site.tls is not None
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = site.tls.trusting
        context.minimum_version = context.maximum_version = version
        with context.wrap_socket(plain(site), server_hostname="localhost") as client:
            assert lists_buckets(client, site)
    old = site.tls.trusting
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with plain(site) as unwrapped, pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        old.wrap_socket(unwrapped, server_hostname="localhost")


def test_who_does_not_finish_a_handshake_is_let_go(
    site: FrontDoorSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_transport, "HANDSHAKE_S_MAX", 0.3)
    hello = ssl.MemoryBIO()
    says_hello = ssl.create_default_context().wrap_bio(
        ssl.MemoryBIO(), hello, server_hostname="localhost"
    )
    with pytest.raises(ssl.SSLWantReadError):
        says_hello.do_handshake()
    with plain(site) as silent, plain(site) as slow, plain(site) as frozen:
        slow.sendall(b"\x16\x03\x01\x02\x00\x01")
        frozen.sendall(hello.read())
        assert frozen.recv(5).startswith(b"\x16"), "it is answered"
        assert is_ended(silent)
        assert is_ended(slow)
        assert is_ended(frozen)
    with site.connect() as client:
        time.sleep(0.4)
        assert lists_buckets(client, site), "the time is that of a handshake alone"


def test_a_handshake_without_end_is_cut(
    site: FrontDoorSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_transport, "HANDSHAKE_BYTES_MAX", 16 * KIB)
    with plain(site) as stranger:
        # A message of 64 KiB, as the first of its records says, in records that are in order.
        stranger.sendall(b"\x16\x03\x01\x40\x00\x01\x00\xff\xff" + bytes(0x4000 - 4))
        stranger.sendall(b"\x16\x03\x03\x30\x00" + bytes(0x3000))
        stranger.settimeout(tls_transport.HANDSHAKE_S_MAX / 2)
        assert is_ended(stranger)


def test_a_silent_crowd_does_not_keep_others_out(
    site: FrontDoorSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_transport, "HANDSHAKES_MAX", 8)
    with ExitStack() as crowd:
        silent = [crowd.enter_context(plain(site)) for _ in range(20)]
        with site.connect() as client:
            assert lists_buckets(client, site)
        silent[0].settimeout(tls_transport.HANDSHAKE_S_MAX / 2)
        assert is_ended(silent[0]), "the oldest made room"


def test_what_was_changed_on_its_way_reaches_no_handler(site: FrontDoorSite) -> None:
    assert site.tls is not None
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = site.tls.trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with plain(site) as connection:
        shake(client, incoming, outgoing, connection)
        client.write(signed_head(site, "PUT", "/new-bucket"))
        sealed = bytearray(outgoing.read())
        sealed[-1] ^= 1
        connection.sendall(sealed)
        assert is_ended(connection)
    assert "new-bucket" not in site.store.buckets


def test_a_client_that_has_said_goodbye_inside_tls_still_gets_its_answer(
    site: FrontDoorSite,
) -> None:
    assert site.tls is not None
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = site.tls.trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with plain(site) as connection:
        shake(client, incoming, outgoing, connection)
        client.write(signed_head(site, "GET", "/"))
        with pytest.raises(ssl.SSLWantReadError):
            client.unwrap()
        connection.sendall(outgoing.read())
        incoming.write(all_of(connection))
    assert client.read(65536).startswith(b"HTTP/1.1 200 ")


def ask_for_new_keys(client: ssl.SSLObject, times: int) -> None:
    """As any client may at any time; Python has no word for it."""
    openssl = ctypes.CDLL(_ssl.__file__)
    layout = ctypes.POINTER(
        ctypes.c_void_p * 4
    )  # A `PySSLSocket`: two fields of any object, owner, SSL.
    ours = ctypes.c_void_p(ctypes.cast(id(vars(client)["_sslobj"]), layout).contents[3])
    openssl.SSL_get_version.restype = ctypes.c_char_p
    assert openssl.SSL_get_version(ours) == b"TLSv1.3"
    for _ in range(times):
        assert openssl.SSL_key_update(ours, 1) == 1
        assert openssl.SSL_do_handshake(ours) == 1


def test_a_client_that_asks_for_new_keys_is_told_them_at_once(site: FrontDoorSite) -> None:
    assert site.tls is not None
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = site.tls.trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with plain(site) as connection:
        shake(client, incoming, outgoing, connection)
        ask_for_new_keys(client, 1000)
        connection.sendall(outgoing.read())
        told = 0
        while told < 10_000:
            told += incoming.write(connection.recv(65536))
        client.write(signed_head(site, "GET", "/"))
        connection.sendall(outgoing.read())
        answer = b""
        while not answer:
            incoming.write(connection.recv(65536))
            with suppress(ssl.SSLWantReadError):
                answer = client.read(65536)
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_who_asks_for_new_keys_for_ever_and_reads_nothing_is_let_go(site: FrontDoorSite) -> None:
    assert site.tls is not None
    site.run(site.store.create_bucket("bucket", "alice"))
    site.request("PUT", "/bucket/key", body=BODY * 16)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = site.tls.trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with plain(site) as connection:
        shake(client, incoming, outgoing, connection)
        client.write(signed_head(site, "GET", "/bucket/key"))
        connection.sendall(outgoing.read())

        def ask_on() -> None:
            for _ in range(100):
                ask_for_new_keys(client, 1000)
                connection.sendall(outgoing.read())

        with pytest.raises(ConnectionError):
            ask_on()


def shake(
    client: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, over: socket.socket
) -> None:
    """The handshake, to its end."""
    while True:
        try:
            client.do_handshake()
            over.sendall(outgoing.read())
            return
        except ssl.SSLWantReadError:
            over.sendall(outgoing.read())
            incoming.write(over.recv(65536))


def test_a_body_whose_client_ends_behind_it_is_whole(site: FrontDoorSite) -> None:
    site.run(site.store.create_bucket("bucket", "alice"))
    headers = {"content-length": str(len(BODY)), "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    wire = Wire(site)
    with wire.socket:
        wire.send_head("PUT", "/bucket/key", headers)
        wire.socket.sendall(BODY)
        wire.send_nothing_more()
        assert wire.head().startswith(b"HTTP/1.1 200 ")
    assert site.request("GET", "/bucket/key").body == BODY


def test_a_renewed_certificate_is_for_newcomers_and_ends_no_connection(
    site: FrontDoorSite,
) -> None:
    assert site.tls is not None
    assert site.certificate is not None
    before = site.certificate.not_after
    with site.connect() as old:
        shown = shown_to(old)
        site.tls.renew()
        site.certificate.reload()
        assert lists_buckets(old, site)
        with site.connect() as new:
            assert shown_to(new) != shown
            assert lists_buckets(new, site)
        assert lists_buckets(old, site)
    assert site.certificate.not_after >= before


def shown_to(client: socket.socket) -> bytes | None:
    assert isinstance(client, ssl.SSLSocket)
    return client.getpeercert(binary_form=True)


@pytest.mark.parametrize("bad", ["absent", "empty", "cut short", "another's key"])
def test_a_pair_that_is_no_good_leaves_the_one_before(
    site: FrontDoorSite, tmp_path: Path, bad: str
) -> None:
    assert site.tls is not None
    assert site.certificate is not None
    pair = site.tls.pair.read_bytes()
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    other = TlsFiles(elsewhere)
    if bad == "absent":
        site.tls.pair.unlink()
    elif bad == "empty":
        site.tls.pair.write_bytes(b"")
    elif bad == "cut short":
        site.tls.pair.write_bytes(pair[: len(pair) // 3])
    else:
        key = other.pair.read_bytes().partition(b"-----BEGIN CERT")[0]
        rest = pair[pair.index(b"-----BEGIN CERT") :]
        site.tls.pair.write_bytes(key + rest)
    with pytest.raises((OSError, ValueError)):
        site.certificate.reload()
    with site.connect() as client:
        assert lists_buckets(client, site)


def test_large_bodies_go_through_records_of_any_size(site: FrontDoorSite) -> None:
    site.run(site.store.create_bucket("bucket", "alice"))
    body = BODY * 5 + b"end"
    headers = {"content-length": str(len(body)), "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    with site.connect() as client:
        client.sendall(signed_head(site, "PUT", "/bucket/key", headers))
        at = 0
        for size in (1, 16_383, 16_384, 16_385, 7, 100_000, MIB, 2 * MIB, len(body)):
            client.sendall(body[at : at + size])
            at += size
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, answer.read()) == (200, b"")
    assert site.request("GET", "/bucket/key").body == body
    ranged = site.request("GET", "/bucket/key", headers={"range": "bytes=16380-1000003"})
    assert ranged.body == body[16380:1000004]


def test_a_completed_upload_is_told_where_it_is(site: FrontDoorSite) -> None:
    site.run(site.store.create_bucket("bucket", "alice"))
    client = site.client()
    upload = client.create_multipart_upload(Bucket="bucket", Key="key")["UploadId"]
    part = client.upload_part(
        Bucket="bucket", Key="key", UploadId=upload, PartNumber=1, Body=b"part"
    )
    done = client.complete_multipart_upload(
        Bucket="bucket",
        Key="key",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    assert done["Location"] == f"{site.url}/bucket/key"
