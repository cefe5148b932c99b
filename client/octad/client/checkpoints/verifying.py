"""Which checkpoints are whole: their manifests are there, and all the data these name."""

from __future__ import annotations

from typing import Final

from octad.client.checkpoints.head_store import read_manifest
from octad.client.checkpoints.place import Place
from octad.client.checkpoints.rules.documents import Head
from octad.client.checkpoints.rules.errors import CheckpointDamaged
from octad.client.checkpoints.rules.names import Layout

LOOKED_AT_MAX: Final = 32
RESTORES_MAX: Final = 5


async def data_there(place: Place) -> dict[str, int]:
    """The names of all data objects, and their sizes."""
    layout: Layout = place.layout
    return {
        each.key.removeprefix(layout.all_data): each.size
        async for each in place.store.list(layout.all_data)
    }


async def still_whole(place: Place, head: Head, damaged: str) -> tuple[str, ...]:
    """Of the newest checkpoints, those that do not need the object `damaged`; newest first."""
    there = await data_there(place)
    there.pop(damaged.removeprefix(place.layout.all_data), None)
    whole: list[str] = []
    for kept in reversed(head.kept[-LOOKED_AT_MAX:]):
        try:
            manifest = await read_manifest(place, head.job, kept.id)
        except CheckpointDamaged:
            continue
        parts = [part for file in manifest.files for part in file.parts]
        if all(there.get(part.data) == part.size for part in parts):
            whole.append(kept.id)
        if len(whole) == RESTORES_MAX:
            break
    return tuple(whole)
