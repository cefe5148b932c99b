"""The disk of a simulated machine: `SimulatedDisk`, with what a whole node asks for beside it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from random import Random

from tests.harness.simulated_disk import SimulatedDisk
from tests.harness.simulated_rocksdb import SimulatedDatabases

CAPACITY_BYTES = 1 << 30


class MachineDisk(SimulatedDisk):
    """`slowness` is a factor; `fails_syncs` says that the next sync of a file fails."""

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.capacity = CAPACITY_BYTES
        self.slowness = 1.0
        self.fails_syncs = False
        self.is_full = False
        self.refuses_to_open = False
        self.databases: SimulatedDatabases | None = None  # In directories of it.

    def _note(self, call: str, file: str, *, partly: object = None) -> None:
        """Calls are not written down: there are too many."""
        if self.off:
            super()._note(call, file)
        if call == "sync" and self.fails_syncs:
            self.fails_syncs = False
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def open(self, path: Path, flags: int) -> int:
        if self.refuses_to_open:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return super().open(path, flags)

    def names(self, directory: Path) -> list[str]:
        """Directories are there while something is in them."""
        below = {
            path.relative_to(directory).parts[0]: None
            for path in self._files
            if directory in path.parents
        }
        return list(below)

    def free_bytes(self, path: Path) -> int:
        return 0 if self.is_full else max(0, super().free_bytes(path))

    def rename(self, source: Path, target: Path) -> None:
        if self.databases is not None and source in self.databases.files:
            self.databases.rename(source, target)
        else:
            super().rename(source, target)

    def flip(self, path: Path, at: int) -> None:
        """A bit, on the disk and in memory."""
        file = self._files[path]
        for content in (file.cached, file.durable):
            if at < len(content):
                content[at] ^= 1 << self.rng.randrange(8)

    def written_bytes(self, path: Path) -> int:
        """How much of the file is not zeros at its end."""
        return max(1, len(self._files[path].durable.rstrip(bytes(1))))

    def try_lock(self, descriptor: int) -> bool:
        return True

    def file_number(self, descriptor: int) -> int:
        return 1

    def is_durable(self, path: Path, offset: int, length: int) -> bool:
        """Whether a power cut leaves those bytes of the file as they are."""
        file = self._durable_files.get(path)
        if file is None or file is not self._files.get(path):
            return False
        there = file.durable[offset : offset + length]
        return len(there) == length and there == file.cached[offset : offset + length]
