"""The files of the checkpoint to come: cut into parts, of which only new ones are stored.

Parts are of a fixed size, so that a file of which 1 % changed in place costs about 1 %. Tables of
an LSM tree are written once and never changed, so theirs are larger. A part that is as it was (by
size and XXH3 at its place in the file) is known without its SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from xxhash import xxh3_128_hexdigest

from octad.client.checkpoints.place import Place
from octad.client.checkpoints.rules.documents import File, Part
from octad.client.checkpoints.rules.known_data import KnownData
from octad.client.checkpoints.rules.names import Owner, checked_path
from octad.client.errors import ConfigurationError, ObjectNotFound
from octad.client.http.transport import Bytes
from octad.client.objects.sources import Source, parts_of
from octad.sharding.limits import MIB

PART_BYTES: Final = 4 * MIB
TABLE_PART_BYTES: Final = 8 * MIB
AT_ONCE: Final = 8
_TABLES: Final = (".sst", ".ldb", ".blob")

Progress = Callable[[int], None]  # Told how many bytes more are done with.


class _Done(NamedTuple):
    path: str
    part: Part
    added: int


class Staging:
    """Not for several threads at a time. `files` is what a manifest will name."""

    def __init__(self, place: Place, owner: Owner, known: KnownData) -> None:
        self._place = place
        self._owner = owner
        self._known = known
        self.files: dict[str, File] = {}
        self.added = 0

    def clear(self) -> None:
        """What was stored stays known."""
        self.files, self.added = {}, 0

    async def put(self, sources: Iterable[tuple[str, Source]], progress: Progress | None) -> None:
        """Store what is new of these files, which take the place of any of their paths."""
        parts: dict[str, list[Part]] = {}
        jobs = self._jobs(sources, parts)
        async with aclosing(self._place.runtime.in_order(jobs, AT_ONCE)) as results:
            async for done in results:
                parts[done.path].append(done.part)
                self.added += done.added
                if progress is not None:
                    progress(done.part.size)
        self.add_files(parts)

    async def put_part(self, path: str, number: int, data: Bytes) -> Part:
        """One of a file that is still being written; `add_files` follows."""
        done = await self._job(path, number, data)
        self.added += done.added
        return done.part

    def add_files(self, parts: dict[str, list[Part]]) -> None:
        for path, of_file in parts.items():
            self.files[path] = File(path, sum(part.size for part in of_file), tuple(of_file))

    async def store_again(self, lost: set[str]) -> bool:
        """Copy data that no longer may be named to names of this begin. Whether all was there."""
        for name in lost:
            mine = f"{name.partition('.')[0]}.{self._owner}"
            layout = self._place.layout
            try:
                await self._place.store.copy(layout.data(name), layout.data(mine))
            except ObjectNotFound:
                return False
            self._known.stored(mine)
        self.files = {path: self._renamed(file, lost) for path, file in self.files.items()}
        return True

    def _renamed(self, file: File, lost: set[str]) -> File:
        parts = tuple(
            Part(f"{part.data.partition('.')[0]}.{self._owner}", part.size, part.xxh3)
            if part.data in lost
            else part
            for part in file.parts
        )
        return File(file.path, file.size, parts)

    async def _jobs(
        self, sources: Iterable[tuple[str, Source]], parts: dict[str, list[Part]]
    ) -> AsyncGenerator[Callable[[], Coroutine[Any, Any, _Done]], None]:
        for path, source in sources:
            parts[checked_path(path)] = []
            cut = await parts_of(source, self._place.runtime)
            cut.fixed_bytes = part_bytes_of(path)
            try:
                number = 0
                while len(data := await cut.next()):
                    yield partial(self._job, path, number, data)
                    number += 1
            finally:
                await cut.close()

    async def _job(self, path: str, number: int, data: Bytes) -> _Done:
        hint = self._known.part(path, number)
        if hint is not None and hint.size != len(data):
            hint = None
        xxh3, sha256 = await self._place.runtime.aside(partial(_digests, data, hint))
        if hint is not None and not sha256:
            return _Done(path, hint, 0)
        name = self._known.name(sha256)
        if name:
            return _Done(path, Part(name, len(data), xxh3), 0)
        name = f"{sha256}.{self._owner}"
        await self._place.store.put(self._place.layout.data(name), data)
        self._known.stored(name)
        return _Done(path, Part(name, len(data), xxh3), len(data))


def part_bytes_of(path: str) -> int:
    """The size of each part of a file but the last."""
    return TABLE_PART_BYTES if path.endswith(_TABLES) else PART_BYTES


def files_below(directory: Path, pattern: str, prefix: str) -> list[tuple[str, Source]]:
    """Of a directory, by their paths in a checkpoint. Links count as what they name."""
    if not directory.is_dir():
        raise ConfigurationError(f"{directory} is no directory", "name one that is there")
    found = [each for each in directory.glob(pattern) if each.is_file()]
    return [(f"{prefix}{each.relative_to(directory).as_posix()}", each) for each in sorted(found)]


def _digests(data: Bytes, hint: Part | None) -> tuple[str, str]:
    """XXH3 and SHA-256; the latter is "" where the former says that it is the part of `hint`."""
    xxh3 = xxh3_128_hexdigest(data)
    if hint is not None and hint.xxh3 == xxh3:
        return xxh3, ""
    return xxh3, hashlib.sha256(data).hexdigest()
