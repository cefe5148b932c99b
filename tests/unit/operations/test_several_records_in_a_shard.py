"""An entry of several records is replicated, retried, split, counted and rebuilt as its rows are.

Two nodes, whose messages are handed over here; the shard is split between the rows of one entry.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.unit.operations.toy_kinds import (
    TABLE,
    EraseNote,
    PutNote,
    decode_note,
    note_key,
    put_notes,
)
from tests.unit.replication_host import new_primary
from tests.unit.replication_host.new_primary import (
    OBJECT,
    POOL,
    SHARD,
    NewPrimary,
    TwoNodes,
    started,
)
from tests.unit.replication_host.test_restart_of_a_host import (
    IDENTITY,
    NODE,
    OTHER,
    Elsewhere,
    NoCluster,
    host_on,
    not_yet,
)

from octad.client.runtime.steady_clock import now
from octad.sharding.hashing import object_hash
from octad.sharding.ids import BucketId, NodeId, ShardId, shard_id
from octad.sharding.map.shard_map import Pool, ShardConfiguration, ShardMap
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index_format import (
    decode_shard_order_key,
    decode_shard_state,
    shard_order_range,
    shard_state_key,
)
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.shard_sizes import ShardSizes
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.record_format import Identity
from octad.storage_node.operations.conditions import Version
from octad.storage_node.operations.index_changes import Operation
from octad.storage_node.rebuild.index_rebuild import rebuild
from octad.storage_node.replication.host.index_applier import WriteFailed
from octad.storage_node.replication.host.replica_table import ReplicaTable
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.lease_messages import Beat, BeatAnswer
from octad.storage_node.replication.pair_leases import PairLeases
from octad.storage_node.replication.reconfiguration import Plan
from octad.storage_node.replication.replica_state import Strength
from octad.storage_node.replication.shard_log import NO_REQUEST
from octad.storage_node.replication.writes import write_of
from octad.storage_node.rpc.messages import Message
from octad.storage_node.upkeep.shard_counter import ShardCounter

BUCKET = BucketId(1)
HALF = shard_id(POOL.id, 1)
# Which the bit by which the shard is split tells apart.
NAMES = [b"note%d" % number for number in range(99)]
LEFT, FURTHER_LEFT, *_ = (name for name in NAMES if not object_hash(BUCKET, name) & 1)
RIGHT, FURTHER_RIGHT, *_ = (name for name in NAMES if object_hash(BUCKET, name) & 1)
FURTHER = {SHARD: FURTHER_LEFT, HALF: FURTHER_RIGHT}
ONE, TWO = b"request for left", b"request of right"
TEXTS = {LEFT: b"left text", RIGHT: b"the text on the right"}
NOTES = put_notes(
    [
        (PutNote(BUCKET, LEFT, 1), ONE, TEXTS[LEFT]),
        (PutNote(BUCKET, RIGHT, 2), TWO, TEXTS[RIGHT]),
    ]
)
TIMEOUT_S = 20.0

pytestmark = pytest.mark.usefixtures("toys")


class Hearing(TwoNodes):
    """What is sent to the other node waits to be handed over."""

    depth = 0

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[Message, bytes]] = []

    def strength(self, shard: ShardId) -> Strength | None:
        return Strength(2, 1)

    def plan(self, shard: ShardId, configuration: ShardConfiguration) -> Plan:
        return Plan(
            tuple(member.node for member in configuration.members),
            configuration.primary,
            self.depth,
        )

    def send(self, node: NodeId, message: Message, body: bytes | memoryview = b"") -> bool:
        if not isinstance(message, Beat | BeatAnswer):
            self.waiting.append((message, bytes(body)))
        return super().send(node, message, body)


class Pair:
    """The primary, and a backup that has nothing yet."""

    def __init__(self, primary: NewPrimary, journal: Journal, index: CountedIndex) -> None:
        self.primary, self.journal, self.index = primary, journal, index
        assert isinstance(primary.cluster, Hearing)
        self.cluster = primary.cluster
        index.follow(journal)
        self.other = NoCluster()
        self.other.incarnations = {NODE: "one", OTHER: "two"}
        leases = PairLeases(OTHER, 8, now())
        elsewhere = Elsewhere(refetch=lambda _: None, forget_marks=lambda *_: None)
        table = ReplicaTable(OTHER, "two", leases, self.other, elsewhere.refetch)
        self.backup = ShardHost(table, journal, index, self.other, elsewhere, elsewhere, not_yet)
        self.backup.recover()

    def hosts(self) -> list[tuple[ShardHost, CountedIndex]]:
        return [(self.primary.host, self.primary.host.index), (self.backup, self.index)]

    def hand_over(self) -> None:
        waiting, self.cluster.waiting = self.cluster.waiting, []
        for message, body in waiting:
            self.backup.on_message(NODE, message, memoryview(body))
        sent, self.other.sent = self.other.sent, []
        for answer in sent:
            if not isinstance(answer, Beat | BeatAnswer):
                self.primary.host.on_message(OTHER, answer, memoryview(b""))

    async def settle(self, *shards: ShardId) -> None:
        """All that is ordered in `shards` is in the index of both."""
        async with asyncio.timeout(TIMEOUT_S):
            while not all(self._is_settled(shard) for shard in shards):
                self.hand_over()
                await asyncio.sleep(0.005)

    def _is_settled(self, shard: ShardId) -> bool:
        logs = [host.replicas[shard].log for host, _ in self.hosts()]
        here = self.primary.host
        return here.serves(shard) and len({logs[0].end, *(log.applied for log in logs)}) == 1

    def propose(self, shard: ShardId, operation: Operation, data: bytes) -> asyncio.Future[Version]:
        return self.primary.host.propose(shard, write_of(operation, NO_REQUEST, data))

    async def split(self) -> None:
        host, before = self.primary.host, len(self.primary.swaps)
        self.cluster.depth = 1
        host.on_plan(SHARD)
        async with asyncio.timeout(TIMEOUT_S):
            while len(self.primary.swaps) == before:
                self.hand_over()
                await asyncio.sleep(0.005)
        swap = self.primary.swaps[-1]
        assert swap.sibling == HALF
        for shard in (SHARD, HALF):
            self.primary.configurations[shard] = swap.proposed
            self.cluster.other.follow(shard, swap.proposed.epoch, NODE)
        host.on_swap_outcome(SHARD, swap, swap.proposed)
        host.on_configuration(HALF, swap.proposed)
        self.backup.on_configuration(SHARD, swap.proposed)
        self.backup.on_configuration(HALF, swap.proposed)
        await self.settle(SHARD, HALF)


@asynccontextmanager
async def two_nodes(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    monkeypatch.setattr(new_primary, "TwoNodes", Hearing)
    here, there = directory / "here", directory / "there"
    here.mkdir()
    there.mkdir()
    journal = Journal.open(there / "journal", Identity("0123abcd", OTHER, "ff" * 16))
    index = CountedIndex(there / "index")
    try:
        async with started(here, [OBJECT]) as (primary, _):
            pair = Pair(primary, journal, index)
            await primary.take_over()
            pair.backup.on_configuration(SHARD, primary.configurations[SHARD])
            await pair.settle(SHARD)
            yield pair
            pair.backup.close()
    finally:
        await journal.close()
        index.close()


def texts(journal: Journal, index: CountedIndex) -> dict[bytes, bytes]:
    """Each note's, by its own record."""
    return {
        key[5:]: bytes(journal.read(decode_note(value).location).data)
        for key, value in index.scan(TABLE, past(TABLE))
    }


