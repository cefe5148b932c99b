"""How often a coordinator answers for the map when the ETag matches, and how big the map is."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from tools.bench_coordinator.site import DEPTH, Site

from octad.client.cluster.cluster_documents import MAP_BINARY_TYPE, MAP_PATH

CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class MapFigures:
    """`unchanged_per_s`: answers without a body."""

    unchanged_per_s: float
    cpu: float
    json_bytes: int
    binary_bytes: int
    binary_ms: float


async def wait_for_map(site: Site) -> None:
    """Returns once the coordinator has made all configurations and shows them."""
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(site.url + MAP_PATH) as response:
                if len((await response.json())["shards"]) == 1 << DEPTH:
                    return
            await asyncio.sleep(0.1)


async def measure_map(site: Site, seconds: float) -> MapFigures:
    async with aiohttp.ClientSession() as session:
        async with session.get(site.url + MAP_PATH) as response:
            json_bytes, tag = len(await response.read()), response.headers["ETag"]
        begun = time.perf_counter()
        async with session.get(
            site.url + MAP_PATH, headers={"Accept": MAP_BINARY_TYPE}
        ) as response:
            binary_bytes = len(await response.read())
        binary_ms = (time.perf_counter() - begun) * 1000
    cpu_s, begun = site.coordinator_cpu_s(), time.perf_counter()
    counts = await asyncio.gather(*(_ask(site.url, tag, seconds) for _ in range(CONNECTIONS)))
    took_s = time.perf_counter() - begun
    cpu = (site.coordinator_cpu_s() - cpu_s) / took_s
    return MapFigures(sum(counts) / took_s, cpu, json_bytes, binary_bytes, binary_ms)


async def _ask(url: str, tag: str, seconds: float) -> int:
    """One request after the other on one connection; plain sockets, so that this side is cheap."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    request = f"GET {MAP_PATH} HTTP/1.1\r\nHost: {parts.netloc}\r\nIf-None-Match: {tag}\r\n\r\n"
    encoded, count, deadline = request.encode(), 0, time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        writer.write(encoded)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 304"), answer
        count += 1
    writer.close()
    await writer.wait_closed()
    return count
