"""Copies take what is there, and step back as soon as clients write."""

from __future__ import annotations

import asyncio

import pytest

from octad.storage_node.history import history_pace
from octad.storage_node.history.history_pace import (
    HISTORY_CALLS_BESIDE_CLIENTS,
    HISTORY_CALLS_OF_ALL,
    HistoryPace,
)


class Work:
    """Messages under way, and clients that write."""

    def __init__(self) -> None:
        self.others = 0
        self.now = self.most = self.done = 0
        self.pace = HistoryPace(lambda: self.others)

    async def message(self, takes_s: float, *, clients: bool) -> None:
        async with self.pace.turn():
            self.now += 1
            self.most = max(self.most, self.now)
            self.others += clients
            await asyncio.sleep(takes_s)
            self.now -= 1
            self.done += 1

    async def messages(self, count: int, takes_s: float, *, clients: bool = False) -> float:
        """Gives how long they took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(self.message(takes_s, clients=clients) for _ in range(count)))
        return loop.time() - began


async def test_as_many_are_under_way_as_memory_is_meant_for() -> None:
    work = Work()
    await work.messages(3 * HISTORY_CALLS_OF_ALL, 0.01)
    assert work.most == HISTORY_CALLS_OF_ALL


async def test_few_are_under_way_beside_clients() -> None:
    work = Work()
    work.others += 1
    await work.messages(2 * HISTORY_CALLS_OF_ALL, 0.01, clients=True)
    assert work.most == HISTORY_CALLS_BESIDE_CLIENTS
    assert work.done == 2 * HISTORY_CALLS_OF_ALL


async def test_clients_are_left_as_much_time_as_was_taken() -> None:
    work = Work()
    assert await work.messages(1, 0.05, clients=True) >= 0.1
    assert await work.messages(1, 0.3, clients=True) < 0.6, "not more than a moment at a time"


async def test_it_goes_on_at_full_speed_once_clients_have_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history_pace, "HISTORY_CLIENTS_S", 0.02)
    work = Work()
    await work.messages(1, 0.0, clients=True)
    await asyncio.sleep(0.03)
    await work.messages(2 * HISTORY_CALLS_OF_ALL, 0.01)
    assert work.most == HISTORY_CALLS_OF_ALL


async def test_a_copy_that_is_cancelled_gives_its_turn_back() -> None:
    work = Work()
    tasks = [
        asyncio.create_task(work.message(60.0, clients=True)) for _ in range(HISTORY_CALLS_OF_ALL)
    ]
    await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    work.now = work.most = 0
    await work.messages(HISTORY_CALLS_BESIDE_CLIENTS, 0.01)
    assert work.most == HISTORY_CALLS_BESIDE_CLIENTS
