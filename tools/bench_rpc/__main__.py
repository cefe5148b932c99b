"""What the connection between two nodes costs, and how late a beat is under load.

`make bench-rpc`: two processes on loopback, joined by `Peers` as two nodes are.

--seconds N   how long each load lasts (default 3)
--tls         with TLS around it
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop
from tests.unit.rpc.peer_certificates import Authority
from tools.bench.machine import machine
from tools.bench_rpc.bench_node import ONE, TWO, BenchNode, Figures, Load, NodeFigures, serve

from octad.sharding.limits import KIB, MIB
from octad.storage_node.rpc.peer_tls import TlsFiles

FRAME_BYTES = 4 * KIB
FRAMES_A_TICK = 16
QUEUED_BYTES = 64 * MIB  # A bulk load keeps nearly that much waiting.
BEAT_PAUSE_S = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-rpc")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as directory:
        run(options.seconds, Authority(Path(directory)).files_for("node") if options.tls else None)


def run(seconds: float, tls: TlsFiles | None) -> None:
    ours, theirs = multiprocessing.Pipe()
    other = multiprocessing.get_context("spawn").Process(
        target=serve, args=(theirs, tls), daemon=True
    )
    other.start()
    try:
        uvloop.run(measure(ours, seconds, tls))
    finally:
        ours.close()
        other.join(10)


async def measure(pipe: Connection, seconds: float, tls: TlsFiles | None) -> None:
    node = BenchNode(ONE, tls)
    port = pipe.recv()
    node.peers.set_addresses({TWO: f"127.0.0.1:{port}"})
    while not node.peers.connected(TWO):
        await asyncio.sleep(0.01)
    try:
        await measure_costs(node, seconds)
        await measure_beats(node, seconds)
    finally:
        await node.peers.close()


async def measure_costs(node: BenchNode, seconds: float) -> None:
    for name, size, a_tick in (("4 KiB", FRAME_BYTES, FRAMES_A_TICK), ("1 MiB", MIB, 1)):
        before, cpu = await ask(node), time.process_time()
        await node.keep_sending(size, a_tick, 4 * MIB, seconds)
        after, cpu = await ask(node), time.process_time() - cpu
        frames = after.received - before.received
        received_us = (after.cpu_s - before.cpu_s) / frames * 1e6
        print(
            f"one-way, {name}: {frames / seconds:,.0f} frames/s; CPU a frame:"
            f" {cpu / frames * 1e6:.1f} µs to send, {received_us:.1f} µs to receive"
        )


async def measure_beats(node: BenchNode, seconds: float) -> None:
    for name, up, down, pause_s in (
        ("idle", False, False, 0.0),
        ("bulk away", True, False, 0.0),
        ("bulk towards", False, True, 0.0),
        ("bulk both ways", True, True, 0.0),
        ("bulk away, reader pauses 5 ms a MiB", True, False, 0.005),
        ("bulk away, reader pauses 50 ms a MiB", True, False, 0.05),
    ):
        load = Load(seconds if down else 0.0, QUEUED_BYTES, pause_s)
        await node.peers.call(TWO, load, timeout_s=60)
        before = await ask(node)
        work = node.keep_sending(MIB, 1, QUEUED_BYTES, seconds) if up else asyncio.sleep(seconds)
        working = asyncio.ensure_future(work)
        delays = await beat_until(node, working.done)
        after = await ask(node)
        moved = after.received - before.received
        print(
            f"beats, {name}: p50 {delays[len(delays) // 2]:.1f} ms,"
            f" p99 {delays[len(delays) * 99 // 100]:.1f} ms, longest {delays[-1]:.1f} ms"
            f" ({len(delays)} round trips, {moved / seconds:,.0f} frames/s away)"
        )
        await node.peers.call(TWO, Load(0.0, 0, 0.0), timeout_s=60)


async def beat_until(node: BenchNode, over: Callable[[], bool]) -> list[float]:
    delays = []
    while not over():
        delays.append(await node.beat() * 1e3)
        await asyncio.sleep(BEAT_PAUSE_S)
    return sorted(delays)


async def ask(node: BenchNode) -> NodeFigures:
    """What node 2 has received and used, once all that was sent has arrived there."""
    while node.peers.outgoing_bytes(TWO):
        await asyncio.sleep(0.01)
    answer, _ = await node.peers.call(TWO, Figures(), timeout_s=60)
    return answer


if __name__ == "__main__":
    main()
