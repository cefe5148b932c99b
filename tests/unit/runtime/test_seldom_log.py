"""What may happen a thousand times a second is one line a minute."""

from __future__ import annotations

import logging

import pytest

from octad.client.runtime.logs.seldom_log import SeldomLog


def test_one_line_a_minute_and_how_often_it_was_left_out(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("octad.client.runtime.logs.seldom_log.time.monotonic", lambda: now[0])
    seldom, other = (SeldomLog(logging.getLogger("octad.test")) for _ in range(2))
    for tenth in range(1200):
        now[0] = tenth / 10
        seldom.warning("no room for %s", "you")
    other.warning("another kind")
    assert [record.getMessage() for record in caplog.records] == [
        "no room for you",
        "no room for you (599 more such lines were left out)",
        "another kind",
    ]
