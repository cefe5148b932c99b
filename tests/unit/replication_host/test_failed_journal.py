"""A node whose journal fails decides nothing more, however long its end takes."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from tests.harness.watched_disk import WatchedDisk
from tests.unit.replication_host.test_restart_of_a_host import (
    FIRST,
    IDENTITY,
    NODE,
    OTHER,
    SECOND,
    Elsewhere,
    NoCluster,
    append,
    deletion,
    disk,
    host_on,
    start,
)

from octad.client.runtime.steady_clock import now
from octad.sharding.ids import Epoch, Seq, ShardId
from octad.sharding.map.shard_map import Member, ShardConfiguration, SplitPoint
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import JournalFull
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.index_changes import decode_operation
from octad.storage_node.replication.host.index_applier import WriteFailed
from octad.storage_node.replication.replica_actions import Swap
from octad.storage_node.replication.replication_messages import Prepare, Prepares
from octad.storage_node.replication.writes import Write

EPOCH = Epoch(2)
FAILS_S_MAX = 30
KIND = RecordKind.DELETE_OBJECT
OPERATION = decode_operation(KIND, deletion())


def prepared(seq: int) -> Prepares:
    ours = int(KIND), bytes([seq]) * 16, deletion(), 0
    return Prepares([Prepare(FIRST, EPOCH, EPOCH, Seq(seq), Epoch(0), Seq(0), *ours)])


async def test_what_comes_to_a_failed_journal_is_no_bug_and_is_not_answered(tmp_path: Path) -> None:
    watched = WatchedDisk()
    journal = Journal.open(tmp_path / "journal", IDENTITY, watched)
    index = CountedIndex(tmp_path / "index")
    cluster, failed = NoCluster(), asyncio.get_running_loop().create_future()
    cluster.incarnations = {NODE: "one", OTHER: "two"}
    swaps: list[tuple[ShardId, Swap]] = []
    elsewhere = Elsewhere(submit=lambda shard, swap: swaps.append((shard, swap)))
    host = host_on(journal, index, cluster, failed.set_result, elsewhere)
    assert host.recover() == []
    members = Member(NODE, "one"), Member(OTHER, "two")
    host.on_configuration(FIRST, ShardConfiguration(EPOCH, 4, OTHER, members))
    host.on_configuration(SECOND, ShardConfiguration(EPOCH, 4, NODE, members))
    ((_, resumed),) = swaps

    def fail(call: str, _: str) -> None:
        if call == "sync":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    watched.fail_when = fail
    host.on_message(OTHER, prepared(1), memoryview(b""))
    async with asyncio.timeout(FAILS_S_MAX):
        assert (await failed).errno == errno.EIO
    cluster.sent.clear()
    host.on_message(OTHER, prepared(2), memoryview(b""))
    host.on_swap_outcome(SECOND, resumed, resumed.proposed)
    host.look_around()
    await asyncio.sleep(0)
    assert not host.replicas[SECOND].leading
    assert host.leases.beats(now()) == [], "it asks for no promise, and gives none"
    assert len(swaps) == 1, "nor does it change a configuration"
    assert cluster.sent == []
    with pytest.raises(WriteFailed):
        host.propose(SECOND, Write(KIND, OPERATION, deletion(), 0, b"3" * 16))
    await journal.close()
    host.close()
    index.close()


async def test_a_split_that_finds_no_place_in_the_journal_leaves_nothing_of_a_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with disk(tmp_path) as (journal, _):
        start(journal)
        append(journal, FIRST, 1, 1, KIND, deletion())
    failures: list[Exception] = []
    unsplit = ShardConfiguration(EPOCH, 3, OTHER, (Member(NODE, "one"), Member(OTHER, "two")))
    points = (SplitPoint(Seq(1), EPOCH),)
    split = ShardConfiguration(Epoch(3), 4, OTHER, unsplit.members, splits=points)
    async with disk(tmp_path) as (journal, index):
        host = host_on(journal, index, on_failed=failures.append)
        assert host.recover() == []
        host.on_configuration(FIRST, unsplit)

        def full(*_: object) -> None:
            raise JournalFull("no further segment could be made")

        monkeypatch.setattr(host._logs, "split", full)
        host.on_configuration(FIRST, split)
        assert list(map(type, failures)) == [JournalFull]
        host.close()
    async with disk(tmp_path) as (journal, index):
        host = host_on(journal, index)
        host.recover()
        assert list(host.replicas) == [FIRST]
        host.on_configuration(FIRST, split)
        assert host.replicas[SECOND].log.applied == 1, "the half has what was ordered before"
        host.close()
