"""Planted faults, one for each rule of checkpoints: a simulation that misses one proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.simulation.checkpoints.world import World
from tests.unit.checkpoints.memory import MemoryLog

from octad.client.checkpoints import async_checkpoints, async_writer
from octad.client.checkpoints.async_writer import AsyncCheckpointWriter
from octad.client.checkpoints.collector import Collector
from octad.client.checkpoints.head_store import Standing, read_manifest, swap
from octad.client.checkpoints.place import Place
from octad.client.checkpoints.rules import heads
from octad.client.checkpoints.rules.collecting import Job
from octad.client.checkpoints.rules.documents import Base, Head, sealed
from octad.client.checkpoints.rules.known_data import KnownData

Patch = tuple[object, str, object]


def _one_token(world: World) -> str:
    return "0" * 16


async def _swap_without_condition(
    place: Place, job: str, standing: Standing | None, head: Head, is_mine: Callable[[Head], bool]
) -> tuple[bool, Standing | None]:
    etag = await place.store.put(place.layout.head(job), sealed(head))
    return True, Standing(head, etag)


async def _swap_that_takes_silence_for_yes(
    place: Place, job: str, standing: Standing | None, head: Head, is_mine: Callable[[Head], bool]
) -> tuple[bool, Standing | None]:
    done, there = await swap(place, job, standing, head, is_mine)
    return done or (there is not None and there.head.epoch == head.epoch), there


def _spares_nothing(job: Job, name: str) -> bool:
    return False


def _forgets_nothing(known: KnownData, kept: set[str]) -> None:
    return None


async def _writes_no_record(writer: AsyncCheckpointWriter) -> None:
    return None


async def _writer_of_unchecked_bases(
    place: Place, standing: Standing, keep: int, bases: Sequence[tuple[str, str]]
) -> AsyncCheckpointWriter:
    writer = AsyncCheckpointWriter(place, standing, keep)
    writer._bases = {Base(job, checkpoint) for job, checkpoint in bases}
    await writer._write_record()
    for job, checkpoint in bases:
        writer._known.learn(await read_manifest(place, job, checkpoint))
    return writer


async def _collect_listing_data_late(collector: Collector) -> Any:
    await collector._begin()
    await collector._list()
    await collector._read_heads()
    await collector._read_records()
    await collector._take_documents()
    manifests = await collector._read_manifests()
    await collector._list()
    await collector._take_data(manifests)


async def _collect_reading_manifests_before_heads(collector: Collector) -> Any:
    await collector._begin()
    await collector._list()
    manifests = await collector._read_manifests()
    await collector._read_heads()
    await collector._read_records()
    await collector._take_documents()
    await collector._take_data(manifests)


async def _whoever_began_since(collector: Collector) -> None:
    return None


async def _no_pin(writer: AsyncCheckpointWriter, kept: Any) -> None:
    return None


async def _no_fence(log: MemoryLog, job: str, token: int, topic: str, partition: int) -> None:
    return None


async def _releases_all_below(writer: AsyncCheckpointWriter, dropped: Any) -> None:
    """By offset: also those of checkpoints that are kept by someone who came later."""
    log = writer._place.log
    assert isinstance(log, MemoryLog)
    mine = {at.offset for at in writer._standing.head.offsets}
    for (job, checkpoint, topic, partition), offset in list(log.partitions.pins.items()):
        if job == writer.job and offset <= min(mine) and checkpoint != writer._standing.head.id:
            await log.release(job, checkpoint, topic, partition)


def _always_committed(head: Head, checkpoint: str) -> bool:
    return True


MUTANTS: dict[str, list[Patch]] = {
    "no-nonce": [(World, "_token", _one_token)],
    "swap-without-condition": [
        (async_writer, "swap", _swap_without_condition),
        (async_checkpoints, "swap", _swap_without_condition),
    ],
    "begin-taken-for-mine": [(async_checkpoints, "swap", _swap_that_takes_silence_for_yes)],
    "commit-taken-for-mine": [(heads, "has_committed", _always_committed)],
    "nothing-spared": [(Job, "spares", _spares_nothing)],
    "dropped-bases-used": [(KnownData, "forget_all_but", _forgets_nothing)],
    "no-record": [(AsyncCheckpointWriter, "_write_record", _writes_no_record)],
    "bases-not-checked": [(async_checkpoints, "writer_of", _writer_of_unchecked_bases)],
    "data-listed-late": [(Collector, "collect", _collect_listing_data_late)],
    "manifests-before-heads": [(Collector, "collect", _collect_reading_manifests_before_heads)],
    "collectors-beside": [(Collector, "_check_newest", _whoever_began_since)],
    "no-pin": [(AsyncCheckpointWriter, "_pin", _no_pin)],
    "no-fence": [(MemoryLog, "fence", _no_fence)],
    "released-by-offset": [(AsyncCheckpointWriter, "_after_commit", _releases_all_below)],
}

# Those that walks hardly ever hit are found among all interleavings of a few steps.
RARE_IN_WALKS = ["bases-not-checked", "no-record"]
# For each other one a walk that finds it.
KNOWN_SEEDS = {
    "no-nonce": 0,
    "swap-without-condition": 0,
    "begin-taken-for-mine": 4,
    "commit-taken-for-mine": 0,
    "nothing-spared": 74,
    "dropped-bases-used": 75,
    "data-listed-late": 5,
    "manifests-before-heads": 1252,
    "collectors-beside": 1429,
    "no-pin": 0,
    "no-fence": 3,
    "released-by-offset": 3,
}
