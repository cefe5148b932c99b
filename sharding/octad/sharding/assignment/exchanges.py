"""The last replicas of a rebalancing: those that no node with room may take directly.

They are placed by chains of nodes that pass replicas on (`set_chains.py`): first by chains that
cost no more moves than there had to be, then by any. Where the search by sets finds none, one by
single shards does.

Why that ends: giving every shard q/n of a node with quota q (n shards) meets all constraints in
fractions, and the constraints are those of a flow, so whole numbers exist that meet them and a
chain leads there. Only pins can make it impossible: then balance gives way, as the least of what
was asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from octad.sharding.assignment.placement_state import PlacementState, ReplicaSet
from octad.sharding.assignment.set_chains import SetChains, carry_out


def place_leftovers(state: PlacementState, shards: Sequence[int]) -> None:
    """Fill a hole of each of `shards`; a shard that lacks two replicas is named twice."""
    left = list(shards)
    while left:
        alike: dict[tuple[ReplicaSet, ReplicaSet], list[int]] = {}
        again = []
        seen: set[int] = set()
        for shard in left:
            if shard in seen:
                again.append(shard)  # Its next hole is another case, once this one is filled.
                continue
            seen.add(shard)
            key = (tuple(sorted(state.rows[shard])), tuple(sorted(state.before[shard])))
            alike.setdefault(key, []).append(shard)
        for (rest, before), group in alike.items():
            again += group[_place_alike(state, rest, before, group) :]
        if again and len(again) == len(left):
            # A search by shards may change rows with holes: everything is sorted anew after it.
            shard = again.pop()
            if not _place_by_chain(state, shard):
                _place_beyond_quota(state, shard)
        left = again


def _place_alike(
    state: PlacementState, rest: ReplicaSet, before: ReplicaSet, shards: list[int]
) -> int:
    """Fill one hole of each of `shards`, whose rows and old rows are the same; returns how many."""
    done = 0
    while done < len(shards):
        placed = 0
        for any_cost in (False, True):
            path = [] if placed else SetChains(state, any_cost=any_cost).find(rest, before)
            if path:
                placed = carry_out(state, path, shards[done:])
        if not placed:
            break
        done += placed
    return done


class _Chains:
    """Breadth first through "y may take t, which x passes on", from a shard with a hole."""

    def __init__(self, state: PlacementState, shard: int) -> None:
        self.state = state
        self.shard = shard
        # The giver and shard by which each node was reached; the start's own hole has no giver.
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
        """The nodes that `giver` may pass `shard` on to, by the rules on zones."""
        zones, nodes = self.state.zones, self.unreached
        if not self.state.zones_matter:
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


def _place_by_chain(state: PlacementState, shard: int) -> bool:
    chains = _Chains(state, shard)
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
