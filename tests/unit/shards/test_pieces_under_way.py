"""What a node has under way to the primaries of pieces is bounded; small writes do not wait."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.shards.fake_shard import NODES, POOL, FakeShard, a_write

from octad.sharding.limits import MIB
from octad.storage_node.shards.object_messages import Done
from octad.storage_node.shards.shard_client import PIECES_UNDER_WAY_BYTES


class ManyPieces(FakeShard):
    """In a cluster of `named` other nodes."""

    def __init__(self, named: int) -> None:
        super().__init__()
        self.named = named

    def write(self, number: int, size: int) -> asyncio.Task[Done]:
        write = a_write(b"%d" % number, bytes(size), 0.0)
        return asyncio.create_task(self.client.propose(POOL, write))


@pytest.mark.parametrize(("named", "at_once"), [(0, 64), (2, 21), (100, 2)])
async def test_pieces_wait_for_those_before_them_to_the_same_node(named: int, at_once: int) -> None:
    assert PIECES_UNDER_WAY_BYTES == 64 * MIB
    shard = ManyPieces(named)
    shard.silent.add(NODES[0])
    writes = [shard.write(number, MIB) for number in range(80)]
    await asyncio.sleep(0.01)
    assert len(shard.hanging) == at_once
    small = shard.write(1000, 100)
    await asyncio.sleep(0.01)
    assert len(shard.hanging) == at_once + 1, "a small one passes them"
    shard.silent.clear()
    shard.move_to(NODES[1])  # The primary of old is given up, and with it what it was asked.
    await asyncio.wait_for(asyncio.gather(small, *writes), 10)
    assert len(shard.log) == 81
