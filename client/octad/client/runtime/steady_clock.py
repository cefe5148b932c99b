"""The clocks of this machine that no one sets and that go on while it is suspended.

`now` is for spans of time on this machine; two machines' have nothing to do with each other.
`SteadyClock` is what internal requests are signed and checked with: the wall clock at its start
plus the time since, so that no jump of the wall clock moves it.
"""

from __future__ import annotations

import time
from functools import partial

# Linux's monotonic clock stops while the machine sleeps, this one does not; macOS's counts anyway.
_CLOCK_ID: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_NS_PER_MS = 1_000_000

# Seconds since some moment that stays the same until the machine restarts (rule R4). It is read
# several times a request, so there is no function of ours around it.
now = partial(time.clock_gettime, _CLOCK_ID)


class SteadyClock:
    """One for the life of a process."""

    def __init__(self) -> None:
        self._start_ns = time.time_ns() - time.clock_gettime_ns(_CLOCK_ID)

    def now_ms(self) -> int:
        """Milliseconds since 1970, never going back."""
        return (self._start_ns + time.clock_gettime_ns(_CLOCK_ID)) // _NS_PER_MS
