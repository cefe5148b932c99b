"""The coordinator's metrics: plain numbers counted where things happen, published when asked.

Names begin with `octad_`, units are base units, and no label has more values than the cluster has
kinds of things: never a node, an instance or a key.
"""

from __future__ import annotations

from collections import Counter, defaultdict
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

from octad.client.runtime.time_histogram import TimeHistogram

Gauges = Callable[[], Iterator[Metric]]


class CoordinatorMetrics(Collector):
    """`gauges` returns the coordinator's present figures; it must not raise."""

    def __init__(self, gauges: Gauges, watchers: Callable[[], int]) -> None:
        self._gauges = gauges
        self._watchers = watchers
        self._requests: Counter[tuple[str, str]] = Counter()
        self._times: defaultdict[str, TimeHistogram] = defaultdict(TimeHistogram)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """One answer; `route` is the path's pattern."""
        self._requests[route, str(status)] += 1
        self._times[route].add(round(seconds * 1e9))

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
        for route, times in self._times.items():
            seconds.add_metric([route], times.cumulative(), times.sum_s)
        yield seconds


def exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Returns the metrics and their content type: OpenMetrics for clients that accept it."""
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, value=value)
