"""A listing ends although one shard or another is served by no one for a moment, all the time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.sharding.ids import BucketId, Epoch, NodeId, PoolId, Seq, ShardId, shard_id
from octad.sharding.map.shard_map import Member, Pool, ShardConfiguration, ShardMap
from octad.storage_node.index.index_format import IndexedObject, encode_value
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.journal.record_format import Location, SegmentId
from octad.storage_node.objects.key_listing import KeyListing
from octad.storage_node.rpc.messages import Message
from octad.storage_node.rpc.peers import Peers
from octad.storage_node.shards import object_messages as messages
from octad.storage_node.shards.object_store import Bucket, ListPage, ListQuery, NotServed
from octad.storage_node.shards.shard_client import ShardClient
from octad.storage_node.shards.shard_server import ShardServer
from octad.storage_node.shards.shard_service import ShardService

HERE = NodeId(9)
POOL = PoolId(0)
DEPTH = 2
SHARDS = [shard_id(POOL, number) for number in range(1 << DEPTH)]
NODES = (NodeId(1), NodeId(2))
BUCKET = Bucket("bucket", BucketId(1), POOL, "owner", 0)
ROW = encode_value(
    IndexedObject(Location(SegmentId(1), 0, 0), Epoch(1), Seq(1), ObjectRow(0, "", 0))
)


class Pretence:
    """Two nodes that lead two shards each. Keys are a byte and stand in the shard it names."""

    def __init__(self, keys: list[bytes]) -> None:
        self.keys = sorted(keys)
        self.away: set[ShardId] = set()  # Served by no one.
        self.asked: list[tuple[ShardId, ...]] = []
        self.before_answer: Callable[[], None] = lambda: None
        self.depths = dict.fromkeys(SHARDS, DEPTH)  # As the nodes know; the client's map is older.
        configurations = {
            shard: ShardConfiguration(
                epoch=Epoch(1),
                depth=DEPTH,
                primary=NODES[shard % 2],
                members=(Member(NODES[shard % 2], "disk"),),
            )
            for shard in SHARDS
        }
        self.client = ShardClient(
            HERE,
            cast(ShardService, None),
            cast(ShardServer, None),
            cast(Peers, self),
            ShardMap({POOL: Pool(POOL, 1, DEPTH)}, configurations),
        )

    async def call(
        self, node: NodeId, message: Message, body: bytes, *, timeout_s: float, about: int | None
    ) -> tuple[Message, bytes]:
        assert isinstance(message, messages.ListKeys)
        self.asked.append(message.shards)
        await asyncio.sleep(0)
        self.before_answer()
        led = [shard for shard in self.depths if NODES[shard % 2] == node]
        served = [s for s in led if s not in self.away and s in (message.shards or led)]
        found = [key for key in self.keys if key > message.after and self._in(key, served)]
        entries: list[tuple[bytes, bytes | None]] = [(k, ROW) for k in found[: message.limit]]
        answer = messages.KeysListed(
            entries,
            entries[-1][0] if entries else b"",
            len(found) <= message.limit,
            [(shard, Epoch(1)) for shard in served],
            tuple(self.depths[shard] for shard in served),
        )
        return answer, b""

    def _in(self, key: bytes, served: list[ShardId]) -> bool:
        return any(key[0] % (1 << self.depths[shard]) == shard for shard in served)


def keys_of(page: ListPage) -> list[bytes]:
    return [key for key, _ in page.entries]


async def test_what_was_listed_is_not_asked_for_again() -> None:
    site = Pretence([bytes([n]) for n in range(40)])
    listing = KeyListing(site.client, BUCKET, ListQuery(limit=1000))
    site.away = {SHARDS[1]}
    with pytest.raises(NotServed, match="1 shards are not served"):
        await listing.attempt()
    site.away = {SHARDS[0], SHARDS[2]}  # By now others are away: they have been listed.
    assert keys_of(await listing.attempt()) == site.keys
    assert site.asked == [(), (), (SHARDS[1],)]


async def test_a_half_that_nobody_serves_yet_is_missed_though_the_map_does_not_know_it() -> None:
    site = Pretence([bytes([n]) for n in range(40)])
    listing = KeyListing(site.client, BUCKET, ListQuery(limit=1000))
    half = ShardId(SHARDS[0] + (1 << DEPTH))
    site.depths |= {SHARDS[0]: DEPTH + 1, half: DEPTH + 1}
    site.away = {half}
    with pytest.raises(NotServed):
        await listing.attempt()
    site.away = set()
    for _ in range(3):
        try:
            assert keys_of(await listing.attempt()) == site.keys
            return
        except NotServed:
            continue
    pytest.fail("it never ends")


@given(st.lists(st.integers(0, 255), unique=True), st.integers(1, 30), st.integers(0, 1_000_000))
def test_every_key_is_on_the_page_whatever_comes_and_goes(
    numbers: list[int], limit: int, seed: int
) -> None:
    rng = random.Random(seed)
    site = Pretence([bytes([n]) for n in numbers])

    def somebody_else_is_away() -> None:
        site.away = {rng.choice(SHARDS)} if rng.random() < 0.5 else set()

    async def list_all() -> ListPage:
        listing = KeyListing(site.client, BUCKET, ListQuery(limit=limit))
        for _ in range(1000):
            try:
                return await listing.attempt()
            except NotServed:
                continue
        raise AssertionError("it never ends")

    site.before_answer = somebody_else_is_away
    page = asyncio.run(list_all())
    assert keys_of(page) == site.keys[:limit]
    assert page.truncated == (len(site.keys) > limit)
