"""1,000 instances that stay registered, and watchers: how late is the last one told?"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

from tools.bench_coordinator.site import Site

from octad.client.cluster.service_records import ServiceInstance
from octad.client.cluster.service_token import service_token
from octad.client.membership import Session, open_session, watch

SERVICE = "bench"
TTL_S = 30.0
INSTANCES = 1000
WATCHERS = 200
EVENTS_PER_S = 5.0


@dataclass(frozen=True, slots=True)
class WatchFigures:
    """Seconds; `late_s` from before the change was asked for until the last watcher knew of it."""

    registering_s: float
    late_s: list[float]
    idle_cpu: float  # Cores of the coordinator while nothing changes, renewals only.
    busy_cpu: float


class Arrivals:
    """Who has been told of what, and when."""

    def __init__(self, watchers: int) -> None:
        self._watchers = watchers
        self._told: dict[str, int] = {}
        self._all_told: dict[str, asyncio.Future[float]] = {}

    def expect(self, health: str) -> asyncio.Future[float]:
        future = asyncio.get_running_loop().create_future()
        self._told[health], self._all_told[health] = 0, future
        return future

    def tell(self, version: str) -> None:
        if version in self._told:
            self._told[version] += 1
            if self._told[version] == self._watchers:
                self._all_told[version].set_result(time.perf_counter())


async def measure_watchers(
    site: Site, instances: int, watching: int, seconds: float
) -> WatchFigures:
    token = service_token(site.token)
    async with AsyncExitStack() as stack:
        begun = time.perf_counter()
        sessions: list[Session] = []

        async def one(number: int) -> None:
            session = await stack.enter_async_context(open_session(site.url, token, ttl_s=TTL_S))
            await session.register(_record(number, "0"))
            sessions.append(session)

        for start in range(0, instances, 20):
            await asyncio.gather(*(one(n) for n in range(start, min(start + 20, instances))))
        registering_s = time.perf_counter() - begun
        arrivals = Arrivals(watching)
        watchers = await _start_watchers(site.url, arrivals, watching)
        idle_cpu = await _cpu_while(site, asyncio.sleep(seconds))
        late_s: list[float] = []
        busy_cpu = await _cpu_while(site, _churn(sessions[0], arrivals, late_s, seconds))
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        return WatchFigures(registering_s, sorted(late_s), idle_cpu, busy_cpu)


def _record(number: int, version: str) -> ServiceInstance:
    return ServiceInstance(
        service=SERVICE,
        instance=f"i{number}",
        address=f"10.1.{number // 250}.{number % 250}:80",
        version=version,
        zone=f"rack-{number % 9}",
        labels={"tier": "front"},
    )


async def _start_watchers(url: str, arrivals: Arrivals, watching: int) -> list[asyncio.Task[None]]:
    ready = asyncio.Semaphore(0)

    async def follow() -> None:
        async with aclosing(watch(SERVICE, coordinator=url)) as events:
            async for event in events:
                if event.type == "reset":
                    ready.release()
                elif event.instance is not None:
                    arrivals.tell(event.instance.version)

    tasks = [asyncio.create_task(follow()) for _ in range(watching)]
    for _ in tasks:
        await ready.acquire()
    return tasks


async def _churn(session: Session, arrivals: Arrivals, late_s: list[float], seconds: float) -> None:
    for number in range(1, int(seconds * EVENTS_PER_S) + 1):
        all_told = arrivals.expect(str(number))
        begun = time.perf_counter()
        await session.register(_record(0, str(number)))
        async with asyncio.timeout(10):
            late_s.append(await all_told - begun)
        await asyncio.sleep(max(0.0, begun + 1 / EVENTS_PER_S - time.perf_counter()))


async def _cpu_while(site: Site, work: object) -> float:
    assert asyncio.iscoroutine(work)
    cpu_s, begun = site.coordinator_cpu_s(), time.perf_counter()
    await work
    return (site.coordinator_cpu_s() - cpu_s) / (time.perf_counter() - begun)
