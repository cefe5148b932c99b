"""`make bench-repair`: a node is lost with its disk; how fast is all there three times again?

Starts three nodes, fills them, kills one with SIGKILL, deletes its data, starts an empty one in its
place, and waits until every shard has three verified copies. Some rounds of that with large
objects, some with small ones. Before and after each round: what the disk and loopback do with the
same bytes (`reference.py`); a round is compared with the mean of both.

--mib N       of large objects (default 1024), of 1 MB each
--small N     objects of 4 KiB (default 20000)
--rounds N    of each (default 5)
--disk DIR    where the data lies (default: this checkout's disk)
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from tools.bench.load import REPOSITORY, Load, LoadFailed, build
from tools.bench.machine import commit, machine
from tools.bench_repair.reference import Objects, Reference, measure
from tools.bench_repair.site import NODES, Site, cpu_s

from octad.client.cluster.status_document import STATUS_PATH, CopyingStatus, decode_status

MB = 1_000_000
MIB = 1024 * 1024
SMALL = 4096
POLL_S = 0.1
STATUS_S = 1.0
COPIES_S_MAX = 300.0
SETTLE_S = 3.0  # Indexes are flushed, and what the fill left in caches is written.


@dataclass(slots=True)
class Repair:
    """Of one lost node; seconds are from its end on."""

    objects: Objects
    before: Reference
    after: Reference | None = None
    ready_s: float = 0.0
    first_s: float = 0.0  # The first shard had the new node among its members.
    full_s: float = 0.0
    cpu_s: list[float] = field(default_factory=list)  # While copying: nodes, coordinator, store.
    told: list[tuple[float, CopyingStatus]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.objects.bytes / (self.full_s - self.first_s)

    @property
    def alone(self) -> float:
        """What the disk and loopback did with as many bytes, just before and after."""
        assert self.after is not None
        return (self.before.bytes_per_s + self.after.bytes_per_s) / 2

    @property
    def share(self) -> float:
        return self.rate / self.alone


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-repair", description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--small", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--disk", type=Path, default=REPOSITORY / ".cache")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    options.disk.mkdir(exist_ok=True)
    try:
        binary = build()
        print(f"{machine()}; commit {commit(REPOSITORY)}", flush=True)
        for objects in (Objects(MB, options.mib * MIB // MB), Objects(SMALL, options.small)):
            if objects.count:
                with tempfile.TemporaryDirectory(prefix="repair-", dir=options.disk) as directory:
                    asyncio.run(_measure(binary, Path(directory), objects, options.rounds))
    except LoadFailed as failure:
        print(f"octad bench: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


async def _measure(binary: Path, directory: Path, objects: Objects, rounds: int) -> None:
    site = Site(directory)
    repairs: list[Repair] = []
    await site.start()
    try:
        await asyncio.to_thread(_fill, binary, site, objects)
        print(f"\n{_named(objects)}, {objects.bytes / MB:,.0f} MB", flush=True)
        for _ in range(rounds):
            await asyncio.sleep(SETTLE_S)
            repair = Repair(objects, measure(directory, site.sources, objects))
            await _repair(site, repair)
            await asyncio.sleep(SETTLE_S)
            repair.after = measure(directory, site.sources, objects)
            _show(repair)
            repairs.append(repair)
    finally:
        await site.stop()
    shares = [repair.share for repair in repairs]
    print(f"  median share of {rounds}: {statistics.median(shares):.0%}", flush=True)


async def _repair(site: Site, repair: Repair) -> None:
    began = time.monotonic()
    site.lose_last()
    asking = asyncio.create_task(_ask(site, repair, began))
    try:
        await asyncio.gather(_ready(site, repair, began), _full(site, repair, began))
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


def _fill(binary: Path, site: Site, objects: Objects) -> None:
    pids = ",".join(map(str, site.node_pids))
    keys = (site.credentials.access_key, site.credentials.secret_key)
    load = Load(binary, ",".join(site.endpoints), *keys, pids, 60.0)
    load.make_bucket()
    load.fill("o_", objects.count, objects.size)


async def _ready(site: Site, repair: Repair, began: float) -> None:
    await site.node_is_ready(NODES)
    repair.ready_s = time.monotonic() - began


async def _full(site: Site, repair: Repair, began: float) -> None:
    before: list[float] = []
    while (passed := time.monotonic() - began) < COPIES_S_MAX:
        strength = await site.strength()
        if not repair.first_s and strength.members > strength.full:
            repair.first_s = passed
            before = [cpu_s(pid) for pid in site.pids]
        if strength.at_full_strength and repair.first_s:
            repair.full_s = time.monotonic() - began
            after = [cpu_s(pid) for pid in site.pids]
            repair.cpu_s = [now - then for now, then in zip(after, before, strict=True)]
            return
        await asyncio.sleep(POLL_S)
    raise LoadFailed(f"copies are missing after {COPIES_S_MAX:.0f} s")


async def _ask(site: Site, repair: Repair, began: float) -> None:
    """What `octad status` would have said meanwhile."""
    url = f"{site.addresses.coordinator_url}{STATUS_PATH}"
    while True:
        with contextlib.suppress(OSError):
            status = await asyncio.to_thread(_read, url)
            repair.told.append((time.monotonic() - began, decode_status(status).copying))
        await asyncio.sleep(STATUS_S)


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        content: bytes = answer.read()
        return content


def _named(objects: Objects) -> str:
    size = objects.size
    return (
        f"{objects.count:,} objects of {size // MB} MB"
        if size >= MB
        else (f"{objects.count:,} objects of {size // 1024} KiB")
    )


def _show(repair: Repair) -> None:
    assert repair.after is not None
    print(
        f"  the new node was ready after {repair.ready_s:.1f} s, the first shard took it after "
        f"{repair.first_s:.1f} s, all copies after {repair.full_s:.1f} s"
    )
    gigabytes = repair.objects.bytes / 1e9
    cpu = sum(repair.cpu_s)
    print(
        f"    copied at {repair.rate / MB:,.0f} MB/s, {repair.rate / repair.objects.size:,.0f} "
        f"objects/s; CPU of all processes {cpu:.1f} s, {cpu / gigabytes:.2f} s a GB "
        f"({', '.join(f'{used:.1f}' for used in repair.cpu_s)})"
    )
    alone = (repair.before, repair.after)
    print(
        f"    the disk and loopback alone, before and after: "
        f"{' and '.join(f'{each.bytes_per_s / MB:,.0f}' for each in alone)} MB/s, "
        f"{' and '.join(f'{each.cpu_s / gigabytes:.2f}' for each in alone)} s of CPU a GB; "
        f"share {repair.share:.0%}",
        flush=True,
    )
    for at, copying in repair.told:
        rest = repair.full_s - at
        left = "?" if copying.bytes_left is None else f"{copying.bytes_left / MB:,.0f} MB"
        eta = "?" if copying.time_left_s is None else f"{copying.time_left_s:.1f} s"
        print(
            f"    at {at:5.1f} s: missing {copying.missing}, under way {copying.under_way}, "
            f"left {left}, time left {eta} (in fact {rest:.1f} s)"
        )


if __name__ == "__main__":
    sys.exit(main())
