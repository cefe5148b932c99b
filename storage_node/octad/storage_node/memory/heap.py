"""The process's memory goes back to the system soon after it was needed.

The C library keeps what is freed for the next time, and lets the size of what it keeps grow with
what was once allocated: a node that took in a thousand uploads would stay as large as it was then.
Where the C library is not glibc, it has its own way and nothing is done.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
from pathlib import Path
from typing import Final

from octad.sharding.limits import MIB

# Freed memory that the C library retains.
HEAP_ARENAS_MAX: Final = 2  # Threads of a node mostly hash and read: they hardly allocate.
HEAP_SLACK_BYTES_MAX: Final = 16 * MIB
HEAP_LOOK_S: Final = 5.0

# <malloc.h>
_M_ARENA_MAX: Final = -8
_MALLINFO2: Final = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)
_STATM = Path("/proc/self/statm")
_RESIDENT_FIELD: Final = 1


class _Mallinfo2(ctypes.Structure):
    """Bytes the C library has handed out: `uordblks` of its heaps, `hblkhd` mapped one by one."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _MALLINFO2)


def bound_heap() -> None:
    """Before any thread is started: few heaps.

    Large buffers stay in them: to map each by itself costs a read of 8 MiB half as much again.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, HEAP_ARENAS_MAX)


class HeapKeeper:
    """Gives back what lies freed in the heaps once it is much."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        self._can_tell = hasattr(self._libc, "mallinfo2") and _STATM.exists()
        if self._can_tell:
            self._libc.mallinfo2.restype = _Mallinfo2
        self._floor = 0  # Resident after the last time: code, stacks, Python's own.

    async def run(self) -> None:
        """For ever."""
        while self._can_tell:
            await asyncio.sleep(HEAP_LOOK_S)
            slack = self._slack_bytes()
            if slack > self._floor + HEAP_SLACK_BYTES_MAX:
                await asyncio.to_thread(self._libc.malloc_trim, 0)
                slack = self._floor = self._slack_bytes()
            self._floor = min(self._floor, slack)

    def _slack_bytes(self) -> int:
        """Resident, and handed out to no one by the C library."""
        resident = int(_STATM.read_bytes().split()[_RESIDENT_FIELD]) * mmap.PAGESIZE
        told: _Mallinfo2 = self._libc.mallinfo2()
        handed_out = int(told.uordblks) + int(told.hblkhd)
        return max(0, resident - handed_out)
