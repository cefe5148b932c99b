"""Reads a checkpoint's files: parts in parallel, each checked against the hash in its name."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import aclosing
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from octad.client.checkpoints.head_store import read_head, read_kept
from octad.client.checkpoints.place import Place
from octad.client.checkpoints.rules.documents import File, Manifest
from octad.client.checkpoints.rules.errors import CheckpointDamaged, CheckpointNotFound
from octad.client.checkpoints.rules.names import checked_path, sha256_of
from octad.client.checkpoints.staging import Progress
from octad.client.checkpoints.verifying import still_whole
from octad.client.errors import ConfigurationError, DownloadFailed, ObjectNotFound

UNFINISHED: Final = ".octad-restore-"


class Piece(NamedTuple):
    """Bytes of one part: those from `start` to before `end`, which belong at `at` in the file."""

    data: str
    start: int
    end: int
    whole: bool
    at: int


class Restoring:
    """Of one checkpoint."""

    def __init__(
        self, place: Place, manifest: Manifest, at_once: int, progress: Progress | None
    ) -> None:
        self._place = place
        self._manifest = manifest
        self._at_once = max(at_once, 1)
        self._progress = progress

    async def to_directory(self, directory: str | PathLike[str]) -> None:
        """It is made whole inside of the directory, and moved up once all is there."""
        aside = self._place.runtime.aside
        target = Path(directory)
        unfinished = target / f"{UNFINISHED}{self._place.token()}"
        try:
            await aside(partial(_prepare, target, unfinished))
            try:
                await self._fill(unfinished)
                await aside(partial(_move_up, unfinished, target))
            finally:
                await aside(partial(shutil.rmtree, unfinished, ignore_errors=True))
        except OSError as error:
            raise DownloadFailed(
                f"{target} could not be written: {error.strerror or error}",
                "make room or choose another place, then restore again",
            ) from error

    async def _fill(self, folder: Path) -> None:
        aside = self._place.runtime.aside
        places = {}
        for file in self._manifest.files:
            checked_path(file.path)
            places[file.path] = folder / file.path
            await aside(partial(_make_file, places[file.path], file.size))
        jobs = self._writes((file, places[file.path]) for file in self._manifest.files)
        async with aclosing(self._place.runtime.in_order(jobs, self._at_once)) as results:
            async for size in results:
                if self._progress is not None:
                    self._progress(size)

    async def _writes(
        self, files: Iterable[tuple[File, Path]]
    ) -> AsyncGenerator[Callable[[], Coroutine[Any, Any, int]], None]:
        for file, path in files:
            for piece in pieces_of(file, 0, file.size):
                yield partial(self._write, file, piece, path)

    async def _write(self, file: File, piece: Piece, path: Path) -> int:
        data = await self._read(file, piece)
        await self._place.runtime.aside(partial(_write_at, path, piece.at, data))
        return len(data)

    async def to_file(self, file: File, into: BinaryIO) -> None:
        jobs = self._reads(file, 0, file.size)
        async with aclosing(self._place.runtime.in_order(jobs, self._at_once)) as results:
            async for data in results:
                await self._place.runtime.aside(partial(into.write, data))

    async def read(self, file: File, start: int, end: int) -> bytes:
        if not 0 <= start <= end:
            raise ConfigurationError(f"no byte lies between {start} and {end}", "correct the range")
        pieces = pieces_of(file, start, end)
        if len(pieces) == 1:
            return await self._read(file, pieces[0])
        jobs = self._reads(file, start, end)
        async with aclosing(self._place.runtime.in_order(jobs, self._at_once)) as results:
            return b"".join([data async for data in results])

    async def _reads(
        self, file: File, start: int, end: int
    ) -> AsyncGenerator[Callable[[], Coroutine[Any, Any, bytes]], None]:
        for piece in pieces_of(file, start, end):
            yield partial(self._read, file, piece)

    async def _read(self, file: File, piece: Piece) -> bytes:
        """Once more where the bytes are wrong: a network may have changed them."""
        key = self._place.layout.data(piece.data)
        for _ in range(2):
            try:
                data = await self._place.store.read_range(key, piece.start, piece.end)
            except ObjectNotFound:
                raise await self._damaged(file, key, "is missing") from None
            if len(data) == piece.end - piece.start and (
                not piece.whole
                or await self._place.runtime.aside(partial(_sha256, data)) == sha256_of(piece.data)
            ):
                return data
        raise await self._damaged(file, key, "has other bytes than were stored")

    async def _damaged(
        self, file: File, key: str, what: str
    ) -> CheckpointDamaged | CheckpointNotFound:
        job, checkpoint = self._manifest.job, self._manifest.id
        head = await read_head(self._place, job)
        kept = set() if head is None else (await read_kept(self._place, head.head)).ids()
        if head is None or checkpoint not in kept:
            return CheckpointNotFound(
                f"checkpoint {checkpoint} of job {job} was dropped meanwhile",
                "restore another one: octad checkpoint ls",
            )
        restores = await still_whole(self._place, head.head, key)
        also = f"checkpoint {restores[0]} is whole" if restores else "no other one is whole"
        return CheckpointDamaged(
            f"{key} {what}, so {file.path} of checkpoint {checkpoint} cannot be restored ({also})",
            f"restore {restores[0]}"
            if restores
            else "see what can be saved: octad checkpoint audit",
            key=key,
            restores=restores,
        )


def pieces_of(file: File, start: int, end: int) -> list[Piece]:
    """What is read for these bytes of a file, in order."""
    pieces, at = [], 0
    for part in file.parts:
        first, last = max(start - at, 0), min(end - at, part.size)
        if first < last:
            whole = first == 0 and last == part.size
            pieces.append(Piece(part.data, first, last, whole, at + first))
        at += part.size
    return pieces


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _prepare(target: Path, unfinished: Path) -> None:
    """Raises DownloadFailed where something is there. What an earlier restore left is removed."""
    target.mkdir(parents=True, exist_ok=True)
    there = sorted(target.iterdir())
    foreign = [each for each in there if not each.name.startswith(UNFINISHED)]
    if foreign:
        raise DownloadFailed(
            f"{target} is not empty (it has {foreign[0].name}); nothing in it was changed",
            "restore into a directory that is empty, or not there yet",
        )
    for each in there:
        shutil.rmtree(each)
    unfinished.mkdir()


def _make_file(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.truncate(size)


def _write_at(path: Path, at: int, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, at)
            view, at = view[written:], at + written
    finally:
        os.close(descriptor)


def _move_up(unfinished: Path, target: Path) -> None:
    for each in sorted(unfinished.iterdir()):
        each.rename(target / each.name)
