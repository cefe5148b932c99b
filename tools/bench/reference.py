"""What the machine itself can do, measured in the same run, so that figures can be compared.

Three bounds: how often two processes can ask and answer each other over loopback, how many bytes
one can push to another, and how often one thread can make 4 KiB durable on this disk.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

MIB = 1024 * 1024
MESSAGE_BYTES = 256
BULK_BYTES = 256 * 1024
SYNC_BYTES = 4096
SYNC_FILE_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True)
class Reference:
    """The three figures."""

    loopback_round_trips_s: float  # One connection, 256 bytes each way.
    loopback_bulk_mb_s: float  # One connection, one way.
    fdatasync_s: float  # 4 KiB each, one after the other, into preallocated and written space.

    def as_json(self) -> dict[str, float]:
        return {name: round(value, 1) for name, value in asdict(self).items()}


def measure(directory: Path, seconds: float) -> Reference:
    """Measure all three, `seconds` each; files are written in `directory`."""
    return Reference(
        loopback_round_trips_s=_with_peer(_echo, _round_trips, seconds),
        loopback_bulk_mb_s=_with_peer(_swallow, _bulk, seconds) / 1e6,
        fdatasync_s=_fdatasyncs(directory / "reference", seconds),
    )


def _with_peer(
    peer: Callable[[socket.socket], None],
    drive: Callable[[socket.socket, float], float],
    seconds: float,
) -> float:
    """Run `peer` at the other end of a loopback connection, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = multiprocessing.get_context("fork").Process(target=peer, args=(listener,))
        process.start()
        try:
            with socket.create_connection(listener.getsockname()) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return drive(connection, seconds)
        finally:
            process.kill()
            process.join()


def _echo(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while message := connection.recv(MESSAGE_BYTES):
        connection.sendall(message)


def _swallow(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    buffer = bytearray(BULK_BYTES)
    while connection.recv_into(buffer):
        pass


def _round_trips(connection: socket.socket, seconds: float) -> float:
    message = bytes(MESSAGE_BYTES)
    count, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        connection.sendall(message)
        connection.recv(MESSAGE_BYTES, socket.MSG_WAITALL)
        count += 1
    return count / passed


def _bulk(connection: socket.socket, seconds: float) -> float:
    data = bytes(BULK_BYTES)
    sent, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        connection.sendall(data)
        sent += len(data)
    return sent / passed


def _fdatasyncs(path: Path, seconds: float) -> float:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        for offset in range(0, SYNC_FILE_BYTES, MIB):
            os.pwrite(descriptor, bytes(MIB), offset)
        os.fsync(descriptor)
        data = os.urandom(SYNC_BYTES)
        sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync.
        count, started = 0, time.perf_counter()
        while (passed := time.perf_counter() - started) < seconds:
            os.pwrite(descriptor, data, count * SYNC_BYTES % SYNC_FILE_BYTES)
            sync(descriptor)
            count += 1
        return count / passed
    finally:
        os.close(descriptor)
        path.unlink()
