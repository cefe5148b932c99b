"""A node's metrics: plain numbers that its parts count anyway, read when someone asks for them.

Names begin with `octad_`, units are base units, and no label has more values than there are kinds
of things: never a key, a bucket or another node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from octad.client.runtime.connection_room import ConnectionRoom
from octad.client.version import VERSION
from octad.coordinator.server.metrics import exposition, gauge
from octad.coordinator.tls.certificate import Certificate
from octad.storage_node.journal.journal import Journal
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.rpc.peers import Peers
from octad.storage_node.s3.http.door_figures import DoorFigures
from octad.storage_node.s3.http.server import FrontDoor
from octad.storage_node.upkeep.engine_upkeep import EngineReport


class NodeMetrics(Collector):
    """`engine` and `shards` are questions: neither may raise or wait."""

    def __init__(
        self,
        door: FrontDoor,
        journal: Journal,
        peers: Peers,
        engine: Callable[[], EngineReport | None],
        shards: Callable[[], tuple[int, int]],
        bodies: BodyBudget,
        certificate: Certificate | None,
        log: Callable[[], Iterable[Metric]],
    ) -> None:
        self._door = door
        self._journal = journal
        self._peers = peers
        self._engine = engine
        self._shards = shards
        self._bodies = bodies
        self._certificate = certificate
        self._log = log
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The text and its content type."""
        return exposition(self._registry, accept)

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("octad_build_info", "What runs here.", labels=["version"])
        build.add_metric([VERSION], 1)
        yield build
        requests = CounterMetricFamily(
            "octad_s3_requests",
            "Requests answered; operation none: refused before it was known.",
            labels=["operation", "code"],
        )
        for (operation, code), count in self._door.requests.items():
            requests.add_metric([operation, str(code)], count)
        yield requests
        yield from _of_requests(self._door.figures)
        yield CounterMetricFamily(
            "octad_s3_unknown_headers",
            "Headers x-amz-* that mean nothing here, of requests that were served.",
            value=self._door.unknown_headers.count,
        )
        ends = GaugeMetricFamily(
            "octad_s3_certificate_end_seconds", "When the certificate ends, as a time of Unix."
        )
        if self._certificate is not None:
            ends.add_metric([], self._certificate.not_after.timestamp())
        yield ends
        members, primaries = self._shards()
        yield gauge("octad_node_replicas", "Shards that the node is a member of.", members)
        yield gauge("octad_node_primaries", "Shards that the node leads.", primaries)
        bodies = self._bodies
        yield gauge("octad_body_budget_bytes", "Of memory for clients' bodies.", bodies.bytes_max)
        yield gauge("octad_body_used_bytes", "Of it, taken for bodies.", bodies.used)
        yield gauge("octad_body_waiting_bytes", "That bodies wait for.", bodies.waiting)
        yield from self._of_peers()
        yield CounterMetricFamily(
            "octad_journal_records",
            "Appended since the start.",
            value=self._journal.records_appended,
        )
        syncs = HistogramMetricFamily("octad_journal_sync_seconds", "Until a batch was durable.")
        times = self._journal.sync_times
        syncs.add_metric([], times.cumulative(), times.sum_s)
        yield syncs
        yield from self._log()
        room = self._door.room
        if room is not None:
            yield from _of_room(room)
        report = self._engine()
        if report is not None:
            yield from _of_engine(report)

    def _of_peers(self) -> Iterator[Metric]:
        peers = self._peers
        yield gauge("octad_peers_known", "Other nodes with an address.", peers.named)
        yield gauge("octad_peers_connected", "Other nodes connected.", peers.open)
        refusals = CounterMetricFamily(
            "octad_peer_refusals", "Connections and frames refused.", labels=["reason"]
        )
        for reason, count in peers.refusals.items():
            refusals.add_metric([reason.value], count)
        yield refusals


def _of_requests(figures: DoorFigures) -> Iterator[Metric]:
    yield gauge("octad_s3_requests_in_flight", "Requests being answered.", figures.in_flight)
    counters = {
        "octad_s3_received_bytes": (
            "Of bodies, of requests that are over.",
            figures.received_bytes,
        ),
        "octad_s3_sent_bytes": ("Of bodies, of answers that are over.", figures.sent_bytes),
        "octad_s3_access_log_left_out": (
            "Requests that the access log had no room for.",
            figures.log.left_out if figures.log is not None else 0,
        ),
    }
    for name, (meaning, value) in counters.items():
        yield CounterMetricFamily(name, meaning, value=value)
    whole = HistogramMetricFamily(
        "octad_s3_request_seconds", "Until all of the answer was written.", labels=["operation"]
    )
    first_byte = HistogramMetricFamily(
        "octad_s3_first_byte_seconds", "Until the answer began.", labels=["operation"]
    )
    for operation, times in figures.times.items():
        whole.add_metric([operation], times.whole.cumulative(), times.whole.sum_s)
        begun = times.first_byte
        first_byte.add_metric([operation], begun.cumulative(), begun.sum_s)
    yield whole
    yield first_byte


def _of_room(room: ConnectionRoom) -> Iterator[Metric]:
    yield gauge("octad_s3_connections", "Open connections of clients.", len(room.present))
    yield gauge("octad_s3_connections_max", "Room for so many.", room.connections_max)
    yield CounterMetricFamily(
        "octad_s3_connections_let_go", "Idle ones closed for new ones.", value=room.let_go
    )
    yield CounterMetricFamily(
        "octad_s3_connections_refused",
        "New ones for which there was no room.",
        value=room.turned_away,
    )


def _of_engine(report: EngineReport) -> Iterator[Metric]:
    gauges = {
        "octad_journal_live_bytes": ("Records that a row points at.", report.live_bytes),
        "octad_journal_written_bytes": ("Records of ended segments.", report.written_bytes),
        "octad_journal_segments": ("Segments with records.", report.segments),
        "octad_disk_free_bytes": ("Free on the disk of the journal.", report.free_bytes),
        "octad_damaged_records": (
            "Damaged now, without an intact copy so far.",
            report.damage.left,
        ),
    }
    for name, (meaning, value) in gauges.items():
        yield gauge(name, meaning, value)
    counters = {
        "octad_compaction_copied_bytes": ("Copied to free segments.", report.copied_bytes),
        "octad_compaction_freed_bytes": ("Given back.", report.freed_bytes),
        "octad_scrub_read_bytes": ("Verified.", report.scrubbed_bytes),
        "octad_scrub_rounds": ("Times that everything was verified.", report.scrub_rounds),
        "octad_scrub_damaged_records": ("Found damaged.", report.damage.found),
        "octad_scrub_repaired_records": ("Brought from a member.", report.damage.repaired),
        "octad_read_errors_passed": ("Read errors that passed.", report.damage.passed),
    }
    for name, (meaning, value) in counters.items():
        yield CounterMetricFamily(name, meaning, value=value)
