"""Estimates the remaining time from recent progress; None while there is too little of it.

Bytes where sizes are known, else copies. An estimate needs some time and some progress to stand on:
the first seconds of a copy, and a copy that stands still, promise nothing.
"""

from __future__ import annotations

from collections import deque

WINDOW_S = 60.0
OBSERVED_S_MIN = 3.0
MORE_SHARE = 1.1  # A share of what was left: sizes are estimates that vary by less.


class RemainingTime:
    """Feed it what is left, and when."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()

    def seconds(self, left: float, now_s: float) -> float | None:
        """Remaining seconds at the rate of the last minute."""
        self._forget(left)
        self._samples.append((now_s, left))
        while now_s - self._samples[0][0] > WINDOW_S:
            self._samples.popleft()
        if left <= 0:
            return 0.0
        since_s, left_then = self._samples[0]
        done, took_s = left_then - left, now_s - since_s
        if took_s < OBSERVED_S_MIN or done <= 0:
            return None
        return left * took_s / done

    def _forget(self, left: float) -> None:
        """Drop samples from before the work began, or grew: they say nothing of the rate."""
        samples = self._samples
        if samples:
            share = 1.0 if len(samples) == 1 else MORE_SHARE
            if left >= share * samples[-1][1]:
                samples.clear()


class WorkLeft:
    """The time of an operation: mostly bytes, but empty shards and hand-overs take time as well."""

    def __init__(self) -> None:
        self._bytes, self._steps = RemainingTime(), RemainingTime()

    def seconds(self, bytes_left: int | None, steps_left: int, now_s: float) -> float | None:
        """Until both are done; by the steps alone where no byte is left, or sizes are unknown."""
        by_steps = self._steps.seconds(steps_left, now_s)
        if bytes_left is None:
            return by_steps
        by_bytes = self._bytes.seconds(bytes_left, now_s)
        if bytes_left == 0 or by_bytes is None:
            return by_steps if bytes_left == 0 else None
        return by_bytes if by_steps is None else max(by_bytes, by_steps)
