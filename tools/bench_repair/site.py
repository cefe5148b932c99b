"""A cluster to lose a node of: three nodes, coordinator and store, a process each.

Nobody restarts what dies, and nobody records its death: that is the slower way for the others to
learn of it, and the one that a machine without a supervisor has.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from octad.chaos.cluster.addresses import Shape
from octad.chaos.cluster.cluster import Cluster

NODES = REPLICAS = 3
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Strength:
    """How far the shards are, by configuration: a full member holds all of history, verified.

    `members` counts members of any kind on the disks that live now.
    """

    shards: int
    members: int
    full: int

    @property
    def at_full_strength(self) -> bool:
        return self.full == REPLICAS * self.shards


class Site(Cluster):
    """Its processes reach each other without anything of ours between them."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, Shape(NODES, REPLICAS, proxies=False))

    def lose_last(self) -> None:
        """SIGKILL the last node and delete what it had; another one is started in its place."""
        self.nodes[NODES].kill()
        self.wipe(NODES)
        self.nodes[NODES].start()

    async def strength(self) -> Strength:
        """What the configuration store says."""
        configurations, live = await self.configurations(), await self.live_disks()
        members = [
            m for each in configurations for m in each.members if (m.node, m.incarnation) in live
        ]
        return Strength(
            len(configurations), len(members), sum(member.base == 0 for member in members)
        )

    @property
    def endpoints(self) -> list[str]:
        return [self.endpoint(number).removeprefix("http://") for number in self.numbers]

    @property
    def sources(self) -> list[Path]:
        """The journals of the nodes that are never lost."""
        return [self.data(number) / "journal" for number in self.numbers[:-1]]

    @property
    def pids(self) -> list[int]:
        return [*self.node_pids, self.coordinator.pid, self.store.pid]

    @property
    def node_pids(self) -> list[int]:
        return [process.pid for process in self.nodes.values()]


def cpu_s(pid: int) -> float:
    """User and system time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
