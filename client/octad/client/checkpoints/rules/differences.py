"""What two checkpoints have in common, and what not: by the names of their data."""

from __future__ import annotations

from typing import NamedTuple

from octad.client.checkpoints.rules.documents import Manifest


class Difference(NamedTuple):
    """From one checkpoint to another: paths in order, and bytes that only the second one has."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    bytes_new: int
    bytes_shared: int


def difference(first: Manifest, second: Manifest) -> Difference:
    before = {file.path: file for file in first.files}
    after = {file.path: file for file in second.files}
    both = before.keys() & after.keys()
    there = {part.data for file in first.files for part in file.parts}
    sizes = {part.data: part.size for file in second.files for part in file.parts}
    new = sum(size for data, size in sizes.items() if data not in there)
    return Difference(
        tuple(sorted(after.keys() - before.keys())),
        tuple(sorted(before.keys() - after.keys())),
        tuple(sorted(path for path in both if before[path] != after[path])),
        new,
        sum(sizes.values()) - new,
    )
