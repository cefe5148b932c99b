"""An index is made anew in a process of its own, which may be killed or find no room."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
import uvloop
from tests.unit.engine.engine_site import EngineSite
from tests.unit.journal.journal_site import IDENTITY

from octad.sharding.limits import KIB
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.journal.data_directory import DataDirectory
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.record_format import Position
from octad.storage_node.rebuild import index_repair


async def node_at(data: Path) -> None:
    """A node's directory, with a journal of some entries."""
    directory = DataDirectory.open(data, IDENTITY.cluster)
    directory.initialize(IDENTITY.cluster, IDENTITY.node, IDENTITY.incarnation)
    index = CountedIndex(directory.index)
    site = EngineSite(directory.journal, Disk(), index)
    for number in range(20):
        site.put(b"key%d" % number, b"value")
    await site.settled()
    await site.journal.close()
    index.close()
    directory.close()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Of the processes that are started meanwhile: they fail to write more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def kill_children() -> Position:
    for thread in Path("/proc/self/task").iterdir():
        for pid in (thread / "children").read_text().split():
            if b"index_rebuild_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)
    return Position(0)


async def test_one_without_room_leaves_nothing_behind_and_is_made_later(tmp_path: Path) -> None:
    await node_at(tmp_path)
    names = sorted(Disk().names(tmp_path))
    with files_of_at_most(KIB), pytest.raises(index_repair.RebuildDelayed):
        await index_repair.rebuild_beside(tmp_path, None)
    assert sorted(Disk().names(tmp_path)) == names
    assert (await index_repair.rebuild_beside(tmp_path, None)).is_dir()


async def test_one_that_is_killed_is_made_later(tmp_path: Path) -> None:
    await node_at(tmp_path)
    with pytest.raises(index_repair.RebuildDelayed, match="ended with -9"):
        await index_repair.rebuild_beside(tmp_path, kill_children)
    assert (await index_repair.rebuild_beside(tmp_path, None)).is_dir()


async def test_a_damaged_journal_does_not_pass(tmp_path: Path) -> None:
    await node_at(tmp_path)
    segment = min((tmp_path / "journal").glob("*.segment"))
    content = bytearray(segment.read_bytes())
    content[4200] ^= 1
    segment.write_bytes(content)
    with pytest.raises(index_repair.RebuildFailed, match="is damaged at offset"):
        await index_repair.rebuild_beside(tmp_path, None)


def test_what_is_given_up_gives_its_room_back_and_its_name_is_not_used_again(
    tmp_path: Path,
) -> None:
    made = tmp_path / "index.rebuilt.1"
    made.mkdir()
    (made / "000012.sst").touch()
    index_repair.give_up(Disk(), made)
    assert [each.name for each in tmp_path.rglob("*")] == ["index.rebuilt.1.given-up"]
    assert not index_repair.adopt(Disk(), tmp_path)


def test_what_is_marked_twice_or_gone_keeps_its_name_to_itself(tmp_path: Path) -> None:
    (tmp_path / "index.rebuilt.1").mkdir()
    for name in ("index.rebuilt.1", "index.rebuilt.1", "index.rebuilt.2"):
        index_repair.mark(Disk(), tmp_path / name, "why")
    left = sorted(each.name for each in tmp_path.iterdir())
    assert left == ["index.damaged", "index.rebuilt.1.given-up", "index.rebuilt.2.given-up"]


def test_it_is_tried_again_for_ever_at_most_every_minute() -> None:
    assert list(islice(index_repair.pauses(), 9)) == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_process_that_has_ended_before_it_is_asked_anything_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the event loop of a node, which refuses to write to a pipe that is closed."""
    create = asyncio.create_subprocess_exec

    async def ended(*command: str, **pipes: int) -> asyncio.subprocess.Process:
        process = await create(*command, **pipes)  # type: ignore[arg-type]
        process.kill()
        await process.wait()
        await asyncio.sleep(0.1)  # Until the loop has heard of its pipes.
        return process

    async def rebuild() -> None:
        await node_at(tmp_path)
        monkeypatch.setattr(asyncio, "create_subprocess_exec", ended)
        with pytest.raises(index_repair.RebuildDelayed, match="ended with -9"):
            await index_repair.rebuild_beside(tmp_path, None)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(rebuild())
