"""Counts by upper bounds, as Prometheus reads them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from octad.client.runtime.time_histogram import BOUNDS_S, TimeHistogram

NS = st.integers(0, 10**12) | st.sampled_from([round(bound * 1e9) for bound in BOUNDS_S])


@given(st.lists(NS))
def test_a_bucket_has_all_that_took_at_most_its_bound(times: list[int]) -> None:
    histogram = TimeHistogram()
    for ns in times:
        histogram.add(ns)
    expected = [(str(b), sum(ns <= round(b * 1e9) for ns in times)) for b in BOUNDS_S]
    assert histogram.cumulative() == [*expected, ("+Inf", len(times))]
    assert histogram.sum_s == sum(times) / 1e9
