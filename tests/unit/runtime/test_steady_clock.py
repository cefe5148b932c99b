"""The clock that leases, ages of requests and signatures go by, on Linux and on macOS."""

from __future__ import annotations

import ast
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

import octad.chaos
import octad.client
import octad.coordinator
import octad.sharding
import octad.storage_node
from octad.client.runtime import steady_clock

PARTS = (octad.chaos, octad.client, octad.coordinator, octad.sharding, octad.storage_node)
SLEPT_NS = 3_600_000_000_000


def load() -> ModuleType:
    """The module as a process that starts now has it."""
    spec = spec_from_file_location("another_steady_clock", steady_clock.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Which clocks were read; the monotonic one has not counted an hour of sleep."""
    asked: set[int] = set()

    def gettime_ns(clock: int) -> int:
        asked.add(clock)
        return 0 if clock == time.CLOCK_MONOTONIC else SLEPT_NS

    monkeypatch.setattr(time, "clock_gettime_ns", gettime_ns)
    monkeypatch.setattr(time, "clock_gettime", lambda clock: gettime_ns(clock) / 1e9)
    return asked


def test_where_there_is_a_clock_that_counts_sleep_that_one_is_read(read: set[int]) -> None:
    clocks = load()
    assert clocks.now() == SLEPT_NS / 1e9
    clocks.SteadyClock().now_ms()
    assert read == {time.CLOCK_BOOTTIME}


def test_where_there_is_none_the_monotonic_clock_is_read(
    read: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")  # As on macOS.
    clocks = load()
    assert clocks.now() == 0
    clocks.SteadyClock().now_ms()
    assert read == {time.CLOCK_MONOTONIC}


def test_a_jump_of_the_wall_clock_moves_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = steady_clock.SteadyClock()
    before, before_ms = steady_clock.now(), clock.now_ms()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert before <= steady_clock.now() < before + 60
    assert before_ms <= clock.now_ms() < before_ms + 60_000


def test_no_other_module_reads_a_clock_of_the_system_by_its_number() -> None:
    """It would have to choose one for each system once more."""
    own = Path(steady_clock.__file__)
    for part in PARTS:
        for path in (each for root in part.__path__ for each in Path(root).rglob("*.py")):
            nodes = ast.walk(ast.parse(path.read_text()))
            names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
            assert path == own or not names & {"clock_gettime", "clock_gettime_ns"}, path
