"""Clients of S3 at the nodes of a simulated cluster: `tests/simulation/s3`, in a process of theirs.

A request takes its way to the node's own S3 handler, and its answer takes another one back; a node
that is killed meanwhile never answers.
"""

from __future__ import annotations

import asyncio
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.s3.acts import act, read_everything, read_objects
from tests.simulation.s3.clients import Clients, Habits
from tests.simulation.s3.exchange import Door, NoAnswer, Reply, Sent, answered
from tests.simulation.s3.requests import Broken, Signer

from octad.client.s3.sigv4 import Credentials

if TYPE_CHECKING:
    from tests.simulation.cluster.machines.node_process import NodeProcess
    from tests.simulation.cluster.world import World

REGION = "us-east-1"


class S3Clients:
    """See the module. They stop when they are told to, and check what they have seen."""

    def __init__(self, world: World, credentials: Credentials) -> None:
        self.world = world
        self.loop = world.new_loop("clients of S3")
        random = Random(f"clients of S3 {world.timeline.seed}")
        self._only: NodeProcess | None = None  # Where they ask, if not anywhere.
        self.clients = Clients(self._door, Signer(credentials, REGION), random, Habits())

    def start(self, count: int) -> None:
        for _ in range(count):
            self._begin(self.clients.run(act))

    def make_bucket(self) -> asyncio.Task[Any]:
        """Before they are started."""
        return self._begin(self.clients.make_bucket())

    def read_everything(self) -> asyncio.Task[Any]:
        """The last reads of all, when all works again."""
        return self._begin(read_everything(self.clients))

    def read_objects(self) -> asyncio.Task[Any]:
        """All of them, through each node."""
        return self._begin(self._read_objects())

    async def _read_objects(self) -> None:
        for process in self.world.processes():
            self._only = process
            await read_objects(self.clients)
        self._only = None

    def check(self) -> None:
        for story in self.clients.violations():
            self.world.fail(story)

    def _begin(self, work: Any) -> asyncio.Task[Any]:
        task = self.loop.spawn(work, "a client of S3")
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Broken):
            self.world.fail(str(error))
        elif error is not None:
            raise error

    def _door(self) -> Door | None:
        process = self._only or self.world.any_serving(self.clients.random)
        return None if process is None else partial(self._ask, process)

    async def _ask(self, process: NodeProcess, sent: Sent) -> Reply:
        world, arrived = self.world, self.loop.create_future()

        def arrive(found: Any) -> None:
            if not arrived.done():
                arrived.set_result(found)

        def answer(outcome: str, found: Any) -> None:
            reply = found if outcome == "done" else None
            world.timeline.after(world.network.delay(), self.loop.call_soon, arrive, reply)

        def begin() -> None:
            if process.is_serving:
                world.clients.ask(process, _answered(process, sent), answer)
            else:
                answer("unknown", None)

        world.timeline.after(world.network.delay(), begin)
        reply = await arrived
        if reply is None:
            raise NoAnswer
        assert isinstance(reply, Reply)
        return reply


async def _answered(process: NodeProcess, sent: Sent) -> Reply | None:
    assert process.parts is not None
    try:
        return await answered(process.parts.handler, sent)
    except NoAnswer:
        return None
