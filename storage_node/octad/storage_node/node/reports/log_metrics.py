"""The metrics of the log: what its door, and the partitions of this node, count anyway."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from octad.coordinator.server.metrics import gauge
from octad.storage_node.log.http.log_door import LogDoor
from octad.storage_node.log.partition_leader import PartitionLeader
from octad.storage_node.log.partition_reader import PartitionReader


def log_metrics(
    door: LogDoor, leader: PartitionLeader, reader: PartitionReader
) -> Iterator[Metric]:
    """See the module."""
    requests = CounterMetricFamily(
        "octad_log_requests",
        "Requests answered; operation none: refused before it was known.",
        labels=["operation", "code"],
    )
    for (operation, code), count in door.requests.items():
        requests.add_metric([operation, str(code)], count)
    yield requests
    ends = GaugeMetricFamily(
        "octad_log_certificate_end_seconds", "When the certificate ends, as a time of Unix."
    )
    if door.certificate is not None:
        ends.add_metric([], door.certificate.not_after.timestamp())
    yield ends
    refused = CounterMetricFamily(
        "octad_log_refused_batches", "Refused by the primary here.", labels=["code"]
    )
    for refusal, count in leader.refused.items():
        refused.add_metric([refusal.value], count)
    yield refused
    cache = reader.cache
    counters = {
        "octad_log_appended_batches": ("Ordered by the primary here.", leader.appended_batches),
        "octad_log_appended_bytes": ("Of these batches.", leader.appended_bytes),
        "octad_log_fetched_batches": ("Given to readers by this node.", reader.fetched_batches),
        "octad_log_fetched_bytes": ("Of these batches.", reader.fetched_bytes),
        "octad_log_cache_hits": ("Batches read from memory.", cache.hits),
        "octad_log_cache_misses": ("Batches that were not in memory.", cache.misses),
    }
    for name, (meaning, value) in counters.items():
        yield CounterMetricFamily(name, meaning, value=value)
    yield gauge("octad_log_cache_bytes", "Batches kept in memory for readers.", cache.size)
    yield gauge(
        "octad_log_tails_weight",
        "Partitions, and producers of them, known here.",
        leader.tails.weight,
    )
