"""A node names what a newer octad wrote, and changes nothing; new kinds wait for all nodes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from tests.unit.history.copied_work import BUCKET, SHARD, keys_of
from tests.unit.history.test_history_copy import told
from tests.unit.operations import toy_kinds
from tests.unit.operations.test_several_records_in_a_shard import (
    LEFT,
    NOTES,
    TEXTS,
    texts,
    two_nodes,
)
from tests.unit.operations.toy_kinds import PUT_NOTE, PUT_NOTES, PutNotes
from tests.unit.replication_host import new_primary
from tests.unit.replication_host.new_primary import taking_over
from tests.unit.replication_host.test_restart_of_a_host import (
    IDENTITY,
    NODE,
    OTHER,
    disk,
    host_on,
    start,
)
from tests.unit.upkeep.test_compaction import running_story
from tests.unit.upkeep.test_record_repair import KEY, damage, records_at, with_value

from octad.sharding.ids import Epoch, NodeId, Seq
from octad.storage_node.history.history_messages import HistoryRecord, HistoryRow, RecordsRead
from octad.storage_node.history.history_writer import BadHistory
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index_format import object_key, shard_order_key
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal_errors import WrittenByNewer
from octad.storage_node.journal.record_format import RECORD_KINDS
from octad.storage_node.operations import registry
from octad.storage_node.operations.index_changes import encode_operation
from octad.storage_node.operations.registry import FORMAT_LEVEL
from octad.storage_node.rebuild.index_rebuild import rebuild
from octad.storage_node.replication.host.index_applier import WriteFailed
from octad.storage_node.replication.replication_messages import Prepare, Prepares
from octad.storage_node.replication.shard_log import NO_REQUEST
from octad.storage_node.rpc.messages import decode_message, encode_message
from octad.storage_node.rpc.rpc_errors import RpcRefusal
from octad.storage_node.shards.extent_messages import ReadRecord, RecordRead
from octad.storage_node.shards.object_messages import NOT_SERVED, Propose
from octad.storage_node.upkeep.damaged_records import Outcome

NEWER = 99
SAID = f"its kind {NEWER} was written by a newer octad: upgrade this node, nothing is lost"


@contextmanager
def hidden(kind: int) -> Iterator[None]:
    """This octad does not know it for a while."""
    kinds, numbers = registry.KINDS.pop(kind), RECORD_KINDS.pop(kind)
    decoder = registry.DECODERS.pop(kind)
    try:
        yield
    finally:
        registry.KINDS[kind], RECORD_KINDS[kind] = kinds, numbers
        registry.DECODERS[kind] = decoder


def with_newer_inside() -> PutNotes:
    first, *others = NOTES[0].records
    return PutNotes((msgspec.structs.replace(first, kind=NEWER), *others))


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("unknown", [PUT_NOTES.record, PUT_NOTE.record], ids=["it", "a part"])
async def test_an_entry_of_a_kind_that_is_not_known_is_not_taken_until_it_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    unknown: int,
) -> None:
    """Also where only what is inside it is not known. The shard's replica goes on."""
    async with two_nodes(tmp_path, monkeypatch) as pair:
        done = pair.propose(new_primary.SHARD, *NOTES)
        replica = pair.backup.replicas[new_primary.SHARD]
        before = replica.log.end
        await asyncio.sleep(0)
        with hidden(unknown), caplog.at_level(logging.WARNING):
            pair.hand_over()
        said = f"its kind {int(unknown)} was written by a newer octad: upgrade this node"
        assert f"an entry of shard 1/0 is not taken: {said}" in caplog.text
        assert (replica.log.end, replica.failed) == (before, False)
        assert not done.done()
        pair.primary.host.on_connected(OTHER)  # It is upgraded, and there again.
        pair.backup.on_connected(NODE)
        await pair.settle(new_primary.SHARD)
        await done
        assert texts(pair.journal, pair.index) == TEXTS


