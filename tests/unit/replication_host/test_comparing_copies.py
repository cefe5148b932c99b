"""A copy counts as verified once it was compared with that of its primary, under this epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from octad.coordinator.schema.node_report import VerifiedCopies
from octad.sharding.ids import Epoch, NodeId, Seq, ShardId, shard_name
from octad.storage_node.index.shard_digest import FORMAT, ShardDigests
from octad.storage_node.journal.shard_state import ShardDigest
from octad.storage_node.replication.copy_comparison import COMPARE_PERIOD_S, CopyComparison, Led
from octad.storage_node.replication.digest_messages import DigestRead, DigestsRead, ReadDigests
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.rpc.messages import Message, Reply, Request, reply_to
from octad.storage_node.rpc.rpc_errors import BAD_MESSAGE, PeerUnavailable, RemoteError
from octad.storage_node.upkeep import copy_comparer
from octad.storage_node.upkeep.copy_comparer import CopyComparer
from octad.storage_node.upkeep.shard_counter import ShardCounter

ME, SECOND, THIRD = NodeId(1), NodeId(2), NodeId(3)
ONE, TWO = ShardId(1), ShardId(2)
EPOCH = Epoch(4)
EMPTY, OTHER = ShardDigest(FORMAT, 0, 0), ShardDigest(FORMAT, 1, 77)


def led(shard: ShardId = ONE, epoch: Epoch = EPOCH, heard: Sequence[NodeId] = (ME, SECOND)) -> Led:
    return Led(shard, epoch, heard)


def test_everybody_is_compared_at_once_then_each_minute() -> None:
    comparison = CopyComparison(ME)
    shards = [led(ONE, heard=(ME, SECOND, THIRD)), led(TWO)]
    assert comparison.due(shards, 0.0) == {SECOND: [ONE, TWO], THIRD: [ONE]}
    comparison.compared(ONE, EPOCH, SECOND, True, 0.0)
    comparison.compared(ONE, EPOCH, THIRD, False, 0.0)
    assert comparison.due(shards, 1.0) == {SECOND: [TWO]}
    comparison.compared(TWO, EPOCH, SECOND, True, 1.0)
    assert comparison.due(shards, 1.0) == {}
    assert comparison.due(shards, COMPARE_PERIOD_S) == {SECOND: [ONE], THIRD: [ONE]}


def test_what_was_compared_holds_for_its_epoch_and_while_the_member_is_heard() -> None:
    comparison = CopyComparison(ME)
    comparison.compared(ONE, EPOCH, SECOND, True, 0.0)
    assert comparison.judge(led(), True) == (2, 0, ())
    later = led(epoch=Epoch(5))
    assert comparison.judge(later, True) == (1, 1, ())
    assert comparison.due([led(heard=(ME,))], 0.0) == {}
    assert comparison.judge(led(), True) == (1, 1, ()), "it may have been away for long"
    comparison.compared(ONE, Epoch(5), SECOND, False, 0.0)
    assert comparison.judge(later, True) == (1, 0, (SECOND,))
    assert comparison.judge(later, False) == (0, 2, ()), "compared with what?"


class Site:
    """A primary of two shards without rows, and what the others say of them."""

    def __init__(self) -> None:
        self.node = ME
        self.index = self
        self.digests = ShardDigests()
        self.heard = [ME, SECOND]
        self.said: dict[ShardId, ShardDigest | None] = {ONE: EMPTY, TWO: EMPTY}
        self.failure: Exception | None = None
        self.behind = 0
        self.asked: list[ReadDigests] = []
        self.counted: list[ShardId] = []
        for shard in (ONE, TWO):
            self.digests.reach(shard, Seq(7))
        host, counter = cast("ShardHost", self), cast("ShardCounter", self)
        self.comparer = CopyComparer(host, counter, self.call)

    def copies_heard(self) -> list[tuple[ShardId, Epoch, list[NodeId]]]:
        return [(shard, EPOCH, self.heard) for shard in (ONE, TWO)]

    def ask(self, shards: Sequence[ShardId]) -> None:
        self.counted += shards

    async def call(
        self, node: NodeId, message: Request[Reply], _body: bytes, _timeout_s: float
    ) -> tuple[Reply, bytes]:
        asked: Message = message
        assert isinstance(asked, ReadDigests)
        self.asked.append(asked)
        if self.failure is not None:
            raise self.failure
        said = [
            DigestRead(shard, Seq(seq - self.behind), self.said[shard], 0)
            for shard, seq in asked.shards
        ]
        return reply_to(message, DigestsRead(said)), b""

    async def verified(self) -> dict[str, VerifiedCopies]:
        await self.comparer.compare()
        return self.comparer.verified()


async def test_equal_copies_are_verified_with_one_message_a_peer() -> None:
    site = Site()
    one, two = shard_name(ONE), shard_name(TWO)
    first = VerifiedCopies(EPOCH, 1, 1)
    assert site.comparer.verified() == {one: first, two: first}
    both = VerifiedCopies(EPOCH, 2)
    assert await site.verified() == {one: both, two: both}
    assert site.asked == [ReadDigests([(ONE, Seq(7)), (TWO, Seq(7))])]


async def test_a_shard_that_is_not_served_has_no_copy_but_for_its_first_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Site()
    one = shard_name(ONE)
    site.heard = []
    assert (await site.verified())[one] == VerifiedCopies(EPOCH, 0, 1)
    monkeypatch.setattr(copy_comparer, "COMPARE_FIRST_S", 0.0)
    assert (await site.verified())[one] == VerifiedCopies(EPOCH, 0)


async def test_a_copy_that_differs_is_named_and_both_sides_count_their_rows() -> None:
    site = Site()
    site.said[TWO] = OTHER
    found = await site.verified()
    assert found[shard_name(ONE)] == VerifiedCopies(EPOCH, 2)
    assert found[shard_name(TWO)] == VerifiedCopies(EPOCH, 1, 0, (SECOND,))
    assert site.counted == [TWO]
    assert site.asked[-1] == ReadDigests([(TWO, Seq(0))], True)


async def test_what_cannot_be_compared_now_is_not_verified_yet() -> None:
    site = Site()
    unknown = VerifiedCopies(EPOCH, 1, 1)
    site.said[ONE] = None
    assert (await site.verified())[shard_name(ONE)] == unknown
    site.behind = 1
    assert (await site.verified())[shard_name(ONE)] == unknown
    site.failure = PeerUnavailable(SECOND, "away", sent=False)
    assert (await site.verified())[shard_name(ONE)] == unknown
    site.digests.split(ONE, TWO)  # It had no rows: what they amount to is known.
    site.digests.change(ONE, b"n\x00\x00\x00\x01key", None, b"\x94\x93\x01\x02\x03\x01\x01\x91\x05")
    site.digests.split(ONE, TWO)
    asked = len(site.asked)
    assert (await site.verified())[shard_name(ONE)] == VerifiedCopies(EPOCH, 0, 2)
    assert len(site.asked) == asked, "there is nothing to compare with"


async def test_a_member_of_an_older_octad_counts_as_it_did_there() -> None:
    site = Site()
    site.failure = RemoteError(SECOND, BAD_MESSAGE, "unknown tag")
    assert (await site.verified())[shard_name(ONE)] == VerifiedCopies(EPOCH, 2)
    site = Site()
    site.said[ONE] = ShardDigest(FORMAT + 1, 3, 3)
    assert (await site.verified())[shard_name(ONE)] == VerifiedCopies(EPOCH, 2)
