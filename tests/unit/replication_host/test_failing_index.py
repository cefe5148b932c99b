"""A disk that refuses the index's writes ends the node, and nothing hides what the rows lack."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.unit.replication_host.test_restart_of_a_host import (
    FIRST,
    NODE,
    OTHER,
    SECOND,
    Elsewhere,
    disk,
    host_on,
)

from octad.sharding.ids import BucketId, Epoch, Seq, ShardId
from octad.sharding.map.shard_map import GivenUp, Member, Recovery, ShardConfiguration
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index import Index, IndexFailed
from octad.storage_node.index.index_format import decode_shard_state, shard_state_key
from octad.storage_node.journal.journal import Journal
from octad.storage_node.operations.conditions import Version
from octad.storage_node.operations.index_changes import DeleteObject
from octad.storage_node.replication.replica_actions import Swap
from octad.storage_node.replication.writes import write_of

TIMEOUT_S = 5.0


@contextmanager
def full_files() -> Iterator[None]:
    """No file takes another byte past its first ones: what RocksDB is told is an IO error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Site:
    """A host, and what it wanted of the configuration store and of its node."""

    def __init__(self, journal: Journal, index: CountedIndex) -> None:
        self.swaps: list[tuple[ShardId, Swap]] = []
        self.failures: list[Exception] = []
        wanted = Elsewhere(
            submit=lambda *swap: self.swaps.append(swap),
            refetch=lambda _: None,
            begin=lambda *_: None,
        )
        self.host = host_on(journal, index, None, self.failures.append, wanted)
        self.host.recover()

    async def lead(self, shard: ShardId) -> None:
        """Alone."""
        self.host.on_configuration(
            shard, ShardConfiguration(Epoch(3), 4, NODE, (Member(NODE, "one"),))
        )
        (swap,) = [swap for proposed, swap in self.swaps if proposed == shard]
        self.host.on_swap_outcome(shard, swap, swap.proposed)
        async with asyncio.timeout(TIMEOUT_S):
            while not self.host.serves(shard):
                await asyncio.sleep(0.01)

    def write(self, shard: ShardId, number: int) -> asyncio.Future[Version]:
        operation = DeleteObject(BucketId(1), b"key")
        request = bytes([number]) * 16
        return self.host.propose(shard, write_of(operation, request))


def test_a_write_or_flush_that_failed_is_the_last(tmp_path: Path) -> None:
    index = Index(tmp_path / "index")
    index.write([(b"key", bytes(1000))])
    with full_files(), pytest.raises(IndexFailed, match=f"{tmp_path}/index/.*File too large"):
        index.flush()
    with pytest.raises(IndexFailed, match="File too large"):
        index.write([(b"later", b"")])
    with pytest.raises(IndexFailed, match="File too large"):
        index.flush()
    index.close()
    index = Index(tmp_path / "index")
    assert index.get(b"key") is None, "the journal has it"
    index.close()


async def test_a_recovery_by_force_that_the_disk_refuses_ends_the_node_and_changes_nothing(
    tmp_path: Path,
) -> None:
    async with disk(tmp_path) as (journal, index):
        site = Site(journal, index)
        recruit = Member(NODE, "one", Seq(9), Epoch(2))
        site.host.on_configuration(
            FIRST, ShardConfiguration(Epoch(3), 4, OTHER, (Member(OTHER, "two"), recruit))
        )
        recovery = Recovery(Epoch(4), NODE, "one", Seq(8), (GivenUp(OTHER, "two"),))
        alone = ShardConfiguration(
            Epoch(4), 4, NODE, (Member(NODE, "one"),), recoveries=(recovery,)
        )
        with full_files():
            site.host.on_configuration(FIRST, alone)
        assert [type(failure) for failure in site.failures] == [IndexFailed]
        assert f"{tmp_path}/index/" in str(site.failures[0])
        assert site.swaps == [], "it would lead with rows that the next start does not find"
        assert all(replica.failed for replica in site.host.replicas.values())
        site.host.close()
    async with disk(tmp_path) as (journal, index):
        site = Site(journal, index)
        site.host.on_configuration(FIRST, alone)
        assert len(site.swaps) == 1, "with a disk that works it goes on where it was"
        kept = index.get(shard_state_key(FIRST))
        assert kept is not None
        assert decode_shard_state(kept).complete_to is None
        site.host.close()


async def test_after_entries_that_could_not_be_applied_no_later_ones_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("the disk is gone")

    async with disk(tmp_path) as (journal, index):
        site = Site(journal, index)
        for shard in (FIRST, SECOND):
            await site.lead(shard)
        applied = {shard: index.get(shard_state_key(shard)) for shard in (FIRST, SECOND)}
        unapplied, later = site.write(FIRST, 1), site.write(SECOND, 2)
        with monkeypatch.context() as failing:
            failing.setattr(index, "get", broken)
            async with asyncio.timeout(TIMEOUT_S):
                while not site.failures:
                    await asyncio.sleep(0.01)
        assert [str(failure) for failure in site.failures] == ["the disk is gone"]
        for shard in (FIRST, SECOND):
            assert not site.host.serves(shard), "its rows are not what it has promised to show"
            assert index.get(shard_state_key(shard)) == applied[shard]
        site.host.close()
        for outcome in (unapplied, later):
            assert outcome.exception() is not None, "no one may be told that it is done"
        assert index.get(shard_state_key(FIRST)) == applied[FIRST]
    async with disk(tmp_path) as (journal, index):
        host = host_on(journal, index)
        host.recover()
        ends = [host.replicas[shard].log.end for shard in (FIRST, SECOND)]
        assert ends == [2, 2], "a barrier and the write, each"
        host.close()
