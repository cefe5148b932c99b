"""What this disk and loopback allow: the bytes of a lost node, read, sent and made durable.

As many processes as there are sources read their share of the bytes from the segments of the nodes
that are left, and each sends it over a loopback connection of its own to one process. That one
receives 1 MiB at a time into memory that it uses again and again, while a thread of it writes what
came meanwhile behind what is there, into preallocated space, and calls fdatasync, at most 32 MiB
behind; and puts two rows for each object into an index. Reads, writes and rows go to the disk as a
node's do (`Disk`, `Index`). No requests, no keys, no checksums, no authentication.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import resource
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

from octad.storage_node.index.index import Index
from octad.storage_node.journal.disk import Disk

MIB = 1024 * 1024
MESSAGE_BYTES = MIB
PENDING_MESSAGES = 32
END_S_MAX = 10.0
HASHED_BYTES = 9  # Rows come in the order of their hashes, as in a copy: no two alike.
ROW_BYTES = 60
_FORK = multiprocessing.get_context("fork")

_Came = SimpleQueue[tuple[memoryview, int] | None]  # None: a sender has sent all.


@dataclass(frozen=True, slots=True)
class Reference:
    bytes_per_s: float
    cpu_s: float  # The sum over all processes.


@dataclass(frozen=True, slots=True)
class Objects:
    size: int
    count: int

    @property
    def bytes(self) -> int:
        return self.size * self.count


def measure(directory: Path, journals: Sequence[Path], objects: Objects) -> Reference:
    """Stream as many bytes out of `journals`, a share from each, to a disk in `directory`."""
    before = _cpu_s()
    target = directory / "reference"
    share = objects.bytes // len(journals)
    with contextlib.ExitStack() as held:
        target.mkdir()
        held.callback(shutil.rmtree, target)
        listener = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        result, told = _FORK.Pipe(duplex=False)
        store = partial(_store, listener, len(journals), target, objects, told)
        held.enter_context(_running(store))
        told.close()  # Only the other process has it now, so its end is an error here.
        for journal in journals:
            send = partial(_send, listener.getsockname(), journal, share)
            held.enter_context(_running(send))
        took_s: float = result.recv()
    return Reference(share * len(journals) / took_s, _cpu_s() - before)


def _cpu_s() -> float:
    """Of this process, and of its children that have ended."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, who))


@contextlib.contextmanager
def _running(work: Callable[[], None]) -> Iterator[None]:
    process = _FORK.Process(target=work)
    process.start()
    try:
        yield
        process.join(END_S_MAX)  # It has said all it had to; killed only after a failure.
    finally:
        process.kill()
        process.join()


def _send(address: tuple[str, int], journal: Path, size: int) -> None:
    """`size` bytes of the journal's segments, from the beginning again when they are fewer."""
    disk = Disk()
    segments = sorted(journal.glob("*.segment"))
    with socket.create_connection(address) as connection:
        connection.recv(1)
        for segment in itertools.cycle(segments):
            descriptor = os.open(segment, os.O_RDONLY)
            length = min(os.fstat(descriptor).st_size, size)
            for offset in range(0, length, MESSAGE_BYTES):
                count = min(MESSAGE_BYTES, length - offset)
                connection.sendall(disk.read_uncached(descriptor, count, offset))
            os.close(descriptor)
            size -= length
            if not size:
                return


def _store(
    listener: socket.socket, senders: int, target: Path, objects: Objects, told: Connection
) -> None:
    """Write all that comes; then tell how many seconds it took, from the first byte asked for."""
    descriptor = os.open(target / "data", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(descriptor, 0, objects.bytes)
    os.fsync(descriptor)
    index = Index(target / "index")
    free: SimpleQueue[memoryview] = SimpleQueue()
    for _ in range(PENDING_MESSAGES):
        free.put(memoryview(bytearray(b"\1" * MESSAGE_BYTES)))
    came: _Came = SimpleQueue()
    connections = [listener.accept()[0] for _ in range(senders)]
    threads = [threading.Thread(target=_receive, args=(each, free, came)) for each in connections]
    began = time.perf_counter()
    for connection, thread in zip(connections, threads, strict=True):
        connection.sendall(b"1")
        thread.start()
    _write(descriptor, index, objects.size, senders, free, came)
    index.flush()
    told.send(time.perf_counter() - began)


def _receive(connection: socket.socket, free: SimpleQueue[memoryview], came: _Came) -> None:
    while count := connection.recv_into(buffer := free.get(), 0, socket.MSG_WAITALL):
        came.put((buffer, count))
    came.put(None)


def _write(
    descriptor: int,
    index: Index,
    object_bytes: int,
    senders: int,
    free: SimpleQueue[memoryview],
    came: _Came,
) -> None:
    """What came while the disk was busy goes out as one write and one sync; then its rows."""
    disk = Disk()
    stored = 0
    while senders:
        batch = [came.get()]
        while not came.empty():
            batch.append(came.get())
        messages = [each for each in batch if each is not None]
        senders -= len(batch) - len(messages)
        parts = [buffer[:count] for buffer, count in messages]
        disk.write(descriptor, parts, stored, cached=False)
        disk.sync(descriptor)
        before, stored = stored, stored + sum(map(len, parts))
        for buffer, _ in messages:
            free.put(buffer)
        index.write(_rows(stored // object_bytes - before // object_bytes))


def _rows(count: int) -> list[tuple[bytes, bytes]]:
    rows: list[tuple[bytes, bytes]] = []
    for _ in range(count):
        hashed = os.urandom(HASHED_BYTES)
        rows += [(b"n" + hashed, bytes(ROW_BYTES)), (b"h" + hashed, b"")]
    return rows
