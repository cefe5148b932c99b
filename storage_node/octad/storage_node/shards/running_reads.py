"""The reads of this node's front door that may still need extents, and how long the oldest takes.

A read counts from before its row was looked up until it is over, however it ends: what it holds is
referred to weakly, so no one has to report its end. Ages are by a clock that no one sets and that
goes on while the machine is suspended.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Final
from weakref import WeakValueDictionary, ref

from octad.client.runtime.steady_clock import now
from octad.storage_node.index.rows import ExtentRef

# Reads that ask soon after each other count as the first of them: too old, which is safe.
SHARED_S: Final = 0.02


class Asking:
    """Reads that have not got their rows yet; each holds this meanwhile."""

    __slots__ = ("__weakref__", "began")

    def __init__(self, began: float) -> None:
        self.began = began


class RunningReads:
    """See the module."""

    def __init__(self, clock: Callable[[], float] = now) -> None:
        self._clock = clock
        self._numbers = count()
        self._held: WeakValueDictionary[tuple[float, int], ExtentRef | Asking] = (
            WeakValueDictionary()
        )
        self._latest: ref[Asking] | None = None

    def ask(self) -> Asking:
        """A row is about to be asked for elsewhere."""
        moment = self._clock()
        asking = None if self._latest is None else self._latest()
        if asking is None or moment > asking.began + SHARED_S:
            asking = Asking(moment)
            self._latest = ref(asking)
            self._held[moment, next(self._numbers)] = asking
        return asking

    def hold(self, extent: ExtentRef, asking: Asking | None = None) -> None:
        """The row is here and names `extent`. It was looked up by `asking`, or just now.

        Without `asking`, call it before checking that nothing has changed the row: a process may be
        paused at any point, and would take a late moment for the read's beginning.
        """
        began = self._clock() if asking is None else asking.began
        self._held[began, next(self._numbers)] = extent

    def oldest_s(self) -> float:
        """The age of the oldest running read; 0 when there is none."""
        began = min((began for began, _ in self._held), default=None)
        return 0.0 if began is None else self._clock() - began
