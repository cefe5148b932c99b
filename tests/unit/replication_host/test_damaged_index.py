"""A node with a damaged index: it acknowledges, and goes on with one made from its journal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.replication_host.test_failing_index import TIMEOUT_S, Site
from tests.unit.replication_host.test_restart_of_a_host import (
    FIRST,
    IDENTITY,
    NODE,
    SECOND,
    disk,
    host_on,
)

from octad.sharding.hashing import object_hash
from octad.sharding.ids import BucketId, ShardId
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index import IndexDamage
from octad.storage_node.index.index_format import (
    decode_object,
    decode_shard_state,
    object_key,
    shard_state_key,
)
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal import Journal
from octad.storage_node.node import index_succession
from octad.storage_node.operations.conditions import Version
from octad.storage_node.operations.index_changes import put_object
from octad.storage_node.rebuild import index_repair
from octad.storage_node.rebuild.index_rebuild import IndexRebuild
from octad.storage_node.replication.host.index_applier import WriteFailed
from octad.storage_node.replication.host.index_catch_up import CatchUp
from octad.storage_node.replication.writes import write_of

BUCKET = BucketId(1)
NUMBERS = {FIRST: 1, SECOND: 9}


def key_in(shard: ShardId, nth: int) -> bytes:
    found = 0
    for number in range(1_000_000):
        key = b"key %d" % number
        if object_hash(BUCKET, key) & 15 == NUMBERS[shard]:
            if found == nth:
                return key
            found += 1
    raise AssertionError(nth)


def put(site: Site, shard: ShardId, nth: int, etag: str) -> asyncio.Future[Version]:
    operation = put_object(BUCKET, key_in(shard, nth), ObjectRow(1, etag, 0))
    request = f"{shard % 100:03}{etag:>13}".encode()
    return site.host.propose(shard, write_of(operation, request, b"x"))


def etag(index: CountedIndex, shard: ShardId, nth: int) -> str | None:
    value = index.get(object_key(BUCKET, key_in(shard, nth)))
    return None if value is None else decode_object(value).row.etag


def made_anew(directory: Path, journal: Journal) -> CatchUp:
    """As the process beside the node does, up to where the journal is durable now."""
    path = directory / "index.rebuilt.1"
    index = CountedIndex(path)
    rebuilding = IndexRebuild(Disk(), directory / "journal", IDENTITY, index)
    rebuilding.read_on(journal.durable_to)
    rebuilding.finish()
    return CatchUp(NODE, journal, index)


async def caught_up(site: Site, successor: CatchUp) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        successor.read_on()
        while not site.host.go_on_with(successor):
            await asyncio.sleep(0.01)
            successor.read_on()


async def test_what_is_committed_meanwhile_is_in_the_new_index_and_after_a_restart(
    tmp_path: Path,
) -> None:
    async with disk(tmp_path) as (journal, index):
        site = Site(journal, index)
        for shard in (FIRST, SECOND):
            await site.lead(shard)
            await put(site, shard, 0, "early")
            await put(site, shard, 1, "old")
        under_way = [put(site, shard, 1, "new") for shard in (FIRST, SECOND)]
        index.note_damage("a test says so")
        site.host.lose_rows()
        successor = made_anew(tmp_path, journal)
        successor.read_on()
        assert not site.host.serves(FIRST)
        with pytest.raises(WriteFailed):
            put(site, FIRST, 2, "refused")
        for outcome in under_way:
            await outcome  # Its member has it durable, so it is committed.
        assert site.host.replicas[FIRST].log.applied == 4, "no one waits for the index"
        with pytest.raises(IndexDamage):
            index.get(b"x")
        assert not site.host.go_on_with(successor), "it has not all that is applied"
        await caught_up(site, successor)
        for shard in (FIRST, SECOND):
            assert site.host.serves(shard)
            assert [etag(index, shard, nth) for nth in range(3)] == ["early", "new", None]
        await put(site, FIRST, 2, "later")
        assert site.failures == []
        site.host.close()
    index_repair.mark(Disk(), tmp_path / "index", "a test says so")
    assert index_repair.adopt(Disk(), tmp_path)
    assert not index_repair.is_marked(tmp_path)
    async with disk(tmp_path) as (journal, index):
        host = host_on(journal, index)
        host.recover()
        assert [etag(index, FIRST, nth) for nth in range(3)] == ["early", "new", "later"]
        assert etag(index, SECOND, 1) == "new"
        assert host.replicas[FIRST].log.requests.find(f"{FIRST % 100:03}{'old':>13}".encode())
        host.close()


async def test_it_takes_over_however_much_is_applied_while_the_journal_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with disk(tmp_path) as (journal, index):
        site = Site(journal, index)
        await site.lead(FIRST)
        await put(site, FIRST, 0, "early")
        under_way = [put(site, FIRST, nth, f"late {nth}") for nth in range(1, 4)]
        index.note_damage("a test says so")
        site.host.lose_rows()
        successor = made_anew(tmp_path, journal)

        async def while_more_is_applied(read_on: Callable[[], None]) -> None:
            read_on()
            await asyncio.gather(*under_way)

        monkeypatch.setattr(index_succession, "CATCH_UPS_MAX", 1)
        monkeypatch.setattr(asyncio, "to_thread", while_more_is_applied)
        before = successor.index.position()
        await index_succession.go_on_with(successor, site.host)
        assert index.position() > before, "it is not read again from the start"
        found = [etag(index, FIRST, nth) for nth in range(4)]
        assert found == ["early", "late 1", "late 2", "late 3"]
        site.host.close()


async def test_the_live_bytes_of_segments_are_those_of_the_new_rows(tmp_path: Path) -> None:
    async with disk(tmp_path) as (journal, index):
        site = Site(journal, index)
        await site.lead(FIRST)
        for number in range(20):
            await put(site, FIRST, number % 3, f"v{number}")
        live = index.ledger.live_bytes()
        index.note_damage("a test says so")
        site.host.lose_rows()
        await caught_up(site, made_anew(tmp_path, journal))
        assert index.ledger.live_bytes() == live == index.counted().live_bytes()
        state = index.get(shard_state_key(FIRST))
        assert state is not None
        assert decode_shard_state(state).applied == 21
        site.host.close()


async def test_a_scan_that_was_going_on_does_not_end_as_if_it_were_at_its_end(
    tmp_path: Path,
) -> None:
    async with disk(tmp_path) as (journal, index):
        site = Site(journal, index)
        await site.lead(FIRST)
        for number in range(5):
            await put(site, FIRST, number, "v")
        scan = index.scan(b"n", b"o")
        next(scan)
        index.note_damage("a test says so")
        site.host.lose_rows()
        await caught_up(site, made_anew(tmp_path, journal))
        with pytest.raises(IndexDamage):
            next(scan)
        site.host.close()


def test_one_that_is_damaged_in_its_turn_is_not_taken_at_the_next_start(
    tmp_path: Path,
) -> None:
    for name in ("index", "index.rebuilt.1", "index.rebuilt.2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    index_repair.mark(Disk(), tmp_path / "index", "first")
    index_repair.mark(Disk(), tmp_path / "index.rebuilt.1", "again")
    assert index_repair.is_marked(tmp_path)
    assert index_repair.adopt(Disk(), tmp_path)
    assert [each.name for each in (tmp_path / "index").iterdir()] == ["index.rebuilt.2"]
    assert [each.name for each in tmp_path.iterdir()] == ["index"]


def test_without_a_complete_one_the_mark_stays(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index.rebuilding").mkdir()
    index_repair.mark(Disk(), tmp_path / "index", "why")
    assert not index_repair.adopt(Disk(), tmp_path)
    assert index_repair.is_marked(tmp_path)
