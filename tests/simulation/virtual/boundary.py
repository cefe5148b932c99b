"""Where code meets the machine: clocks and chance. A simulation puts its own there while it runs.

Everything in Python that tells the time or draws a random number is replaced, for all modules, so
that no code has to be written for it: what a process asks for comes from its machine's clock and
from the seed. `steady_clock.now` is a C function that modules hold by name; those names are
replaced one by one.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from tests.simulation.virtual.timeline import Timeline

from octad.client.runtime import steady_clock

BEGINNING_S = 1_900_000_000.0  # The wall clock at the beginning of a run.
WALL_SKEW_S = 10.0

_NS_PER_S = 1_000_000_000
_real_now = steady_clock.now


@contextmanager
def simulated_machine(timeline: Timeline) -> Iterator[None]:
    """Clocks and chance are those of `timeline` in this block."""

    def monotonic() -> float:
        loop = timeline.current
        return timeline.time if loop is None else loop.clock.shows(timeline.time)

    def wall() -> float:
        """Of machines that agree on it by some seconds."""
        loop = timeline.current
        ahead = 0.0 if loop is None else loop.clock.origin % WALL_SKEW_S
        return BEGINNING_S + timeline.time + ahead

    chance = random.Random(f"chance {timeline.seed}")
    replaced: list[tuple[Any, str, Any]] = [
        (time, "monotonic", monotonic),
        (time, "perf_counter", monotonic),
        (time, "time", wall),
        (time, "monotonic_ns", lambda: int(monotonic() * _NS_PER_S)),
        (time, "time_ns", lambda: int(wall() * _NS_PER_S)),
        (time, "clock_gettime", lambda _: monotonic()),
        (time, "clock_gettime_ns", lambda _: int(monotonic() * _NS_PER_S)),
        (time, "sleep", _refuse_to_sleep),
        (os, "urandom", chance.randbytes),
        (random, "_urandom", chance.randbytes),
        *((random, name, getattr(chance, name)) for name in _CHANCE),
        *((module, name, monotonic) for module, name in _names_of_now()),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    hooks, unraisable = sys.get_asyncgen_hooks(), sys.unraisablehook
    gc.collect()
    gc.disable()
    for owner, name, instead in replaced:
        setattr(owner, name, instead)
    sys.set_asyncgen_hooks(finalizer=_closes(timeline))
    try:
        yield
    finally:
        for owner, name, was in before:
            setattr(owner, name, was)
        sys.set_asyncgen_hooks(*hooks)
        sys.unraisablehook = _pass_over  # What a kill has left is in the middle of something.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable()
            timeline.dispose()
            gc.enable()
            gc.collect()
        sys.unraisablehook = unraisable
        logging.disable(logging.NOTSET)


_CHANCE = ("random", "uniform", "randrange", "randint", "choice", "choices", "sample", "shuffle",
           "getrandbits", "randbytes", "expovariate")  # fmt: skip


def _names_of_now() -> list[tuple[ModuleType, str]]:
    """Whatever module of octad holds the clock by name."""
    found: list[tuple[ModuleType, str]] = []
    for name, module in sorted(sys.modules.items()):
        if name.startswith("octad."):
            found += [(module, key) for key, value in vars(module).items() if value is _real_now]
    return found


def _closes(timeline: Timeline) -> Callable[[Any], None]:
    """Async generators that were let go are closed by their process's loop, as asyncio does."""

    def close(generator: Any) -> None:
        loop = timeline.current
        if loop is not None and not loop.is_dead:
            loop.call_soon(loop.create_task, generator.aclose())

    return close


def _refuse_to_sleep(seconds: float) -> None:
    raise AssertionError(f"a simulated process blocks for {seconds} s")


def _pass_over(_: Any) -> None:
    """Coroutines that are let go where they stood may complain."""
