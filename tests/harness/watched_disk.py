"""A disk that writes down every call, and fails the one that it is told to fail.

It does the real thing on real files otherwise, so what it lists is what the engine asked for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from octad.storage_node.journal.disk import Disk


class WatchedDisk(Disk):
    """`calls` holds "name file"; `fail_when` may raise for a call, before it takes place."""

    def __init__(self, fail_when: Callable[[str, str], None] | None = None) -> None:
        self.calls: list[str] = []
        self.uncached_writes = 0
        self.fail_when = fail_when
        self._gate = threading.Event()
        self._gate.set()
        self._names: dict[int, str] = {}

    def _note(self, call: str, file: str) -> None:
        self.calls.append(f"{call} {file}")
        if self.fail_when is not None:
            self.fail_when(call, file)

    @contextmanager
    def slow(self) -> Iterator[None]:
        """Syncs of files return only after the block has ended."""
        self._gate.clear()
        try:
            yield
        finally:
            self._gate.set()

    def fail_at(self, call: str, time: int, number: int) -> None:
        """Fail one call, the `time`-th of its name from now on, with error `number`."""
        failing = self.count(call) + time

        def fail(made: str, _file: str) -> None:
            if made == call and self.count(call) == failing:
                raise OSError(number, os.strerror(number))

        self.fail_when = fail

    def count(self, call: str) -> int:
        """How often `call` was made: a call's name, or the name and a file."""
        return sum(line == call or line.startswith(f"{call} ") for line in self.calls)

    def open(self, path: Path, flags: int) -> int:
        self._note("create" if flags & os.O_CREAT else "open", path.name)
        descriptor = super().open(path, flags)
        self._names[descriptor] = path.name
        return descriptor

    def preallocate(self, descriptor: int, length: int) -> None:
        self._note("preallocate", self._names[descriptor])
        super().preallocate(descriptor, length)

    def write(
        self,
        descriptor: int,
        buffers: Sequence[bytes | memoryview],
        offset: int,
        *,
        cached: bool = True,
    ) -> None:
        self._note("write", self._names[descriptor])
        self.uncached_writes += not cached
        super().write(descriptor, buffers, offset, cached=cached)

    def sync(self, descriptor: int) -> None:
        self._gate.wait()
        self._note("sync", self._names[descriptor])
        super().sync(descriptor)

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        self._note("read", self._names[descriptor])
        return super().read(descriptor, length, offset)

    def truncate(self, descriptor: int, length: int) -> None:
        self._note("truncate", self._names[descriptor])
        super().truncate(descriptor, length)

    def rename(self, source: Path, target: Path) -> None:
        self._note("rename", f"{source.name} {target.name}")
        super().rename(source, target)
        self._follow(source, target)

    def _follow(self, source: Path, target: Path) -> None:
        """Open files that have another name now."""
        for descriptor, name in self._names.items():
            if name == source.name:
                self._names[descriptor] = target.name

    def unlink(self, path: Path) -> None:
        self._note("unlink", path.name)
        super().unlink(path)

    def sync_directory(self, path: Path) -> None:
        self._note("sync_directory", path.name)
        super().sync_directory(path)
