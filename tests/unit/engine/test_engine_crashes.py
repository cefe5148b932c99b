"""Whatever happens to process, disk and power, what was acknowledged is there, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
from collections.abc import Coroutine
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from tests.unit.engine.engine_site import EngineStory, stop

from octad.storage_node.journal.journal_errors import JournalFailed, JournalFull, UnreadableRecord

KEYS = [b"%d" % number for number in range(12)]
T = TypeVar("T")


async def live(story: EngineStory, steps: int) -> None:
    """Random work until the steps are done or the engine has failed."""
    rng = story.rng
    for _ in range(steps):
        site = story.site
        assert site is not None
        if site.failure is not None:
            return
        kind = rng.random()
        with contextlib.suppress(JournalFailed, OSError):
            if kind < 0.55:
                story.change(rng.choice(KEYS), rng.randbytes(rng.choice([0, 1, 100, 3000, 9000])))
            elif kind < 0.7:
                story.change(rng.choice(KEYS), None)
            elif kind < 0.85:
                await site.settled()
            elif kind < 0.93:
                story.index.flush()
            else:
                await compact_amid_changes(story)


async def compact_amid_changes(story: EngineStory) -> None:
    site, rng = story.site, story.rng
    assert site is not None
    story.index.flush()
    compacting = asyncio.create_task(site.compactor.compact(0))
    try:
        for _ in range(rng.randint(0, 20)):
            await asyncio.sleep(rng.choice([0, 0, 0.001]))
            if rng.random() < 0.5:
                value = rng.choice([None, rng.randbytes(1), rng.randbytes(3000)])
                story.change(rng.choice(KEYS), value)
    finally:
        with contextlib.suppress(JournalFull):
            await compacting
    if rng.random() < 0.5:
        await site.compactor.let_go(now=True)


async def tell(seed: int, crashes: int = 6, steps: int = 40) -> None:
    """One life with crashes: at a chosen call, or between calls; of the process, or of all."""
    rng = random.Random(seed)
    story = EngineStory(rng)
    await story.start()
    try:
        for _ in range(crashes):
            story.disk.calls_left = rng.choice([None, rng.randint(0, 60)])
            await live(story, rng.randint(1, steps))
            await restart(story, power_cut=rng.random() < 0.7)
    finally:
        await story.close()


async def restart(story: EngineStory, *, power_cut: bool) -> None:
    """Crash and start, at times with a lost index; now and then, crash again while starting."""
    await story.crash(power_cut=power_cut, index_lost=story.rng.random() < 0.3)
    if story.rng.random() < 0.3:
        await crash_while_starting(story)


async def crash_while_starting(story: EngineStory) -> None:
    assert story.site is not None
    acknowledged = story.site.acknowledged
    history = list(story.history)
    await stop(story.site)
    story.disk = story.disk.after_power_cut()
    story.index = story.index.after_crash(story.rng)
    story.disk.calls_left = story.rng.randint(0, 25)
    try:
        await story.start()
    except (OSError, UnreadableRecord):
        assert story.disk.off
        story.disk = story.disk.after_power_cut()
        story.index = story.index.after_crash(story.rng)
        story.history = history
        await story.start()
    else:
        await story.crash(power_cut=True)
    assert story.site.applied >= acknowledged


@pytest.mark.parametrize("seed", range(60))
async def test_what_was_acknowledged_survives_crashes_at_any_call(seed: int) -> None:
    await tell(seed)


@pytest.mark.parametrize("call", ["write", "sync", "rename", "preallocate", "sync_directory"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
async def test_an_error_of_any_call_loses_nothing_that_was_acknowledged(
    call: str, number: int
) -> None:
    for time in range(1, 14):
        await meet_an_error(call, number, time)


async def meet_an_error(call: str, number: int, time: int) -> None:
    """A life in which the `time`-th call of that name fails."""
    story = EngineStory(random.Random(time))
    await story.start()
    try:
        story.disk.fail_at(call, time, number)
        await live(story, 60)
        await story.crash(power_cut=True)
        assert story.site is not None
        story.change(b"after", b"it goes on")
        await story.site.settled()
        story.check()
    finally:
        await story.close()


class Engine(RuleBasedStateMachine):
    """The engine beside its model, driven by hypothesis."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.story = EngineStory(random.Random(seed))
        self.run(self.story.start())

    @rule(key=st.sampled_from(KEYS), size=st.sampled_from([0, 1, 100, 3000, 9000]))
    def put(self, key: bytes, size: int) -> None:
        value = self.story.rng.randbytes(size)
        self.change(key, value)

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: bytes) -> None:
        self.change(key, None)

    def change(self, key: bytes, value: bytes | None) -> None:
        async def change() -> None:
            with contextlib.suppress(JournalFailed):
                self.story.change(key, value)

        self.run(change())

    @rule()
    def settle(self) -> None:
        assert self.story.site is not None
        self.run(self.story.site.settled())
        try:
            self.story.check()
        except UnreadableRecord:
            assert self.story.disk.off

    @rule()
    def flush(self) -> None:
        self.story.index.flush()

    @rule()
    def compact(self) -> None:
        async def compact() -> None:
            assert self.story.site is not None
            self.story.index.flush()
            with contextlib.suppress(JournalFull, JournalFailed, OSError):
                await self.story.site.compactor.compact(0)

        self.run(compact())

    @rule()
    def let_go(self) -> None:
        async def let_go() -> None:
            assert self.story.site is not None
            with contextlib.suppress(OSError):
                await self.story.site.compactor.let_go(now=True)

        self.run(let_go())

    @rule(calls=st.integers(0, 30))
    def plan_a_power_cut(self, calls: int) -> None:
        self.story.disk.calls_left = calls

    @rule(power_cut=st.booleans(), index_lost=st.booleans())
    def crash(self, power_cut: bool, index_lost: bool) -> None:
        self.run(self.story.crash(power_cut=power_cut, index_lost=index_lost))

    def teardown(self) -> None:
        if hasattr(self, "story"):
            self.run(self.story.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


TestEngine = Engine.TestCase
TestEngine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
