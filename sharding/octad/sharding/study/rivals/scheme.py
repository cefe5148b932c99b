"""The interface of a scheme: a placement, its successor when nodes change, and look-ups.

A placement answers in *node ids*. `holders` is the scheme as a program would call it, one key at a
time in plain Python; `holders_of_all` is the same for many keys at once, in numpy. Both must agree,
and a test holds every scheme to that. A key's first holder is its primary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from octad.sharding.assignment.assignment import PlacementNode
from octad.sharding.ids import NodeId
from octad.sharding.study.rivals.mixing import Hashes, Nodes

CHUNK_KEYS = 1 << 14  # Small enough for the processor's caches.


class Placement(ABC):
    """The places of keys, for one set of nodes. Immutable: a change of nodes makes another one."""

    @abstractmethod
    def changed(self, nodes: Sequence[PlacementNode]) -> Placement:
        """The placement that follows when the nodes are now these."""

    @abstractmethod
    def holders(self, hash_: int) -> Sequence[NodeId]:
        """The nodes that hold the key with this hash."""

    @abstractmethod
    def holders_of_all(self, hashes: Hashes) -> Nodes:
        """A row of node ids for every hash."""

    @abstractmethod
    def state_bytes(self) -> int:
        """The size of a client's look-up state in a compact encoding, not as Python objects."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """One way to place keys, and where it comes from."""

    name: str
    title: str
    source: str
    place: Callable[[Sequence[PlacementNode], int], Placement]
    weights: bool = False  # Honours weights.
    zones: bool = False  # Keeps replicas in different zones.


def without_draining(nodes: Sequence[PlacementNode]) -> list[PlacementNode]:
    """The nodes that may hold something. A draining node is to a rival a node that is gone."""
    return [node for node in nodes if not node.draining]


def kept_in_place(
    old: Sequence[PlacementNode], new: Sequence[PlacementNode]
) -> list[PlacementNode]:
    """`new` in the order of `old`, a node that left replaced by the last one.

    Schemes that number their nodes 0 to n - 1 have no other way to lose one in the middle.
    """
    current = {node.id: node for node in new}
    known = {node.id for node in old}
    newcomers = [node for node in new if node.id not in known]
    slots = [current.get(node.id) for node in old]
    for at, slot in enumerate(slots):
        if slot is None and newcomers:
            slots[at] = newcomers.pop(0)
    slots += newcomers
    while None in slots:
        last = slots.pop()
        if last is not None:
            slots[slots.index(None)] = last
    return [slot for slot in slots if slot is not None]


def distinct_draws(hashes: Hashes, replicas: int, draw: Callable[[Hashes, int], Nodes]) -> Nodes:
    """`replicas` different answers of `draw(hashes, attempt)` for every hash, in order of attempts.

    For schemes that know one holder a key: ask again with another salt until it is a new one.
    """
    chosen = np.full((len(hashes), replicas), -1, dtype=np.int64)
    for start in range(0, len(hashes), CHUNK_KEYS):
        part = hashes[start : start + CHUNK_KEYS]
        _draw_distinct(part, chosen[start : start + CHUNK_KEYS], draw)
    return chosen


def _draw_distinct(hashes: Hashes, chosen: Nodes, draw: Callable[[Hashes, int], Nodes]) -> None:
    """Fill the rows of `chosen`, which are -1 so far."""
    filled = np.zeros(len(hashes), dtype=np.int64)
    open_ = np.arange(len(hashes))
    attempt = 0
    while len(open_):
        candidate = draw(hashes[open_], attempt)
        fresh = ~(chosen[open_] == candidate[:, None]).any(axis=1)
        rows = open_[fresh]
        chosen[rows, filled[rows]] = candidate[fresh]
        filled[rows] += 1
        open_ = open_[filled[open_] < chosen.shape[1]]
        attempt += 1


def distinct_draws_of_one(hash_: int, replicas: int, draw: Callable[[int, int], int]) -> list[int]:
    """`distinct_draws` for one hash."""
    chosen: list[int] = []
    attempt = 0
    while len(chosen) < replicas:
        candidate = draw(hash_, attempt)
        if candidate not in chosen:
            chosen.append(candidate)
        attempt += 1
    return chosen
