"""`AsyncCheckpointWriter`: a job's owner, from its begin until another one begins it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from octad.client.checkpoints.async_checkpoint import AsyncCheckpoint, found_or_raise
from octad.client.checkpoints.head_store import (
    Standing,
    read_head,
    read_kept,
    read_manifest,
    swap,
    with_changed,
    with_room,
)
from octad.client.checkpoints.place import Place
from octad.client.checkpoints.reading import check_kept
from octad.client.checkpoints.rules import heads
from octad.client.checkpoints.rules.documents import (
    FORMAT,
    Base,
    Begin,
    Head,
    Kept,
    Manifest,
    Part,
    sealed,
)
from octad.client.checkpoints.rules.errors import (
    BaseDropped,
    CheckpointDamaged,
    CheckpointFenced,
)
from octad.client.checkpoints.rules.known_data import KnownData
from octad.client.checkpoints.rules.names import checked_path, number_of, owner_of
from octad.client.checkpoints.staging import Progress, Staging, files_below, part_bytes_of
from octad.client.errors import ConfigurationError, OctadError
from octad.client.http.transport import Bytes
from octad.client.objects.sources import Source

SWAPS_MAX: Final = 16


class AsyncCheckpointWriter:
    """Made by `AsyncCheckpoints.begin`. One task uses it at a time.

    What was put since the last commit is the next checkpoint; before `commit` nobody sees it.
    """

    def __init__(self, place: Place, standing: Standing, keep: int) -> None:
        self._place = place
        self._standing = standing
        self._keep = keep
        self._owner = heads.owner(standing.head)
        self._known = KnownData(str(self._owner))
        self._staging = Staging(place, self._owner, self._known)
        self._number = number_of(standing.head.id)
        self._learnt = False
        self._bases: set[Base] = set()  # Of other jobs; the begin's record names them.
        self._held: set[Base] = set()  # Those that are being restored; it names them, too.
        self._previous = standing.head.id
        self._in_doubt = False

    @property
    def epoch(self) -> int:
        """Of this begin: also the token with which the job appends to the log."""
        return self._owner.epoch

    @property
    def job(self) -> str:
        return self._standing.head.job

    async def latest(self) -> AsyncCheckpoint | None:
        """The newest checkpoint, once all that came before this begin is fenced; None: none yet."""
        head = self._standing.head
        return self._shown(head.kept[-1]) if head.kept else None

    async def checkpoint(self, name: str) -> AsyncCheckpoint:
        """One of an id or savepoint name, to restore and go on from. Raises CheckpointNotFound."""
        listing = await read_kept(self._place, self._standing.head)
        found = found_or_raise(heads.chosen(listing.all(), checkpoint=name), self.job, name)
        self._previous = found.id
        return self._shown(found)

    def _shown(self, kept: Kept) -> AsyncCheckpoint:
        return AsyncCheckpoint(self._place, self.job, kept, self._restored)

    # Putting.

    async def put(self, path: str, data: Source, *, progress: Progress | None = None) -> None:
        """A file of the next checkpoint: bytes, a path, an open file, an iterator of bytes.

        `progress` is called with how many bytes more are stored, or were already.
        """
        await self._learn()
        await self._staging.put([(path, data)], progress)

    async def put_dir(
        self,
        directory: str | PathLike[str],
        prefix: str = "",
        *,
        pattern: str = "**/*",
        progress: Progress | None = None,
    ) -> None:
        """All files of a directory that match, as `prefix` + their paths in it.

        They must not change meanwhile: of RocksDB and the like, give a checkpoint of theirs.
        """
        root = Path(directory)
        found = await self._place.runtime.aside(partial(files_below, root, pattern, prefix))
        await self._learn()
        await self._staging.put(found, progress)

    def put_stream(self, path: str) -> AsyncPutStream:
        """A file to write into, with `async with`; it is put once that has ended well."""
        return AsyncPutStream(self, checked_path(path))

    def discard(self) -> None:
        """Forget what was put since the last commit."""
        self._staging.clear()

    # Committing.

    async def commit(
        self,
        offsets: Mapping[tuple[str, int], int] | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        savepoint: str = "",
    ) -> AsyncCheckpoint:
        """What was put since the last commit becomes the job's newest checkpoint, in one step.

        `offsets`: of (topic, partition), the first record that the state does not cover; the log
        keeps what comes after, as long as the checkpoint is kept. `metadata`: whatever JSON has.
        `savepoint`: its name; retention never takes it. Raises CheckpointFenced, BaseDropped.
        """
        await self._learn()
        await self._resolve()
        self._number += 1
        kept = Kept(
            id=f"{self._number}.{self._owner}",
            time=self._place.now(),
            bytes=sum(file.size for file in self._staging.files.values()),
            added=self._staging.added,
            offsets=heads.offsets_of(offsets),
            pinned=bool(savepoint),
            label=savepoint,
        )
        await self._pin(kept)
        manifest = await self._write_manifest(kept, metadata)
        dropped = await self._swap(kept, manifest, metadata)
        self._previous = kept.id
        self._staging.clear()
        await self._after_commit(dropped)
        return self._shown(kept)

    async def _pin(self, kept: Kept) -> None:
        """Too many pins do no harm; one too few does."""
        if self._place.log is not None:
            for at in kept.offsets:
                await self._place.log.pin(self.job, kept.id, at.topic, at.partition, at.offset)

    async def _write_manifest(self, kept: Kept, metadata: Mapping[str, Any] | None) -> Manifest:
        manifest = Manifest(
            format=FORMAT,
            job=self.job,
            id=kept.id,
            time=kept.time,
            previous=self._previous,
            offsets=kept.offsets,
            metadata=dict(metadata or {}),
            files=tuple(self._staging.files[path] for path in sorted(self._staging.files)),
        )
        try:
            data = sealed(manifest)
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise ConfigurationError(
                f"the metadata has what is not of JSON ({error})", "use numbers, texts, lists, maps"
            ) from error
        await self._place.store.put(self._place.layout.manifest(self.job, kept.id), data)
        return manifest

    async def _swap(
        self, kept: Kept, manifest: Manifest, metadata: Mapping[str, Any] | None
    ) -> list[Kept]:
        """The entries that went out of the kept list with this."""
        for _ in range(SWAPS_MAX):
            standing = self._standing
            head = heads.committed(standing.head, kept, self._place.token())
            head, dropped = await self._retained(await with_room(self._place, head))
            self._in_doubt = True
            done, there = await swap(
                self._place,
                self.job,
                standing,
                head,
                lambda found: heads.has_committed(found, kept.id),
            )
            self._in_doubt = False
            if done:
                assert there is not None
                if heads.owner(there.head) == self._owner:  # Else the next swap will be refused.
                    self._standing = there
                self._known.learn(manifest)
                return dropped
            if await self._take(there):
                manifest = await self._write_manifest(kept, metadata)
        raise OctadError(
            f"the head of job {self.job} was changed {SWAPS_MAX} times in a row by others",
            "commit again",
        )

    async def _take(self, there: Standing | None) -> bool:
        """Go on from a head that may be someone else's. Whether data had to be stored again.

        Raises CheckpointFenced, BaseDropped.
        """
        if there is None:
            raise CheckpointDamaged(
                f"the head of job {self.job} is gone",
                "restore it from a copy of the bucket, or begin the job under another name",
            )
        if heads.owner(there.head) != self._owner:
            raise CheckpointFenced(self.job, self.epoch, there.head.epoch)
        self._standing = there
        if owner_of(there.head.id) == str(self._owner):
            self._previous = there.head.id
        kept = (await read_kept(self._place, there.head)).ids()
        self._known.forget_all_but(kept | {base.id for base in self._bases})
        lost = self._known.lost(self._staging.files.values())
        if lost and not await self._staging.store_again(lost):
            self._staging.clear()
            raise BaseDropped(
                "a checkpoint that this one shares data with was dropped meanwhile",
                "put all files once more, and commit",
            )
        return bool(lost)

    async def _resolve(self) -> None:
        """After a commit whose end is not known: whatever it was, go on from there."""
        if self._in_doubt:
            await self._take(await read_head(self._place, self.job))
            self._in_doubt = False

    async def _retained(self, head: Head) -> tuple[Head, list[Kept]]:
        """The head without what is beyond `keep`, in the steps in which pages are worth reading."""
        count = sum(page.count for page in head.pages) + len(head.kept)
        slack = heads.PAGED_AT_ONCE if head.pages else 0
        if not self._keep or count <= self._keep + slack:
            return head, []
        before = await read_kept(self._place, head)
        gone = heads.beyond(before.all(), self._keep)
        after = await with_changed(
            self._place, head, before, lambda kept: heads.without(kept, gone)
        )
        return after, [each for each in before.all() if each.id in gone]

    async def _after_commit(self, dropped: Sequence[Kept]) -> None:
        """What may be done late, or never: a collector does it, too."""
        gone = {kept.id for kept in dropped} | {base.id for base in self._bases}
        if gone:
            self._known.forget_all_but(self._known.checkpoints() - gone)
        with suppress(OctadError):
            if self._bases:
                self._bases = set()
                await self._write_record()
            if self._place.log is not None:
                for each in dropped:
                    for at in each.offsets:
                        await self._place.log.release(self.job, each.id, at.topic, at.partition)

    # For the streams that write into it.

    async def _put_part(self, path: str, number: int, data: bytes) -> Part:
        await self._learn()
        return await self._staging.put_part(path, number, data)

    async def _finish(self, path: str, parts: list[Part], rest: bytearray) -> None:
        if rest:
            parts.append(await self._put_part(path, len(parts), bytes(rest)))
        self._staging.add_files({path: parts})

    # What may be shared.

    @asynccontextmanager
    async def _restored(
        self, place: Place, job: str, checkpoint: str
    ) -> AsyncGenerator[None, None]:
        """For as long as it is restored, this begin's record names it."""
        held = Base(job, checkpoint)
        self._held.add(held)
        try:
            await self._write_record()
            await check_kept(place, job, checkpoint)
            yield
        finally:
            self._held.discard(held)
            with suppress(OctadError):
                await self._write_record()

    async def _write_record(self) -> None:
        named = sorted(self._bases | self._held, key=lambda base: (base.job, base.id))
        key = self._place.layout.begin(self.job, self._owner)
        if named:
            await self._place.store.put(key, sealed(Begin(format=FORMAT, bases=tuple(named))))
        else:
            await self._place.store.delete([key])

    async def _learn(self) -> None:
        """Of the job's newest checkpoint, at the first need."""
        if self._learnt:
            return
        head = self._standing.head
        if head.kept:
            try:
                manifest = await read_manifest(self._place, self.job, head.kept[-1].id)
            except CheckpointDamaged:  # What cannot be restored is nothing to build on.
                pass
            else:
                self._known.learn(manifest)
        self._learnt = True


