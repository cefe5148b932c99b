"""The first rows of an empty cluster: every quota met exactly, few distinct replica sets.

Lay the nodes on a line, each as long as its quota, zones one after the other, and give shard s the
nodes at s, s + n, s + 2n, … of n shards (systematic sampling). No node is longer than n, so a
shard's nodes differ; no zone is longer than n times what it may hold of a shard, so zones are kept;
and neighbours on the line share their neighbours n further, so there are about as many distinct
sets as nodes. The shards are dealt in *blocks*, each with another order of the line: with every
block a node gets new partners, until its scatter width is what was asked for (Copyset replication,
Cidon et al., ATC 2013, with permutations that know weights and zones).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from xxhash import xxh3_64_intdigest

from octad.sharding.assignment.quotas import rounded


def laid_out(
    ids: Sequence[int],
    zones: Sequence[int],
    quotas: Sequence[int],
    *,
    shards: int,
    replicas: int,
    scatter_width: int,
) -> list[list[int]]:
    """For every shard a row of positions in `ids`; position i occurs `quotas[i]` times in all."""
    blocks = _block_count(len(ids), shards, replicas, scatter_width)
    bounds = [shards * block // blocks for block in range(blocks + 1)]
    left, shards_left = list(quotas), shards
    rows: list[list[int]] = []
    for block, (start, end) in enumerate(pairwise(bounds)):
        rank = [_rank(block, b"node", node) for node in ids]
        shares = [Fraction(quota * (end - start), shards_left) for quota in left]
        lengths = rounded(shares, zones, [0] * len(ids), rank)
        order = _line_order(block, zones, lengths, rank, replicas)
        line = [i for i in order for _ in range(lengths[i])]
        rows += [line[s :: end - start] for s in range(end - start)]
        left = [quota - length for quota, length in zip(left, lengths, strict=True)]
        shards_left -= end - start
    assert not any(left), "every quota is met exactly"
    return rows


def _line_order(
    block: int, zones: Sequence[int], lengths: Sequence[int], rank: Sequence[int], replicas: int
) -> list[int]:
    """A pseudo-random order, but nodes of equal length come to lie n apart, so that sets align."""
    by_length = sorted(range(len(zones)), key=lambda i: (-lengths[i], rank[i]))
    if len(set(zones)) == len(zones):
        return [i for first in range(replicas) for i in by_length[first::replicas]]
    return sorted(by_length, key=lambda i: _rank(block, b"zone", zones[i]))


def _block_count(nodes: int, shards: int, replicas: int, scatter_width: int) -> int:
    """As many blocks as the scatter width needs, and no more than leave every block enough shards.

    In a block a node has R - 1 partners if sets align (nodes divisible by R), up to twice as many
    where they overlap.
    """
    partners = (replicas - 1) * (2 if nodes % replicas else 1)
    wanted = -(-scatter_width // max(1, partners))
    return max(1, min(wanted, shards * replicas // nodes, shards))


def _rank(block: int, kind: bytes, number: int) -> int:
    """A pseudo-random rank that depends on nothing but its arguments."""
    return xxh3_64_intdigest(kind + block.to_bytes(4, "big") + number.to_bytes(8, "big"))
