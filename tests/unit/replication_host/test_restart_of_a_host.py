"""A node starts again on what a crash left: splits are replayed, finished copies are recognized."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from octad.client.runtime.steady_clock import now
from octad.sharding.ids import BucketId, Epoch, NodeId, PoolId, Seq, ShardId, shard_id, shard_name
from octad.sharding.map.shard_map import GivenUp, Learner, Member, Recovery, ShardConfiguration
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.history_format import InstalledCopy, encode, installed_copy_key
from octad.storage_node.index.index_format import (
    POSITION_KEY,
    decode_shard_state,
    encode_position,
    encode_value,
    shard_state_key,
)
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import IndexBehind, JournalFull
from octad.storage_node.journal.record_format import Identity, Position, RecordKind, SegmentId
from octad.storage_node.journal.retired_segments import RetiredSegments, write_retired
from octad.storage_node.journal.shard_state import ShardState
from octad.storage_node.operations.index_changes import (
    Barrier,
    DeleteObject,
    LogSplit,
    LogStart,
    encode_operation,
)
from octad.storage_node.operations.registry import FORMAT_LEVEL
from octad.storage_node.replication.host.replica_table import ReplicaTable
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.lease_messages import Beat
from octad.storage_node.replication.pair_leases import PairLeases
from octad.storage_node.replication.reconfiguration import Plan
from octad.storage_node.replication.replica_actions import Action, Swap
from octad.storage_node.replication.replica_state import Strength
from octad.storage_node.replication.replication_messages import (
    Acks,
    Join,
    Prepare,
    Prepares,
    SessionStart,
)
from octad.storage_node.rpc.messages import Message

NODE, OTHER = NodeId(1), NodeId(2)
IDENTITY = Identity("0123abcd", NODE, "00112233445566778899aabbccddeeff")
FIRST, SECOND = shard_id(PoolId(1), 1), shard_id(PoolId(1), 9)
EPOCH = Epoch(2)


class NoCluster:
    """Nothing is known yet: the configuration store is read after the recovery."""

    def __init__(self) -> None:
        self.incarnations: dict[NodeId, str] = {}
        self.dead: dict[NodeId, bytes] = {}
        self.sent: list[Message] = []

    def strength(self, shard: ShardId) -> Strength | None:
        return None

    def plan(self, shard: ShardId, configuration: ShardConfiguration) -> Plan:
        return Plan(
            tuple(member.node for member in configuration.members),
            configuration.primary,
            configuration.depth,
        )

    def choose_spare(
        self, shard: ShardId, configuration: ShardConfiguration, useless: Collection[NodeId]
    ) -> Learner | None:
        raise AssertionError("there are no rows")

    def send(self, node: NodeId, message: Message, body: bytes | memoryview = b"") -> bool:
        self.sent.append(message)
        return True


def not_yet(*_: object) -> None:
    raise AssertionError("a node that recovers neither copies nor changes configurations")


@dataclass
class Elsewhere:
    """What a host wants of the store and of those who copy: what is not named, it must not want."""

    submit: Callable[[ShardId, Swap], None] = not_yet
    refetch: Callable[[ShardId], None] = not_yet
    begin: Callable[..., None] = not_yet
    cancel: Callable[[ShardId], None] = lambda _: None
    forget_marks: Callable[[ShardId, Seq], None] = not_yet


@asynccontextmanager
async def disk(directory: Path) -> AsyncIterator[tuple[Journal, CountedIndex]]:
    journal = Journal.open(directory / "journal", IDENTITY)
    index = CountedIndex(directory / "index")
    try:
        yield journal, index
    finally:
        await journal.close()
        index.close()


def host_on(
    journal: Journal,
    index: CountedIndex,
    cluster: NoCluster | None = None,
    on_failed: Callable[[Exception], None] = not_yet,
    elsewhere: Elsewhere | None = None,
) -> ShardHost:
    index.follow(journal)
    known = cluster or NoCluster()
    wanted = elsewhere or Elsewhere()
    leases = PairLeases(NODE, 7, now())
    leases.dead = known.dead
    table = ReplicaTable(NODE, "one", leases, known, wanted.refetch)
    host = ShardHost(table, journal, index, known, wanted, wanted, on_failed)
    host.use_level(FORMAT_LEVEL)
    return host


def start(journal: Journal) -> None:
    for _ in journal.replay(journal.position()):
        pass
    journal.start(lambda _: None, not_yet)


def append(
    journal: Journal, shard: ShardId, seq: int, commit: int, kind: RecordKind, metadata: bytes
) -> None:
    request = bytes([seq]) * 16
    journal.append(kind, shard, EPOCH, Seq(seq), Seq(commit), request, metadata, b"")


def deletion() -> bytes:
    return encode_operation(DeleteObject(BucketId(1), b"key"))


async def test_a_split_whose_entries_were_not_applied_is_replayed_before_what_follows(
    tmp_path: Path,
) -> None:
    kind = RecordKind.DELETE_OBJECT
    async with disk(tmp_path) as (journal, _):
        start(journal)
        append(journal, FIRST, 1, 0, kind, deletion())
        append(journal, FIRST, 2, 1, kind, deletion())
        append(journal, FIRST, 2, 2, RecordKind.LOG_SPLIT, encode_operation(LogSplit(4)))
        append(journal, SECOND, 3, 2, kind, deletion())
        append(journal, FIRST, 3, 2, kind, deletion())
    for _ in range(2):  # Also when the index has all of it.
        async with disk(tmp_path) as (journal, index):
            host = host_on(journal, index)
            assert host.recover() == []
            for shard in (FIRST, SECOND):
                replica = host.replicas[shard]
                assert (replica.depth, replica.log.applied, replica.log.end) == (4, 2, 3)
                assert index.get(shard_state_key(shard)) is not None
            host.close()


async def test_a_log_that_began_anew_is_known_after_a_second_crash_of_which_nothing_was_applied(
    tmp_path: Path,
) -> None:
    kind = RecordKind.DELETE_OBJECT
    started = encode_operation(LogStart(Seq(3), 4))
    async with disk(tmp_path) as (journal, _):
        start(journal)
        append(journal, FIRST, 8, 3, RecordKind.LOG_START, started)
        append(journal, SECOND, 1, 0, kind, deletion())
        append(journal, SECOND, 2, 1, kind, deletion())
        append(journal, FIRST, 9, 8, kind, deletion())
    for _ in range(2):  # The second time, what the other shard has applied hides the start.
        async with disk(tmp_path) as (journal, index):
            host = host_on(journal, index)
            assert host.recover() == []
            replica = host.replicas[FIRST]
            assert (replica.log.start, replica.log.start_epoch, replica.log.end) == (8, EPOCH, 9)
            assert (replica.complete_to, replica.depth) == (3, 4)
            assert host.replicas[SECOND].log.applied == 1
            host.close()


async def test_a_copy_that_was_complete_and_is_caught_up_by_the_replay_makes_whole(
    tmp_path: Path,
) -> None:
    kind = RecordKind.DELETE_OBJECT
    async with disk(tmp_path) as (journal, index):
        start(journal)
        append(journal, FIRST, 6, 5, kind, deletion())
        append(journal, FIRST, 7, 7, kind, deletion())
        state = ShardState(Seq(5), EPOCH, EPOCH, Seq(5), EPOCH, Seq(3))
        copy = InstalledCopy(Seq(5), Seq(7), ())
        index.write(
            [
                (shard_state_key(FIRST), encode_value(state)),
                (installed_copy_key(FIRST), encode(copy)),
            ]
        )
    async with disk(tmp_path) as (journal, index):
        host = host_on(journal, index)
        assert host.recover() == [FIRST]
        assert host.replicas[FIRST].complete_to is None
        host.close()


async def test_a_copy_that_was_complete_is_in_the_state_though_no_entry_follows(
    tmp_path: Path,
) -> None:
    request = bytes(range(16))
    state = ShardState(Seq(5), EPOCH, EPOCH, Seq(5), EPOCH, Seq(3))
    copy = InstalledCopy(Seq(5), Seq(5), ((request, Seq(4)),))
    async with disk(tmp_path) as (journal, index):
        start(journal)
        index.write(
            [
                (shard_state_key(FIRST), encode_value(state)),
                (installed_copy_key(FIRST), encode(copy)),
            ]
        )
    for complete in ([FIRST], []):  # The second time the state alone says so.
        async with disk(tmp_path) as (journal, index):
            host = host_on(journal, index)
            assert host.recover() == complete
            kept = index.get(shard_state_key(FIRST))
            assert kept is not None
            assert decode_shard_state(kept).complete_to is None
            assert host.replicas[FIRST].log.requests.find(request) == 4
            host.close()


async def test_a_log_that_cannot_be_begun_anew_for_want_of_room_stops_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise JournalFull("not a byte is left")

    async with disk(tmp_path) as (journal, index):
        failures: list[Exception] = []
        cluster = NoCluster()
        host = host_on(journal, index, cluster, failures.append)
        host.recover()
        monkeypatch.setattr(journal, "append", full)
        learner = ShardConfiguration(
            Epoch(3), 4, OTHER, (Member(OTHER, "two"),), (Learner(NODE, "one"),)
        )
        host.on_configuration(FIRST, learner)
        (joined,) = [each for each in cluster.sent if isinstance(each, Join)]
        start_of_log = SessionStart(FIRST, Epoch(3), joined.nonce, 1, Seq(8), Epoch(2))
        host.on_message(OTHER, start_of_log, memoryview(b""))
        assert [str(failure) for failure in failures] == ["not a byte is left"]
        assert index.get(shard_state_key(FIRST)) is None, "the state would claim a log of its own"
        monkeypatch.undo()
        host.close()


async def test_a_bug_in_one_replica_costs_neither_the_beats_nor_the_other_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(_: float) -> list[Action]:
        raise AssertionError("what cannot be")

    async with disk(tmp_path) as (journal, index):
        cluster = NoCluster()
        host = host_on(journal, index, cluster)
        host.recover()
        members = (Member(OTHER, "two"), Member(NODE, "one"))
        for shard in (FIRST, SECOND):
            host.on_configuration(shard, ShardConfiguration(Epoch(3), 4, OTHER, members))
        monkeypatch.setattr(host.replicas[FIRST], "on_timer", bug)
        cluster.sent.clear()
        async with asyncio.timeout(5):
            while len([each for each in cluster.sent if isinstance(each, Beat)]) < 3:
                await asyncio.sleep(0.01)
        assert host.replicas[FIRST].failed
        assert not host.replicas[SECOND].failed
        host.close()
    (logged,) = [record for record in caplog.records if record.exc_info]
    assert shard_name(FIRST) in logged.getMessage()


async def test_what_a_bug_left_half_done_is_never_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(*_: object) -> None:
        raise AssertionError("what cannot be")

    async with disk(tmp_path) as (journal, index):
        cluster = NoCluster()
        host = host_on(journal, index, cluster)
        host.recover()
        members = (Member(OTHER, "two"), Member(NODE, "one"))
        for shard in (FIRST, SECOND):
            host.on_configuration(shard, ShardConfiguration(Epoch(3), 4, OTHER, members))
        first, second = (prepare_of(shard, 1, 0) for shard in (FIRST, SECOND))
        with monkeypatch.context() as broken:
            broken.setattr(host.replicas[FIRST], "on_prepare", bug)
            host.on_message(OTHER, Prepares([first, second]), memoryview(b""))
        host.on_message(OTHER, Prepares([first, prepare_of(FIRST, 2, 3)]), memoryview(b""))
        async with asyncio.timeout(5):
            while not (acks := [each for each in cluster.sent if isinstance(each, Acks)]):
                await asyncio.sleep(0.01)
        assert {ack.shard for each in acks for ack in each.acks} == {SECOND}
        assert host.replicas[FIRST].failed
        host.close()
    assert len([record for record in caplog.records if record.exc_info]) == 1


def prepare_of(shard: ShardId, seq: int, previous: int) -> Prepare:
    """Of the primary OTHER at epoch 3."""
    return Prepare(
        *(shard, Epoch(3), Epoch(3), Seq(seq), Epoch(previous), Seq(0)),
        *(RecordKind.BARRIER, bytes(16), encode_operation(Barrier()), 0),
    )


async def test_a_half_is_taken_up_once_the_shard_turns_out_to_have_been_split_before(
    tmp_path: Path,
) -> None:
    async with disk(tmp_path) as (journal, index):
        asked: list[ShardId] = []
        host = host_on(journal, index, elsewhere=Elsewhere(refetch=asked.append))
        host.recover()
        host.on_message(OTHER, Prepares([prepare_of(FIRST, 1, 0)]), memoryview(b""))
        configuration = ShardConfiguration(
            Epoch(3), 4, OTHER, (Member(OTHER, "two"), Member(NODE, "one"))
        )
        host.on_configuration(SECOND, configuration)
        assert SECOND not in host.replicas, "the empty replica may be of all of it"
        host.on_configuration(FIRST, configuration)
        assert host.replicas[SECOND].configuration == configuration
        host.close()


async def test_who_is_put_in_charge_by_force_is_complete_after_a_crash_too(tmp_path: Path) -> None:
    async with disk(tmp_path) as (journal, index):
        wanted = Elsewhere(submit=lambda *_: None, begin=lambda *_: None)
        host = host_on(journal, index, elsewhere=wanted)
        host.recover()
        recruit = Member(NODE, "one", Seq(9), Epoch(2))
        host.on_configuration(
            FIRST, ShardConfiguration(Epoch(3), 4, OTHER, (Member(OTHER, "two"), recruit))
        )
        assert host.replicas[FIRST].complete_to == 0
        recovery = Recovery(Epoch(4), NODE, "one", Seq(8), (GivenUp(OTHER, "two"),))
        alone = ShardConfiguration(
            Epoch(4), 4, NODE, (Member(NODE, "one"),), recoveries=(recovery,)
        )
        host.on_configuration(FIRST, alone)
        kept = index.get(shard_state_key(FIRST))
        assert kept is not None
        assert decode_shard_state(kept).complete_to is None
        host.close()


async def test_an_index_that_lacks_what_was_compacted_away_is_named_with_the_way_out(
    tmp_path: Path,
) -> None:
    """An older one was put back, or there is none: what is gone from the journal is not in it."""
    kind = RecordKind.DELETE_OBJECT
    fix = f"index in {tmp_path} is older than .* run `octad index rebuild {tmp_path}`"
    async with disk(tmp_path) as (journal, _):
        start(journal)
        append(journal, FIRST, 5, 5, kind, deletion())
    async with disk(tmp_path) as (journal, index):
        with pytest.raises(IndexBehind, match=fix):  # Nothing is left of entries 1 to 4.
            host_on(journal, index).recover()
    async with disk(tmp_path) as (journal, index):
        index.write([(shard_state_key(FIRST), encode_value(ShardState(Seq(4), EPOCH, EPOCH)))])
        host = host_on(journal, index)
        host.recover()
        append(journal, FIRST, 6, 5, kind, deletion())
        await journal.durable(journal.position())  # The index is never ahead of it.
        index.write([(POSITION_KEY, encode_position(journal.position()))])
        host.close()
        retired = RetiredSegments()
        states = {SECOND: ShardState(Seq(9), EPOCH, EPOCH)}  # No entry of it is left at all.
        retired.retire(SegmentId(1), [], states, Position(0))
        write_retired(Disk(), tmp_path / "journal", retired)
    async with disk(tmp_path) as (journal, index):
        with pytest.raises(IndexBehind, match=fix):
            host_on(journal, index).recover()
    async with disk(tmp_path) as (journal, index):
        index.write([(shard_state_key(SECOND), encode_value(states[SECOND]))])
        host = host_on(journal, index)
        host.recover()
        host.close()
