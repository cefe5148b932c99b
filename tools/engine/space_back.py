"""How soon the space of deleted objects is back while clients write all the time.

With everything that a node does for itself meanwhile: flushes, compaction as slow as it is made to
be, scrubbing, and the pause for readers before a file goes.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

from tests.unit.engine.engine_site import EngineSite
from tools.engine.bench_site import IN_FLIGHT, SMALL, closed, opened, put_all, row

from octad.sharding.limits import MIB
from octad.storage_node.journal.record_format import SegmentId
from octad.storage_node.journal.segment_file import segments_in
from octad.storage_node.upkeep.damaged_records import DamagedRecords, no_repair
from octad.storage_node.upkeep.engine_upkeep import EngineUpkeep

OBJECTS = 120_000
KEPT_OF = 4  # Every fourth object stays, so that there is something to copy.
OVERWRITTEN = 10_000  # What the clients write meanwhile, over and over.
AT_ONCE = 16
BETWEEN_S = 0.01  # About 5 MiB/s, which compaction at leisure keeps up with.
PATIENCE_S = 600.0
FAST_S = 60


async def space_back(directory: Path, _options: argparse.Namespace) -> None:
    """Delete three of four objects, and wait until the segments that held them are gone."""
    site = opened(directory)
    await put_all(site, (b"key/%08d" % number for number in range(OBJECTS)), SMALL)
    held = set(_segments(site))
    for number in range(OBJECTS):
        if number % KEPT_OF:
            site.delete(b"key/%08d" % number)
        if number % IN_FLIGHT == 0:
            await site.settled()
    await site.settled()
    damaged = DamagedRecords(site.journal, site.index, site._is_dirty, no_repair)
    upkeep = EngineUpkeep(site.journal, site.index, site._is_dirty, damaged)
    task = asyncio.create_task(upkeep.run())
    await _until_gone(site, held, upkeep)
    await _as_fast_as_can_be(site)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await closed(site)


async def _until_gone(site: EngineSite, held: set[SegmentId], upkeep: EngineUpkeep) -> None:
    began, half_s = time.perf_counter(), 0.0
    took_ms: list[float] = []
    while (left := len(held & set(_segments(site)))) and time.perf_counter() - began < PATIENCE_S:
        if left <= len(held) / 2 and not half_s:
            half_s = time.perf_counter() - began
        await _write(site, 1.0, BETWEEN_S, took_ms)
    took = time.perf_counter() - began
    row(
        f"space of {OBJECTS * SMALL // MIB} MiB back, {KEPT_OF - 1} of {KEPT_OF} objects deleted, "
        f"{len(took_ms) * AT_ONCE / took:,.0f} PUTs/s meanwhile",
        "minutes",
        f"half of the segments gone after {half_s:.0f} s, all {len(held)} after {took:.0f} s "
        f"({upkeep.compactor.copied_bytes / MIB:.0f} MiB copied)"
        + (f"; {left} STILL THERE" if left else ""),
    )


async def _as_fast_as_can_be(site: EngineSite) -> None:
    """Overwrite the same objects: the journal must not grow for ever."""
    took_ms: list[float] = []
    sizes: list[int] = []
    for _ in range(FAST_S):
        await _write(site, 1.0, 0.0, took_ms)
        sizes.append(len(_segments(site)))
    live = site.index.ledger.live_bytes() / MIB
    row(
        f"overwriting for {FAST_S} s as fast as can be, {len(took_ms) * AT_ONCE / FAST_S:,.0f} "
        "PUTs/s",
        "bounded",
        f"{max(sizes)} segments at most, {sizes[-1]} at the end; {live:.0f} MiB are live; "
        f"p99 of {AT_ONCE} PUTs {sorted(took_ms)[len(took_ms) * 99 // 100]:.1f} ms",
    )


async def _write(site: EngineSite, seconds: float, between_s: float, took_ms: list[float]) -> None:
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        for number in range(len(took_ms) * AT_ONCE, (len(took_ms) + 1) * AT_ONCE):
            site.put(b"busy/%08d" % (number % OVERWRITTEN), bytes(SMALL))
        await site.settled()
        took_ms.append((time.perf_counter() - began) * 1e3)
        await asyncio.sleep(between_s)


def _segments(site: EngineSite) -> list[SegmentId]:
    return segments_in(site.journal.disk, site.journal.directory)