def names_in(index: CountedIndex, number: int) -> set[bytes]:
    """Of the notes in a half of the shard."""
    rows = (decode_shard_order_key(key) for key, _ in index.scan(*shard_order_range(number, 1)))
    return {key[5:] for key in rows if key.startswith(TABLE)}


async def test_every_member_has_a_record_of_its_own_for_each_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_nodes(tmp_path, monkeypatch) as pair:
        done = pair.propose(SHARD, *NOTES)
        await pair.settle(SHARD)
        await done
        for host, index in pair.hosts():
            assert texts(host.journal, index) == TEXTS
        ours, theirs = (index.digests.now(SHARD) for _, index in pair.hosts())
        assert ours == theirs is not None


async def test_a_retry_is_done_once_and_one_of_a_part_of_it_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = (PutNote(BUCKET, b"third", 3), b"a third request.", b"")
    one = (PutNote(BUCKET, LEFT, 1), ONE, TEXTS[LEFT])
    async with two_nodes(tmp_path, monkeypatch) as pair:
        done = [pair.propose(SHARD, *NOTES)]
        end = pair.primary.replica.log.end
        done.append(pair.propose(SHARD, *NOTES))
        done.append(pair.propose(SHARD, *put_notes([one])))
        await pair.settle(SHARD)
        await asyncio.gather(*done)
        await pair.propose(SHARD, *NOTES)  # It is in the index by now.
        with pytest.raises(WriteFailed, match="ask for each by itself"):
            pair.propose(SHARD, *put_notes([one, third]))
        assert pair.primary.replica.log.end == end
        for host, _ in pair.hosts():
            ids = host.replicas[SHARD].log.requests
            assert ids.find(ONE) == ids.find(TWO) == end
            assert ids.find(NO_REQUEST) is None


async def test_what_a_node_remembers_of_requests_survives_its_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_nodes(tmp_path, monkeypatch) as pair:
        await asyncio.gather(pair.propose(SHARD, *NOTES), pair.settle(SHARD))
        end = pair.primary.replica.log.end
    for _ in range(2):  # First by the journal, then by what was saved of it.
        journal, index = Journal.open(tmp_path / "here" / "journal", IDENTITY), None
        try:
            index = CountedIndex(tmp_path / "here" / "index")
            host = host_on(journal, index)
            host.recover()
            ids = host.replicas[SHARD].log.requests
            assert ids.find(ONE) == ids.find(TWO) == end
            assert texts(journal, index) == TEXTS
            host.before_flush()
            index.flush()
            host.close()
        finally:
            await journal.close()
            if index is not None:
                index.close()


