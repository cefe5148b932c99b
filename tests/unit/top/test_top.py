"""`octad top`: what two readings of a node's metrics say of the time between them."""

from __future__ import annotations

import pytest

from octad.client.cli.top.figures import Rates, rates_between, reading_of, sum_of_operations
from octad.client.cli.top.screen import table
from octad.client.cluster.status_document import ClusterStatus, CoordinatorStatus, StoreStatus


def exposition(gets: int, puts: int, failed: int, seconds: float) -> str:
    return f"""# HELP octad_s3_requests_total Requests answered.
# TYPE octad_s3_requests_total counter
octad_s3_requests_total{{operation="GetObject",code="200"}} {gets}
octad_s3_requests_total{{operation="PutObject",code="200"}} {puts}
octad_s3_requests_total{{operation="PutObject",code="503"}} {failed}
octad_s3_request_seconds_bucket{{operation="GetObject",le="0.1"}} 5
octad_s3_request_seconds_sum{{operation="GetObject"}} {seconds}
octad_s3_request_seconds_sum{{operation="PutObject"}} 0
octad_s3_requests_in_flight 3
octad_s3_sent_bytes_total {gets * 4096}
octad_disk_free_bytes 1.5e+09
"""


def between(*of: tuple[int, int, int, float], seconds: float = 2.0) -> Rates:
    before, after = (reading_of(exposition(*each)) for each in of)
    return rates_between(before, after, seconds)


def test_rates_are_of_the_time_between_two_readings() -> None:
    rates = between((100, 10, 0, 1.0), (300, 12, 4, 1.4))
    assert (rates.requests, rates.failed, rates.in_flight) == (103, 2, 3)
    assert (rates.sent_bytes, rates.free_bytes) == (409_600, 1.5e9)
    assert rates.operations["GetObject"] == pytest.approx((100, 2.0))
    assert rates.operations["PutObject"] == (3, 0)


def test_a_node_that_was_started_again_has_no_rate_below_zero() -> None:
    rates = between((300, 12, 4, 1.4), (1, 0, 0, 0.0))
    assert (rates.requests, rates.failed, rates.operations) == (0, 0, {})


def test_operations_of_all_nodes_are_one_row_the_most_frequent_first() -> None:
    nodes = [between((0, 0, 0, 0.0), (20, 100, 0, 1.0)), between((0, 0, 0, 0.0), (20, 0, 0, 3.0))]
    found = sum_of_operations(nodes)
    assert list(found) == ["PutObject", "GetObject"]
    assert found["GetObject"] == pytest.approx((20, 100.0))


def test_a_node_without_metrics_is_shown_as_one() -> None:
    status = ClusterStatus(
        cluster="c1",
        state="degraded",
        problems=("node n2 is gone",),
        store=StoreStatus("embedded", (), 1),
        coordinator=CoordinatorStatus("127.0.0.1:1", "1", True, None),
        pools=(),
        nodes=(),
    )
    shown = table(status, {"n1": between((0, 0, 0, 0.0), (20, 0, 0, 1.0)), "n2": None})
    assert "cluster c1: degraded, 0 nodes, 10 requests/s\n  ! node n2 is gone\n" in shown
    assert "n2    no metrics" in shown
    assert "\nGetObject  10.0        50.0\n" in shown
