"""A place of `octad dev`: which id its process asks for, and whose death is recorded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import accumulate
from pathlib import Path

import pytest

from octad.coordinator.status.cluster_status import NodeFailure
from octad.coordinator.store.interface import StoreUnavailable
from octad.sharding.ids import NodeId
from octad.storage_node.cli.supervision import ON_DISK_VARIABLE
from octad.storage_node.dev import dev_node
from octad.storage_node.dev.dev_directory import DevCluster, DevDirectory
from octad.storage_node.dev.dev_node import NodeProcess, Surroundings
from octad.storage_node.journal.data_directory import SUPERBLOCK_NAME

IS_NODE_2 = b"node 2\nready\n"
IS_NODE_4 = b"node 4\nready\n"
START_S_MIN = 1.0  # What a process takes at least until it serves.


class FakeProcess:
    """A child that said `words` and lives until it is told to end."""

    pid = 4711

    def __init__(self, command: tuple[str, ...]) -> None:
        self.command = command
        self.returncode: int | None = None
        self._ended = asyncio.Event()

    def end(self) -> None:
        self.returncode = -9
        self._ended.set()

    def send_signal(self, _number: int) -> None:
        self.end()

    async def wait(self) -> int:
        await self._ended.wait()
        return -9


class Site:
    """Place 2 of three, on a directory, with fake processes."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = DevDirectory(path, fresh=False)
        self.cluster: DevCluster = self.directory.cluster(3, 3, None, ())
        self.data = path / "n2"
        self.words = IS_NODE_2  # What the next process says at once.
        self.taken: set[int] = set()
        self.end_at_once = False
        self.refusals = 0  # How often the store will not answer.
        self.dead: list[int] = []
        self.said: list[str] = []
        self.processes: list[FakeProcess] = []
        self.failures: dict[NodeId, NodeFailure] = {}
        around = Surroundings(self._is_taken, self._died, self.said.append, self.failures)
        self.node = NodeProcess(2, self.directory, self.cluster, 9000, "http://none", around)
        monkeypatch.setattr(asyncio, "create_subprocess_exec", self._begin)
        monkeypatch.setattr(dev_node, "RESTART_S_MIN", 0.0)
        monkeypatch.setattr(dev_node, "STORE_RETRY_S", 0.0)

    async def _begin(
        self, *command: str, pass_fds: tuple[int], env: dict[str, str], **_rest: object
    ) -> FakeProcess:
        os.write(pass_fds[0], self.words)
        self.environment = env
        self.processes.append(FakeProcess(command))
        if self.end_at_once:
            self.processes[-1].end()
        return self.processes[-1]

    async def _is_taken(self, node: NodeId) -> bool:
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("it does not answer")
        return node in self.taken

    async def _died(self, node: NodeId) -> None:
        self.dead.append(node)

    def keep_superblock(self) -> None:
        self.data.mkdir(exist_ok=True)
        (self.data / SUPERBLOCK_NAME).write_bytes(b"{}")

    async def run(self, count: int) -> tuple[str, ...]:
        """The command of the `count`-th process, once it runs and has been heard."""
        async with asyncio.timeout(5):
            while len(self.processes) < count:
                await asyncio.sleep(0)
            for _ in range(5):
                await asyncio.sleep(0.001)
        return self.processes[count - 1].command


@asynccontextmanager
async def site(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    here = Site(path, monkeypatch)
    try:
        yield here
    finally:
        await here.node.stop()
        here.directory.close()


def wanted(command: tuple[str, ...]) -> str | None:
    return command[command.index("--id") + 1] if "--id" in command else None


async def test_the_first_node_of_a_place_asks_for_the_places_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path, monkeypatch) as here:
        here.refusals = 3
        here.node.start()
        assert wanted(await here.run(1)) == "2"
        assert (here.node.id, here.said) == (2, [])


async def test_a_node_is_told_how_many_share_its_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path, monkeypatch) as here:
        here.node.start()
        await here.run(1)
        assert here.environment[ON_DISK_VARIABLE] == "3"


