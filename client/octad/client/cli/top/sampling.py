"""Reads a cluster's status and its nodes' metrics at intervals, and shows what came of it."""

from __future__ import annotations

import http.client
import json
import sys
import time
from typing import Final

from octad.client.cli.top.figures import Reading, rates_between, reading_of
from octad.client.cli.top.screen import document, table
from octad.client.cluster.coordinator_reads import not_a_coordinator, read_json
from octad.client.cluster.status_document import (
    STATUS_PATH,
    BadStatus,
    ClusterStatus,
    decode_status,
)

_TIMEOUT_S: Final = 2.0
_CLEAR: Final = "\x1b[H\x1b[2J"

Readings = dict[str, Reading | None]


def show(url: str, interval_s: float, count: int | None, *, as_json: bool, live: bool) -> None:
    """`count` times, or for ever. Raises CommandError."""
    before, at_s = _readings(_status(url)), time.monotonic()
    while count is None or count > 0:
        time.sleep(max(at_s + interval_s - time.monotonic(), 0.0))
        status = _status(url)
        after, now_s = _readings(status), time.monotonic()
        rates = {
            name: rates_between(then, now, now_s - at_s)
            if (now := after[name]) is not None and (then := before.get(name)) is not None
            else None
            for name in after
        }
        shown = f"{json.dumps(document(status, rates))}\n" if as_json else table(status, rates)
        sys.stdout.write(f"{_CLEAR}{shown}" if live else shown)
        sys.stdout.flush()
        before, at_s = after, now_s
        count = None if count is None else count - 1


def _status(url: str) -> ClusterStatus:
    try:
        return decode_status(read_json(url, STATUS_PATH))
    except BadStatus as error:
        raise not_a_coordinator(url, str(error)) from error


def _readings(status: ClusterStatus) -> Readings:
    return {node.name: _reading(node.admin_address) for node in status.nodes}


def _reading(address: str | None) -> Reading | None:
    """None where a node does not answer: its admin port is often for its own machine alone."""
    if address is None:
        return None
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        return reading_of(connection.getresponse().read().decode())
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
