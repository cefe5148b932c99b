"""A read is late when 95 of 100 were quicker; hedges are a tenth of the reads at most."""

from __future__ import annotations

from octad.client.resilience.latencies import HEDGES_SAVED_MAX, KNOWN_MIN, REMEMBERED, Latencies


def test_nothing_is_late_while_too_few_are_known() -> None:
    latencies = Latencies()
    for _ in range(KNOWN_MIN - 1):
        latencies.add(0.010)
    assert latencies.late_after_s() is None


def test_late_is_what_95_of_100_were_quicker_than() -> None:
    latencies = Latencies()
    for number in range(REMEMBERED):
        latencies.add(number / 1000)
    late_s = latencies.late_after_s()
    assert late_s is not None
    assert 0.94 < late_s / (REMEMBERED / 1000) < 0.96


def test_old_ones_are_forgotten() -> None:
    latencies = Latencies()
    for _ in range(REMEMBERED):
        latencies.add(1.0)
    for _ in range(REMEMBERED):
        latencies.add(0.002)
    assert latencies.late_after_s() == 0.002


def test_a_tenth_of_the_reads_may_be_hedged_beyond_those_that_were_saved() -> None:
    latencies = Latencies()
    for _ in range(64):
        latencies.add(0.01)
    hedges = 0
    for _ in range(1000):
        latencies.late_after_s()
        hedges += latencies.take_hedge()
    assert hedges <= HEDGES_SAVED_MAX + 100
