"""A copy is complete only when its rows amount to what its source's do, at the same entry."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from tests.unit.history.copied_work import SHARD
from tests.unit.history.copy_site import SOURCE, Story

from octad.sharding.ids import NodeId, Seq
from octad.storage_node.history import copy_check, history_copier, history_writer
from octad.storage_node.history.copy_check import CopyCheck, Incomplete, NotComparable
from octad.storage_node.index.index_format import (
    ROW_TABLES,
    SHARD_ORDER,
    SHARD_ORDER_END,
    decode_shard_order_key,
    decode_shard_state,
    encode_value,
    shard_state_key,
)
from octad.storage_node.index.shard_digest import FORMAT, ShardDigests
from octad.storage_node.journal.shard_state import ShardDigest
from octad.storage_node.replication.digest_messages import DigestRead, DigestsRead, ReadDigests
from octad.storage_node.rpc.messages import Message, Reply, Request, reply_to
from octad.storage_node.rpc.rpc_errors import BAD_MESSAGE, RemoteError
from octad.storage_node.upkeep import shard_counter


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (history_copier, "HISTORY_RETRY_S_MIN"),
        (history_copier, "HISTORY_RETRY_S_MAX"),
        (history_copier, "HISTORY_UNEQUAL_S"),
        (history_writer, "HISTORY_FLUSH_S"),
    ):
        monkeypatch.setattr(module, name, 0.0)
    for module, name in (
        (copy_check, "COUNT_POLL_S"),
        (shard_counter, "COUNT_POLL_S"),
        (shard_counter, "DIGEST_WAIT_S"),
    ):
        monkeypatch.setattr(module, name, 0.005)


@asynccontextmanager
async def told(entries: int = 40) -> AsyncIterator[Story]:
    """A source with some history, and a receiver that has none of it."""
    story = Story(random.Random(7))
    story.busy = 0.0
    try:
        story.order(entries)
        await story.settle(story.source)
        story.begin_log(entries)
        yield story
    finally:
        await story.close()


def lose_a_row(story: Story, *, only_its_place: bool) -> None:
    """Of the source, behind its back."""
    index = story.source.index
    order = next(
        key
        for key, _ in index.scan(SHARD_ORDER, SHARD_ORDER_END)
        if decode_shard_order_key(key)[0] in ROW_TABLES
    )
    row = decode_shard_order_key(order)
    index._database.write([], [order] if only_its_place else [order, row])


@pytest.mark.parametrize("only_its_place", [True, False])
async def test_a_source_that_lacks_a_row_never_yields_a_complete_copy_and_finds_its_damage(
    only_its_place: bool,
) -> None:
    async with told() as story:
        lose_a_row(story, only_its_place=only_its_place)
        story.source.counter._counted_at[SHARD] = time.monotonic()  # It need not by itself.
        story.begin_copy()
        async with asyncio.timeout(20):
            while story.source.index.damage is None:
                await asyncio.sleep(0.001)
        calls = story.calls
        async with asyncio.timeout(20):
            while story.calls < calls + 20:  # It goes on trying.
                await asyncio.sleep(0.001)
        replica = story.receiver.replica(SHARD)
        assert (replica.complete_to, replica.history.copied_as_of) == (0, None)
        assert story.receiver.index.damage is None


async def test_a_copy_of_which_a_row_is_lost_on_the_way_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the receiver, in its first comparison."""
    async with told() as story:
        lost: list[object] = []
        compare = history_writer.HistoryWriter.compare

        async def forgetful(writer, shard, begin, page):  # type: ignore[no-untyped-def]
            lacking, gone = await compare(writer, shard, begin, page)
            if not lost and lacking:
                lost.append(lacking.pop())
            return lacking, gone

        monkeypatch.setattr(history_writer.HistoryWriter, "compare", forgetful)
        story.begin_copy()
        assert await story.copied()
        assert lost
        assert story.receiver.held(SHARD) == story.source.held(SHARD)
        assert story.source.index.damage is story.receiver.index.damage is None


async def test_a_source_or_receiver_that_does_not_know_its_digest_counts_it_first() -> None:
    async with told() as story:
        for node in (story.source, story.receiver):
            stored = node.index.get(shard_state_key(SHARD))
            assert stored is not None
            older = msgspec.structs.astuple(decode_shard_state(stored))[:8]
            node.index.write([(shard_state_key(SHARD), encode_value(older))])
            node.index.digests = ShardDigests([(SHARD, decode_shard_state(encode_value(older)))])
            assert node.index.digests.now(SHARD) is None
        story.begin_copy()
        async with asyncio.timeout(20):
            assert await story.copied()
        digests = [node.index.digests.now(SHARD) for node in (story.source, story.receiver)]
        assert digests[0] == digests[1] is not None


class Answers:
    """What a source says, one after the other; the last one again and again."""

    def __init__(self, *said: DigestRead | Exception) -> None:
        self.said = list(said)
        self.asked: list[ReadDigests] = []

    async def __call__(
        self, node: NodeId, message: Request[Reply], _body: bytes, _timeout_s: float
    ) -> tuple[Reply, bytes]:
        asked: Message = message
        assert isinstance(asked, ReadDigests)
        self.asked.append(asked)
        said = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if isinstance(said, Exception):
            raise said
        return reply_to(message, DigestsRead([said])), b""


MINE = ShardDigest(FORMAT, 0, 0)
THEIRS = ShardDigest(FORMAT, 1, 1)


async def checked(answers: Answers, newest: int = 5) -> None:
    """By a receiver without rows that is at seq 5."""
    story = Story(random.Random(1))
    digests = story.receiver.index.digests
    for seq in (3, 4, 5):
        digests.reach(SHARD, Seq(seq))
    check = CopyCheck(story.receiver.index, answers, lambda _: None)
    try:
        checking = asyncio.create_task(check.check(SHARD, Seq(newest), SOURCE, lambda: True))
        for seq in range(6, 12):
            await asyncio.sleep(0.001)
            digests.reach(SHARD, Seq(seq))
        async with asyncio.timeout(10):
            await checking
    finally:
        await story.close()


async def test_both_are_compared_at_the_seq_of_the_source_once_it_is_reached() -> None:
    answers = Answers(DigestRead(SHARD, Seq(11), MINE, 0))
    await checked(answers, newest=9)
    ((_, seq),) = answers.asked[0].shards
    assert seq >= 9, "not before all is here that the copy may be of"
    with pytest.raises(Incomplete, match="at seq 11"):
        await checked(Answers(DigestRead(SHARD, Seq(11), THEIRS, 0)))


async def test_a_source_that_stands_still_behind_us_has_to_count_its_rows() -> None:
    """What we had at its seq does not count: some rows were still to come."""
    still = DigestRead(SHARD, Seq(3), MINE, 4)
    answers = Answers(still, still, still, still, still, DigestRead(SHARD, Seq(3), MINE, 5))
    await checked(answers)
    assert [asked.count for asked in answers.asked] == [False, False, False, True, False, False]


async def test_what_cannot_be_compared_is_not_taken_but_from_an_older_octad() -> None:
    with pytest.raises(NotComparable):
        await checked(Answers(DigestRead(SHARD, Seq(11), None, 0)))
    with pytest.raises(RemoteError):
        await checked(Answers(RemoteError(SOURCE, "unavailable", "later")))
    await checked(Answers(RemoteError(SOURCE, BAD_MESSAGE, "unknown tag")))
    await checked(Answers(DigestRead(SHARD, Seq(11), ShardDigest(FORMAT + 1, 9, 9), 0)))