async def test_what_else_came_in_the_same_message_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with toy_kinds.known():
        async with two_nodes(tmp_path, monkeypatch) as pair:
            done = pair.propose(new_primary.SHARD, *NOTES)
            await asyncio.sleep(0)
            (index,) = [
                number
                for number, (message, _) in enumerate(pair.cluster.waiting)
                if isinstance(message, Prepares) and message.prepares
            ]
            message, body = pair.cluster.waiting[index]
            assert isinstance(message, Prepares)
            newer = Prepare(
                *(new_primary.SHARD, Epoch(1), Epoch(1), Seq(9), Epoch(1), Seq(0), NEWER),
                *(NO_REQUEST, b"\x90", 0),
            )
            both = Prepares([newer, *message.prepares], message.points)
            pair.cluster.waiting[index] = (both, body)
            await pair.settle(new_primary.SHARD)
            await done


async def test_a_journal_with_a_newer_kind_inside_an_entry_is_not_replayed_or_rebuilt_from(
    tmp_path: Path,
) -> None:
    with toy_kinds.known():
        async with disk(tmp_path) as (journal, _):
            start(journal)
            several, data = with_newer_inside(), NOTES[1]
            journal.append(
                *(PUT_NOTES.record, new_primary.SHARD, Epoch(1), Seq(1), Seq(1), NO_REQUEST),
                *(encode_operation(several), bytes(len(data))),
            )
        async with disk(tmp_path) as (journal, index):
            host = host_on(journal, index)
            with pytest.raises(WrittenByNewer, match=SAID) as caught:
                host.recover()
            assert "0000000001.segment cannot be read from offset 4096 on" in caught.value.what
            assert not caught.value.others_may_fill
        empty = CountedIndex(tmp_path / "rebuilt")
        with pytest.raises(WrittenByNewer, match=SAID):
            rebuild(Disk(), tmp_path / "journal", IDENTITY, empty)
        empty.close()


async def test_a_record_of_a_newer_kind_does_not_come_with_a_copy_of_history() -> None:
    key = object_key(BUCKET, keys_of(BUCKET, 1)[0])
    row = HistoryRow(shard_order_key(bytes(8), key), Epoch(1), Seq(1), 100)
    sent = RecordsRead(1, Seq(1), [HistoryRecord(0, NEWER, NO_REQUEST, b"\x90", 0)])
    answer = decode_message(encode_message(sent))
    assert isinstance(answer, RecordsRead)
    async with told(0) as story:
        story.begin_copy()
        assert story.copier is not None
        position = story.receiver.journal.position()
        with pytest.raises(BadHistory, match=SAID):
            story.copier._writer.append(SHARD, row, answer.records[0], b"")
        assert story.receiver.journal.position() == position


async def test_another_members_record_of_a_newer_kind_repairs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_story() as story:
        await with_value(story)
        damage(story)

        async def answer(_node: NodeId, _message: ReadRecord) -> tuple[RecordRead, memoryview]:
            return RecordRead(SHARD, NEWER, b"\x90", 0), memoryview(b"")

        damaged = records_at(story, answer)
        assert await damaged.look_at(KEY) is Outcome.LEFT
        assert damaged.report().lost == 0
        assert f"is of kind {NEWER}, which a newer octad wrote: upgrade this node" in caplog.text


async def test_a_front_door_that_asks_for_a_newer_kind_is_told_that_nothing_was_done(
    tmp_path: Path,
) -> None:
    async with taking_over(tmp_path, []) as (primary, _):
        asked = Propose(new_primary.SHARD, NEWER, b"a request's id..", b"\x90")
        with pytest.raises(RpcRefusal, match=SAID) as refused:
            await primary.ask(asked)
        assert refused.value.code == NOT_SERVED


@pytest.mark.parametrize("above", ["the entry", "a record inside it"])
async def test_a_kind_of_a_level_above_that_in_use_is_not_ordered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, above: str
) -> None:
    kind = PUT_NOTES if above == "the entry" else PUT_NOTE
    with toy_kinds.known({kind.record: FORMAT_LEVEL + 1}):
        async with two_nodes(tmp_path, monkeypatch) as pair:
            host = pair.primary.host
            end = pair.primary.replica.log.end
            with pytest.raises(WriteFailed, match="not every node of the cluster knows"):
                pair.propose(new_primary.SHARD, *NOTES)
            assert pair.primary.replica.log.end == end
            host.use_level(FORMAT_LEVEL + 1)
            done = pair.propose(new_primary.SHARD, *NOTES)
            await pair.settle(new_primary.SHARD)
            await done
            assert LEFT in texts(host.journal, host.index)
