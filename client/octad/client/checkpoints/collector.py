"""Takes what no checkpoint needs any more, below one prefix, while its jobs go on.

The order of the steps is what makes it safe (`docs/reference/checkpoints.md`), and that of several
collectors only the newest one judges: a listing is not of one moment, so what names some data could
be deleted by another one before it is read here, while a manifest that is newer than the listing
goes on naming it. Each begins with a token of its own at one key, and looks, between judging and
deleting, whether that is still there. What it then deletes was judged before any other one began.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

from octad.client.checkpoints.head_store import read_head, read_kept
from octad.client.checkpoints.place import Listed, Pin, Place
from octad.client.checkpoints.rules import collecting
from octad.client.checkpoints.rules.collecting import Job, Record
from octad.client.checkpoints.rules.documents import (
    FORMAT,
    Begin,
    Collection,
    Manifest,
    opened,
    sealed,
)
from octad.client.checkpoints.rules.errors import CheckpointDamaged
from octad.client.checkpoints.rules.heads import owner
from octad.client.checkpoints.rules.names import JobKey, job_key_of
from octad.client.errors import OctadError

DOCUMENTS_AT_ONCE: Final = 16
_DELETED_AT_ONCE: Final = 1000
Result = TypeVar("Result")


class Collected(NamedTuple):
    """What was taken, or would be: keys with their sizes, and pins of the log."""

    objects: tuple[Listed, ...]
    pins: tuple[Pin, ...]

    @property
    def bytes(self) -> int:
        return sum(each.size for each in self.objects)


class Collector:
    """One collection. `dry_run`: it deletes nothing, and says what it would."""

    def __init__(self, place: Place, *, dry_run: bool = False) -> None:
        self._place = place
        self._dry_run = dry_run
        self._data: list[Listed] = []
        self._documents: dict[JobKey, Listed] = {}
        self._pins: Sequence[Pin] = ()
        self._jobs: dict[str, Job] = {}
        self._named: set[tuple[str, str]] = set()
        self._taken: list[Listed] = []
        self._taken_pins: list[Pin] = []
        self._dead: set[JobKey] = set()
        self._token = place.token()

    async def collect(self) -> Collected:
        """Raises CheckpointDamaged, CheckpointTooNew, or that another one has begun since.

        Whatever it raises, nothing was taken that is needed.
        """
        await self._begin()
        await self._list()
        await self._read_heads()
        await self._read_records()
        await self._take_documents()
        await self._take_pins()
        await self._take_data(await self._read_manifests())
        return Collected(tuple(self._taken), tuple(self._taken_pins))

    async def _begin(self) -> None:
        if not self._dry_run:
            token = sealed(Collection(format=FORMAT, token=self._token))
            await self._place.store.put(self._place.layout.collection, token)

    async def _check_newest(self) -> None:
        """Between judging and deleting."""
        if self._dry_run:
            return
        key = self._place.layout.collection
        found = await self._place.store.read(key)
        if found is None or opened(found.data, Collection, key).token != self._token:
            raise OctadError(
                "another collection of these checkpoints has begun, and this one ends for it",
                "let that one finish",
            )

    async def _list(self) -> None:
        layout = self._place.layout
        self._data = await _listed(self._place, layout.all_data)
        self._documents = await documents(self._place)
        if self._place.log is not None:
            self._pins = await self._place.log.pins()

    async def _read_heads(self) -> None:
        names = {each.job for each in self._documents if each.kind == "head"}
        self._jobs = await read_jobs(self._place, names)
        for reader in collecting.ended_readers(self._jobs, self._place.now()):
            await self._end_reader(reader)
        for key in self._documents:
            if key.kind in ("manifests", "pages") and key.job not in self._jobs:
                raise CheckpointDamaged(
                    f"job {key.job} has {key.kind}, but its head is gone; nothing was deleted",
                    "restore the head from a copy, or remove all of that job yourself",
                    key=self._place.layout.head(key.job),
                )

    async def _end_reader(self, name: str) -> None:
        """The record first, as its reader would have."""
        job = self._jobs.pop(name)
        layout = self._place.layout
        for key in (layout.begin(name, owner(job.head)), layout.head(name)):
            await self._take([Listed(key, 0)])

    async def _read_records(self) -> None:
        """Of all begins, in a listing of now."""
        keys = [each for each in await documents(self._place) if each.kind == "begins"]
        records = []
        for key in keys:
            path = f"{self._place.layout.begins(key.job)}{key.name}"
            found = await self._place.store.read(path)
            if found is not None:
                record = Record(key.job, key.name, opened(found.data, Begin, path))
                records.append(record)
                if key in self._documents and collecting.is_over(key.job, key.name, self._jobs):
                    self._dead.add(key)
        self._named = collecting.living(records, self._jobs)

    async def _take_documents(self) -> None:
        listed = list(self._documents)
        self._dead |= {
            *collecting.dead_manifests(listed, self._jobs, self._named),
            *collecting.dead_pages(listed, self._jobs),
        }
        await self._check_newest()
        await self._take([self._documents[key] for key in listed if key in self._dead])

    async def _take_pins(self) -> None:
        for pin in self._pins:
            job = self._jobs.get(pin.job)
            if job is None or not collecting.is_dead_pin(pin.checkpoint, job):
                continue
            self._taken_pins.append(pin)
            if not self._dry_run and self._place.log is not None:
                await self._place.log.release(*pin)

    async def _read_manifests(self) -> set[str]:
        """The names of data in all that are left, in a listing of now."""
        keys = [each for each in await documents(self._place) if each.kind == "manifests"]
        named: set[str] = set()
        reads = (partial(_read_if_there, self._place, key) for key in keys if key not in self._dead)
        async with aclosing(in_parallel(self._place, reads)) as manifests:
            async for manifest in manifests:
                if manifest is not None:
                    named |= collecting.named_data([manifest])
        return named

    async def _take_data(self, named: set[str]) -> None:
        prefix = self._place.layout.all_data
        names = [each.key.removeprefix(prefix) for each in self._data]
        dead = set(collecting.dead_data(names, self._jobs.values(), named))
        await self._check_newest()
        await self._take([each for each in self._data if each.key.removeprefix(prefix) in dead])

    async def _take(self, objects: Sequence[Listed]) -> None:
        self._taken += objects
        if self._dry_run:
            return
        left = iter(objects)
        while batch := [each.key for each in islice(left, _DELETED_AT_ONCE)]:
            await self._place.store.delete(batch)


async def documents(place: Place) -> dict[JobKey, Listed]:
    """All below `jobs/`, in a listing of now."""
    found = {}
    for each in await _listed(place, place.layout.jobs):
        key = job_key_of(each.key, place.layout)
        if key is not None:
            found[key] = each
    return found


async def read_jobs(place: Place, names: Iterable[str]) -> dict[str, Job]:
    """Each head once; those that went meanwhile are left out."""
    reads = (partial(_read_job, place, name) for name in sorted(names))
    async with aclosing(in_parallel(place, reads)) as jobs:
        return {job.head.job: job async for job in jobs if job is not None}


async def in_parallel(
    place: Place, jobs: Iterable[Callable[[], Coroutine[Any, Any, Result]]]
) -> AsyncGenerator[Result, None]:
    """Their results in their order."""

    async def given() -> AsyncGenerator[Callable[[], Coroutine[Any, Any, Result]], None]:
        for job in jobs:
            yield job

    async with aclosing(place.runtime.in_order(given(), DOCUMENTS_AT_ONCE)) as results:
        async for result in results:
            yield result


async def _read_job(place: Place, name: str) -> Job | None:
    """The head, and the pages that it names: of one moment, or else read again."""
    standing = await read_head(place, name)
    while standing is not None:
        try:
            return Job(standing.head, frozenset((await read_kept(place, standing.head)).ids()))
        except OctadError:
            newer = await read_head(place, name)
            if newer == standing:
                raise
            standing = newer
    return None


async def _read_if_there(place: Place, key: JobKey) -> Manifest | None:
    """One that was judged dead before may be deleted only now."""
    path = place.layout.manifest(key.job, key.name)
    found = await place.store.read(path)
    return None if found is None else opened(found.data, Manifest, path)


async def _listed(place: Place, prefix: str) -> list[Listed]:
    return [each async for each in place.store.list(prefix)]
