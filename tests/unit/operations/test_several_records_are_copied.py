"""Rows whose records came several in one entry are copied, compacted and rebuilt like any other.

These are the stories of the history copy, in which a shard sees such entries as well.
"""

from __future__ import annotations

import random

import pytest
from tests.unit.history import copy_site
from tests.unit.history.copied_work import BUCKET, SHARD, Ordered, RandomWork, keys_of
from tests.unit.history.test_history_copy import small_steps, tell, told
from tests.unit.operations.toy_kinds import EraseNote, PutNote, put_notes

from octad.sharding.ids import Seq
from octad.storage_node.operations.index_changes import Operation

__all__ = ["small_steps"]  # A fixture: a few rows make many pages.

pytestmark = pytest.mark.usefixtures("toys")


class WorkWithNotes(RandomWork):
    """Some notes come in one entry; now and then one is erased."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.notes = keys_of(BUCKET, 5)
        self.put = 0

    def next(self) -> tuple[Operation, bytes]:
        rng = self.rng
        chance = rng.random()
        if chance < 0.4:
            names = rng.sample(self.notes, rng.randint(1, 3))
            return put_notes([self._note(name) for name in names])
        if chance < 0.55:
            return EraseNote(BUCKET, rng.choice(self.notes)), b""
        return super().next()

    def _note(self, name: bytes) -> tuple[PutNote, bytes, bytes]:
        self.put += 1
        request_id = b"note" + self.put.to_bytes(12, "big")
        text = self.rng.randbytes(self.rng.choice([0, 1, 100, 2000]))
        return PutNote(BUCKET, name, self.put), request_id, text


@pytest.fixture(autouse=True)
def with_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_site, "RandomWork", WorkWithNotes)


@pytest.mark.parametrize("seed", range(20))
async def test_the_rows_are_those_of_the_source_whatever_happens(seed: int) -> None:
    await tell(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20, 300))
async def test_the_rows_are_those_of_the_source_in_many_more_stories(seed: int) -> None:
    await tell(seed)


async def test_a_copy_brings_the_ids_of_all_requests_of_an_entry_of_several() -> None:
    one, two = (b"request of note%d" % number for number in (1, 2))
    first, second = keys_of(BUCKET, 2)
    notes = [(PutNote(BUCKET, first, 1), one, b"text"), (PutNote(BUCKET, second, 2), two, b"")]
    async with told(0) as story:
        story.busy = 0.0
        story.log.append(Ordered(story.epoch, Seq(1), *put_notes(notes)))
        await story.settle(story.source)
        story.begin_log(1)
        story.begin_copy()
        assert await story.copied()
        ids = story.receiver.replica(SHARD).log.requests
        assert ids.find(one) == ids.find(two) == 1
