"""What a page of a listing costs does not grow with the shards of its pool (counted, not timed)."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from tests.unit.shards.test_key_scan import Rows

from octad.sharding.ids import BucketId, Epoch, NodeId, PoolId, Seq, ShardId, number_of, shard_id
from octad.sharding.map.shard_map import Member, Pool, ShardConfiguration, ShardMap
from octad.storage_node.index.index_format import (
    IndexedObject,
    encode_value,
)
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.journal.record_format import Location, SegmentId
from octad.storage_node.objects.key_listing import KeyListing
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.pair_leases import digest_of_pairs
from octad.storage_node.replication.replica_state import ReadTicket
from octad.storage_node.rpc.messages import Message
from octad.storage_node.rpc.peers import Peers
from octad.storage_node.shards import object_messages as messages
from octad.storage_node.shards.key_scan import scan_keys
from octad.storage_node.shards.listing.listed_shards import ListedShards, PoolsLed
from octad.storage_node.shards.object_store import Bucket, ListPage, ListQuery, NotServed
from octad.storage_node.shards.shard_client import ShardClient
from octad.storage_node.shards.shard_server import ShardServer
from octad.storage_node.shards.shard_service import ShardService

HERE, POOL = NodeId(9), PoolId(0)
BUCKET = Bucket("bucket", BucketId(7), POOL, "owner", 0)
TRIES = 10
NODES = tuple(NodeId(number) for number in (1, 2, 3))
ROW = encode_value(
    IndexedObject(Location(SegmentId(1), 0, 0), Epoch(1), Seq(1), ObjectRow(0, "", 0))
)


class Nodes:
    """Three that hold every key, and lead a third of the shards each."""

    def __init__(self, depth: int, keys: set[bytes]) -> None:
        self.depth = depth
        self.index = Rows(keys)
        self.index.rows = [(key, ROW) for key, _ in self.index.rows]
        self.rows = {
            shard_id(POOL, number): ShardConfiguration(
                Epoch(1), depth, NODES[number % 3], tuple(Member(node, "disk") for node in NODES)
            )
            for number in range(1 << depth)
        }
        self.asked: list[messages.ListKeys] = []
        self.answered: list[messages.KeysListed] = []
        self.away: set[NodeId] = set()
        self.led: dict[NodeId, dict[ShardId, Epoch]] = {node: {} for node in NODES}
        for shard, row in self.rows.items():
            self.led[row.primary][shard] = row.epoch
        self.client = ShardClient(
            HERE,
            cast(ShardService, None),
            cast(ShardServer, None),
            cast(Peers, self),
            ShardMap({POOL: Pool(POOL, 3, depth)}, self.rows),
        )

    def give_up(self, node: NodeId, about: int) -> None:
        """No one waits here."""

    def move(self, shard: ShardId, to: NodeId, *, is_known: bool = True) -> None:
        row = self.rows[shard]
        epoch = Epoch(row.epoch + 1)
        del self.led[row.primary][shard]
        self.led[to][shard] = epoch
        if is_known:
            self.rows[shard] = ShardConfiguration(epoch, row.depth, to, row.members)
            self.client.configuration_changed(shard)

    async def call(
        self, node: NodeId, message: Message, body: bytes, *, timeout_s: float, about: int | None
    ) -> tuple[Message, bytes]:
        assert isinstance(message, messages.ListKeys)
        self.asked.append(message)
        await asyncio.sleep(0)
        if node in self.away:
            raise NotServed("it is away")
        led = self.led[node]
        listed = [(s, led[s]) for s in message.shards or led if s in led]
        query = ListQuery(message.prefix, message.delimiter, message.after, message.limit)
        numbers = {number_of(shard) for shard, _ in listed}
        page = scan_keys(self.index.cursor, BUCKET.id, query, message.prefixes, self.depth, numbers)
        known = message.digest == digest_of_pairs(listed)
        named = ([], ()) if known else (listed, (self.depth,) * len(listed))
        answer = messages.KeysListed(*page, *named, as_known=known)
        self.answered.append(answer)
        return answer, b""


async def page_of(nodes: Nodes, query: ListQuery) -> ListPage:
    listing = KeyListing(nodes.client, BUCKET, query)
    for _ in range(TRIES):
        try:
            return await listing.attempt()
        except NotServed:
            nodes.away.clear()
    raise AssertionError("it never ends")


def names(count: int) -> set[bytes]:
    return {b"%06d" % number for number in range(count)}


@pytest.mark.parametrize("depth", [8, 12])
async def test_a_page_of_a_small_bucket_asks_each_node_once_and_names_no_shard(depth: int) -> None:
    nodes = Nodes(depth, names(10))
    assert [key for key, _ in (await page_of(nodes, ListQuery())).entries] == sorted(names(10))
    assert len(nodes.asked) == len(NODES)
    assert all(asked.shards == () for asked in nodes.asked)
    assert all((answer.covered, answer.depths) == ([], ()) for answer in nodes.answered)
    assert nodes.index.seen == len(NODES) * 10


async def test_a_page_of_1000_of_a_large_bucket_asks_each_node_once() -> None:
    nodes = Nodes(8, names(50_000))
    pages = rounds = 0
    after = b""
    while pages < 40:
        page = await page_of(nodes, ListQuery(after=after))
        assert len(page.entries) == 1000
        after, pages, rounds = page.entries[-1][0], pages + 1, rounds + len(nodes.asked)
        nodes.asked.clear()
    assert after == b"%06d" % (pages * 1000 - 1)
    assert rounds <= len(NODES) * pages + 1  # By chance one in a thousand asks one a second time.


async def test_a_page_of_common_prefixes_asks_each_node_once_and_reads_a_few_rows_of_each() -> None:
    keys = {b"%04d/%03d" % (number, key) for number in range(1100) for key in range(50)}
    nodes = Nodes(8, keys)
    page = await page_of(nodes, ListQuery(delimiter=b"/"))
    assert [key for key, _ in page.entries] == [b"%04d/" % number for number in range(1000)]
    assert len(nodes.asked) == len(NODES)
    assert nodes.index.seen < len(NODES) * 1001 * 17


async def test_100000_keys_under_one_prefix_are_passed_over() -> None:
    nodes = Nodes(8, {b"logs/%06d" % number for number in range(100_000)} | {b"a", b"z"})
    page = await page_of(nodes, ListQuery(delimiter=b"/"))
    assert [key for key, _ in page.entries] == [b"a", b"logs/", b"z"]
    assert nodes.index.seen < 100


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_shard_that_moves_between_two_rounds_of_a_page_is_neither_missed_nor_doubled(
    is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octad.storage_node.objects.key_listing.pages_share", lambda *_: 40)
    nodes = Nodes(4, names(500))
    call, moved = nodes.call, False

    async def call_and_move(*args: Any, **more: Any) -> tuple[Message, bytes]:
        nonlocal moved
        if len(nodes.asked) == len(NODES) and not moved:
            moved = True
            nodes.move(shard_id(POOL, 0), NODES[1], is_known=is_known)
        return await call(*args, **more)

    monkeypatch.setattr(nodes, "call", call_and_move)
    page = await page_of(nodes, ListQuery(limit=400))
    assert moved
    assert [key for key, _ in page.entries] == sorted(names(400))


async def test_who_leads_a_shard_for_the_first_time_is_asked_for_it() -> None:
    nodes = Nodes(4, names(100))
    last = list(nodes.led[NODES[2]])
    for shard in last:
        nodes.move(shard, NODES[1])
    await page_of(nodes, ListQuery())
    assert len(nodes.asked) == 2
    nodes.move(last[0], NODES[2])
    page = await page_of(nodes, ListQuery())
    assert [key for key, _ in page.entries] == sorted(names(100))


async def test_what_was_listed_of_all_shards_counts_when_one_node_has_to_be_asked_again() -> None:
    nodes = Nodes(4, names(100))
    nodes.away = {NODES[2]}
    page = await page_of(nodes, ListQuery())
    assert [key for key, _ in page.entries] == sorted(names(100))
    first, again = nodes.asked[:3], nodes.asked[3:]
    assert [asked.shards for asked in first] == [(), (), ()]
    assert [set(asked.shards) for asked in again] == [set(nodes.led[NODES[2]])]


# -- at the node -------------------------------------------------------------------------------


@dataclass
class Replica:
    """Of a shard that this node leads."""

    shard: ShardId
    looks: Counter[ShardId]
    configuration: ShardConfiguration
    leading: bool = True

    def begin_list(self, epoch: Epoch, now: float) -> ReadTicket:
        self.looks[self.shard] += 1
        return ReadTicket(epoch, Seq(0))

    def read_holds(self, ticket: ReadTicket, now: float) -> bool:
        self.looks[self.shard] += 1
        return True

    def shows(self, ticket: ReadTicket) -> bool:
        self.looks[self.shard] += 1
        return True


@dataclass
class Host:
    """Of a node where nothing happens unless the test says so."""

    replicas: dict[ShardId, Replica] = field(default_factory=dict)
    tick: int = 1
    holds: bool = True

    @property
    def leases(self) -> Host:
        return self

    @property
    def applier(self) -> Host:
        return self

    def behind(self) -> set[Replica]:
        return set()

    def holds_all(self, moment: float) -> bool:
        return self.holds


async def test_a_list_looks_at_no_shard_by_itself_until_something_happens_to_one() -> None:
    looks: Counter[ShardId] = Counter()
    row = ShardConfiguration(Epoch(1), 12, HERE, (Member(HERE, "disk"),))
    shards = [shard_id(POOL, number) for number in range(1 << 12)]
    host = Host({shard: Replica(shard, looks, row) for shard in shards})
    pools = PoolsLed(cast(ShardHost, host))

    async def covered() -> int:
        listed = ListedShards(cast(ShardHost, host), pools, POOL)
        await listed.until_shown()
        assert listed.places() == (12, set(range(1 << 12)))
        return len(listed.covered()[0])

    assert await covered() == 1 << 12
    looks.clear()
    for _ in range(10):
        assert await covered() == 1 << 12
    assert not looks
    for change in ({"tick": 2}, {"holds": False}):
        vars(host).update(change)
        assert await covered() == 1 << 12
        assert len(looks) == 1 << 12
        looks.clear()
