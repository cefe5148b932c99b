"""Which nodes accept only operations that free space, as their beats say.

A put that a member has no room for would hold up its shard, deletes included, until the member is
removed as stuck and its copy with it. So a primary orders no such put. Puts ordered before it hears
of the full disk use that disk's reserve: `disk_reserve.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from octad.sharding.ids import NodeId


class FullDisks:
    """See the module. Times are the caller's monotonic clock."""

    def __init__(self) -> None:
        self.now: set[NodeId] = set()
        self._last: dict[NodeId, float] = {}

    def note(self, node: NodeId, is_full: bool, moment: float) -> None:
        """Record what `node` says; one that is no longer heard keeps its last state."""
        if is_full:
            self.now.add(node)
            self._last[node] = moment
        else:
            self.now.discard(node)

    def first_of(self, nodes: Iterable[NodeId]) -> NodeId | None:
        """One of `nodes` that is full now."""
        return next((node for node in nodes if node in self.now), None)

    def since(self, moment: float) -> set[NodeId]:
        """Those that are full, or were at `moment` or later."""
        return {node for node, last in self._last.items() if last >= moment or node in self.now}
