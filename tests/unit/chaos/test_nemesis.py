"""Faults are carried out as planned, but for what a slow machine makes impossible."""

from __future__ import annotations

import asyncio
from typing import cast

from octad.chaos.cluster.cluster import Cluster
from octad.chaos.faults.faults import Fault, FaultKind
from octad.chaos.faults.nemesis import Nemesis


class SlowCluster:
    """Its processes need longer to be ready than any schedule plans."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.nodes = {number: SlowProcess(f"n{number}", self.story) for number in (1, 2)}
        self.network = None

    async def start_node(self, number: int) -> None:
        self.story.append(f"n{number} starts")
        await asyncio.sleep(0.05)
        self.story.append(f"n{number} is ready")


class SlowProcess:
    def __init__(self, name: str, story: list[str]) -> None:
        self.name, self.story = name, story

    def kill(self) -> None:
        self.story.append(f"{self.name} is killed")


async def test_a_node_that_is_still_starting_is_not_killed_before_it_is_ready() -> None:
    cluster = SlowCluster()
    clock = asyncio.get_running_loop().time
    begin = clock()
    nemesis = Nemesis(cast(Cluster, cluster), lambda: clock() - begin)
    await nemesis.carry_out(
        [
            Fault(FaultKind.KILL, 0.0, 0.0, node=1),
            Fault(FaultKind.KILL, 0.01, 0.0, node=1),
            Fault(FaultKind.KILL, 0.01, 0.0, node=2),
        ]
    )
    of_one = [line for line in cluster.story if line.startswith("n1")]
    assert of_one == ["n1 is killed", "n1 starts", "n1 is ready"] * 2
    assert cluster.story.index("n2 is killed") < cluster.story.index("n1 is ready")
    assert [harm.node for harm in nemesis.harms] == [1, 2, 1]
