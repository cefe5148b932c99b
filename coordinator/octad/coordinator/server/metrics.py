"""The coordinator's metrics: plain numbers counted where things happen, published when asked.

Names begin with `octad_`, units are base units, and no label has more values than the cluster has
kinds of things: never a node, an instance or a key.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Gauges = Callable[[], Iterator[Metric]]


class CoordinatorMetrics(Collector):
    """`gauges` tells what the coordinator is at the moment; may raise nothing."""

    def __init__(self, gauges: Gauges, watchers: Callable[[], int]) -> None:
        self._gauges = gauges
        self._watchers = watchers
        self._requests: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, list[int]] = {}
        self._seconds_sum: dict[str, float] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """One answer; `route` is the path's pattern."""
        self._requests[route, str(status)] += 1
        if route not in self._seconds:
            self._seconds[route] = [0] * (len(BUCKETS_S) + 1)
            self._seconds_sum[route] = 0.0
        self._seconds[route][bisect_left(BUCKETS_S, seconds)] += 1
        self._seconds_sum[route] += seconds

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The text and its content type: OpenMetrics for clients that accept it."""
        return exposition(self._registry, accept)

    def collect(self) -> Iterator[Metric]:
        yield from self._gauges()
        yield gauge("octad_watchers", "Watchers at this coordinator.", self._watchers())
        requests = CounterMetricFamily(
            "octad_http_requests", "Requests answered.", labels=["route", "code"]
        )
        for (route, code), count in self._requests.items():
            requests.add_metric([route, code], count)
        yield requests
        seconds = HistogramMetricFamily(
            "octad_http_request_seconds",
            "Until the answer; streams: until they end.",
            labels=["route"],
        )
        for route, counts in self._seconds.items():
            seconds.add_metric([route], _cumulative(counts), self._seconds_sum[route])
        yield seconds


def exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """What `registry` has, and its content type: OpenMetrics for clients that accept it."""
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, value=value)


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    total, buckets = 0, list[tuple[str, float]]()
    for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
