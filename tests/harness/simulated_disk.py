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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from tests.harness.watched_disk import WatchedDisk

SECTOR = 512
CAPACITY = 16 * 1024 * 1024


class PowerCut(OSError):
    """The machine is off: nothing that is asked of the disk happens any more."""

    def __init__(self) -> None:
        super().__init__(errno.EIO, "the power is cut")


Change = tuple[int, bytes | None]  # What is written where; None: the file becomes so long.


class _File:
    def __init__(self, content: bytes | bytearray = b"") -> None:
        self.cached = bytearray(content)
        self.durable = bytearray(content)
        self.volatile: list[Change] = []  # Changed and not synced, in order.
        self.changes = 0  # Ever made.

    def change(self, at: int, data: bytes | None) -> None:
        _change(self.cached, at, data)
        self.volatile.append((at, data))
        self.changes += 1

    def sync(self, changes: int) -> None:
        """The first so many changes are durable."""
        count = max(0, changes - (self.changes - len(self.volatile)))
        for at, data in self.volatile[:count]:
            _change(self.durable, at, data)
        del self.volatile[:count]


_NameChange = tuple[str, Path, Path, _File | None]  # "link", "rename" or "unlink"; from; to; file.


class SimulatedDisk(WatchedDisk):
    """See the module. `calls_left` counts down to the power cut, None: there is none."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng
        self.calls_left: int | None = None
        self.refuses: Callable[[int, int], bool] = lambda _offset, _length: False  # To read there.
        self.off = False
        self.capacity = CAPACITY
        self._lock = threading.RLock()
        self._files: dict[Path, _File] = {}
        self._durable_files: dict[Path, _File] = {}
        self._name_changes: list[_NameChange] = []
        self._open: dict[int, _File] = {}
        self._next = 3

    # -- faults ------------------------------------------------------------------------------

    def after_power_cut(self) -> Self:
        """The disk that the machine finds when it starts again."""
        with self._lock:
            self.off = True
            names = dict(self._durable_files)
            kept = self.rng.randint(0, len(self._name_changes)) if self._name_changes else 0
            for change in self._name_changes[:kept]:
                self._apply(names, change)
            files = {id(file): self._survivor(file) for file in names.values()}
            return self._with({path: files[id(file)] for path, file in names.items()})

    def torn(self, changes: list[Change]) -> list[Change]:
        """What a power cut leaves of changes to a file that were not synced: any sectors."""
        keep = self.rng.choice([0.0, 0.5, 0.9, 1.0])
        parts = [part for change in changes for part in _sectors(*change)]
        return [part for part in parts if self.rng.random() < keep]

    def _survivor(self, file: _File) -> _File:
        content = bytearray(file.durable)
        for at, data in self.torn(file.volatile):
            _change(content, at, data)
        return _File(content)

    def after_kill(self) -> Self:
        """The disk that the next process finds: the system has lost nothing, nor synced it."""
        with self._lock:
            self.off = True
            disk = self._with(dict(self._files))
            disk._durable_files = dict(self._durable_files)
            disk._name_changes = list(self._name_changes)
            return disk

    def content(self, path: Path) -> bytearray:
        """A file's bytes, to be damaged by tests; both what is cached and what is durable."""
        file = self._files[path]
        file.sync(file.changes)
        file.durable = file.cached
        return file.cached

    def _with(self, names: dict[Path, _File]) -> Self:
        disk = type(self)(self.rng)
        disk._files, disk._durable_files = dict(names), dict(names)
        disk.capacity = self.capacity
        return disk

    def _note(self, call: str, file: str, *, partly: Callable[[], None] | None = None) -> None:
        if self.off:
            raise PowerCut
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left < 0:
                if partly is not None:
                    partly()
                self.off = True
                raise PowerCut
        super()._note(call, file)

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
            file = self._files.get(path)
            if file is None:
                if not flags & os.O_CREAT:
                    raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
                self._note("create", path.name)
                file = self._files[path] = _File()
                self._name_changes.append(("link", path, path, file))
            elif flags & os.O_TRUNC:
                file.change(0, None)
            self._next += 1
            self._open[self._next], self._names[self._next] = file, path.name
            return self._next

    def close(self, descriptor: int) -> None:
        with self._lock:
            self._open.pop(descriptor)

    def preallocate(self, descriptor: int, length: int) -> None:
        with self._lock:
            self._note("preallocate", self._names[descriptor])
            if self.free_bytes(Path()) < length:
                raise OSError(errno.ENOSPC, "no space left")
            file = self._open[descriptor]
            file.change(max(length, len(file.cached)), None)

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
            self._note("write", self._names[descriptor], partly=lambda: file.change(offset, data))
            file.change(offset, data)

    def sync(self, descriptor: int) -> None:
        self.end_sync(descriptor, self.begin_sync(descriptor))

    def begin_sync(self, descriptor: int) -> int:
        """For a sync that takes time: what is written from now on is none of it."""
        return self._open[descriptor].changes

    def end_sync(self, descriptor: int, begun: int) -> None:
        with self._lock:
            file = self._open[descriptor]
            try:
                self._note("sync", self._names[descriptor])
            except OSError:
                if not self.off:
                    file.volatile = []
                raise
            file.sync(begun)

    def durable_size(self, descriptor: int) -> int:
        """How much of the file a power cut leaves."""
        return len(self._open[descriptor].durable)

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        with self._lock:
            self._note("read", self._names[descriptor])
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
            self._note("truncate", self._names[descriptor])
            self._open[descriptor].change(length, None)

    def rename(self, source: Path, target: Path) -> None:
        with self._lock:
            self._note("rename", f"{source.name} {target.name}")
            self._files[target] = self._files.pop(source)
            self._name_changes.append(("rename", source, target, None))
            self._follow(source, target)

    def unlink(self, path: Path) -> None:
        with self._lock:
            self._note("unlink", path.name)
            if self._files.pop(path, None) is None:
                raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
            self._name_changes.append(("unlink", path, path, None))

    def make_directory(self, path: Path) -> None:
        pass

    def close_to_others(self, directory: Path) -> None:
        pass  # There is one user.

    def names(self, directory: Path) -> list[str]:
        with self._lock:
            return [path.name for path in self._files if path.parent == directory]

    def sync_directory(self, path: Path) -> None:
        with self._lock:
            self._note("sync_directory", path.name)
            if any(target.parent == path for _, _, target, _ in self._name_changes):
                for change in self._name_changes:
                    self._apply(self._durable_files, change)
                self._name_changes = []

    def capacity_bytes(self, path: Path) -> int:
        return self.capacity

    def free_bytes(self, path: Path) -> int:
        with self._lock:
            return self.capacity - sum(len(file.cached) for file in self._files.values())


def _change(content: bytearray, at: int, data: bytes | None) -> None:
    end = at if data is None else at + len(data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if data is None:
        del content[at:]
    else:
        content[at:end] = data


def _sectors(at: int, data: bytes | None) -> Iterator[Change]:
    if data is None:
        yield at, None
        return
    end = at + len(data)
    for begin in (at, *range(at - at % SECTOR + SECTOR, end, SECTOR)):
        yield begin, data[begin - at : begin - begin % SECTOR + SECTOR - at]
