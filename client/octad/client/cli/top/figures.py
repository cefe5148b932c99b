"""What a node's metrics say, and what happened between two readings of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

_LINE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? ([^ \n]+)", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
_REQUESTS: Final = "octad_s3_requests_total"
_SECONDS: Final = "octad_s3_request_seconds"
_FAILED_FROM: Final = 500


class Reading(NamedTuple):
    """Counters of one node at one moment. `seconds`: spent on requests, by operation."""

    requests: Mapping[str, float]
    seconds: Mapping[str, float]
    failed: float
    in_flight: float
    received_bytes: float
    sent_bytes: float
    free_bytes: float | None


class Rates(NamedTuple):
    """A second's, between two readings. `mean_ms` of an operation: None where there was none."""

    requests: float
    failed: float
    mean_ms: float | None
    in_flight: float
    received_bytes: float
    sent_bytes: float
    free_bytes: float | None
    operations: Mapping[str, tuple[float, float | None]]


def reading_of(exposition: str) -> Reading:
    """From a node's `/metrics`."""
    requests: dict[str, float] = {}
    seconds: dict[str, float] = {}
    failed = 0.0
    single: dict[str, float] = {}
    for name, labels, value in _samples(exposition):
        if name == _REQUESTS:
            operation = labels["operation"]
            requests[operation] = requests.get(operation, 0.0) + value
            failed += value if int(labels["code"]) >= _FAILED_FROM else 0.0
        elif name == f"{_SECONDS}_sum":
            seconds[labels["operation"]] = value
        elif not labels:
            single[name] = value
    return Reading(
        requests,
        seconds,
        failed,
        single.get("octad_s3_requests_in_flight", 0.0),
        single.get("octad_s3_received_bytes_total", 0.0),
        single.get("octad_s3_sent_bytes_total", 0.0),
        single.get("octad_disk_free_bytes"),
    )


def rates_between(before: Reading, after: Reading, seconds: float) -> Rates:
    """A node that was started again in between counts from 0, so nothing is below 0."""

    def rate(then: float, now: float) -> float:
        return max(now - then, 0.0) / seconds

    operations: dict[str, tuple[float, float | None]] = {}
    total = spent = 0.0
    for operation, count in after.requests.items():
        each = rate(before.requests.get(operation, 0.0), count)
        busy = rate(before.seconds.get(operation, 0.0), after.seconds.get(operation, 0.0))
        if each:
            operations[operation] = (each, busy / each * 1000)
        total += each
        spent += busy
    return Rates(
        total,
        rate(before.failed, after.failed),
        spent / total * 1000 if total else None,
        after.in_flight,
        rate(before.received_bytes, after.received_bytes),
        rate(before.sent_bytes, after.sent_bytes),
        after.free_bytes,
        operations,
    )


def sum_of_operations(nodes: list[Rates]) -> dict[str, tuple[float, float | None]]:
    """Over all nodes, the most frequent first."""
    rates: dict[str, float] = {}
    busy: dict[str, float] = {}
    for node in nodes:
        for operation, (rate, mean_ms) in node.operations.items():
            rates[operation] = rates.get(operation, 0.0) + rate
            busy[operation] = busy.get(operation, 0.0) + rate * (mean_ms or 0.0)
    ordered = sorted(rates, key=lambda operation: -rates[operation])
    return {each: (rates[each], busy[each] / rates[each]) for each in ordered}


def _samples(exposition: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for name, labels, value in _LINE.findall(exposition):
        yield name, dict(_LABEL.findall(labels)), float(value)
