"""Nodes' reports of their copies, in memory, and the rate at which missing ones are restored."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from octad.coordinator.placement.placement_view import PlacementView
from octad.coordinator.placement.remaining_time import RemainingTime
from octad.coordinator.schema.cluster_view import BadRecord, decode_record
from octad.coordinator.schema.node_report import NodeReport
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.status.known_copies import KnownCopies, known_copies
from octad.coordinator.store.interface import KeyValue
from octad.coordinator.store.mirror import Mirror
from octad.sharding.ids import NodeId

SAMPLE_S_MIN = 2.0

log = logging.getLogger(__name__)


class CopyReports:
    """Use: `start()` once the mirror has started, then `copies()` at any time."""

    def __init__(self, mirror: Mirror, keys: StoreKeys, view: Callable[[], PlacementView]) -> None:
        self._mirror = mirror
        self._kind = keys.reports
        self._view = view
        self._reports: dict[NodeId, NodeReport] | None = None
        self._remaining = RemainingTime()
        self._in_bytes = True
        self._sampled_at = 0.0

    def start(self) -> None:
        """Take samples from now on."""
        self._mirror.subscribe(self._on_change, self._kind)

    def copies(self) -> KnownCopies:
        """Returns the copies known now; raises BadRecord."""
        if self._reports is None:
            decoded = [decode_record(e, NodeReport) for e in self._mirror.of(self._kind).values()]
            self._reports = {report.node: report for report in decoded}
        view = self._view()
        return known_copies(view.cluster, self._reports, view.shard_bytes())

    def time_left_s(self, copies: KnownCopies) -> float | None:
        """The time until no copy is missing, at the rate of the last minute; None if unknown."""
        if not copies.missing and not copies.copying:
            self._remaining = RemainingTime()
            return 0.0
        in_bytes = bool(copies.bytes_left)
        if in_bytes != self._in_bytes:
            self._remaining, self._in_bytes = RemainingTime(), in_bytes
        left = copies.bytes_left if copies.bytes_left else max(copies.missing, len(copies.copying))
        return self._remaining.seconds(float(left), time.monotonic())

    def _on_change(self, _key: str, _entry: KeyValue | None) -> None:
        """Also take a sample of the rate, independent of requests."""
        self._reports = None
        now = time.monotonic()
        if now - self._sampled_at < SAMPLE_S_MIN:
            return
        self._sampled_at = now
        try:
            self.time_left_s(self.copies())
        except BadRecord as error:
            log.warning("reading nodes' reports of copies: %s", error)
