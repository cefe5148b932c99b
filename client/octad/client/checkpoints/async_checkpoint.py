"""`AsyncCheckpoint`: one checkpoint, to look at and to restore."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from os import PathLike
from typing import Any, BinaryIO

from octad.client.checkpoints.head_store import read_manifest
from octad.client.checkpoints.place import Place
from octad.client.checkpoints.reading import Hold, held
from octad.client.checkpoints.restoring import Restoring
from octad.client.checkpoints.rules.differences import Difference, difference
from octad.client.checkpoints.rules.documents import File, Kept, Manifest
from octad.client.checkpoints.rules.errors import CheckpointNotFound
from octad.client.checkpoints.rules.key_values import (
    FOOTER_BYTES,
    Index,
    decode_index,
    entries,
    index_span,
)
from octad.client.checkpoints.staging import Progress


class AsyncCheckpoint:
    """A checkpoint as the job's head has it. `bytes`: of all files; `added`: of what was new."""

    def __init__(self, place: Place, job: str, kept: Kept, hold: Hold = held) -> None:
        self._place = place
        self._hold = hold
        self._manifest: Manifest | None = None
        self._indexes: dict[str, Index] = {}
        self.job = job
        self.id = kept.id
        self.bytes = kept.bytes
        self.added = kept.added
        self.pinned = kept.pinned
        self.label = kept.label
        self.time = datetime.fromtimestamp(kept.time, UTC)
        self.offsets = {(each.topic, each.partition): each.offset for each in kept.offsets}

    def __repr__(self) -> str:
        return f"<checkpoint {self.id} of {self.job}, {self.bytes} bytes>"

    async def metadata(self) -> dict[str, Any]:
        """What was committed with it."""
        return (await self._read_manifest()).metadata

    async def files(self) -> dict[str, int]:
        """Paths, with their sizes in bytes."""
        return {file.path: file.size for file in (await self._read_manifest()).files}

    async def restore(
        self,
        directory: str | PathLike[str],
        *,
        at_once: int = 8,
        progress: Progress | None = None,
    ) -> None:
        """All files, into a directory that is empty or not there. All of it, or nothing.

        `at_once`: how many reads run at a time. `progress` is called with how many bytes more
        have come. Raises DownloadFailed, CheckpointDamaged, CheckpointNotFound.
        """
        async with self._hold(self._place, self.job, self.id):
            restoring = Restoring(self._place, await self._read_manifest(), at_once, progress)
            await restoring.to_directory(directory)

    async def restore_file(self, path: str, file: BinaryIO, *, at_once: int = 8) -> None:
        """One file, into an open one, in order."""
        manifest = await self._read_manifest()
        await Restoring(self._place, manifest, at_once, None).to_file(
            self._file(manifest, path), file
        )

    async def read(self, path: str, *, start: int = 0, end: int | None = None) -> bytes:
        """A file's bytes, or those from `start` to before `end`.

        Whole parts are checked; of others only what is needed is read.
        """
        manifest = await self._read_manifest()
        file = self._file(manifest, path)
        end = file.size if end is None else min(end, file.size)
        return await Restoring(self._place, manifest, 8, None).read(file, start, end)

    async def look_up(self, path: str, key: bytes) -> bytes | None:
        """The value of a key in a file that `key_value_file` made; None: there is none.

        Reads one block of it, and the first time its index.
        """
        block = (await self._index_of(path)).block_of(key)
        if block is None:
            return None
        data = await self.read(path, start=block.start, end=block.end)
        return dict(entries(data)).get(key)

    async def scan(
        self, path: str, start: bytes = b"", end: bytes | None = None
    ) -> AsyncGenerator[tuple[bytes, bytes], None]:
        """Keys and values of such a file in order, from `start` to before `end`."""
        for block in (await self._index_of(path)).blocks_from(start):
            for key, value in entries(await self.read(path, start=block.start, end=block.end)):
                if end is not None and key >= end:
                    return
                if key >= start:
                    yield key, value

    async def _index_of(self, path: str) -> Index:
        if path not in self._indexes:
            size = self._file(await self._read_manifest(), path).size
            footer = await self.read(path, start=max(size - FOOTER_BYTES, 0))
            span = index_span(footer)
            index = decode_index(await self.read(path, start=span.start, end=span.end))
            self._indexes[path] = index
        return self._indexes[path]

    async def _read_manifest(self) -> Manifest:
        if self._manifest is None:
            self._manifest = await read_manifest(self._place, self.job, self.id)
        return self._manifest

    def _file(self, manifest: Manifest, path: str) -> File:
        for file in manifest.files:
            if file.path == path:
                return file
        raise CheckpointNotFound(
            f"checkpoint {self.id} of job {self.job} has no file {path!r}",
            "see which it has: octad checkpoint show",
        )


async def difference_of(first: AsyncCheckpoint, second: AsyncCheckpoint) -> Difference:
    """Raises CheckpointDamaged."""
    return difference(await first._read_manifest(), await second._read_manifest())


def found_or_raise(kept: Kept | None, job: str, what: str) -> Kept:
    """Raises CheckpointNotFound."""
    if kept is None:
        raise CheckpointNotFound(
            f"job {job} keeps no checkpoint{f' {what}' if what else ''}",
            "see which there are: octad checkpoint ls",
        )
    return kept
