"""The loop on which a simulated node runs: one seed, one order, and no way out."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import pytest
from tests.simulation.virtual.boundary import simulated_machine
from tests.simulation.virtual.network import Network
from tests.simulation.virtual.timeline import Timeline, TooManySteps
from tests.simulation.virtual.virtual_loop import Clock, VirtualLoop

from octad.client.runtime import steady_clock
from octad.client.runtime.background_task import start_background
from octad.storage_node.replication.host import node_beats


@pytest.fixture
def timeline() -> Iterator[Timeline]:
    timeline = Timeline(7, steps_max=20_000)
    with simulated_machine(timeline):
        yield timeline


def loop_on(timeline: Timeline, *, rate: float = 1.0) -> VirtualLoop:
    return VirtualLoop(timeline, Network(timeline), "here", Clock(100.0, rate))


def result_of(timeline: Timeline, work: Coroutine[Any, Any, Any], *, rate: float = 1.0) -> Any:
    task = loop_on(timeline, rate=rate).spawn(work, "work")
    timeline.run_until(60.0)
    return task.result()


async def _busy(story: list[str]) -> None:
    """Tasks, timers, threads, timeouts and chance, all at once."""
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def worker(name: int) -> None:
        for _ in range(20):
            await asyncio.sleep(random.random() / 10)
            number = await asyncio.to_thread(random.randrange, 1000)
            story.append(f"{name} {number} {time.monotonic():.6f} {os.urandom(2).hex()}")
            queue.put_nowait(name)
            with suppress(TimeoutError):
                async with asyncio.timeout(random.random() / 20):
                    await queue.get()
                    await queue.get()

    await asyncio.gather(*(worker(name) for name in range(5)))
    story.append(secrets.token_hex(4))


def story_of(seed: int) -> tuple[list[str], int]:
    timeline, story = Timeline(seed, steps_max=20_000), list[str]()
    with simulated_machine(timeline):
        result_of(timeline, _busy(story))
    return story, timeline.digest


def test_a_seed_has_one_order() -> None:
    assert story_of(3) == story_of(3)
    assert story_of(3)[1] != story_of(4)[1]


def test_timers_end_by_the_machines_own_clock(timeline: Timeline) -> None:
    async def work() -> tuple[float, float]:
        before = asyncio.get_running_loop().time(), time.monotonic(), steady_clock.now()
        assert before[0] == before[1] == before[2]
        await asyncio.sleep(5.0)
        return time.monotonic() - before[1], timeline.time

    passed, real = result_of(timeline, work(), rate=1.25)
    assert passed == pytest.approx(5.0, abs=0.001)
    assert real == pytest.approx(4.0, abs=0.001)


def test_what_was_cancelled_does_not_happen(timeline: Timeline) -> None:
    happened: list[str] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(1.0, happened.append, "timer").cancel()
        loop.call_soon(happened.append, "call").cancel()
        task = asyncio.create_task(asyncio.sleep(1.0))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.sleep(1.0)

    result_of(timeline, work())
    assert not happened


def test_a_thread_does_its_work_though_no_one_waits_for_it_any_more(timeline: Timeline) -> None:
    done: list[str] = []

    async def work() -> None:
        task = asyncio.create_task(asyncio.to_thread(done.append, "written"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not done

    result_of(timeline, work())
    assert done == ["written"]


def test_an_error_that_no_one_catches_ends_the_run(timeline: Timeline) -> None:
    async def work() -> None:
        async def dies() -> None:
            raise ValueError("a bug")

        start_background(dies(), "a task that should not end")
        await asyncio.sleep(1.0)

    loop_on(timeline).spawn(work(), "work")
    timeline.run_until(60.0)
    assert timeline.failures == ["a task that should not end died: ValueError('a bug')"]
    assert timeline.time < 1.0


def test_what_would_leave_the_simulation_is_refused(timeline: Timeline) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(NotImplementedError):
            loop.add_reader(0, print)
        with pytest.raises(NotImplementedError):
            await asyncio.create_subprocess_exec("true")
        with socket.socket() as real, pytest.raises(NotImplementedError):
            await loop.sock_connect(real, ("127.0.0.1", 1))
        with pytest.raises(NotImplementedError):
            await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 1))

    result_of(timeline, work())
    with pytest.raises(AssertionError, match="blocks"):
        time.sleep(1.0)


def test_clocks_and_chance_are_the_worlds_again_afterwards() -> None:
    real = time.monotonic, os.urandom, random.random, vars(node_beats)["now"]
    with simulated_machine(Timeline(1, steps_max=10)):
        assert vars(node_beats)["now"] is not real[3]
        assert time.monotonic() == 0.0
        assert os.urandom is not real[1]
    assert (time.monotonic, os.urandom, random.random, vars(node_beats)["now"]) == real
    assert vars(node_beats)["now"] is steady_clock.now


def test_a_paused_process_does_nothing_and_its_clock_goes_on(timeline: Timeline) -> None:
    loop, ticks = loop_on(timeline), list[float]()

    async def work() -> None:
        while True:
            await asyncio.sleep(0.1)
            ticks.append(timeline.time)
            await asyncio.to_thread(ticks.append, timeline.time)

    loop.spawn(work(), "work")
    timeline.run_until(1.0)
    loop.pause(3.0)
    before = len(ticks)
    timeline.run_until(3.9)
    assert len(ticks) == before
    timeline.run_until(5.0)
    assert len(ticks) > before
    assert loop.time() == pytest.approx(105.0)


def test_a_killed_process_does_nothing_more_and_cleans_up_nothing(timeline: Timeline) -> None:
    loop, cleaned = loop_on(timeline), list[str]()

    async def work() -> None:
        try:
            await asyncio.sleep(10.0)
        finally:
            cleaned.append("cleaned up")

    loop.spawn(work(), "work")
    timeline.run_until(1.0)
    loop.kill()
    timeline.run_until(20.0)
    assert not cleaned


def test_a_run_that_goes_round_in_circles_is_ended(timeline: Timeline) -> None:
    async def work() -> None:
        while True:
            await asyncio.sleep(0)

    loop_on(timeline).spawn(work(), "work")
    with pytest.raises(TooManySteps):
        timeline.run_until(60.0)


def test_a_generator_that_was_let_go_is_closed_by_its_loop(timeline: Timeline) -> None:
    closed: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    async def work() -> None:
        async for _ in numbers():
            break
        await asyncio.sleep(0.1)

    result_of(timeline, work())
    assert closed == ["closed"]
