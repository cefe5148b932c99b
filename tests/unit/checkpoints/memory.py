"""Objects, a log and a runtime in memory: every request is one step, which a test may interleave.

ETags are of the content, as S3's are. Where a test gives `steps`, each request waits there before
it takes effect, and may be told to fail, in each of the ways that a request can.
"""

from __future__ import annotations

import hashlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Coroutine,
    Sequence,
)
from functools import partial
from typing import Any, TypeVar, cast

from octad.client.checkpoints.async_checkpoints import AsyncCheckpoints
from octad.client.checkpoints.place import Found, Listed, Log, Pin, Place
from octad.client.checkpoints.rules.names import Layout
from octad.client.errors import ConditionFailed, ObjectNotFound
from octad.client.http.transport import Bytes, Runtime

Result = TypeVar("Result")
Step = Callable[[str, Callable[[], Any]], Awaitable[Any]]


async def at_once(what: str, effect: Callable[[], Any]) -> Any:
    return effect()


class MemoryStore:
    """`objects` may be shared by several stores, each with steps of its own."""

    def __init__(self, objects: dict[str, bytes], step: Step = at_once) -> None:
        self.objects = objects
        self.requests: list[str] = []
        self._step = step

    async def read(self, key: str) -> Found | None:
        def effect() -> Found | None:
            data = self.objects.get(key)
            return None if data is None else Found(data, _etag(data))

        return cast(Found | None, await self._asked("read", key, effect))

    async def read_range(self, key: str, start: int, end: int) -> bytes:
        def effect() -> bytes:
            return self._there(key)[start:end]

        return cast(bytes, await self._asked("read", key, effect))

    async def put(
        self, key: str, data: Bytes, *, if_match: str = "", if_none_match: str = ""
    ) -> str:
        def effect() -> str:
            there = self.objects.get(key)
            if if_none_match and there is not None:
                raise _refused(ConditionFailed, key)
            if if_match and (there is None or _etag(there) != if_match):
                raise _refused(ConditionFailed, key)
            self.objects[key] = bytes(data)
            return _etag(self.objects[key])

        return cast(str, await self._asked("put", key, effect))

    async def copy(self, source: str, key: str) -> None:
        def effect() -> None:
            self.objects[key] = self._there(source)

        await self._asked("copy", source, effect)

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            await self._asked("delete", key, partial(self.objects.pop, key, None))

    async def list(self, prefix: str) -> AsyncGenerator[Listed, None]:
        def effect() -> list[Listed]:
            found = sorted(key for key in self.objects if key.startswith(prefix))
            return [Listed(key, len(self.objects[key])) for key in found]

        for each in await self._asked("list", prefix, effect):
            yield each

    def _there(self, key: str) -> bytes:
        if key not in self.objects:
            raise _refused(ObjectNotFound, key)
        return self.objects[key]

    async def _asked(self, what: str, key: str, effect: Callable[[], Any]) -> Any:
        self.requests.append(f"{what} {key}")
        return await self._step(f"{what} {key}", effect)


class MemoryPartitions:
    """The partitions of all topics: records as (job, token), fences, pins, and where they begin."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[tuple[str, int]]] = {}
        self.fences: dict[tuple[str, int, str], int] = {}
        self.pins: dict[tuple[str, str, str, int], int] = {}
        self.start: dict[tuple[str, int], int] = {}


class MemoryLog:
    """The log as one process sees it."""

    def __init__(self, partitions: MemoryPartitions, step: Step = at_once) -> None:
        self.partitions = partitions
        self._step = step

    async def fence(self, job: str, token: int, topic: str, partition: int) -> None:
        place = topic, partition, job

        def effect() -> None:
            fences = self.partitions.fences
            fences[place] = max(fences.get(place, 0), token)

        await self._step(f"fence {topic} {partition} {job} {token}", effect)

    async def pin(self, job: str, checkpoint: str, topic: str, partition: int, offset: int) -> None:
        def effect() -> None:
            if offset < self.partitions.start.get((topic, partition), 0):
                raise _refused(ConditionFailed, f"{topic}/{partition}")
            self.partitions.pins[job, checkpoint, topic, partition] = offset

        await self._step(f"pin {topic} {partition} {checkpoint} {offset}", effect)

    async def release(self, job: str, checkpoint: str, topic: str, partition: int) -> None:
        def effect() -> None:
            self.partitions.pins.pop((job, checkpoint, topic, partition), None)

        await self._step(f"release {topic} {partition} {checkpoint}", effect)

    async def pins(self) -> Sequence[Pin]:
        def effect() -> list[Pin]:
            return [Pin(*each) for each in self.partitions.pins]

        return cast(Sequence[Pin], await self._step("pins", effect))


class MemoryRuntime:
    """One thing after the other."""

    async def in_order(
        self, jobs: AsyncIterable[Callable[[], Coroutine[Any, Any, Result]]], at_once: int
    ) -> AsyncGenerator[Result, None]:
        async for job in jobs:
            yield await job()

    async def aside(self, work: Callable[[], Result]) -> Result:
        return work()


def place_in(
    objects: dict[str, bytes],
    *,
    log: Log | None = None,
    step: Step = at_once,
    now: Callable[[], float] = lambda: 1000.0,
    token: Callable[[], str] | None = None,
) -> Place:
    place = Place(
        MemoryStore(objects, step), Layout("p/"), cast(Runtime, MemoryRuntime()), log, now
    )
    return place if token is None else place._replace(token=token)


def checkpoints_in(objects: dict[str, bytes], job: str = "job", **more: Any) -> AsyncCheckpoints:
    return AsyncCheckpoints.at(place_in(objects, **more), job)


def _etag(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _refused(kind: type[ConditionFailed] | type[ObjectNotFound], key: str) -> Exception:
    return kind(f"{key}: no", "look", code="No", status=412, request_id="")
