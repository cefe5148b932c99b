"""The last replicas of a rebalancing: those that no node with room may take directly.

Then another node takes the replica and passes one of its own on to a node with room. Cheapest
first: a node that held the shard before takes it back and passes something else on; or a node
passes on a replica that had only just been given to it; both cost no more moves than there had to
be, and neither does a chain of such steps. Then any node and any replica: one move more. At last
chains of any kind.

Why that ends: giving every shard q/n of a node with quota q (n shards) meets all constraints in
fractions, and the constraints are those of a flow, so whole numbers exist that meet them and a
chain leads there. Only pins can make it impossible: then balance gives way, as the least of what
was asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from octad.sharding.placement_state import PlacementState


def place_leftover(state: PlacementState, shard: int) -> None:
    """Fill one hole of `shard`."""
    takers = [node for node in range(len(state.zones)) if state.room(node) > 0]
    direct = next((node for node in takers if state.fits(shard, node)), None)
    if direct is not None:
        state.add(shard, direct)
        return
    placed = (
        _place_by_exchange(state, shard, takers, _free_exchanges(state, shard))
        or _place_by_chain(state, shard, free_only=True)
        or _place_by_exchange(state, shard, takers, _any_exchanges(state, shard))
        or _place_by_chain(state, shard, free_only=False)
    )
    if not placed:
        _place_beyond_quota(state, shard)


def _place_by_exchange(
    state: PlacementState, shard: int, takers: Sequence[int], ways: Iterable[tuple[int, int]]
) -> bool:
    for keeper, passed_on in ways:
        if state.is_pinned(passed_on, keeper):
            continue
        for taker in takers:
            if state.fits(passed_on, taker, leaving=keeper):
                state.replace(passed_on, keeper, taker)
                state.add(shard, keeper)
                return True
    return False


def _free_exchanges(state: PlacementState, shard: int) -> Iterator[tuple[int, int]]:
    """(who takes `shard`, which of its shards it passes on) where that costs no further move."""
    for keeper in state.before[shard]:
        if state.fits(shard, keeper):
            yield from ((keeper, passed_on) for passed_on in state.shards_of[keeper])
    for keeper in range(len(state.zones)):
        if state.fits(shard, keeper):
            for passed_on in state.shards_of[keeper]:
                if state.arrived(passed_on, keeper):
                    yield keeper, passed_on


def _any_exchanges(state: PlacementState, shard: int) -> Iterator[tuple[int, int]]:
    """All (who takes `shard`, which of its shards it passes on)."""
    for keeper in range(len(state.zones)):
        if state.fits(shard, keeper):
            yield from ((keeper, passed_on) for passed_on in state.shards_of[keeper])


class _Chains:
    """Breadth first through "y may take t, which x passes on", from a shard with a hole.

    A link is free when x had only just been given t, or y held it before.
    """

    def __init__(self, state: PlacementState, shard: int, *, free_only: bool) -> None:
        self.state = state
        self.shard = shard
        self.free_only = free_only
        # Who was reached through which shard of whom; the start's own hole has no giver.
        self.came_by: dict[int, tuple[int, int]] = {}
        self.unreached = list(range(len(state.zones)))
        self.zones_seen: set[tuple[int, int]] = set()
        self.crossed: set[int] = set()

    def find(self) -> int | None:
        """A node with room at the end of a chain, if there is one."""
        queue = deque(self._reach(-1, self.shard, self.unreached))
        while queue:
            node = queue.popleft()
            if self.state.room(node) > 0:
                return node
            for shard in self.state.shards_of[node]:
                if not self.unreached:
                    break
                if not self.state.is_pinned(shard, node):
                    queue.extend(self._reach(node, shard, self._candidates(node, shard)))
        return None

    def _candidates(self, giver: int, shard: int) -> Sequence[int]:
        """Who may be reached by `giver` passing `shard` on, zones and cost regarded."""
        zones, before = self.state.zones, self.state.before[shard]
        free = not self.free_only or self.state.arrived(shard, giver)
        nodes = self.unreached if free else [node for node in self.unreached if node in before]
        if not free or not self.state.zones_matter:
            return nodes
        if (shard, zones[giver]) in self.zones_seen:
            return ()
        self.zones_seen.add((shard, zones[giver]))
        if shard in self.crossed:
            return [node for node in nodes if zones[node] == zones[giver]]
        self.crossed.add(shard)
        return nodes

    def _reach(self, giver: int, shard: int, nodes: Sequence[int]) -> list[int]:
        """Note those of `nodes` that may take `shard` from `giver`."""
        reached = [node for node in nodes if self.state.fits(shard, node, leaving=giver)]
        for node in reached:
            self.came_by[node] = (giver, shard)
        if reached:
            self.unreached = [node for node in self.unreached if node not in self.came_by]
        return reached


def _place_by_chain(state: PlacementState, shard: int, *, free_only: bool) -> bool:
    chains = _Chains(state, shard, free_only=free_only)
    node = chains.find()
    if node is None:
        return False
    while node >= 0:
        giver, passed_on = chains.came_by[node]
        if giver >= 0:
            state.remove(passed_on, giver)
        state.add(passed_on, node)
        node = giver
    return True


def _place_beyond_quota(state: PlacementState, shard: int) -> None:
    assert state.pinned, "without pins a chain to a node with room exists"
    fits = [node for node in range(len(state.zones)) if state.fits(shard, node)]
    state.add(shard, max(fits, key=lambda node: (state.room(node), -node)))
