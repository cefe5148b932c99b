"""Whatever comes in on a connection: refused, counted, logged once, and the node lives on."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from tests.unit.rpc.rpc_pairs import (
    ONE,
    THREE,
    TOKEN,
    TWO,
    Note,
    PeerNode,
    TamperingProxy,
    until,
)

from octad.client.cluster.join_token import JoinToken
from octad.sharding.ids import NodeId
from octad.storage_node.rpc.frame_format import FRAME_VERSION, PREFIX
from octad.storage_node.rpc.peer_handshake import HELLO, MAGIC, PROTOCOL_VERSION, RECORD
from octad.storage_node.rpc.peer_refusal import PeerRefused, Refusal
from octad.storage_node.rpc.refusal_log import PEERS_LOGGED_MAX, RefusalLog

Nodes = dict[NodeId, PeerNode]
Tampered = tuple[PeerNode, PeerNode, TamperingProxy]


def alter(frame: bytes, at: int) -> bytes:
    at %= len(frame)
    return frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]


ATTACKS: list[tuple[str, Callable[[list[bytes]], list[bytes]], Refusal, list[int]]] = [
    ("a frame replayed", lambda f: [f[0], f[0], *f[1:]], Refusal.TAG, [0]),
    ("a frame left out", lambda f: [f[0], *f[2:]], Refusal.TAG, [0]),
    ("frames reordered", lambda f: [f[0], f[2], f[1]], Refusal.TAG, [0]),
    ("a sealed bit altered", lambda f: [f[0], alter(f[1], PREFIX.size), f[2]], Refusal.TAG, [0]),
    ("a body bit altered", lambda f: [f[0], alter(f[1], -1), f[2]], Refusal.TAG, [0]),
    ("a version altered", lambda f: [alter(f[0], 0), *f[1:]], Refusal.VERSION, []),
    (
        "an absurd length",
        lambda f: [f[0], PREFIX.pack(FRAME_VERSION, 1 << 31, 0) + f[1][PREFIX.size :]],
        Refusal.LENGTH,
        [0],
    ),
    (
        "noise between frames",
        lambda f: [*f, b"\xff" + os.urandom(64)],
        Refusal.VERSION,
        [0, 1, 2],
    ),
]


@pytest.mark.parametrize(
    ("tamper", "reason", "arrived"), [a[1:] for a in ATTACKS], ids=[a[0] for a in ATTACKS]
)
async def test_tampering_on_the_way_drops_the_connection_and_the_node_lives_on(
    tampered: Tampered,
    tamper: Callable[[list[bytes]], list[bytes]],
    reason: Refusal,
    arrived: list[int],
) -> None:
    one, two, proxy = tampered
    proxy.holding = True
    for number in range(3):
        one.peers.send(TWO, Note(number), b"body")
    await proxy.release(3, tamper)
    await until(lambda: "-1" in two.events and "-2" in one.events)
    proxy.holding = False
    assert two.numbers() == arrived
    assert two.peers.refusals == {reason: 1}
    await until(lambda: one.peers.connected(TWO) and two.peers.connected(ONE))
    assert (await one.peers.call(TWO, Note(9), timeout_s=5))[0] == Note(9)


async def test_frames_recorded_on_one_connection_do_not_pass_on_the_next(
    tampered: Tampered,
) -> None:
    one, two, proxy = tampered
    proxy.holding = True
    one.peers.send(TWO, Note(1))
    recorded: list[bytes] = []

    def record(frames: list[bytes]) -> list[bytes]:
        recorded.extend(frames)
        return frames

    await proxy.release(1, record)
    await until(lambda: two.numbers() == [1])
    two.peers._open[ONE].connection.drop()
    await until(lambda: len(proxy.links) == 2 and one.peers.connected(TWO))
    one.peers.send(TWO, Note(2))
    await proxy.release(1, lambda frames: recorded)
    await until(lambda: two.peers.refusals[Refusal.TAG] == 1)
    assert two.numbers() == [1]
    proxy.holding = False


async def test_a_frame_cut_short_is_counted(tampered: Tampered) -> None:
    one, two, proxy = tampered
    proxy.holding = True
    one.peers.send(TWO, Note(1), bytes(100))
    await proxy.release(1, lambda frames: [frames[0][:-50]])
    await asyncio.sleep(0.02)
    proxy.to_acceptor.write_eof()
    await until(lambda: two.peers.refusals == {Refusal.CUT_SHORT: 1})
    assert two.numbers() == []
    proxy.holding = False


async def test_a_frozen_peer_is_let_go_by_both_sides_and_taken_back(
    tampered: Tampered, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, proxy = tampered
    monkeypatch.setattr("octad.storage_node.rpc.peers.RPC_BEAT_S", 0.01)
    proxy.frozen = True
    await until(lambda: "-1" in two.events and "-2" in one.events)
    proxy.frozen = False
    assert one.peers.refusals[Refusal.SILENT] + two.peers.refusals[Refusal.SILENT] >= 1
    await until(lambda: one.peers.connected(TWO) and two.peers.connected(ONE))


async def test_an_idle_peer_that_answers_is_kept(
    pair: tuple[PeerNode, PeerNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair
    monkeypatch.setattr("octad.storage_node.rpc.peers.RPC_BEAT_S", 0.005)
    await asyncio.sleep(0.5)
    assert (one.events, two.events) == (["+2 boot-2"], ["+1 boot-1"])


async def test_our_own_pause_is_not_taken_for_the_peers_silence(
    pair: tuple[PeerNode, PeerNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair
    monkeypatch.setattr("octad.storage_node.rpc.peers.RPC_BEAT_S", 0.01)
    await asyncio.sleep(0.3)
    time.sleep(0.3)  # noqa: ASYNC251 — the pause of the whole process is the point.
    await asyncio.sleep(0.1)
    assert (one.events, two.events) == (["+2 boot-2"], ["+1 boot-1"])


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (JoinToken(TOKEN.cluster, b"x" * 32), Refusal.KEY),
        (JoinToken("0badcafe", TOKEN.secret), Refusal.CLUSTER),
    ],
    ids=["wrong-secret", "wrong-cluster"],
)
async def test_a_stranger_is_refused_counted_by_both_and_logged_once(
    nodes: Nodes, token: JoinToken, reason: Refusal, caplog: pytest.LogCaptureFixture
) -> None:
    stranger, two = nodes[ONE], nodes[TWO] = PeerNode(ONE, token=token), PeerNode(TWO)
    await two.listen()
    stranger.peers.set_addresses({TWO: two.address})
    await until(lambda: two.peers.refusals[reason] >= 3)
    assert set(two.peers.refusals) == {reason}
    assert set(stranger.peers.refusals) <= {reason}
    assert (stranger.events, two.events) == ([], [])
    warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == len(set(warnings)) <= 2


async def test_dialing_oneself_is_refused(nodes: Nodes) -> None:
    one = nodes[ONE] = PeerNode(ONE)
    await one.listen()
    one.peers.set_addresses({TWO: one.address})
    await until(lambda: one.peers.refusals[Refusal.SELF] >= 1)
    assert one.events == []


async def test_another_node_at_the_address_is_refused(nodes: Nodes) -> None:
    one, two = nodes[ONE], nodes[TWO] = PeerNode(ONE), PeerNode(TWO)
    await two.listen()
    one.peers.set_addresses({THREE: two.address})
    await until(lambda: one.peers.refusals[Refusal.WRONG_NODE] >= 1)
    assert (one.events, two.events) == ([], [])


STRANGERS = [
    (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", Refusal.MALFORMED),
    (RECORD.pack(MAGIC, PROTOCOL_VERSION + 1, HELLO, 4) + b"next", Refusal.VERSION),
    (RECORD.pack(MAGIC, PROTOCOL_VERSION, HELLO, 0xFFFF), Refusal.LENGTH),
    (RECORD.pack(MAGIC, PROTOCOL_VERSION, HELLO, 4) + b"\xc1\xff\x00\x01", Refusal.MALFORMED),
    (RECORD.pack(MAGIC, PROTOCOL_VERSION, 3, 32) + bytes(32), Refusal.MALFORMED),
    (MAGIC, Refusal.CUT_SHORT),
    (b"", Refusal.CUT_SHORT),
]


@pytest.mark.parametrize(("data", "reason"), STRANGERS)
async def test_whatever_a_stranger_says_the_connection_is_closed_and_counted(
    pair: tuple[PeerNode, PeerNode], data: bytes, reason: Refusal
) -> None:
    one, two = pair
    host, _, port = two.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    if reason is Refusal.CUT_SHORT:
        writer.write_eof()
    with suppress(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 5)
    writer.transport.abort()
    assert two.peers.refusals == {reason: 1}
    assert (await one.peers.call(TWO, Note(1), timeout_s=5))[0] == Note(1)


async def test_a_stranger_that_dribbles_is_let_go(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octad.storage_node.rpc.peers.RPC_BEAT_S", 0.01)
    two = nodes[TWO] = PeerNode(TWO)
    await two.listen()
    host, _, port = two.address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    for byte in RECORD.pack(MAGIC, PROTOCOL_VERSION, HELLO, 400) + bytes(400):
        writer.write(bytes([byte]))
        await asyncio.sleep(0.005)
        if two.peers.refusals:
            break
    assert two.peers.refusals == {Refusal.SILENT: 1}
    writer.transport.abort()


async def test_a_crowd_of_strangers_is_kept_within_bounds(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octad.storage_node.rpc.peers.RPC_HANDSHAKES_MAX", 3)
    two = nodes[TWO] = PeerNode(TWO)
    await two.listen()
    host, _, port = two.address.rpartition(":")
    crowd = [await asyncio.open_connection(host, int(port)) for _ in range(8)]
    await until(lambda: two.peers.refusals == {Refusal.TOO_MANY: 5})
    assert len(two.peers._connections) == 3
    for _, writer in crowd:
        writer.transport.abort()


def test_a_refusal_is_logged_once_per_peer_and_reason_within_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("octad.storage_node.rpc.refusal_log.time.monotonic", lambda: now[0])
    log = RefusalLog()
    for second in range(121):
        now[0] = second
        log.add("n1", PeerRefused(Refusal.TAG, "altered"))
        log.add("n2", PeerRefused(Refusal.TAG, "altered"))
    assert log.counts == {Refusal.TAG: 242}
    assert len(caplog.records) == 6


def test_a_flood_of_strangers_does_not_fill_memory_or_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = RefusalLog()
    for number in range(1000):
        log.add(f"10.0.{number >> 8}.{number & 255}", PeerRefused(Refusal.KEY, "no secret"))
    assert len(log._logged_at[Refusal.KEY]) == len(caplog.records) == PEERS_LOGGED_MAX
    assert log.counts[Refusal.KEY] == 1000
    log.add("10.0.0.1", PeerRefused(Refusal.TLS, "no TLS"))
    assert len(caplog.records) == PEERS_LOGGED_MAX + 1, "another reason is told all the same"
