"""Pool names as people see them: `octad-2x`, by the number of copies.

The first pool with a number of copies has that name; later ones append their id (`octad-2x-3`), so
that a name never changes its pool.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from octad.sharding.ids import PoolId

POOL_NAME_PREFIX: Final = "octad-"


class NamedPool(Protocol):
    """The parts of a pool that its name needs."""

    @property
    def id(self) -> PoolId: ...

    @property
    def replicas(self) -> int: ...


def pool_names(pools: Iterable[NamedPool]) -> dict[PoolId, str]:
    """All names, by pool id; pools are never removed."""
    names: dict[PoolId, str] = {}
    taken: set[str] = set()
    for pool in sorted(pools, key=lambda pool: pool.id):
        name = f"{POOL_NAME_PREFIX}{pool.replicas}x"
        names[pool.id] = f"{name}-{pool.id}" if name in taken else name
        taken.add(name)
    return names
