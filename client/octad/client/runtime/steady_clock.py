"""The time that internal requests are signed and checked with: no jump of the wall clock moves it.

The wall clock at the start plus the monotonic time since, counting suspension where the system can.
"""

from __future__ import annotations

import time

# Linux's monotonic clock stops while the machine sleeps, this one does not; macOS's counts anyway.
_CLOCK_ID: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_NS_PER_MS = 1_000_000


class SteadyClock:
    """One for the life of a process."""

    def __init__(self) -> None:
        self._start_ns = time.time_ns() - time.clock_gettime_ns(_CLOCK_ID)

    def now_ms(self) -> int:
        """Milliseconds since 1970, never going back."""
        return (self._start_ns + time.clock_gettime_ns(_CLOCK_ID)) // _NS_PER_MS
