"""Everything that membership promises, while etcd, coordinators, instances and links are hit."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

import pytest
from tests.cluster.coordinator.coordinator_site import until
from tests.cluster.coordinator.membership_check import (
    Span,
    Stored,
    invisible,
    lingering,
    told_wrong,
)
from tests.cluster.coordinator.membership_trial import READY_S_MAX, TTL_S, Trial, trial

from octad.coordinator.diagnosis.etcd_versions import is_old
from octad.coordinator.store.interface import Revision

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

WORKERS = 5
INSTANCES_OF_ONE = 10
WATCHERS = 40


async def test_membership_tells_the_truth_while_everything_is_hit(tmp_path: Path) -> None:
    await hit(tmp_path, faults=8, changes=20)


@pytest.mark.long
async def test_membership_tells_the_truth_for_a_quarter_of_an_hour(tmp_path: Path) -> None:
    await hit(tmp_path, seconds=900, changes=500)


async def hit(
    directory: Path, *, changes: int, faults: int | None = None, seconds: float | None = None
) -> None:
    """All kinds of faults in turn, two at a time; then the checks."""
    seed = int(os.environ.get("OCTAD_TEST_SEED", random.randrange(1 << 32)))
    rng = random.Random(seed)
    async with trial(directory) as site:
        await begin(site, directory)
        print(f"a change reaches the last of {WATCHERS} watchers: {await reach(site, changes)}")
        deadline = time.monotonic() + (seconds or float("inf"))
        done = 0
        while time.monotonic() < deadline and (faults is None or done < faults):
            for pair in site.pairs_of_faults(rng):
                await asyncio.gather(*(kind(rng) for kind in pair))
                done += len(pair)
        last = await site.settle()
        history = await site.history(last)
    print(f"{done} faults, {len(history)} changes, {len(site.polls)} looks at the list")
    wrong = wrong_in(site, history, last)
    assert not wrong, "\n".join([f"OCTAD_TEST_SEED={seed}", *wrong[:20], *site.story])


async def begin(site: Trial, directory: Path) -> None:
    """All instances are there and all watchers watch."""
    site.start(site.poll())
    site.start(site.note_elections())
    for number in range(WORKERS):
        site.start_worker(directory, number, INSTANCES_OF_ONE)
    wanted = WORKERS * INSTANCES_OF_ONE
    await until(
        lambda: bool(site.polls) and len(site.polls[-1].names) == wanted, "all are", READY_S_MAX
    )
    for _ in range(WATCHERS):
        site.start(site.follow())
    await until(lambda: len(site.seen) == WATCHERS and all(site.seen), "all watch", READY_S_MAX)


async def reach(site: Trial, changes: int) -> str:
    """How long a change takes to the last watcher while nothing is wrong."""
    took_s = []
    for number in range(changes):
        name = f"~change-{number}"
        begun_at = time.monotonic()
        await site.put(name)
        while len(site.arrived.get(name, ())) < WATCHERS:
            assert time.monotonic() - begun_at < READY_S_MAX
            await asyncio.sleep(0.001)
        took_s.append(max(site.arrived[name]) - begun_at)
    took_s.sort()
    p50, p99 = (took_s[int(len(took_s) * share)] for share in (0.5, 0.99))
    return f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms of {changes}"


def wrong_in(site: Trial, history: list[Stored], last: Revision) -> list[str]:
    """All that should not be."""
    told = [each for worker in site.workers for each in worker.acknowledged()]
    # etcd may end a lease that it has renewed: an old one after any fault, a newer one after a
    # freeze of its leader. Instances then come back with a renewal.
    own = [*site.etcd_freezes, *(site.etcd_faults if is_old(site.version) else [])]
    but = [Span(fault.begun_at, fault.ended_at + TTL_S) for fault in own]
    return [
        *invisible(site.polls, told, TTL_S, but),
        *lingering(site.polls, site.deaths, TTL_S, site.etcd_faults),
        *(
            f"watcher {number}: {fault}"
            for number, seen in enumerate(site.seen)
            for fault in told_wrong([e for e in seen if e.revision <= last], history)
        ),
    ]
