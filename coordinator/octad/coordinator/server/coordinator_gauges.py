"""A coordinator's present figures, as metrics; `metrics.py` publishes them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from octad.coordinator.schema.cluster_view import BadRecord
from octad.coordinator.server.coordinator import Coordinator
from octad.coordinator.server.metrics import gauge
from octad.coordinator.tls.certificate import Certificate


def coordinator_gauges(
    coordinator: Coordinator, certificate: Certificate | None
) -> Iterator[Metric]:
    """All gauges, without those that a bad record hides."""
    ends = GaugeMetricFamily(
        "octad_coordinator_certificate_end_seconds",
        "When the certificate ends, as a time of Unix.",
    )
    if certificate is not None:
        ends.add_metric([], certificate.not_after.timestamp())
    yield ends
    build = GaugeMetricFamily("octad_build_info", "What runs here.", labels=["version"])
    build.add_metric([coordinator.config.version], 1)
    yield build
    yield gauge(
        "octad_coordinator_leading", "1 while this coordinator leads.", coordinator.is_leading
    )
    yield CounterMetricFamily(
        "octad_coordinator_elections_won",
        "How often this coordinator became the leader.",
        value=coordinator.elections_won,
    )
    yield gauge(
        "octad_store_age_seconds",
        "Since the configuration store last confirmed what is served.",
        coordinator.age_s,
    )
    feed = coordinator.feed
    yield gauge("octad_store_revision", "Revision of the feed.", feed.history.revision)
    yield CounterMetricFamily(
        "octad_watch_resets", "Watchers that had to start over.", value=feed.resets_told
    )
    names = [name.split("/") for name in feed.history.entries if name.startswith("services/")]
    yield gauge("octad_services", "Services with an instance.", len({name[1] for name in names}))
    yield gauge("octad_service_instances", "Instances of all services.", len(names))
    plans = sum(name.startswith("plans/") for name in feed.history.entries)
    yield gauge("octad_plans", "Shards with a plan that is not done.", plans)
    yield from _cluster_gauges(coordinator)


def _cluster_gauges(coordinator: Coordinator) -> Iterator[Metric]:
    try:
        status = coordinator.status()
    except BadRecord:
        return
    nodes = GaugeMetricFamily("octad_nodes", "Nodes by liveness.", labels=["state"])
    live = sum(node.live for node in status.nodes)
    nodes.add_metric(["live"], live)
    nodes.add_metric(["down"], len(status.nodes) - live)
    yield nodes
    shards = GaugeMetricFamily("octad_shards", "Shards by state.", labels=["pool", "state"])
    for pool in status.pools:
        for state, count in pool.shards.items():
            shards.add_metric([str(pool.id), state], count)
    yield shards
    yield gauge("octad_cluster_healthy", "1 while nothing is wrong.", status.state == "healthy")
