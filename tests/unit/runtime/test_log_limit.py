"""No minute has more than ten lines of a kind; what is left out is counted, once a minute."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from octad.client.runtime.logs.log_limit import KINDS_MAX, LINES_MAX, MINUTE_S, LineKind, LineLimit

KIND = LineKind("octad.peer", 30, "refused %s: %s")
OTHER = LineKind("octad.journal", 40, "%s is damaged")
PAUSES = st.sampled_from([0.0, 0.1, 1.0, 5.9, 6.1, 30.0, 59.9, 60.0, 200.0])


@given(st.lists(PAUSES, max_size=300))
def test_no_minute_has_more_than_ten_lines_and_one_that_counts_the_rest(
    pauses: list[float],
) -> None:
    limit = LineLimit()
    now, admitted, told, counted = 1000.0, [], [], 0
    for pause in pauses:
        now += pause
        if now >= limit.next_due:
            for _, count in limit.due(now):
                told.append(now)
                counted += count
        if limit.admits(KIND, now):
            admitted.append(now)
    for first, last in zip(admitted, admitted[LINES_MAX:], strict=False):
        assert last - first >= MINUTE_S, "eleven lines within a minute"
    assert all(later - earlier >= MINUTE_S for earlier, later in pairwise(told))
    counted += sum(count for _, count in limit.due(math.inf))
    assert len(admitted) + counted == len(pauses), "every line is either there or counted"


def test_a_flood_of_one_kind_holds_back_no_line_of_another() -> None:
    limit = LineLimit()
    written = [limit.admits(KIND, 0.001 * number) for number in range(10_000)]
    assert written.count(True) == LINES_MAX
    assert limit.admits(OTHER, 10.0)
    assert limit.admits(KIND._replace(level=40), 10.0)
    assert limit.due(59.0) == []
    assert limit.due(limit.next_due) == [(KIND, 10_000 - LINES_MAX)]
    assert limit.admits(KIND, 61.0)
    assert limit.next_due == math.inf


def test_texts_that_differ_every_time_take_no_more_memory_or_log_than_many_kinds() -> None:
    limit = LineLimit()
    kinds = [LineKind("asyncio", 40, f"text {number}") for number in range(20_000)]
    written = Counter(kind for kind in kinds for _ in range(2) if limit.admits(kind, 1.0))
    assert sum(written.values()) == 2 * KINDS_MAX + LINES_MAX
    assert sum(map(len, limit._loggers.values())) == KINDS_MAX + 1
    assert limit.admits(OTHER, 2.0), "another logger's lines are not held"
    assert limit.admits(LineKind("asyncio", 40, "a minute later"), 62.0), "idle kinds are forgotten"


def test_idle_kinds_are_forgotten() -> None:
    limit = LineLimit()
    for number in range(KINDS_MAX):
        assert limit.admits(LineKind("octad", 20, str(number)), 0.0)
    limit.due(MINUTE_S)
    assert not limit._loggers["octad"]
