"""The one door to the disk for everything that must survive: no other file of the engine calls os.

It adds nothing to the system calls but completeness (all of a write, all of a read), so that a twin
that loses, tears, refuses or counts them can stand in for it in tests.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from octad.client.runtime.private_files import close_to_others
from octad.storage_node.memory.unwritten_memory import unwritten

_BUFFERS_MAX = 1024  # IOV_MAX on Linux and macOS.
_F_FULLFSYNC: int | None = getattr(
    fcntl, "F_FULLFSYNC", None
)  # macOS: fsync reaches the drive only.
_READ_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)  # Linux
_WRITE_UNCACHED = 0x80 if sys.platform == "linux" else 0  # RWF_DONTCACHE, since 6.14.
_DIRECT: int = getattr(os, "O_DIRECT", 0)
_BLOCK_BYTES = 4096  # Alignment of direct reads, on the disk and in memory.

Bytes: TypeAlias = bytes | bytearray | memoryview


class Disk:
    """System calls on files and directories. Raises OSError as they do."""

    _uncached = _WRITE_UNCACHED  # 0 once a system or a file system has refused it.

    def open(self, path: Path, flags: int) -> int:
        """A descriptor of `path`; a file that is created is its owner's alone."""
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def preallocate(self, descriptor: int, length: int) -> None:
        """Reserve `length` bytes, so that writing them cannot fail with ENOSPC."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, length)
        else:
            os.ftruncate(descriptor, length)

    def write(
        self,
        descriptor: int,
        buffers: Sequence[bytes | memoryview],
        offset: int,
        *,
        cached: bool = True,
    ) -> None:
        """Write all of `buffers`, one after the other, at `offset`.

        Without `cached` the pages leave memory once they are on disk, if the system supports it:
        it then reuses a few pages, which saves most of a large write's CPU.
        """
        for first in range(0, len(buffers), _BUFFERS_MAX):
            group = buffers[first : first + _BUFFERS_MAX]
            written = self._write_some(descriptor, group, offset, cached)
            length = sum(map(len, group))
            if (
                written < length
            ):  # A signal, or a disk that is nearly full: go on, or learn why not.
                rest = memoryview(b"".join(group))
                while written < length:
                    written += os.pwritev(descriptor, [rest[written:]], offset + written)
            offset += length

    def _write_some(
        self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int, cached: bool
    ) -> int:
        if cached or not self._uncached:
            return os.pwritev(descriptor, buffers, offset)
        try:
            return os.pwritev(descriptor, buffers, offset, self._uncached)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._uncached = 0
            return os.pwritev(descriptor, buffers, offset)

    def sync(self, descriptor: int) -> None:
        """Everything written to the file is on stable storage when this returns."""
        if _F_FULLFSYNC is not None:
            fcntl.fcntl(descriptor, _F_FULLFSYNC)
        else:
            os.fdatasync(descriptor)

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        """Up to `length` bytes at `offset`; fewer only at the file's end."""
        data = os.pread(descriptor, length, offset)
        while 0 < len(data) < length:
            more = os.pread(descriptor, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def read_uncached(self, descriptor: int, length: int, offset: int) -> Bytes:
        """`read` of much that no one will read again soon: past the system's cache, if it can.

        That takes a third of the CPU, and what others have in the cache stays there.
        """
        try:
            direct = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC | _DIRECT)
        except OSError:  # No Linux, or a file system that has nothing but its cache.
            return self.read(descriptor, length, offset)
        try:
            data = _read_aligned(direct, length, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return self.read(descriptor, length, offset)  # A disk with larger blocks than ours.
        finally:
            os.close(direct)
        return data if len(data) == length else self.read(descriptor, length, offset)

    def read_if_cached(self, descriptor: int, length: int, offset: int) -> bytearray | None:
        """`length` bytes at `offset`, or None where the system would go to the disk for them."""
        if _READ_NOWAIT is None:
            return None
        data = bytearray(length)
        try:
            return data if os.preadv(descriptor, [data], offset, _READ_NOWAIT) == length else None
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:  # tmpfs, for one.
                return None
            raise

    def next_data(self, descriptor: int, offset: int) -> int | None:
        """The start of the next data at or after `offset`, past holes; None if there is none."""
        try:
            return os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            raise

    def size(self, descriptor: int) -> int:
        return os.fstat(descriptor).st_size

    def file_number(self, descriptor: int) -> int:
        """The file's number on its file system: kept for its life, and no copy's."""
        return os.fstat(descriptor).st_ino

    def truncate(self, descriptor: int, length: int) -> None:
        os.ftruncate(descriptor, length)

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def make_directory(self, path: Path) -> None:
        """Create the directory unless it exists."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def close_to_others(self, directory: Path) -> None:
        """Make its contents private to the owner, as far as possible."""
        close_to_others(directory)

    def names(self, directory: Path) -> list[str]:
        return [entry.name for entry in directory.iterdir()]

    def sync_directory(self, path: Path) -> None:
        """The names in `path` are on stable storage when this returns."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def try_lock(self, descriptor: int) -> bool:
        """Take the file for this process alone until it is closed; False if another has it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def capacity_bytes(self, path: Path) -> int:
        """The size of the file system that `path` is on."""
        state = os.statvfs(path)
        return state.f_blocks * state.f_frsize

    def free_bytes(self, path: Path) -> int:
        """The bytes that an unprivileged process may still write below `path`."""
        state = os.statvfs(path)
        return state.f_bavail * state.f_frsize


def _read_aligned(descriptor: int, length: int, offset: int) -> memoryview:
    """Up to `length` bytes at `offset` of a file that is open for direct reads."""
    before = offset % _BLOCK_BYTES
    wanted = before + length
    space = memoryview(unwritten(wanted + 2 * _BLOCK_BYTES))
    unaligned = -ctypes.addressof(ctypes.c_char.from_buffer(space)) % _BLOCK_BYTES
    blocks = space[unaligned : unaligned + wanted + -wanted % _BLOCK_BYTES]
    count = os.preadv(descriptor, [blocks], offset - before)
    return blocks[before : min(wanted, count)]
