"""Chains of nodes that pass replicas on, many shards at a time, found by replica set.

A hole that no node with room may fill is filled by a full node, which passes another of its shards
on to the next node, and so on to a node with room. Shards with the same nodes are alike, so links
are looked for once for each set, not for each shard, and one chain serves as many shards as its
narrowest link.

Only chains are taken at first that cost no more moves than filling the hole would. A link costs
nothing when the giver had only just been given the shard, or when the taker held it before; a hole
that is filled by a node that held the shard before leaves one move to spend: that is the *credit*.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from octad.sharding.assignment.placement_state import PlacementState, ReplicaSet


@dataclass(frozen=True, slots=True)
class Link:
    """`giver` passes shards of the set `through` on; anything it has there if it has credit."""

    giver: int
    through: ReplicaSet
    credit: bool


Path = list[tuple[Link | None, int]]


class SetChains:
    """One breadth-first search, from shards that all lack one replica beside `rest`."""

    def __init__(self, state: PlacementState, *, any_cost: bool) -> None:
        self.state = state
        self.any_cost = any_cost
        self.came_by: dict[int, Link | None] = {}
        self.unreached = list(range(len(state.zones)))

    def find(self, rest: ReplicaSet, returning: Sequence[int]) -> Path:
        """The chain as (how it was reached, node), from the hole on; empty when there is none."""
        state = self.state
        goals = [node for node in self.unreached if state.room(node) > 0]
        queue: deque[tuple[int, bool]] = deque()
        # Nearly always the first step already leads to a node that can pass on to one with room.
        for node in self.unreached:
            if state.fits_rest(rest, node):
                self.came_by[node] = None
                if state.room(node) > 0:
                    return self._path(node)
                credit = self.any_cost or node in returning
                for goal, link in self._links(node, goals, credit=credit):
                    self.came_by[goal] = link
                    return self._path(goal)
                queue.append((node, credit))
        self._forget_reached()
        while queue and self.unreached:
            node, credit = queue.popleft()
            reached = dict(self._links(node, self.unreached, credit=credit))
            for following, link in reached.items():
                self.came_by[following] = link
                if state.room(following) > 0:
                    return self._path(following)
                queue.append((following, self.any_cost))
            if reached:
                self._forget_reached()
        return []

    def _forget_reached(self) -> None:
        self.unreached = [node for node in self.unreached if node not in self.came_by]

    def _path(self, node: int) -> Path:
        path: Path = []
        while (link := self.came_by[node]) is not None:
            path.append((link, node))
            node = link.giver
        path.append((None, node))
        return path[::-1]

    def _links(
        self, giver: int, wanted: Sequence[int], *, credit: bool
    ) -> Iterator[tuple[int, Link]]:
        """Which of `wanted` the giver can pass a shard on to, and how."""
        state = self.state
        for through in state.sets_of[giver]:
            if len(through) < state.replicas:
                continue  # Rows with holes stay as they are until their turn.
            rest = tuple([node for node in through if node != giver])
            open_ = [node for node in wanted if state.fits_rest(rest, node)]
            if open_:
                link = Link(giver, through, credit)
                takers = self._takers(link)
                yield from ((n, link) for n in open_ if takers is None or n in takers)

    def _takers(self, link: Link) -> set[int] | None:
        """The nodes that may take a shard by this link without a further move; None for any."""
        state, takers = self.state, set[int]()
        for shard in state.sets[link.through]:
            if state.is_pinned(shard, link.giver):
                continue
            if link.credit or state.arrived(shard, link.giver):
                return None
            takers.update(state.before[shard])
        return takers


def carry_out(
    state: PlacementState,
    path: Path,
    shards: Sequence[int],
) -> int:
    """Fill the holes of some of `shards` along `path`; returns how many."""
    links: list[tuple[int, int, list[int]]] = []
    for link, taker in path[1:]:
        assert link is not None
        links.append((link.giver, taker, _passable(state, link, taker)))
    used = [shard for _, _, usable in links for shard in usable]
    count = min(len(shards), state.room(path[-1][1]), *[len(usable) for _, _, usable in links])
    if len(set(used)) < len(used):  # A set serves two links: its shards must not serve both.
        count = min(count, 1)
        if len({usable[0] for _, _, usable in links if usable}) < len(links):
            return 0
    for giver, taker, usable in reversed(links):
        for shard in usable[:count]:
            state.replace(shard, giver, taker)
    for shard in shards[:count]:
        state.add(shard, path[0][1])
    return count


def _passable(state: PlacementState, link: Link, taker: int) -> list[int]:
    giver = link.giver
    return [
        shard
        for shard in state.sets[link.through]
        if not state.is_pinned(shard, giver)
        and (link.credit or state.arrived(shard, giver) or not state.arrived(shard, taker))
    ]