async def test_a_node_that_has_its_disk_asks_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path, monkeypatch) as here:
        here.keep_superblock()
        here.node.start()
        assert wanted(await here.run(1)) is None


async def test_an_id_that_another_has_is_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path, monkeypatch) as here:
        here.taken, here.words = {2}, IS_NODE_4
        here.node.start()
        assert wanted(await here.run(1)) is None
        assert here.said == [f"n2 was taken: the node in {here.data} is n4"]


async def test_a_node_that_lost_its_disk_comes_back_as_a_new_one_whose_id_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = []
    async with site(tmp_path, monkeypatch) as here:
        here.node.on_change = lambda: changes.append((here.node.id, here.node.name))
        here.node.start()
        await here.run(1)
        here.words = IS_NODE_4
        here.processes[0].end()
        assert wanted(await here.run(2)) is None
        assert here.dead == [2]
        assert "n2 has lost its data: it comes back as n4" in here.said[-1]
        assert f"octad node remove n2 --data {tmp_path}" in here.said[-1]
        assert changes[-1] == (4, "n4")
        here.processes[1].end()
        await here.run(3)
        assert here.dead == [2, 4]
        assert here.said[-1].startswith("n4 was ended by signal 9; starting it again")
    async with site(tmp_path, monkeypatch) as here:  # The next run, on the same directory.
        assert here.node.id == 4
        here.words = b"node 5\nready\n"
        here.node.start()
        assert wanted(await here.run(1)) is None
        assert "n4 has lost its data: it comes back as n5" in here.said[-1]


async def test_nobody_is_declared_dead_for_a_process_that_never_said_who_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path, monkeypatch) as here:
        here.node.start()
        await here.run(1)
        here.words = b""
        here.processes[0].end()
        await here.run(2)
        here.processes[1].end()
        await here.run(3)
        assert here.dead == [2], "the first process alone had an id"


async def test_what_a_process_says_just_before_it_dies_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path, monkeypatch) as here:
        here.node.start()
        async with asyncio.timeout(5):
            while not here.processes:
                await asyncio.sleep(0)
        here.processes[0].end()
        await here.run(2)
        assert here.dead == [2]


async def test_no_minute_has_more_than_ten_starts_of_a_node_that_ends_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shortest, pauses = dev_node.RESTART_S_MIN, list[float]()

    async def skip(pause_s: float) -> None:
        pauses.append(pause_s)
        await asyncio.sleep(0)

    async with site(tmp_path, monkeypatch) as here:
        monkeypatch.setattr(dev_node, "RESTART_S_MIN", shortest)
        monkeypatch.setattr(here.node, "_pause", skip)
        here.end_at_once = True
        here.node.start()
        async with asyncio.timeout(5):
            while len(pauses) < 30:
                await asyncio.sleep(0.001)
    starts = [0.0, *accumulate(pause + START_S_MIN for pause in pauses)]
    assert all(eleventh - first > 60 for first, eleventh in zip(starts, starts[10:], strict=False))


async def test_a_node_that_cannot_start_keeps_its_reason_until_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path, monkeypatch) as here:
        told: list[NodeFailure] = []
        here.node.on_failure = told.append
        here.words = b'failed ["its disk fails","replace it"]\n'
        here.node.start()
        for number in range(2):
            await here.run(number + 1)
            here.processes[number].end()
        await here.run(3)
        assert told == [NodeFailure("n2: its disk fails", "replace it")], "once, though twice tried"
        assert here.failures == {2: told[0]}
        here.words = IS_NODE_2
        here.processes[2].end()
        await here.run(4)
        assert here.failures == {}
        assert here.said == ["n2 serves again"]


async def test_a_node_that_waits_to_be_tried_again_holds_up_no_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path, monkeypatch) as here:
        monkeypatch.setattr(dev_node, "RESTART_S_MIN", 1000.0)
        here.words = b""
        here.node.start()
        await here.run(1)
        here.processes[0].end()
        async with asyncio.timeout(5):
            while not here.failures:
                await asyncio.sleep(0)
            await here.node.stop()