async def test_a_split_gives_each_row_to_the_half_of_its_hash_and_both_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_nodes(tmp_path, monkeypatch) as pair:
        await asyncio.gather(pair.propose(SHARD, *NOTES), pair.settle(SHARD))
        await pair.split()
        digests = []
        for host, index in pair.hosts():
            assert [names_in(index, number) for number in (0, 1)] == [{LEFT}, {RIGHT}]
            assert texts(host.journal, index) == TEXTS
            counter = ShardCounter(host.journal, index, host.replicas, lambda _: POOL.id)
            for shard in (SHARD, HALF):
                await counter.count(shard)
            digests.append([index.digests.now(shard) for shard in (SHARD, HALF)])
            sizes = ShardSizes(ShardMap({POOL.id: Pool(POOL.id, 2, 1)}, {}), lambda _: POOL.id)
            rows = dict(index.scan(TABLE, past(TABLE)))
            for key, value in rows.items():
                sizes.add(key, value)
            expected = {
                shard: decode_note(rows[note_key(BUCKET, name)]).location.length
                for shard, name in ((SHARD, LEFT), (HALF, RIGHT))
            }
            assert sizes.totals == expected
        assert digests[0] == digests[1]
        assert None not in digests[0]


async def test_what_a_split_has_parted_is_no_entry_of_either_half_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = put_notes(
        [(PutNote(BUCKET, LEFT, 3), NO_REQUEST, b""), (PutNote(BUCKET, RIGHT, 4), NO_REQUEST, b"")]
    )
    async with two_nodes(tmp_path, monkeypatch) as pair:
        await asyncio.gather(pair.propose(SHARD, *NOTES), pair.settle(SHARD))
        end = pair.primary.replica.log.end
        await pair.split()
        for shard in (SHARD, HALF):
            with pytest.raises(WriteFailed, match="does not have all of these rows any more"):
                pair.propose(shard, *newer)
            ids = pair.primary.host.replicas[shard].log.requests
            assert ids.find(ONE) == ids.find(TWO) == end, "a retry finds both in each half"


async def test_a_row_is_known_to_be_under_way_in_the_half_that_it_went_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record says the shard of before; compaction must not copy it behind its end."""
    key = note_key(BUCKET, RIGHT)
    async with two_nodes(tmp_path, monkeypatch) as pair:
        await asyncio.gather(pair.propose(SHARD, *NOTES), pair.settle(SHARD))
        await pair.split()
        host = pair.primary.host
        value = host.index.get(key)
        assert value is not None
        ordered_in = host.journal.read(decode_note(value).location).shard
        assert (ordered_in, host.is_dirty(ordered_in, key)) == (SHARD, False)
        done = pair.propose(HALF, EraseNote(BUCKET, RIGHT), b"")
        assert host.is_dirty(ordered_in, key)
        assert not host.is_dirty(ordered_in, note_key(BUCKET, LEFT))
        await asyncio.gather(done, pair.settle(HALF))
        assert not host.is_dirty(ordered_in, key)
        assert texts(host.journal, host.index) == {LEFT: TEXTS[LEFT]}


async def test_an_index_made_from_the_journal_alone_has_the_rows_in_their_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_nodes(tmp_path, monkeypatch) as pair:
        await asyncio.gather(pair.propose(SHARD, *NOTES), pair.settle(SHARD))
        await pair.split()
        await asyncio.gather(
            pair.propose(HALF, EraseNote(BUCKET, RIGHT), b""), pair.settle(SHARD, HALF)
        )
        logs = {shard: pair.backup.replicas[shard].log for shard in (SHARD, HALF)}
        applied = {shard: log.applied for shard, log in logs.items()}
        for shard, log in logs.items():  # Its record says that all before it is committed.
            name = FURTHER[shard]
            await asyncio.gather(
                pair.propose(shard, PutNote(BUCKET, name, 5), b""), pair.settle(shard)
            )
            assert log.applied == applied[shard] + 1
        identity = pair.journal.identity
    index = CountedIndex(tmp_path / "rebuilt")
    rebuild(Disk(), tmp_path / "there" / "journal", identity, index)
    journal = Journal.open(tmp_path / "there" / "journal", identity)
    try:
        assert texts(journal, index) == {LEFT: TEXTS[LEFT]}
        assert [names_in(index, number) for number in (0, 1)] == [{LEFT}, set()]
        for shard, seq in applied.items():
            state = index.get(shard_state_key(shard))
            assert state is not None
            assert decode_shard_state(state).applied == seq
    finally:
        await journal.close()
        index.close()
