"""Proves that no checkpoint lacks anything, with listings of its own. It deletes nothing.

To be run by another process than the collector, afterwards: what was deleted and is referenced is
missing. It also counts what nothing needs: a collector's next prey, or the orphans of attempts that
crashed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import NamedTuple

from octad.client.checkpoints.collector import Collector, documents, in_parallel, read_jobs
from octad.client.checkpoints.head_store import read_manifest
from octad.client.checkpoints.place import Place
from octad.client.checkpoints.rules.collecting import Job
from octad.client.checkpoints.rules.documents import Manifest
from octad.client.checkpoints.rules.errors import CheckpointDamaged
from octad.client.checkpoints.verifying import data_there


class Broken(NamedTuple):
    """A checkpoint that cannot be restored, and the object that is missing, cut off or damaged."""

    job: str
    checkpoint: str
    key: str


class Audit(NamedTuple):
    """`orphans`, `orphan_bytes`: objects that a collector would take now."""

    jobs: int
    checkpoints: int
    data_objects: int
    data_bytes: int
    orphans: int
    orphan_bytes: int
    broken: tuple[Broken, ...]


async def audit(place: Place) -> Audit:
    """Raises CheckpointDamaged, CheckpointTooNew where a head cannot be read."""
    jobs = await _jobs(place)
    kept = _kept(jobs)
    named: dict[str, int] = {}
    broken = []
    async for each, manifest in _manifests(place, kept):
        if manifest is None:
            broken.append(Broken(*each, place.layout.manifest(*each)))
        else:
            named.update(_sizes(manifest))
    there = await data_there(place)  # After the manifests: what they name was there before them.
    missing = {name for name, size in named.items() if there.get(name) != size}
    if missing:
        broken += [
            Broken(*each, place.layout.data(name))
            async for each, manifest in _manifests(place, kept)
            if manifest is not None
            for name in sorted(missing & _sizes(manifest).keys())
        ]
    if broken:  # What was dropped meanwhile may be gone.
        still = set(_kept(await _jobs(place)))
        broken = [each for each in broken if (each.job, each.checkpoint) in still]
    orphans = await Collector(place, dry_run=True).collect()
    return Audit(
        jobs=sum(not job.head.reader_since for job in jobs.values()),
        checkpoints=len(kept),
        data_objects=len(there),
        data_bytes=sum(there.values()),
        orphans=len(orphans.objects),
        orphan_bytes=orphans.bytes,
        broken=tuple(broken),
    )


async def _jobs(place: Place) -> Mapping[str, Job]:
    heads = {each.job for each in await documents(place) if each.kind == "head"}
    return await read_jobs(place, heads)


def _kept(jobs: Mapping[str, Job]) -> list[tuple[str, str]]:
    return sorted((name, checkpoint) for name, job in jobs.items() for checkpoint in job.kept)


async def _manifests(
    place: Place, kept: Sequence[tuple[str, str]]
) -> AsyncGenerator[tuple[tuple[str, str], Manifest | None], None]:
    """None for what is missing or damaged."""
    reads = (partial(_read_or_none, place, *each) for each in kept)
    left = iter(kept)
    async with aclosing(in_parallel(place, reads)) as manifests:
        async for manifest in manifests:
            yield next(left), manifest


async def _read_or_none(place: Place, job: str, checkpoint: str) -> Manifest | None:
    try:
        return await read_manifest(place, job, checkpoint)
    except CheckpointDamaged:
        return None


def _sizes(manifest: Manifest) -> dict[str, int]:
    return {part.data: part.size for file in manifest.files for part in file.parts}
