"""Which members of a shard certainly have what its primary has: the last comparison of each.

A comparison holds for one epoch: a node that becomes a member, or the primary, is compared anew.
What differs is compared no sooner again than what does not; both sides count their rows meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from octad.sharding.ids import Epoch, NodeId, ShardId

COMPARE_PERIOD_S = 60.0  # From one comparison of a copy to the next, unless membership changes.


class Led(NamedTuple):
    """A shard that this node leads, and the members that have a copy and were heard just now."""

    shard: ShardId
    epoch: Epoch
    heard: Sequence[NodeId]  # This node included; empty while the shard is not served.


class Judged(NamedTuple):
    """The verdict on the copies that were heard."""

    equal: int
    unknown: int  # Not compared yet.
    different: tuple[NodeId, ...]


class _Comparison(NamedTuple):
    epoch: Epoch
    is_equal: bool
    again_at: float


class CopyComparison:
    """See the module. `node` is the one that leads."""

    def __init__(self, node: NodeId) -> None:
        self._node = node
        self._known: dict[ShardId, dict[NodeId, _Comparison]] = {}

    def due(self, led: Iterable[Led], now: float) -> dict[NodeId, list[ShardId]]:
        """Which nodes to ask about which shards. Shards no longer in `led` are forgotten."""
        due: defaultdict[NodeId, list[ShardId]] = defaultdict(list)
        known: dict[ShardId, dict[NodeId, _Comparison]] = {}
        for shard, epoch, heard in led:
            before = self._known.get(shard, {})
            still = known[shard] = {
                node: before[node]
                for node in heard
                if node in before and before[node].epoch == epoch
            }
            for node in heard:
                if node != self._node and (node not in still or still[node].again_at <= now):
                    due[node].append(shard)
        self._known = known
        return due

    def compared(
        self, shard: ShardId, epoch: Epoch, node: NodeId, is_equal: bool, now: float
    ) -> None:
        """The copy at `node` was compared with the one here, at one seq."""
        known = self._known.setdefault(shard, {})
        known[node] = _Comparison(epoch, is_equal, now + COMPARE_PERIOD_S)

    def judge(self, led: Led, knows_own: bool) -> Judged:
        """`knows_own`: the digest here is known; without it no comparison counts."""
        equal, unknown = (1, 0) if knows_own else (0, 1)
        different: list[NodeId] = []
        known = self._known.get(led.shard, {})
        for node in led.heard:
            if node == self._node:
                continue
            comparison = known.get(node)
            if comparison is None or comparison.epoch != led.epoch or not knows_own:
                unknown += 1
            elif comparison.is_equal:
                equal += 1
            else:
                different.append(node)
        return Judged(equal, unknown, tuple(different))
