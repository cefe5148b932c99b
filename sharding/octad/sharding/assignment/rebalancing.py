"""From old rows to balanced ones with as few moves as possible: what `assignment.assign` runs.

Every row keeps what it may keep. Nodes above their quota pass replicas to nodes below it.
Of equally cheap moves the one is chosen that makes the fewest new replica sets, and whole sets move
together. A replica that no one with room may take is left to `exchanges.py`. All of it is in terms
of positions in the list of usable nodes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import islice

from octad.sharding.assignment.exchanges import place_leftovers
from octad.sharding.assignment.placement_state import PlacementState, ReplicaSet
from octad.sharding.assignment.quotas import rounded

# How many ways to give a replica away are compared for the sake of few sets: a bound on time alone.
SETS_COMPARED_MAX = 24
TAKERS_COMPARED_MAX = 6
ZONES_COMPARED_MAX = 64


def rebalanced(
    before: Sequence[Sequence[int]],
    primaries: Sequence[int],
    zones: Sequence[int],
    shares: Sequence[Fraction],
    pinned: Mapping[int, Sequence[int]],
    *,
    replicas: int,
    per_zone: int,
    scatter_width: int,
) -> list[list[int]]:
    """The rows that `before` becomes. Rows of `before` may be short, long or in one zone."""
    held = Counter(node for row in before for node in row)
    pressure = [held[node] - share for node, share in enumerate(shares)]
    kept = [
        _kept(row, pinned.get(shard, ()), zones, pressure, replicas, per_zone)
        for shard, row in enumerate(before)
    ]
    state = PlacementState(before, kept, zones, pinned, replicas=replicas, per_zone=per_zone)
    state.quotas = _with_room_for_pins(rounded(shares, zones, state.load, range(len(zones))), state)
    run = _Run(state, primaries, scatter_width)
    place_leftovers(state, [*run.fill_holes(), *run.relieve()])
    return state.rows


def _kept(
    row: Sequence[int],
    pins: Sequence[int],
    zones: Sequence[int],
    pressure: Sequence[Fraction],
    replicas: int,
    per_zone: int,
) -> list[int]:
    """The nodes of `row` that can stay, in order, and pinned ones; overfull nodes leave first."""
    if not _breaks(row, pins, zones, replicas, per_zone):
        return list(row)
    keep = list(pins)
    in_zone = Counter(zones[node] for node in pins)
    for node in sorted(row, key=pressure.__getitem__):
        if node not in keep and len(keep) < replicas and in_zone[zones[node]] < per_zone:
            keep.append(node)
            in_zone[zones[node]] += 1
    return [node for node in row if node in keep] + [node for node in pins if node not in row]


def _breaks(
    row: Sequence[int], pins: Sequence[int], zones: Sequence[int], replicas: int, per_zone: int
) -> bool:
    """Whether not all of `row` can stay: the rare case."""
    if pins or len(row) > replicas:
        return True
    in_zones = [zones[node] for node in row]
    return len(set(in_zones)) < len(in_zones) and max(Counter(in_zones).values()) > per_zone


def _with_room_for_pins(quotas: list[int], state: PlacementState) -> list[int]:
    """Quotas raised to what is pinned to each node, at the cost of others, its own zone's first."""
    pins = Counter(node for nodes in state.pinned.values() for node in nodes)
    for node, count in sorted(pins.items()):
        while quotas[node] < count:
            givers = [other for other in range(len(quotas)) if quotas[other] > pins[other]]
            same_zone = [other for other in givers if state.zones[other] == state.zones[node]]
            quotas[max(same_zone or givers, key=lambda other: quotas[other])] -= 1
            quotas[node] += 1
    return quotas


