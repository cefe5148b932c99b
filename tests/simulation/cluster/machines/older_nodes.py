"""Nodes of an older version: they say that they know a lower format level, and get no more.

What they run is the present code. That it is never given what the version before could not read is
checked where records are journaled (`checks/invariants.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from octad.client.runtime.address import Address
from octad.coordinator.schema.records import NodeRecord
from octad.storage_node.node import format_level
from octad.storage_node.node.node import Node
from octad.storage_node.operations.registry import DELETIONS_LEVEL

if TYPE_CHECKING:
    from tests.simulation.cluster.world import World


OLDER_LEVEL = DELETIONS_LEVEL - 1  # Of what came since, clients here ask for deletions together.
OLDER = 0.5  # Of the nodes, in a run in which some are upgraded.


def make_some_older(world: World) -> None:
    """Before they begin."""
    random = Random(f"versions {world.timeline.seed}")
    for machine in world.machines:
        if random.random() < OLDER:
            assert machine.process is not None
            machine.format_level = machine.process.format_level = OLDER_LEVEL


class Versions:
    """In the place of `operations/registry.py` where a node asks what level it knows itself."""

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def FORMAT_LEVEL(self) -> int:
        """That of the process whose code runs at this moment."""
        loop = self._world.timeline.current
        return next(each.format_level for each in self._world.processes() if each.loop is loop)


@contextmanager
def versions_of(world: World) -> Iterator[None]:
    """Each node knows what its machine's version knows, in this block."""
    asks: Any = format_level
    before, asks.registry = asks.registry, Versions(world)
    try:
        yield
    finally:
        asks.registry = before


class NodeOfVersion(Node):
    """A node whose record says `known`."""

    known: int

    def _record(self, admin: Address, log: Address) -> NodeRecord:
        return msgspec.structs.replace(super()._record(admin, log), format_level=self.known)
