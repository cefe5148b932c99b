"""A disk in memory that knows about fsync, and what may be left of it after a power cut.

What is written is volatile until its file is synced; then each 512-byte sector of it is durable.
Names are volatile until their directory is synced; they become durable in order. A power cut
keeps any part of what is volatile: any sectors, and any beginning of the changes to names. A sync
that fails drops what it was to write, as Linux does, and a second one does not bring it back.
"""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from octad.storage_node.journal.disk import Disk

SECTOR = 512
CAPACITY = 16 * 1024 * 1024


class PowerCut(OSError):
    """The machine is off: nothing that is asked of the disk happens any more."""

    def __init__(self) -> None:
        super().__init__(errno.EIO, "the power is cut")


class _File:
    def __init__(self) -> None:
        self.cached = bytearray()
        self.durable = bytearray()
        self.volatile: list[tuple[int, bytes]] = []  # Written and not synced, in order.
        self.sized = False  # The size changed since the last sync.

    def write(self, offset: int, data: bytes) -> None:
        _put(self.cached, offset, data)
        self.volatile.append((offset, data))

    def resize(self, length: int) -> None:
        if length < len(self.cached):
            del self.cached[length:]
        self.cached.extend(bytes(length - len(self.cached)))
        self.sized = True

    def sync(self) -> None:
        for offset, data in self.volatile:
            _put(self.durable, offset, data)
        if self.sized or len(self.durable) != len(self.cached):
            del self.durable[len(self.cached) :]
            self.durable.extend(bytes(len(self.cached) - len(self.durable)))
        self.volatile, self.sized = [], False

    def survivor(self, rng: random.Random) -> _File:
        """The file after a power cut."""
        content = bytearray(self.durable)
        keep = rng.choice([0.0, 0.5, 0.9, 1.0])
        for offset, data in self.volatile:
            at = 0
            while at < len(data):
                length = min(SECTOR - (offset + at) % SECTOR, len(data) - at)
                if rng.random() < keep:
                    _put(content, offset + at, data[at : at + length])
                at += length
        if self.sized and rng.random() < keep:
            del content[len(self.cached) :]
            content.extend(bytes(len(self.cached) - len(content)))
        file = _File()
        file.cached, file.durable = content, bytearray(content)
        return file


_NameChange = tuple[str, Path, Path, _File | None]  # "link", "rename" or "unlink"; from; to; file.


