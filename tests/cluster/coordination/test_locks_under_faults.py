"""A lock is never held by two, while its holders, coordinators and etcd's members are hit."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from tests.cluster.coordination.lock_check import (
    Told,
    held_by_two,
    holdings_of,
    not_fenced,
    taken_over_late,
)
from tests.cluster.coordination.lock_worker import Task
from tests.cluster.coordination.protected import Protected, protected
from tests.cluster.coordinator.coordinator_site import until
from tests.cluster.coordinator.membership_check import Span
from tests.cluster.coordinator.membership_trial import Fault, Trial, trial
from tests.harness.process_tree import ProcessTree

from octad.coordinator.diagnosis.etcd_versions import is_old

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

WORKERS = 4
TTL_S = 2.0
HELD_MIN = 10


class Contest:
    """Workers that want one lock, and the trial that they are part of."""

    def __init__(self, site: Trial, guarded: Protected, directory: Path) -> None:
        self.site = site
        self.slow: list[Span] = []
        self._guarded = guarded
        self._directory = directory
        self._workers: list[ProcessTree] = []

    def start(self) -> None:
        for number in range(WORKERS):
            self._workers.append(self._worker(f"w{number}"))

    def stop(self) -> None:
        for worker in self._workers:
            worker.kill()

    def told(self) -> list[Told]:
        """By all of them, also those that were killed in the middle of a line."""
        found = []
        for log in self._directory.glob("locker-*.log"):
            for line in log.read_bytes().splitlines():
                with suppress(msgspec.DecodeError):
                    found.append(msgspec.json.decode(line, type=Told))
        return found

    async def goes_on(self) -> None:
        """Two more have had the lock."""
        before = len(holdings_of(self.told()))
        await until(lambda: len(holdings_of(self.told())) > before + 1, "it goes on", 60.0)

    def wrong(self) -> list[str]:
        """All that should not be."""
        told = self.told()
        holdings = holdings_of(told)
        site = self.site
        own = [*site.etcd_freezes, *(site.etcd_faults if is_old(site.version) else [])]
        but = [Span(fault.begun_at, fault.ended_at + TTL_S) for fault in own]
        return [
            *held_by_two(holdings, but),
            *taken_over_late(holdings, [*self.slow, *site.etcd_faults], TTL_S),
            *not_fenced(self._guarded.written, told),
        ]

    async def holder_is_killed(self, rng: random.Random) -> None:
        place = self._place_of_holder(rng)
        begun_at = time.monotonic()
        self._workers[place].kill()
        self._workers[place] = self._worker(f"w{place}-{time.monotonic_ns()}")
        self.slow.append(Span(begun_at, begun_at))

    async def holder_is_frozen(self, rng: random.Random) -> None:
        worker = self._workers[self._place_of_holder(rng)]
        await self._slowly(worker.freeze, worker.thaw, TTL_S + rng.uniform(0.5, 2.0))

    async def coordinator_is_hit(self, rng: random.Random) -> None:
        begun_at = time.monotonic()
        kinds = (self.site.coordinator_is_frozen, self.site.coordinator_is_killed)
        await rng.choice(kinds)(rng)
        self.slow.append(Span(begun_at, time.monotonic()))

    def faults(self) -> list[Fault]:
        return [
            self.holder_is_killed,
            self.holder_is_frozen,
            self.coordinator_is_hit,
            self.site.etcd_is_killed,
            self.site.etcd_is_frozen,
        ]

    async def _slowly(
        self, begin: Callable[[], None], end: Callable[[], None], seconds: float
    ) -> None:
        begun_at = time.monotonic()
        begin()
        try:
            await asyncio.sleep(seconds)
        finally:
            end()
            self.slow.append(Span(begun_at, time.monotonic()))

    def _place_of_holder(self, rng: random.Random) -> int:
        """Whoever held it last, as a rule: waiting ones are hit, too."""
        last = max(self.told(), key=lambda told: told.at, default=None)
        names = [worker.log.stem.removeprefix("locker-") for worker in self._workers]
        if last is not None and last.holder in names and rng.random() < 0.8:
            return names.index(last.holder)
        return rng.randrange(WORKERS)

    def _worker(self, name: str) -> ProcessTree:
        site = self.site
        task = Task(site.urls, site.token_text, "l", name, TTL_S, self._guarded.port)
        command = [sys.executable, "-m", "tests.cluster.coordination.lock_worker"]
        log = self._directory / f"locker-{name}.log"
        return ProcessTree([*command, msgspec.json.encode(task).decode()], log).start()


async def test_no_two_hold_a_lock_while_everything_is_hit(tmp_path: Path) -> None:
    await hit(tmp_path, rounds=1, faults=3)


@pytest.mark.long
async def test_no_two_hold_a_lock_for_ten_minutes(tmp_path: Path) -> None:
    await hit(tmp_path, rounds=30, faults=5)


async def hit(directory: Path, rounds: int, faults: int) -> None:
    """So many kinds of faults in turn, a round; then the checks."""
    seed = int(os.environ.get("OCTAD_TEST_SEED", random.randrange(1 << 32)))
    rng = random.Random(seed)
    async with trial(directory) as site, protected() as guarded:
        contest = Contest(site, guarded, directory)
        contest.start()
        try:
            await until(lambda: len(holdings_of(contest.told())) > WORKERS, "all take turns", 60.0)
            for _ in range(rounds):
                kinds = contest.faults()
                rng.shuffle(kinds)
                for kind in kinds[:faults]:
                    await kind(rng)
                    await contest.goes_on()
        finally:
            contest.stop()
        wrong = contest.wrong()
        refused = sum(not write.accepted for write in guarded.written)
    held = len(holdings_of(contest.told()))
    print(f"{held} times held, {len(guarded.written)} writes, {refused} of them too late")
    assert held > HELD_MIN
    assert not wrong, "\n".join([f"OCTAD_TEST_SEED={seed}", *wrong[:20], *site.story])
