"""The findings that random schedules hardly ever meet, told step by step."""

from __future__ import annotations

import pytest
from tests.simulation.model.world import Violation
from tests.simulation.mutants import planted
from tests.simulation.traces import TRACES

NAMES = pytest.mark.parametrize("name", TRACES, ids=lambda name: TRACES[name].__name__)


@NAMES
def test_the_rule_holds_in_its_trace(name: str) -> None:
    TRACES[name]()


@NAMES
def test_the_trace_finds_the_planted_bug(name: str) -> None:
    with planted(name), pytest.raises(Violation):
        TRACES[name]()
