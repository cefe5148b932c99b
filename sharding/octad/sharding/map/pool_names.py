"""What a pool is called where people choose one: `octad-2x`, by its number of copies.

The first pool with so many copies has that name; a later one has its id behind it (`octad-2x-3`),
so that a name never comes to mean another pool.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from octad.sharding.ids import PoolId

POOL_NAME_PREFIX: Final = "octad-"


class NamedPool(Protocol):
    """As much of a pool as its name says."""

    @property
    def id(self) -> PoolId: ...

    @property
    def replicas(self) -> int: ...


def pool_names(pools: Iterable[NamedPool]) -> dict[PoolId, str]:
    """By id; pools are never removed."""
    names: dict[PoolId, str] = {}
    taken: set[str] = set()
    for pool in sorted(pools, key=lambda pool: pool.id):
        name = f"{POOL_NAME_PREFIX}{pool.replicas}x"
        names[pool.id] = f"{name}-{pool.id}" if name in taken else name
        taken.add(name)
    return names
