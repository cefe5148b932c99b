"""How a primary stops taking writes before it hands over or splits its shard (R17, R18)."""

from __future__ import annotations

from octad.storage_node.replication.shard_log import ShardLog

DRAIN_S_MAX = 1.0  # A hand-over or split that cannot empty the tail by then is put off.


class Drain:
    """Owns whether new writes are taken: not while it drains, and never once it has stopped.

    serving ─ drained: not yet ─ draining ─ drained: yes ─ stop ─ stopped ─ end ─ serving
                                    ├─ it took too long ─ serving, and no drain for a while
                                    └─ no one asked for it again ─ serving
    """

    __slots__ = ("asked", "log", "not_before", "stopped", "until")

    def __init__(self, log: ShardLog) -> None:
        self.log = log
        self.until: float | None = None  # It drains until then at most.
        self.not_before = 0.0
        self.asked = False  # For it, since it was last looked at.
        self.stopped = False  # For good in this epoch: the shard was, or may be, handed over.

    def drained(self, now: float) -> bool:
        """Take no new writes until the tail is empty; give up for a while when that takes long."""
        self.asked = True
        if self.until is None:
            if now < self.not_before:
                return False
            self.until = now + DRAIN_S_MAX
        if self.log.commit == self.log.end == self.log.applied:
            return True
        if now >= self.until:
            self.until = None
            self.not_before = now + 10 * DRAIN_S_MAX
        return False

    def stop(self) -> None:
        """Before the swap is sent, and for good in this epoch."""
        self.stopped = True

    def call_off(self) -> None:
        """The plan has changed."""
        self.until = None

    def call_off_unless_asked(self) -> None:
        """What it was for may have passed: the index can be read again, a successor is silent."""
        if not (self.asked or self.stopped):
            self.until = None
        self.asked = False

    def end(self) -> None:
        """The epoch is over, or this node no longer leads it."""
        self.until, self.stopped = None, False
