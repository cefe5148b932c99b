"""Figures of the coordinator on this machine, with a real etcd: `make bench-coordinator`.

--seconds N      how long each load lasts (default 30: two renewals)
--instances N    registered instances (default 1000)
--watchers N     watchers of them, in a process of their own (default 2000: as many as there may be)
--changes N      changes a second (default 1)
--json           one JSON document instead of a table
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path

import uvloop
from tools.bench.machine import commit, machine
from tools.bench_coordinator.map_answers import measure_map, wait_for_map
from tools.bench_coordinator.site import Site, open_site
from tools.bench_coordinator.watchers import (
    EVENTS_PER_S,
    INSTANCES,
    WATCHERS,
    measure_watchers,
)

from octad.coordinator.placement.batched_swap import KeySwap, swap_all
from octad.coordinator.store.interface import ModRevisionIs, Put
from octad.sharding.assignment.assignment import PlacementNode, first_assignment
from octad.sharding.ids import NodeId

REPOSITORY = Path(__file__).resolve().parents[2]
FAILOVER_ROWS = 1365
LOST_ROWS = 13
Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-coordinator")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--instances", type=int, default=INSTANCES)
    parser.add_argument("--watchers", type=int, default=WATCHERS)
    parser.add_argument("--changes", type=float, default=EVENTS_PER_S)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = placement()
    with (
        tempfile.TemporaryDirectory(prefix="octad-bench-") as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        figures |= runner.run(
            measure(
                Path(directory),
                options.instances,
                options.watchers,
                options.seconds,
                options.changes,
            )
        )
    if options.json:
        print(json.dumps({"machine": machine(), "commit": commit(REPOSITORY), **figures}))
        return
    print(f"{machine()}, commit {commit(REPOSITORY)}")
    print(f"{options.instances} instances, {options.watchers} watchers")
    for name, value in figures.items():
        print(f"  {name:<44} {value:>12,.3f}")


def placement() -> Figures:
    """1,000 nodes of 20 zones, 65,536 shards of three copies."""
    nodes = [PlacementNode(NodeId(n), 1.0, f"z{n % 20}") for n in range(1, 1001)]
    begun = time.perf_counter()
    first_assignment(nodes, 3, 16, zones_min=3)
    return {"placement of 1,000 x 65,536, s": time.perf_counter() - begun}


async def measure(
    directory: Path, instances: int, watching: int, seconds: float, changes_per_s: float
) -> Figures:
    async with open_site(directory) as site:
        await wait_for_map(site)
        answers = await measure_map(site, seconds / 6)
        figures: Figures = {
            "map unchanged, answers/s": answers.unchanged_per_s,
            "map unchanged, cores": answers.cpu,
            "map as JSON, bytes": answers.json_bytes,
            "map in the binary form, bytes": answers.binary_bytes,
            "map in the binary form, first answer, ms": answers.binary_ms,
        }
        figures |= await failover(site)
        watched = await measure_watchers(site, instances, watching, seconds, changes_per_s)
        late_s = watched.late_s
        return figures | {
            "registering all, s": watched.registering_s,
            "first state to all watchers, s": watched.watching_s,
            "first state to all watchers, CPU s": watched.watching_cpu_s,
            "renewals only, cores": watched.idle_cpu,
            "renewals and events, cores": watched.busy_cpu,
            "event to the last watcher, p50, s": late_s[len(late_s) // 2],
            "event to the last watcher, p99, s": late_s[int(len(late_s) * 0.99)],
            "event to the last watcher, max, s": late_s[-1],
        }


async def failover(site: Site) -> Figures:
    """The shards of one of nine nodes change hands: unhindered, then with some lost to others."""
    store, keys = site.store, site.keys
    fence = keys.fence(NodeId(1))
    outcome = await store.transact([], [Put(fence, json.dumps({"counter": 1}).encode())])
    guard = ModRevisionIs(fence, outcome.revision)
    figures: Figures = {}
    for name, lost in (("all win", 0), (f"{LOST_ROWS} lost to others", LOST_ROWS)):
        rows = (await store.range(keys.shards)).entries[:FAILOVER_ROWS]
        for row in rows[::100][:lost]:
            await store.transact([], [Put(row.key, row.value)])
        swaps = [KeySwap(row.key, row.mod_revision, row.value) for row in rows]
        begun = time.perf_counter()
        refused = await swap_all(store, [guard], swaps)
        figures[f"failover of {FAILOVER_ROWS} configurations, {name}, s"] = (
            time.perf_counter() - begun
        )
        assert len(refused) == lost, refused
    return figures


if __name__ == "__main__":
    main()
