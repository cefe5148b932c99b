"""A primary orders no put that a member's full disk has no room for: deletes would wait for it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from tests.unit.engine.engine_site import EngineStory
from tests.unit.journal.journal_site import SHARD
from tests.unit.replication_host.test_restart_of_a_host import (
    FIRST,
    NODE,
    OTHER,
    Elsewhere,
    NoCluster,
    disk,
    host_on,
    prepare_of,
)

from octad.sharding.ids import BucketId, Epoch, NodeId, PoolId, Seq
from octad.sharding.limits import MIB
from octad.sharding.map.shard_map import Member, ShardConfiguration
from octad.storage_node.index.index_format import IndexedPiece, encode_value
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.journal.journal_errors import CorruptRecord, JournalFull, SegmentNotReady
from octad.storage_node.journal.record_format import Location, SegmentId
from octad.storage_node.operations.index_changes import (
    DeleteObject,
    PutObject,
    put_object,
)
from octad.storage_node.replication.host.full_disks import FullDisks
from octad.storage_node.replication.host.index_applier import WriteFailed
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.lease_messages import Beat
from octad.storage_node.replication.replication_messages import Prepares
from octad.storage_node.replication.writes import write_of
from octad.storage_node.rpc.messages import decode_message, encode_message
from octad.storage_node.shards.extent_messages import WrittenFound
from octad.storage_node.shards.object_store import Damaged, NotServed
from octad.storage_node.shards.shard_service import ShardService

PUT = put_object(BucketId(1), b"key", ObjectRow(1, "", 0))
DELETE = DeleteObject(BucketId(1), b"key")
REQUEST = bytes(range(16))


@asynccontextmanager
async def member(
    directory: Path, primary: NodeId = NODE
) -> AsyncIterator[tuple[ShardHost, NoCluster]]:
    """Of a shard that it does not serve yet, since the other has not been heard."""
    async with disk(directory) as (journal, index):
        cluster = NoCluster()
        host = host_on(journal, index, cluster, elsewhere=Elsewhere(submit=lambda *_: None))
        host.recover()
        members = (Member(NODE, "one"), Member(OTHER, "two"))
        host.on_configuration(FIRST, ShardConfiguration(Epoch(3), 4, primary, members))
        yield host, cluster
        host.close()


def propose(host: ShardHost, operation: PutObject | DeleteObject) -> None:
    host.propose(FIRST, write_of(operation, REQUEST))


def beat(*, disk_full: bool) -> Beat:
    return Beat(2, 1, 0, 0, None, disk_full)


async def test_no_put_is_ordered_that_a_member_has_no_room_for_and_deletes_are(
    tmp_path: Path,
) -> None:
    async with member(tmp_path) as (host, _):
        with pytest.raises(WriteFailed):  # Not refused for the disk's sake.
            propose(host, PUT)
        host.on_message(OTHER, beat(disk_full=True), memoryview(b""))
        with pytest.raises(JournalFull, match="disk of n2 is full"):
            propose(host, PUT)
        with pytest.raises(WriteFailed):
            propose(host, DELETE)
        host.on_message(OTHER, beat(disk_full=False), memoryview(b""))
        with pytest.raises(WriteFailed):
            propose(host, PUT)


async def test_the_full_disk_of_a_node_without_the_shard_refuses_nothing(tmp_path: Path) -> None:
    async with member(tmp_path) as (host, _):
        host.full_disks.note(NodeId(9), True, 0.0)
        with pytest.raises(WriteFailed):
            propose(host, PUT)


async def test_a_full_disk_is_said_in_every_beat_and_takes_no_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with member(tmp_path, OTHER) as (host, cluster):
        for is_full in (True, False):
            monkeypatch.setattr(host.journal.room, "is_full", lambda full=is_full: full)
            monkeypatch.setattr(host._beats, "_is_full", host.journal.room.is_full)
            cluster.sent.clear()
            host._beats.send()
            assert [each.disk_full for each in cluster.sent if isinstance(each, Beat)] == [is_full]
            with pytest.raises(JournalFull if is_full else WriteFailed):
                propose(host, PUT)


async def test_a_member_takes_what_its_primary_has_ordered_from_the_room_that_is_kept_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    async with member(tmp_path, OTHER) as (host, _):

        def make_room(*_: object, ordered: bool = False) -> None:
            asked.append(ordered)

        monkeypatch.setattr(host.journal, "make_room", make_room)
        host.on_message(OTHER, Prepares([prepare_of(FIRST, 1, 0)]), memoryview(b""))
    assert asked == [True]


def test_the_version_before_says_neither_that_its_disk_is_full_nor_what_is_read_there() -> None:
    old_beat = decode_message(msgspec.msgpack.encode([24, 1, 2, 3, 4, None]))
    assert isinstance(old_beat, Beat)
    assert not old_beat.disk_full
    old_answer = decode_message(msgspec.msgpack.encode([99, []]))
    assert isinstance(old_answer, WrittenFound)
    assert old_answer.oldest_read_s is None
    for new in (beat(disk_full=True), WrittenFound([], 1.5)):
        assert decode_message(encode_message(new)) == new


def test_who_was_full_is_remembered_for_a_while() -> None:
    disks = FullDisks()
    disks.note(NODE, True, 10.0)
    disks.note(OTHER, True, 20.0)
    disks.note(NODE, False, 30.0)
    assert (disks.now, disks.since(15.0), disks.since(10.0)) == ({OTHER}, {OTHER}, {NODE, OTHER})
    assert disks.first_of([NODE, NodeId(9)]) is None
    assert disks.first_of([NODE, OTHER]) == OTHER


async def test_what_was_ordered_before_the_primary_heard_has_room_at_the_member() -> None:
    """Else it would hold up its shard until the member is removed."""
    story = EngineStory(random.Random(1))
    await story.start()
    assert story.site is not None
    number = 0
    while story.change(b"%d" % number, bytes(20_000)):
        number += 1
        await story.site.settled()
    journal = story.site.journal
    with pytest.raises(JournalFull):
        journal.make_room(100, 30_000)
    journal.make_room(100, 30_000, ordered=True)
    await story.close()


# -- a slow disk is not a full one -------------------------------------------------------------


class Slow:
    """A host whose journal has no segment ready."""

    def covers(self, *_: object) -> bool:
        return True

    def propose(self, *_: object) -> None:
        raise SegmentNotReady("in a moment")


def service_on(host: object, index: object, journal: object) -> ShardService:
    return ShardService(*cast("Any", (host, index, journal, None, {})))


async def test_a_segment_that_is_not_ready_yet_is_waited_for() -> None:
    service = service_on(Slow(), None, None)
    deletion = DeleteObject(BucketId(1), b"key")
    with pytest.raises(NotServed):  # Tried again by whoever routes it; never "the disk is full".
        await service._order(SHARD, write_of(deletion, REQUEST))


# -- a record that was moved, and whose file is gone -------------------------------------------


class Moving:
    """Index and journal at once: the record moves while a thread is on its way to it."""

    def __init__(self, *, moves: bool) -> None:
        self.segment, self.moves = SegmentId(1), moves

    def get(self, _key: bytes) -> bytes:
        location = Location(self.segment, 4096, MIB)
        return encode_value(IndexedPiece(location, Epoch(1), Seq(1), BucketId(1), PoolId(0)))

    def read_if_cached(self, _location: Location) -> None:
        return None

    def read(self, location: Location) -> Any:
        if location.segment == 1:
            self.segment = SegmentId(2) if self.moves else self.segment
            raise CorruptRecord(Path("1.segment"), 4096, "no such segment")
        return type("Record", (), {"data": memoryview(b"bytes")})


async def test_a_read_that_was_late_for_a_file_reads_where_the_record_is_now() -> None:
    moving = Moving(moves=True)
    service = service_on(None, moving, moving)
    assert bytes(await service.read_piece(SHARD, bytes(16), 0)) == b"bytes"
    damaged = Moving(moves=False)
    with pytest.raises(Damaged):
        await service_on(None, damaged, damaged).read_piece(SHARD, bytes(16), 0)