async def writer_of(
    place: Place, standing: Standing, keep: int, bases: Sequence[tuple[str, str]]
) -> AsyncCheckpointWriter:
    """Of a begin that was won. Says which others' checkpoints it shares data with, then looks."""
    writer = AsyncCheckpointWriter(place, standing, keep)
    writer._bases = {Base(job, checkpoint) for job, checkpoint in bases}
    if bases:
        await writer._write_record()
    for job, checkpoint in bases:
        there = await read_head(place, job)
        if there is not None and checkpoint in (await read_kept(place, there.head)).ids():
            writer._known.learn(await read_manifest(place, job, checkpoint))
    return writer


class AsyncPutStream:
    """`async with` it, then `write`. Parts are stored as they are full."""

    def __init__(self, writer: AsyncCheckpointWriter, path: str) -> None:
        self._writer = writer
        self._path = path
        self._part_bytes = part_bytes_of(path)
        self._rest = bytearray()
        self._parts: list[Part] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self._writer._finish(self._path, self._parts, self._rest)

    async def write(self, data: Bytes) -> int:
        """How many bytes that was: all of them."""
        self._rest += data
        while len(self._rest) >= self._part_bytes:
            piece = bytes(self._rest[: self._part_bytes])
            del self._rest[: self._part_bytes]
            self._parts.append(await self._writer._put_part(self._path, len(self._parts), piece))
        return len(data)