class SimulatedDisk(Disk):
    """See the module. `calls_left` counts down to the power cut, None: there is none."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.calls: list[str] = []
        self.calls_left: int | None = None
        self.fail_when: Callable[[str], int | None] | None = None  # Call to error number.
        self.refuses: Callable[[int, int], bool] = lambda _offset, _length: False  # To read there.
        self.off = False
        self.capacity = CAPACITY
        self._lock = threading.RLock()
        self._names: dict[Path, _File] = {}
        self._durable_names: dict[Path, _File] = {}
        self._name_changes: list[_NameChange] = []
        self._open: dict[int, _File] = {}
        self._next = 3

    # -- faults ------------------------------------------------------------------------------

    def after_power_cut(self) -> SimulatedDisk:
        """The disk that the machine finds when it starts again."""
        with self._lock:
            self.off = True
            names = dict(self._durable_names)
            kept = self.rng.randint(0, len(self._name_changes))
            for change in self._name_changes[:kept]:
                self._apply(names, change)
            files = {id(file): file.survivor(self.rng) for file in names.values()}
            return self._with({path: files[id(file)] for path, file in names.items()})

    def after_kill(self) -> SimulatedDisk:
        """The disk that the next process finds: the system has lost nothing, nor synced it."""
        with self._lock:
            self.off = True
            disk = self._with(dict(self._names))
            disk._durable_names = dict(self._durable_names)
            disk._name_changes = list(self._name_changes)
            return disk

    def content(self, path: Path) -> bytearray:
        """A file's bytes, to be damaged by tests; both what is cached and what is durable."""
        file = self._names[path]
        file.sync()
        file.durable = file.cached
        return file.cached

    def _with(self, names: dict[Path, _File]) -> SimulatedDisk:
        disk = SimulatedDisk(self.rng)
        disk._names, disk._durable_names = dict(names), dict(names)
        disk.capacity = self.capacity
        return disk

    def _note(self, call: str, *, partly: Callable[[], None] | None = None) -> None:
        if self.off:
            raise PowerCut
        self.calls.append(call)
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left < 0:
                if partly is not None:
                    partly()
                self.off = True
                raise PowerCut
        number = self.fail_when(call) if self.fail_when is not None else None
        if number is not None:
            raise OSError(number, os.strerror(number))

    def _apply(self, names: dict[Path, _File], change: _NameChange) -> None:
        kind, source, target, file = change
        if kind == "link":
            assert file is not None
            names[target] = file
        elif kind == "rename" and source in names:
            names[target] = names.pop(source)
        elif kind == "unlink":
            names.pop(source, None)

    # -- the calls ---------------------------------------------------------------------------

    def open(self, path: Path, flags: int) -> int:
        with self._lock:
            file = self._names.get(path)
            if file is None:
                if not flags & os.O_CREAT:
                    raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
                self._note("create")
                file = self._names[path] = _File()
                self._name_changes.append(("link", path, path, file))
            elif flags & os.O_TRUNC:
                file.resize(0)
            self._next += 1
            self._open[self._next] = file
            return self._next

    def close(self, descriptor: int) -> None:
        with self._lock:
            self._open.pop(descriptor)

    def preallocate(self, descriptor: int, length: int) -> None:
        with self._lock:
            self._note("preallocate")
            if self.free_bytes(Path()) < length:
                raise OSError(errno.ENOSPC, "no space left")
            file = self._open[descriptor]
            file.resize(max(length, len(file.cached)))

    def write(
        self,
        descriptor: int,
        buffers: Sequence[bytes | memoryview],
        offset: int,
        *,
        cached: bool = True,
    ) -> None:
        data = b"".join(buffers)
        with self._lock:
            file = self._open[descriptor]
            self._note("write", partly=lambda: file.write(offset, data))
            file.write(offset, data)

    def sync(self, descriptor: int) -> None:
        with self._lock:
            file = self._open[descriptor]
            try:
                self._note("sync")
            except OSError:
                if not self.off:
                    file.volatile = []
                raise
            file.sync()

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        with self._lock:
            self._note("read")
            if self.refuses(offset, length):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return bytes(self._open[descriptor].cached[offset : offset + length])

    def read_uncached(self, descriptor: int, length: int, offset: int) -> bytes:
        return self.read(descriptor, length, offset)

    def read_if_cached(self, descriptor: int, length: int, offset: int) -> bytearray | None:
        return None

    def next_data(self, descriptor: int, offset: int) -> int | None:
        return offset if offset < self.size(descriptor) else None

    def size(self, descriptor: int) -> int:
        with self._lock:
            return len(self._open[descriptor].cached)

    def truncate(self, descriptor: int, length: int) -> None:
        with self._lock:
            self._note("truncate")
            self._open[descriptor].resize(length)

    def rename(self, source: Path, target: Path) -> None:
        with self._lock:
            self._note("rename")
            self._names[target] = self._names.pop(source)
            self._name_changes.append(("rename", source, target, None))

    def unlink(self, path: Path) -> None:
        with self._lock:
            self._note("unlink")
            if self._names.pop(path, None) is None:
                raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
            self._name_changes.append(("unlink", path, path, None))

    def make_directory(self, path: Path) -> None:
        pass

    def close_to_others(self, directory: Path) -> None:
        pass  # There is one user.

    def names(self, directory: Path) -> list[str]:
        with self._lock:
            return [path.name for path in self._names if path.parent == directory]

    def sync_directory(self, path: Path) -> None:
        with self._lock:
            self._note("sync_directory")
            if any(target.parent == path for _, _, target, _ in self._name_changes):
                for change in self._name_changes:
                    self._apply(self._durable_names, change)
                self._name_changes = []

    def capacity_bytes(self, path: Path) -> int:
        return self.capacity

    def free_bytes(self, path: Path) -> int:
        with self._lock:
            return self.capacity - sum(len(file.cached) for file in self._names.values())


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset + len(data):
        content.extend(bytes(offset + len(data) - len(content)))
    content[offset : offset + len(data)] = data
