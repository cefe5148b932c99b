"""Deadlines of leases on a clock that the test turns."""

from __future__ import annotations

from octad.coordinator.store.interface import LeaseId
from octad.coordinator.store.lease_clock import LeaseClock

LEASE, OTHER = LeaseId(1), LeaseId(2)


def _turn(clock: LeaseClock, start: float, end: float) -> list[LeaseId]:
    """Check as often as a store does; give what expired."""
    now = start
    while now < end:
        now += 0.25
        if expired := clock.expired(now):
            return expired
    return []


def test_a_lease_ends_its_ttl_after_the_last_renewal() -> None:
    clock = LeaseClock({}, now=100.0)
    clock.grant(LEASE, 5.0, now=100.0)
    assert _turn(clock, 100.0, 104.5) == []
    assert clock.renew(LEASE, now=104.5)
    assert _turn(clock, 104.5, 109.25) == []
    assert _turn(clock, 109.25, 110.0) == [LEASE]
    clock.end(LEASE)
    assert not clock.renew(LEASE, now=110.0)
    assert not clock.lives(LEASE)


def test_after_a_restart_every_lease_has_a_full_ttl() -> None:
    clock = LeaseClock({LEASE: 2.0, OTHER: 4.0}, now=50.0)
    assert _turn(clock, 50.0, 51.75) == []
    assert _turn(clock, 51.75, 52.0) == [LEASE]


def test_a_pause_of_the_store_counts_against_no_lease() -> None:
    clock = LeaseClock({LEASE: 2.0}, now=0.0)
    assert _turn(clock, 0.0, 1.0) == []
    assert clock.expired(61.0) == []
    assert _turn(clock, 61.0, 61.75) == []
    assert _turn(clock, 61.75, 62.0) == [LEASE]