class _Run:
    """The greedy part: what can be moved directly from or to where it belongs."""

    def __init__(self, state: PlacementState, primaries: Sequence[int], scatter_width: int) -> None:
        self.state = state
        self.primaries = primaries
        self.duties = Counter(primaries)
        self.scatter_width = scatter_width
        nodes = range(len(state.zones))
        self.noted_room = {node: state.room(node) for node in nodes if state.room(node) > 0}
        self.by_room = sorted((-room, node) for node, room in self.noted_room.items())
        self.by_zone: dict[int, list[tuple[int, int]]] = {}
        self.zone_room: Counter[int] = Counter()
        for room, node in self.by_room:
            self.by_zone.setdefault(state.zones[node], []).append((room, node))
            self.zone_room[state.zones[node]] -= room

    def fill_holes(self) -> list[int]:
        """Give every short row the nodes it lacks; returns a shard for each hole that is left."""
        state = self.state
        short: dict[ReplicaSet, list[int]] = {}
        for shard, row in enumerate(state.rows):
            if len(row) < state.replicas:
                short.setdefault(tuple(sorted(row)), []).append(shard)
        queue = deque(short.items())
        leftovers: list[int] = []
        while queue:
            rest, shards = queue.popleft()
            taker = self._taker_for(rest, len(shards))
            if taker is None:
                leftovers += shards * (state.replicas - len(rest))
                continue
            count = min(len(shards), state.room(taker))
            for shard in shards[:count]:
                state.add(shard, taker)
            self._note_room(taker)
            if len(rest) + 1 < state.replicas:
                queue.append((tuple(sorted((*rest, taker))), shards[:count]))
            if count < len(shards):
                queue.append((rest, shards[count:]))
        return leftovers

    def relieve(self) -> list[int]:
        """Remove the surplus of overfull nodes; returns the shards left with a hole."""
        state = self.state
        overfull = [node for node in range(len(state.zones)) if state.room(node) < 0]
        leftovers: list[int] = []
        for giver in sorted(overfull, key=lambda node: (state.room(node), node)):
            while state.room(giver) < 0:
                choice = self._best_move(giver) or self._any_move(giver)
                if choice is None:
                    break
                self._move_together(giver, *choice)
            loose = [shard for shard in state.shards_of[giver] if not state.is_pinned(shard, giver)]
            for shard in loose[: -min(0, state.room(giver))]:
                state.remove(shard, giver)
                leftovers.append(shard)
        return leftovers

    def _taker_for(self, rest: ReplicaSet, shards: int) -> int | None:
        """The node with room that completes `rest` at the least cost in new sets."""
        fits = self._fitting(rest)
        return min(fits, key=lambda node: self._cost(rest, node, shards, shards), default=None)

    def _fitting(self, rest: ReplicaSet) -> list[int]:
        """Some nodes with room that may complete `rest`; from the zone with the most room.

        A zone left for last would find only rows that it is in already.
        """
        if self.state.zones_matter and len(self.zone_room) <= ZONES_COMPARED_MAX:
            for zone in sorted(self.zone_room, key=lambda zone: (-self.zone_room[zone], zone)):
                nodes = [node for _, node in self.by_zone[zone][:TAKERS_COMPARED_MAX]]
                fits = [node for node in nodes if self.state.fits_rest(rest, node)]
                if fits:
                    return fits
        fits = [n for n in self._takers(TAKERS_COMPARED_MAX) if self.state.fits_rest(rest, n)]
        everyone = () if fits else self._takers(len(self.by_room))
        return fits or [node for node in everyone if self.state.fits_rest(rest, node)][:1]

    def _best_move(self, giver: int) -> tuple[ReplicaSet, int] | None:
        """The best of the first few ways to give away shards of one set: (set, taker)."""
        state = self.state
        takers = self._takers(TAKERS_COMPARED_MAX)
        best, best_cost = None, None
        for whole in islice(state.sets_of[giver], SETS_COMPARED_MAX):
            rest = tuple([node for node in whole if node != giver])
            size = len(state.sets[whole])
            for taker in takers:
                if not state.fits_rest(rest, taker) or not self._any_loose(whole, giver):
                    continue
                count = min(size, -state.room(giver), state.room(taker))
                cost = self._cost(rest, taker, count, size)
                if best_cost is None or cost < best_cost:
                    best, best_cost = (whole, taker), cost
        return best

    def _any_move(self, giver: int) -> tuple[ReplicaSet, int] | None:
        """Any way at all to give away shards of one set, if there is one."""
        state = self.state
        takers = self._takers(len(self.by_room))
        for whole in state.sets_of[giver]:
            if self._any_loose(whole, giver):
                rest = tuple([node for node in whole if node != giver])
                for taker in takers:
                    if state.fits_rest(rest, taker):
                        return whole, taker
        return None

    def _move_together(self, giver: int, whole: ReplicaSet, taker: int) -> None:
        """Move as many shards of the set `whole` as both nodes allow."""
        state = self.state
        excess = -state.room(giver)
        count = min(excess, state.room(taker))
        for shard in self._with_duties(self._loose(whole, giver), giver, count, excess):
            state.replace(shard, giver, taker)
        self._note_room(taker)

    def _with_duties(self, shards: list[int], giver: int, count: int, excess: int) -> list[int]:
        """`count` of `shards`, among them such a part of `giver`'s surplus of primaries.

        So a node loses primaries along with data, and no primary changes for balance alone.
        """
        if count >= len(shards):
            self.duties[giver] -= sum(1 for shard in shards if self.primaries[shard] == giver)
            return shards
        surplus = max(0, self.duties[giver] - self.state.quotas[giver] // self.state.replicas)
        led = [shard for shard in shards if self.primaries[shard] == giver]
        other = [shard for shard in shards if self.primaries[shard] != giver]
        wanted = max(min(count, -(-surplus * count // excess)), count - len(other))
        led = led[:wanted]
        self.duties[giver] -= len(led)
        return led + other[: count - len(led)]

    def _any_loose(self, whole: ReplicaSet, giver: int) -> bool:
        return not self.state.pinned or bool(self._loose(whole, giver))

    def _loose(self, whole: ReplicaSet, giver: int) -> list[int]:
        """The shards of set `whole` that are not pinned to `giver`."""
        state = self.state
        if not state.pinned:
            return list(state.sets[whole])
        return [shard for shard in state.sets[whole] if not state.is_pinned(shard, giver)]

    def _cost(
        self, rest: ReplicaSet, taker: int, count: int, size: int
    ) -> tuple[int, int, int, int]:
        """By priority: new sets, partners (too few or too many), chunk, room."""
        state = self.state
        becomes = tuple(sorted((*rest, taker)))
        sets_made = (becomes not in state.sets) - (count == size)
        known = state.partners[taker]
        new_partners = sum(1 for node in rest if node not in known)
        if len(known) < self.scatter_width:
            new_partners = -new_partners
        return sets_made, new_partners, -count, -state.room(taker)

    def _takers(self, count: int) -> list[int]:
        """The `count` nodes with the most room, in a fixed order."""
        return [node for _, node in self.by_room[:count]]

    def _note_room(self, taker: int) -> None:
        """Bring `taker`'s place in the orders up to date."""
        zone, noted = self.state.zones[taker], self.noted_room.pop(taker)
        room = self.state.room(taker)
        self.zone_room[zone] += room - noted
        for order in (self.by_room, self.by_zone[zone]):
            del order[bisect_left(order, (-noted, taker))]
            if room > 0:
                insort(order, (-room, taker))
        if room > 0:
            self.noted_room[taker] = room
