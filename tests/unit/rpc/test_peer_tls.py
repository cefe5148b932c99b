"""TLS between nodes: both certificates count, and whoever has none is told so on both sides."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.rpc.peer_certificates import Authority
from tests.unit.rpc.rpc_pairs import ONE, TOKEN, TWO, Note, PeerNode, until

from octad.client.cluster.join_token import JoinToken
from octad.sharding.ids import NodeId
from octad.sharding.limits import MIB
from octad.storage_node.rpc.peer_refusal import PeerRefused, Refusal
from octad.storage_node.rpc.peer_tls import (
    RPC_TLS_HANDSHAKE_BYTES_MAX,
    PeerTls,
    TlsContexts,
    TlsFiles,
)
from octad.storage_node.rpc.rpc_errors import PeerUnavailable

Nodes = dict[NodeId, PeerNode]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def contexts(authority: Authority) -> TlsContexts:
    return authority.contexts_for("node")


async def dial(
    nodes: Nodes, dialing: TlsContexts | None, accepting: TlsContexts | None
) -> tuple[PeerNode, PeerNode]:
    one, two = nodes[ONE], nodes[TWO] = PeerNode(ONE, tls=dialing), PeerNode(TWO, tls=accepting)
    await two.listen()
    one.peers.set_addresses({TWO: two.address})
    return one, two


async def expect_refusal(one: PeerNode, two: PeerNode, reason: Refusal) -> str:
    """Both count it and neither is connected; what a call at node 1 says."""
    await until(lambda: one.peers.refusals[reason] >= 2 and two.peers.refusals[reason] >= 1)
    assert set(one.peers.refusals) == set(two.peers.refusals) == {reason}
    assert (one.events, two.events) == ([], [])
    with pytest.raises(PeerUnavailable) as error:
        await one.peers.call(TWO, Note(1), timeout_s=5)
    return str(error.value)


@pytest.mark.parametrize("size", [0, 1, 4096, 40_000, MIB])
async def test_calls_and_bodies_of_any_size_go_through_it(
    nodes: Nodes, authority: Authority, size: int
) -> None:
    one, two = await dial(nodes, authority.contexts_for("n1"), authority.contexts_for("n2"))
    await until(lambda: one.peers.connected(TWO) and two.peers.connected(ONE))
    body = os.urandom(size)
    for asking, asked in ((one, TWO), (two, ONE)):
        answer, answered = await asking.peers.call(asked, Note(1), body, timeout_s=5)
        assert answer == Note(1)
        assert answered == body


async def test_many_messages_arrive_in_order_through_it(
    nodes: Nodes, contexts: TlsContexts
) -> None:
    one, two = await dial(nodes, contexts, contexts)
    await until(lambda: one.peers.connected(TWO) and two.peers.connected(ONE))
    for number in range(300):
        one.peers.send(TWO, Note(number), bytes(number * 371 % 300_000))
        two.peers.send(ONE, Note(number))
    await until(lambda: len(two.received) == len(one.received) == 300)
    assert one.numbers() == two.numbers() == list(range(300))


async def test_a_node_without_tls_is_told_that_the_other_has_it(
    nodes: Nodes, contexts: TlsContexts
) -> None:
    said = await expect_refusal(*await dial(nodes, None, contexts), Refusal.TLS)
    assert "it uses TLS, and this node does not" in said


async def test_a_node_with_tls_is_told_that_the_other_has_none(
    nodes: Nodes, contexts: TlsContexts
) -> None:
    said = await expect_refusal(*await dial(nodes, contexts, None), Refusal.TLS)
    assert "it does not use TLS, and this node does" in said


@pytest.mark.parametrize("wrong", ["dialer", "acceptor"])
async def test_a_certificate_of_another_authority_is_refused_on_either_side(
    nodes: Nodes, contexts: TlsContexts, authority: Authority, tmp_path: Path, wrong: str
) -> None:
    files = Authority(tmp_path, "elsewhere").files_for("node")
    strange = TlsContexts(TlsFiles(files.certificate, files.key, authority.file))
    dialing, accepting = (strange, contexts) if wrong == "dialer" else (contexts, strange)
    said = await expect_refusal(*await dial(nodes, dialing, accepting), Refusal.CERTIFICATE)
    assert "certificate" in said


@pytest.mark.parametrize("wrong", ["dialer", "acceptor"])
async def test_a_certificate_that_has_ended_is_refused_on_either_side(
    nodes: Nodes, contexts: TlsContexts, authority: Authority, wrong: str
) -> None:
    ended = authority.contexts_for("ended", days=-1)
    dialing, accepting = (ended, contexts) if wrong == "dialer" else (contexts, ended)
    said = await expect_refusal(*await dial(nodes, dialing, accepting), Refusal.CERTIFICATE)
    assert "expired" in said


async def test_a_certificate_does_not_stand_in_for_the_secret(
    nodes: Nodes, contexts: TlsContexts
) -> None:
    one = nodes[ONE] = PeerNode(ONE, tls=contexts, token=JoinToken(TOKEN.cluster, b"x" * 32))
    two = nodes[TWO] = PeerNode(TWO, tls=contexts)
    await two.listen()
    one.peers.set_addresses({TWO: two.address})
    await until(lambda: two.peers.refusals[Refusal.KEY] + one.peers.refusals[Refusal.KEY] >= 2)
    assert (one.events, two.events) == ([], [])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", Refusal.MALFORMED),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", Refusal.TAG),
        (b"\x16\x03\x01", Refusal.CUT_SHORT),
        (b"", Refusal.CUT_SHORT),
    ],
    ids=["http", "tls-nonsense", "cut-short", "nothing"],
)
async def test_whatever_a_stranger_says_is_refused_and_counted(
    nodes: Nodes, contexts: TlsContexts, data: bytes, reason: Refusal
) -> None:
    two = nodes[TWO] = PeerNode(TWO, tls=contexts)
    await two.listen()
    host, _, port = two.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    if reason is Refusal.CUT_SHORT:
        writer.write_eof()
    with suppress(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 5)
    writer.transport.abort()
    await until(lambda: two.peers.refusals == {reason: 1})


async def test_a_stranger_that_begins_tls_and_stops_is_let_go(
    nodes: Nodes, contexts: TlsContexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octad.storage_node.rpc.peers.RPC_BEAT_S", 0.01)
    two = nodes[TWO] = PeerNode(TWO, tls=contexts)
    await two.listen()
    host, _, port = two.address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"\x16\x03\x01")
    await until(lambda: two.peers.refusals == {Refusal.SILENT: 1})
    writer.transport.abort()


def deliver(tls: PeerTls, data: bytes) -> None:
    while data:
        portion = data[: len(tls.space())]
        tls.space()[: len(portion)] = portion
        tls.received(len(portion))
        data = data[len(portion) :]


def establish(contexts: TlsContexts) -> tuple[PeerTls, PeerTls]:
    dialer, acceptor = contexts.new(dialing=True), contexts.new(dialing=False)
    dialer.start()
    while not (dialer.is_established and acceptor.is_established):
        deliver(acceptor, dialer.outgoing())
        deliver(dialer, acceptor.outgoing())
    return dialer, acceptor


def test_a_handshake_without_end_is_refused_before_memory_grows(contexts: TlsContexts) -> None:
    # A hello that says it is of 16 MiB, in as many records as it takes.
    piece = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + bytes(0x4000 - 4)
    pieces = piece * (RPC_TLS_HANDSHAKE_BYTES_MAX // len(piece) + 2)
    with pytest.raises(PeerRefused):
        deliver(contexts.new(dialing=False), pieces)


def test_bytes_before_it_is_established_are_counted(contexts: TlsContexts) -> None:
    acceptor = contexts.new(dialing=False)
    deliver(acceptor, b"\x16\x03\x01\x40\x00")  # A record that never becomes whole.
    acceptor._received_bytes = RPC_TLS_HANDSHAKE_BYTES_MAX
    with pytest.raises(PeerRefused) as refused:
        deliver(acceptor, b"\x01")
    assert refused.value.reason is Refusal.LENGTH


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=600), st.booleans())
def test_noise_is_refused_or_waited_for(contexts: TlsContexts, noise: bytes, dialing: bool) -> None:
    tls = contexts.new(dialing=dialing)
    if dialing:
        tls.start()
    with suppress(PeerRefused):
        deliver(tls, noise)
    assert not tls.is_established


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 7))
def test_one_altered_bit_is_refused(contexts: TlsContexts, at: int, bit: int) -> None:
    dialer, acceptor = establish(contexts)
    sealed = bytearray(b"".join(dialer.seal([b"from a node", bytes(200)])))
    sealed[at % len(sealed)] ^= 1 << bit
    opened = memoryview(bytearray(1000))
    count = 0
    with suppress(PeerRefused):
        deliver(acceptor, bytes(sealed))
        count = acceptor.read_into(opened)
    assert count == 0


def test_files_that_are_not_usable_are_an_error(authority: Authority, tmp_path: Path) -> None:
    files = authority.files_for("node")
    other = authority.files_for("other")
    for wrong in (
        TlsFiles(tmp_path / "missing", files.key, files.authority),
        TlsFiles(files.certificate, other.key, files.authority),
        TlsFiles(files.certificate, files.key, files.key),
    ):
        with pytest.raises(OSError, match=r"."):
            TlsContexts(wrong)
