"""What this disk and loopback allow: the bytes of a lost node, sent and made durable, by nobody.

One process sends them over a loopback connection, another receives 1 MiB at a time, writes it
behind what is there into a preallocated file and calls fdatasync after every 8 MiB, as much as a
copy has under way. No keys, no checksums, no index, no authentication.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import socket
import time
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
MESSAGE_BYTES = MIB
SYNC_BYTES = 8 * MIB


@dataclass(frozen=True, slots=True)
class Reference:
    bytes_per_s: float
    cpu_s: float  # Of both processes.


def measure(directory: Path, size: int) -> Reference:
    """Stream `size` bytes to a process that stores them in `directory`."""
    before = _cpu_s()
    rate = _bytes_per_s(directory, size)
    return Reference(rate, _cpu_s() - before)


def _cpu_s() -> float:
    """Of this process, and of its children that have ended."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, who))


def _bytes_per_s(directory: Path, size: int) -> float:
    path = directory / "reference"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = multiprocessing.get_context("fork").Process(
            target=_store, args=(listener, path, size)
        )
        process.start()
        try:
            with socket.create_connection(listener.getsockname()) as connection:
                data = os.urandom(MESSAGE_BYTES)
                began = time.perf_counter()
                for first in range(0, size, MESSAGE_BYTES):
                    connection.sendall(memoryview(data)[: size - first])
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)  # It says that everything is durable.
                return size / (time.perf_counter() - began)
        finally:
            process.join(1.0)  # It has said all it had to; killed only after a failure.
            process.kill()
            process.join()
            path.unlink(missing_ok=True)


def _store(listener: socket.socket, path: Path, size: int) -> None:
    connection, _ = listener.accept()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(descriptor, 0, size)
    buffer = memoryview(bytearray(MESSAGE_BYTES))
    stored = unsynced = 0
    while count := connection.recv_into(buffer, 0, socket.MSG_WAITALL):
        os.pwrite(descriptor, buffer[:count], stored)
        stored += count
        unsynced += count
        if unsynced >= SYNC_BYTES:
            os.fdatasync(descriptor)
            unsynced = 0
    os.fdatasync(descriptor)
    connection.sendall(b"1")
