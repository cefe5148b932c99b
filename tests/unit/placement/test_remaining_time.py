"""An estimate that knows when it knows nothing."""

from __future__ import annotations

import pytest

from octad.client.cli.format_units import bar, shown_bytes, shown_time
from octad.coordinator.cli.plan_report import progress_line
from octad.coordinator.placement.remaining_time import RemainingTime, WorkLeft
from octad.coordinator.schema.placement_messages import PlanStatus


def test_nothing_is_promised_before_there_is_something_to_judge_by() -> None:
    remaining = RemainingTime()
    assert remaining.seconds(1000, 0.0) is None
    assert remaining.seconds(900, 2.0) is None, "two seconds say little"
    assert remaining.seconds(500, 10.0) == pytest.approx(10.0)


def test_what_stands_still_has_no_end_in_sight() -> None:
    remaining = RemainingTime()
    remaining.seconds(500, 0.0)
    assert remaining.seconds(500, 30.0) is None
    assert remaining.seconds(600, 31.0) is None, "more was added"
    assert remaining.seconds(0, 40.0) == 0.0


def test_only_the_last_minute_counts() -> None:
    remaining = RemainingTime()
    remaining.seconds(10_000, 0.0)
    remaining.seconds(1_000, 50.0)
    assert remaining.seconds(900, 105.0) == pytest.approx(495.0), "slow of late"


def test_with_no_byte_left_the_steps_that_are_left_still_take_time() -> None:
    work = WorkLeft()
    assert work.seconds(0, 100, 0.0) is None
    assert work.seconds(0, 50, 10.0) == pytest.approx(10.0)
    assert work.seconds(0, 0, 20.0) == 0.0


def test_the_slower_of_bytes_and_steps_says_when_it_ends() -> None:
    work = WorkLeft()
    work.seconds(1000, 100, 0.0)
    assert work.seconds(500, 90, 10.0) == pytest.approx(90.0), "many small shards are left"
    assert work.seconds(500, 90, 11.0) is not None
    large = WorkLeft()
    large.seconds(1000, 2, 0.0)
    assert large.seconds(500, 2, 10.0) == pytest.approx(10.0), "one large shard is on its way"
    still = WorkLeft()
    still.seconds(1000, 100, 0.0)
    assert still.seconds(1000, 50, 10.0) is None, "empty shards went; of bytes nothing is known"
    unknown = WorkLeft()
    unknown.seconds(None, 100, 0.0)
    assert unknown.seconds(None, 50, 10.0) == pytest.approx(10.0)


def test_the_wait_before_the_work_began_is_not_held_against_it() -> None:
    remaining = RemainingTime()
    for moment in range(10):
        assert remaining.seconds(1_000, float(moment)) is None, "no one works yet"
    assert remaining.seconds(900, 10.0) is None, "one second says little"
    assert remaining.seconds(600, 13.0) == pytest.approx(6.0)


def test_what_was_done_before_there_was_more_to_do_says_nothing() -> None:
    remaining = RemainingTime()
    remaining.seconds(1_000, 0.0)
    remaining.seconds(500, 10.0)
    assert remaining.seconds(505, 11.0) is not None, "sizes are estimates"
    assert remaining.seconds(2_000, 12.0) is None
    assert remaining.seconds(1_000, 16.0) == pytest.approx(4.0)


def test_sizes_and_times_are_for_people() -> None:
    assert (shown_bytes(None), shown_bytes(12), shown_bytes(3 << 30)) == (
        "unknown",
        "12 B",
        "3.0 GiB",
    )
    assert (shown_time(None), shown_time(30), shown_time(600), shown_time(7200)) == (
        "unknown",
        "30 s",
        "10 min",
        "2.0 h",
    )
    assert (bar(0), bar(1)) == ("[" + "." * 24 + "]", "[" + "#" * 24 + "]")


def test_the_line_says_what_is_left_and_what_is_wrong() -> None:
    status = PlanStatus("id", "drain n2", "running", 40, 10, None, 0, 0, 0, (), ("n5 is gone",))
    line = progress_line(status, WorkLeft(), 0.0)
    assert line == (
        "[##################......] running, 10 of 40 copies left, unknown left,"
        " time left: unknown  ! n5 is gone"
    )
