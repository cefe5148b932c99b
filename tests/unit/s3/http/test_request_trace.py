"""Requests as they end, for who watches: what costs nothing, what is told, and the bounds."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.s3.trace_document import BadFilter, TraceFilter, filter_of
from octad.storage_node.s3.handlers.request import HeldBody, Request
from octad.storage_node.s3.http import request_trace
from octad.storage_node.s3.http.door_figures import DoorFigures
from octad.storage_node.s3.http.request_trace import RequestTraces, TooManyWatchers
from octad.storage_node.s3.protocol.answers import Answer

ALL = TraceFilter()


class Lines:
    """An access log that keeps them."""

    def __init__(self) -> None:
        self.left_out = 7
        self.kept: list[tuple[object, ...]] = []

    def add(self, *line: object) -> None:
        self.kept.append(line)


def ended(
    figures: DoorFigures, *, operation: str = "GetObject", status: int = 200, target: str = "/b/k"
) -> None:
    """One request comes to its end, as the ways into a node report it."""
    request = Request("GET", target, {}, HeldBody(b""))
    request.operation, request.bucket, request.key_id = operation, "b", "AK"
    figures.in_flight += 1
    figures.ended(b"\x01" * 16, request, Answer(status), 3, 0, 0)


def test_while_nobody_watches_requests_come_past_no_trace() -> None:
    """`DoorFigures.ended` looks whether there is a log, as it always has: there is none."""
    figures = DoorFigures()
    traces = RequestTraces(figures)
    assert figures.log is None
    log = Lines()
    figures.log = log
    watchers = [traces.watch(ALL) for _ in range(2)]
    standing: object = figures.log
    assert standing is traces
    for watcher in watchers:
        traces.leave(watcher)
    assert figures.log is log


async def test_a_watcher_hears_of_requests_and_the_access_log_still_does() -> None:
    log = Lines()
    figures = DoorFigures(log)
    traces = RequestTraces(figures)
    watcher = traces.watch(TraceFilter(operation="PutObject", status="5xx"))
    ended(figures)
    ended(figures, operation="PutObject")
    ended(figures, operation="PutObject", status=503, target="/b/k%20\n?X-Amz-Signature=secret")
    (line,) = await watcher.lines(10.0)
    assert (line.operation, line.status, line.path) == ("PutObject", 503, "/b/k%20\n")
    assert (line.request_id, line.key_id, line.received_bytes) == ("01" * 16, "AK", 3)
    assert await watcher.lines(0.01) == []
    assert len(log.kept) == 3
    assert figures.log is not None
    assert figures.log.left_out == log.left_out


async def test_who_is_slow_loses_lines_and_is_told_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_trace, "LINES_WAITING_MAX", 5)
    figures = DoorFigures()
    traces = RequestTraces(figures)
    slow, narrow = traces.watch(ALL), traces.watch(TraceFilter(status="404"))
    for _ in range(12):
        ended(figures)
    assert (len(await slow.lines(10.0)), slow.left_out, narrow.left_out) == (5, 7, 0)
    ended(figures)
    assert len(await slow.lines(10.0)) == 1


@given(st.floats(0.001, 1.0), st.integers(1, 300))
def test_a_sample_is_that_share_and_tells_the_first(share: float, requests: int) -> None:
    async def told() -> int:
        figures = DoorFigures()
        watcher = RequestTraces(figures).watch(TraceFilter(sample=share))
        for _ in range(requests):
            ended(figures)
        return len(await watcher.lines(10.0))

    assert 0 <= asyncio.run(told()) - share * requests <= 1.0001


def test_there_are_four_watchers_and_no_fifth() -> None:
    traces = RequestTraces(DoorFigures())
    watchers = [traces.watch(ALL) for _ in range(request_trace.WATCHERS_MAX)]
    assert len(watchers) == 4
    with pytest.raises(TooManyWatchers):
        traces.watch(ALL)
    traces.leave(watchers[0])
    traces.watch(ALL)


FILTERS = st.builds(
    TraceFilter,
    operation=st.sampled_from(["", "PutObject"]),
    bucket=st.sampled_from(["", "b & c"]),
    key_id=st.sampled_from(["", "AK"]),
    status=st.sampled_from(["", "404", "5xx"]),
    slower_s=st.sampled_from([0.0, 0.25]),
    sample=st.sampled_from([1.0, 0.1]),
)


@given(FILTERS)
def test_a_filter_comes_back_from_its_query(wanted: TraceFilter) -> None:
    assert filter_of(dict(parse_qsl(wanted.query()))) == wanted


@pytest.mark.parametrize(
    "query",
    [{"sample": "0"}, {"sample": "2"}, {"status": "9xx"}, {"slower_s": "soon"}, {"colour": "red"}],
)
def test_what_is_no_filter_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(BadFilter):
        filter_of(query)
