"""Each interleaving of one collection with a job that shares another one's data.

Job one keeps a checkpoint and is taken over; its new owner drops that one. Job two begins, names it
as its base, puts the same content, and commits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import combinations_with_replacement
from unittest.mock import patch

import pytest
from tests.simulation.checkpoints.mutants import MUTANTS, RARE_IN_WALKS
from tests.unit.checkpoints.memory import checkpoints_in

from octad.client.checkpoints.collector import Collector
from octad.client.checkpoints.rules.errors import BaseDropped

STEPS = ("list", "heads", "records", "documents", "data")
Event = Callable[[], Awaitable[None]]


async def lost(order: Sequence[str], moments: Sequence[int], dropped_at: int) -> bool:
    """Whether a checkpoint lacks something.

    Event n happens before step `moments[n]`; the drop is event `dropped_at` of the three.
    """
    objects: dict[str, bytes] = {}
    one, two = checkpoints_in(objects, "one"), checkpoints_in(objects, "two")
    first = await one.begin()
    await first.put("x", b"shared")
    base = await first.commit()
    successor = await one.begin(keep=1)
    await two.begin()
    sharing = []

    async def drop() -> None:
        await successor.put("z", b"other")
        await successor.commit()

    async def begin() -> None:
        sharing.append(await two.begin(bases=[("one", base.id)]))
        await sharing[0].put("x", b"shared")

    async def commit() -> None:
        try:
            await sharing[0].commit()
        except BaseDropped:
            await sharing[0].put("x", b"shared")
            await sharing[0].commit()

    events: list[Event] = [begin, commit]
    events.insert(dropped_at, drop)
    collector = Collector(two.place)
    for number in range(len(order) + 1):
        for event, moment in zip(events, moments, strict=True):
            if moment == number:
                await event()
        if number < len(order):
            await _step(collector, order[number])
    return bool((await one.audit()).broken)


async def _step(collector: Collector, name: str) -> None:
    match name:
        case "list":
            await collector._begin()
            await collector._list()
        case "heads":
            await collector._read_heads()
        case "records":
            await collector._read_records()
        case "documents":
            await collector._take_documents()
        case _:
            await collector._take_data(await collector._read_manifests())


async def any_lost(order: Sequence[str]) -> bool:
    """Of all interleavings: the three events in each order that begins before it commits."""
    for moments in combinations_with_replacement(range(len(order) + 1), 3):
        for dropped_at in range(3):
            if await lost(order, moments, dropped_at):
                return True
    return False


async def test_no_interleaving_of_a_collection_loses_what_a_job_is_about_to_share() -> None:
    assert not await any_lost(STEPS)


async def test_reading_records_before_heads_would_lose_it() -> None:
    assert await any_lost(("list", "records", "heads", "documents", "data"))


@pytest.mark.parametrize("name", RARE_IN_WALKS)
async def test_with_a_rule_left_out_some_interleaving_loses_it(name: str) -> None:
    ((target, attribute, planted),) = MUTANTS[name]
    with patch.object(target, attribute, planted):
        assert await any_lost(STEPS)
