"""How many shard replicas each node should hold: its fair share, cut at what fits.

The share of a node is in proportion to its weight, but a node holds a shard at most once and a zone
at most `per_zone` of its replicas, so a heavy node or zone is *capped* and the rest is shared among
the others (water-filling). Shares are exact fractions; `rounded` turns them into whole numbers so
that every node and every zone gets its share rounded down or up, never further off.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction


def fair_shares(
    weights: Sequence[Fraction], zones: Sequence[int], *, shards: int, replicas: int, per_zone: int
) -> list[Fraction]:
    """The exact share of every node, in shard replicas; they sum up to `shards * replicas`.

    `zones[i]` is the number of node i's zone, counted from 0. The caller has checked that the
    replicas fit at all.
    """
    members = _by_zone(zones)
    zone_caps = [min(per_zone, len(nodes)) * shards for nodes in members]
    zone_loads = _fill_zones(weights, members, zone_caps, shards, shards * replicas)
    shares = [Fraction(0)] * len(weights)
    for nodes, load in zip(members, zone_loads, strict=True):
        filled = fill([weights[node] for node in nodes], [Fraction(shards)] * len(nodes), load)
        for node, share in zip(nodes, filled, strict=True):
            shares[node] = share
    return shares


def fill(
    weights: Sequence[Fraction], caps: Sequence[Fraction], total: Fraction | int
) -> list[Fraction]:
    """`total` shared in proportion to `weights`, no share above its cap."""
    assert sum(caps) >= total, "more to share than the caps allow"
    shares = list(caps)
    order = sorted(range(len(weights)), key=lambda i: caps[i] / weights[i])
    left, weight_left = Fraction(total), sum(weights, Fraction(0))
    for position, i in enumerate(order):
        if caps[i] * weight_left >= left * weights[i]:  # No further node reaches its cap.
            for j in order[position:]:
                shares[j] = left * weights[j] / weight_left
            break
        left -= caps[i]
        weight_left -= weights[i]
    return shares


def _fill_zones(
    weights: Sequence[Fraction],
    members: Sequence[Sequence[int]],
    zone_caps: Sequence[int],
    shards: int,
    total: int,
) -> list[Fraction]:
    """Each zone's share when nodes fill up evenly, nodes and zones up to their caps.

    Filling by weight with whole zones as units and re-filling without the capped ones converges in
    at most one round per zone or node, since a cap once reached stays reached.
    """
    capped: dict[int, Fraction] = {}
    while True:
        free = [node for z, nodes in enumerate(members) if z not in capped for node in nodes]
        left = total - sum(capped.values(), Fraction(0))
        node_caps = [Fraction(shards)] * len(free)
        filled = (
            dict(zip(free, fill([weights[n] for n in free], node_caps, left), strict=True))
            if free
            else {}
        )
        loads = [
            capped[z] if z in capped else sum((filled[n] for n in nodes), Fraction(0))
            for z, nodes in enumerate(members)
        ]
        over = [z for z, load in enumerate(loads) if z not in capped and load > zone_caps[z]]
        if not over:
            return loads
        for z in over:
            capped[z] = Fraction(zone_caps[z])


def rounded(
    shares: Sequence[Fraction], zones: Sequence[int], held: Sequence[int], tiebreak: Sequence[int]
) -> list[int]:
    """Whole numbers with the same sum; each node and each zone at its share rounded down or up.

    Rounded up are first those that hold more than their share rounded down (`held`): each saves a
    move. Then the largest fractions, then the lowest `tiebreak`.
    """
    members = _by_zone(zones)
    quotas = [int(share) for share in shares]
    zone_shares = [sum((shares[n] for n in nodes), Fraction(0)) for nodes in members]
    zone_floors = [int(share) for share in zone_shares]
    ups = [
        floor - sum(quotas[n] for n in nodes)
        for nodes, floor in zip(members, zone_floors, strict=True)
    ]
    wishes = [
        sum(1 for n in nodes if shares[n] > quotas[n] and held[n] > quotas[n]) for nodes in members
    ]

    def zone_rank(z: int) -> tuple[bool, Fraction, int]:
        saves_a_move = wishes[z] > ups[z]
        return (
            not saves_a_move,
            zone_floors[z] - zone_shares[z],
            min(tiebreak[n] for n in members[z]),
        )

    candidates = [z for z in range(len(members)) if zone_shares[z] > zone_floors[z]]
    for z in sorted(candidates, key=zone_rank)[: int(sum(shares)) - sum(zone_floors)]:
        ups[z] += 1
    for nodes, up in zip(members, ups, strict=True):
        fractional = [n for n in nodes if shares[n] > quotas[n]]
        fractional.sort(key=lambda n: (held[n] <= quotas[n], quotas[n] - shares[n], tiebreak[n]))
        for node in fractional[:up]:
            quotas[node] += 1
    return quotas


def _by_zone(zones: Sequence[int]) -> list[list[int]]:
    members: list[list[int]] = [[] for _ in range(max(zones) + 1)]
    for node, zone in enumerate(zones):
        members[zone].append(node)
    return members
