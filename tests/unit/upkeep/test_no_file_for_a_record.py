"""No file can be opened for a while, so a record cannot be read: who needs it waits, no more."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from tests.unit.replication_host.test_counting_rows import counter_of, rows_of, written
from tests.unit.replication_host.test_restart_of_a_host import FIRST, disk, host_on
from tests.unit.upkeep.test_compaction import running_story, site_of
from tests.unit.upkeep.test_record_repair import KEY, damage, nobody, records_at, with_value

from octad.sharding.ids import NodeId, Seq
from octad.storage_node.history.history_messages import ReadRecords
from octad.storage_node.journal.journal import Journal
from octad.storage_node.rpc.peer import Answer
from octad.storage_node.rpc.rpc_errors import RpcRefusal
from octad.storage_node.shards.object_messages import UNAVAILABLE
from octad.storage_node.shards.shard_server import ShardServer
from octad.storage_node.shards.shard_service import ShardService
from octad.storage_node.upkeep.damaged_records import DamageReport


@contextmanager
def no_file_left(journal: Journal) -> Iterator[list[Path]]:
    """In this block; those that the journal has open for reading it has to open again."""
    opened, refused = journal.disk.open, []

    def refuse(path: Path, flags: int) -> int:
        refused.append(path)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    journal._files.clear()
    journal.disk.open = refuse  # type: ignore[method-assign]
    try:
        yield refused
    finally:
        journal.disk.open = opened  # type: ignore[method-assign]


async def test_a_record_that_cannot_be_looked_at_now_stays_as_it_was_known() -> None:
    async with running_story() as story:
        await with_value(story)
        damage(story)
        damaged = records_at(story, nobody)
        with no_file_left(site_of(story).journal) as refused:
            assert not await damaged.repair(KEY)
            assert damaged.report() == DamageReport(), "no one has read it"
            assert refused
        assert not await damaged.repair(KEY)
        with no_file_left(site_of(story).journal):
            await damaged.repair_left()
        assert damaged.report() == DamageReport(found=1, left=1)


async def test_a_shard_is_counted_once_its_records_can_be_read_again(tmp_path: Path) -> None:
    """Of rows of a deleted bucket the records alone say whose they are."""
    await written(tmp_path, split=False)
    async with disk(tmp_path) as (journal, index):
        host = host_on(journal, index)
        host.recover()
        expected = rows_of(index, FIRST)
        counter = counter_of(journal, index, host, period_s=0.1)
        running = asyncio.create_task(counter.run())
        with no_file_left(journal) as refused:
            counter.ask([FIRST])
            async with asyncio.timeout(20):
                while not refused:
                    await asyncio.sleep(0.01)
            assert not running.done()
        async with asyncio.timeout(20):
            while not counter.counts[FIRST] and not running.done():
                counter.ask([FIRST])
                await asyncio.sleep(0.05)
        assert rows_of(index, FIRST) == expected
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        host.close()


@pytest.mark.parametrize(("number", "raised"), [(errno.EMFILE, RpcRefusal), (errno.EIO, OSError)])
async def test_another_node_is_told_to_ask_again_where_no_file_can_be_opened(
    number: int, raised: type[Exception]
) -> None:
    """That is no bug here; another error of the disk would be one."""

    async def answer(_: ReadRecords) -> Answer:
        raise OSError(number, os.strerror(number))

    server = ShardServer(cast(ShardService, None))
    server.register(ReadRecords, answer)
    with pytest.raises(raised) as told:
        await server.on_request(NodeId(2), ReadRecords(FIRST, Seq(0), []), memoryview(b""))
    assert raised is OSError or cast(RpcRefusal, told.value).code == UNAVAILABLE
