"""What the parts of `make bench-engine` share: an engine on a real disk, a line of the table."""

from __future__ import annotations

import os
from collections.abc import Iterable
from hashlib import md5
from pathlib import Path

from tests.unit.engine.engine_site import EngineSite

from octad.sharding.limits import SEGMENT_BYTES
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.journal.disk import Disk

IN_FLIGHT = 64
SMALL, TINY = 4096, 100


def row(figure: str, wanted: str, measured: str) -> None:
    print(f"| {figure} | {wanted} | {measured} |", flush=True)


def opened(directory: Path) -> EngineSite:
    return EngineSite(
        directory / "journal", Disk(), CountedIndex(directory / "index"), SEGMENT_BYTES
    )


async def closed(site: EngineSite) -> None:
    await site.journal.close()
    site.index.close()


async def put_all(
    site: EngineSite, keys: Iterable[bytes], size: int, in_flight: int = IN_FLIGHT
) -> None:
    value = os.urandom(size)
    for count, key in enumerate(keys):
        site.put(key, value, md5(key).hexdigest())
        if count % in_flight == in_flight - 1:
            await site.settled()
    await site.settled()


def index_file_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in (directory / "index").glob("*.sst"))
