"""When leases end: a table of deadlines on a monotonic clock that the caller reads.

A store that was itself paused (a suspended machine, a debugger) cannot know who renewed meanwhile:
the pause is added to every deadline, so that it looks like no time to anyone.
"""

from __future__ import annotations

from collections.abc import Mapping

from octad.coordinator.store.interface import LeaseId

PAUSE_S_MIN = 1.0  # Two checks further apart than this mean that the store was paused.


class LeaseClock:
    """The leases that have not ended."""

    def __init__(self, ttls: Mapping[LeaseId, float], now: float) -> None:
        """After a restart every lease has a full TTL before it."""
        self._ttls = dict(ttls)
        self._deadlines = {lease: now + ttl_s for lease, ttl_s in ttls.items()}
        self._checked_at = now

    def grant(self, lease: LeaseId, ttl_s: float, now: float) -> None:
        self._ttls[lease] = ttl_s
        self._deadlines[lease] = now + ttl_s

    def renew(self, lease: LeaseId, now: float) -> bool:
        """Whether it was still there."""
        if lease not in self._ttls:
            return False
        self._deadlines[lease] = now + self._ttls[lease]
        return True

    def lives(self, lease: LeaseId) -> bool:
        return lease in self._ttls

    def end(self, lease: LeaseId) -> None:
        del self._ttls[lease]
        del self._deadlines[lease]

    def expired(self, now: float) -> list[LeaseId]:
        """Expired leases; call it several times within PAUSE_S_MIN."""
        if now - self._checked_at > PAUSE_S_MIN:
            pause_s = now - self._checked_at
            for lease in self._deadlines:
                self._deadlines[lease] += pause_s
        self._checked_at = now
        return [lease for lease, deadline in self._deadlines.items() if deadline <= now]
