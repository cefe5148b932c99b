"""Bounds how long a slow body may keep memory that others wait for.

A body is read in steps. A step that is filled, or reaches the body's end, resets the count;
each other step has taken `BODY_STEP_S`.
"""

from __future__ import annotations

from octad.sharding.limits import BODY_STEP_S

BODY_WANTED_S_MAX = 10.0  # Its bytes do not come, and others wait for its memory.
BODY_STALLED_S_MAX = 60.0  # The same when no one waits.


class BodyPace:
    """The pace of one body."""

    __slots__ = ("_idle_s", "_in_the_way_s")

    def __init__(self) -> None:
        self._idle_s = 0.0  # Nothing arrived.
        self._in_the_way_s = 0.0  # Too little came, and others were waiting.

    def is_over(self, count: int, *, whole: bool, in_the_way: bool) -> bool:
        """Whether the client has had its time, after a step that brought `count` bytes.

        `in_the_way`: the body keeps memory, and others wait for some.
        """
        if whole:
            self._idle_s = self._in_the_way_s = 0.0
            return False
        self._idle_s = 0.0 if count else self._idle_s + BODY_STEP_S
        self._in_the_way_s = self._in_the_way_s + BODY_STEP_S if in_the_way else 0.0
        return self._idle_s >= BODY_STALLED_S_MAX or self._in_the_way_s >= BODY_WANTED_S_MAX
