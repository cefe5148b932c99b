"""1,000 instances that stay registered, and watchers: how late is the last one told?"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from tools.bench_coordinator.site import Site

from octad.client.cluster.service_records import ServiceInstance
from octad.client.cluster.service_token import service_token
from octad.client.membership import Session, open_session

SERVICE = "bench"
TTL_S = 30.0
INSTANCES = 1000
WATCHERS = 2000
EVENTS_PER_S = 1.0
_TOLD_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class WatchFigures:
    """Seconds; `late_s` from before the change was asked for until the last watcher knew of it."""

    registering_s: float
    watching_s: float  # Until all watchers had the first state.
    watching_cpu_s: float  # Of the coordinator, for that.
    late_s: list[float]
    idle_cpu: float  # Cores of the coordinator while nothing changes, renewals only.
    busy_cpu: float


async def measure_watchers(
    site: Site, instances: int, watching: int, seconds: float, events_per_s: float
) -> WatchFigures:
    token = service_token(site.token)
    async with AsyncExitStack() as stack:
        begun = time.monotonic()
        sessions: list[Session] = []

        async def one(number: int) -> None:
            session = await stack.enter_async_context(open_session(site.url, token, ttl_s=TTL_S))
            await session.register(_record(number, "0"))
            sessions.append(session)

        for start in range(0, instances, 20):
            await asyncio.gather(*(one(n) for n in range(start, min(start + 20, instances))))
        registering_s = time.monotonic() - begun
        begun, cpu_s = time.monotonic(), site.coordinator_cpu_s()
        told = await stack.enter_async_context(_listeners(site.url, watching))
        watching_s, watching_cpu_s = time.monotonic() - begun, site.coordinator_cpu_s() - cpu_s
        idle_cpu = await _cpu_while(site, asyncio.sleep(seconds))
        late_s: list[float] = []
        churn = _churn(sessions[0], told, late_s, int(seconds * events_per_s), events_per_s)
        busy_cpu = await _cpu_while(site, churn)
        return WatchFigures(
            registering_s, watching_s, watching_cpu_s, sorted(late_s), idle_cpu, busy_cpu
        )


def _record(number: int, version: str) -> ServiceInstance:
    return ServiceInstance(
        service=SERVICE,
        instance=f"i{number}",
        address=f"10.1.{number // 250}.{number % 250}:80",
        version=version,
        zone=f"rack-{number % 9}",
        labels={"tier": "front"},
    )


@asynccontextmanager
async def _listeners(url: str, count: int) -> AsyncIterator[asyncio.StreamReader]:
    """What they print, once all of them watch."""
    where = urlsplit(url)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools.bench_coordinator.listeners"),
        *(str(where.hostname), str(where.port), SERVICE, str(count)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"ready\n"
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


async def _churn(
    session: Session,
    told: asyncio.StreamReader,
    late_s: list[float],
    events: int,
    events_per_s: float,
) -> None:
    for number in range(1, events + 1):
        begun = time.monotonic()
        await session.register(_record(0, str(number)))
        async with asyncio.timeout(_TOLD_S_MAX):
            version, at = (await told.readline()).split()
        assert int(version) == number, "each change is told to all, once and in order"
        late_s.append(float(at) - begun)
        await asyncio.sleep(max(0.0, begun + 1 / events_per_s - time.monotonic()))


async def _cpu_while(site: Site, work: Coroutine[object, object, None]) -> float:
    cpu_s, begun = site.coordinator_cpu_s(), time.monotonic()
    await work
    return (site.coordinator_cpu_s() - cpu_s) / (time.monotonic() - begun)
