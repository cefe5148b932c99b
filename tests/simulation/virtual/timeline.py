"""Virtual time: events happen one after the other, in the order that one seed decides.

Nothing else orders anything in a simulation: no thread, no clock, no chance but `random`. The
events of all machines lie on one heap; a machine's loop (`virtual_loop.py`) puts its own there.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.virtual.virtual_loop import VirtualLoop

DIGEST_BITS = (1 << 61) - 1


class TooManySteps(Exception):
    """A run does not come to its end: messages or timers go round in circles."""


class Timeline:
    """See the module. `steps` counts the events that loops have delivered."""

    def __init__(self, seed: int, steps_max: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.time = 0.0
        self.steps = 0
        self.digest = seed  # Of the steps, in their order: equal only for equal runs.
        self.current: VirtualLoop | None = None  # Whose code runs at this moment.
        self.failures: list[str] = []  # What no one caught.
        self._steps_max = steps_max
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._number = 0
        self._loops: list[VirtualLoop] = []

    def at(self, time: float, what: Callable[..., object], *args: Any) -> None:
        """Call `what` then, or now if that has passed."""
        self._number += 1
        heapq.heappush(self._heap, (max(time, self.time), self._number, what, args))

    def after(self, delay: float, what: Callable[..., object], *args: Any) -> None:
        self.at(self.time + delay, what, *args)

    def next_number(self) -> int:
        """One that no one else has."""
        self._number += 1
        return self._number

    def run_until(self, end: float) -> None:
        """Returns when all that happens up to `end` has happened, or something failed."""
        heap = self._heap
        while heap and heap[0][0] <= end and not self.failures:
            self.time, _, what, args = heapq.heappop(heap)
            what(*args)
            if self.steps > self._steps_max:
                raise TooManySteps(f"{self.steps} steps at {self.time:.3f} s")
        if not self.failures:
            self.time = end

    def run_while(self, unfinished: Callable[[], bool], longest_s: float) -> None:
        """Returns at the first moment at which `unfinished` says no, or after `longest_s`."""
        heap, end = self._heap, self.time + longest_s
        while unfinished() and heap and heap[0][0] <= end and not self.failures:
            self.time, _, what, args = heapq.heappop(heap)
            what(*args)

    def count_step(self, loop_number: int) -> None:
        """`loop_number` delivers an event."""
        self.steps += 1
        self.digest = (self.digest * 1_000_003 ^ hash((self.time, loop_number))) & DIGEST_BITS

    def hold(self, loop: VirtualLoop) -> None:
        """To the end: nothing that a kill has left is finalized during the run."""
        self._loops.append(loop)

    def dispose(self) -> None:
        """The run is over: let go of everything, wherever it stands."""
        self._heap.clear()
        for loop in self._loops:
            loop.abandon()
        self._loops.clear()
