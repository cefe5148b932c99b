"""Jobs, collectors and people at one prefix in memory, whose requests interleave as a seed says.

What runs is the product, above a store whose every request is one step. Before a step is taken the
seed may end its process for good; a request may fail before or after it took effect, or take effect
long after its process gave it up. After each step that could break something, the rules are checked
from outside: `Broken` says which one, and the last steps.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any, Final

from tests.unit.checkpoints.memory import MemoryLog, MemoryPartitions, checkpoints_in

from octad.client.checkpoints.async_checkpoints import AsyncCheckpoints
from octad.client.checkpoints.async_writer import AsyncCheckpointWriter
from octad.client.checkpoints.collector import Collector
from octad.client.checkpoints.rules.documents import Head, Manifest, opened
from octad.client.checkpoints.rules.names import Layout, owner_of
from octad.client.errors import ConditionFailed, OctadError, Unavailable

LAYOUT: Final = Layout("p/")
JOBS: Final = ("one", "two")
CONTENTS: Final = [b"a", b"b", b"c"]
PARTITION: Final = ("t", 0)
ALIVE_MAX: Final = 4
COLLECT: Final = Collector.collect  # As it is, whatever was planted.


class Broken(AssertionError):
    """A rule does not hold."""


class _Killed(BaseException):
    """So that all of a process unwinds, and none of its clean-up has an effect."""


class _Turn:
    def __await__(self) -> Generator[None, None, None]:
        yield


class World:
    """One run."""

    def __init__(self, seed: int, steps: int = 400) -> None:
        self.chance = random.Random(seed)
        self.objects: dict[str, bytes] = {}
        self.partitions = MemoryPartitions()
        self.partitions.records[PARTITION] = []
        self.story: list[str] = []
        self.owners: set[tuple[str, int]] = set()
        self.ever_kept: dict[str, set[str]] = {job: set() for job in JOBS}
        self.epochs: dict[str, int] = {}
        self._calm = False
        self._dead: set[str] = set()
        self._asleep: dict[str, int] = {}
        self._steps = steps
        self._names = 0
        self._late: list[Callable[[], Any]] = []
        self._actors: list[tuple[str, Coroutine[Any, Any, None]]] = []

    def run(self) -> None:
        """Raises Broken."""
        try:
            for number in range(self._steps):
                if len(self._actors) < ALIVE_MAX and self.chance.random() < 0.2:
                    self._actors.append(self._new_actor(number))
                if self._late and self.chance.random() < 0.1:
                    self._happen(self._late.pop(self.chance.randrange(len(self._late))))
                awake = [each for each in self._actors if self._asleep.get(each[0], 0) <= number]
                if awake:
                    self._go_on(*self.chance.choice(awake), number)
        finally:
            for name, actor in self._actors:
                self._kill(name, actor)
        self._end()

    def _go_on(self, name: str, actor: Coroutine[Any, Any, None], number: int) -> None:
        luck = self.chance.random()
        if luck < 0.07:  # Long enough for others to come, work and go.
            self._asleep[name] = number + self.chance.randrange(100)
            return
        self._actors.remove((name, actor))
        if luck < 0.08:
            self.story.append(f"{name} is killed")
            self._kill(name, actor)
            return
        with suppress(StopIteration):
            actor.send(None)
            self._actors.append((name, actor))

    def _end(self) -> None:
        """After a begin of each job and a collection nothing is left that nobody needs."""
        self._calm = True
        for effect in self._late:
            self._happen(effect)
        for job in JOBS:
            _drive(self._checkpoints(job, "end").begin([PARTITION]))
        place = self._checkpoints(JOBS[0], "end").place
        _drive(COLLECT(Collector(place)))
        named = set()
        for job in JOBS:
            for kept in self.head(job).kept:
                key = LAYOUT.manifest(job, kept.id)
                named.add(key)
                manifest = opened(self.objects[key], Manifest, key)
                named |= {LAYOUT.data(p.data) for file in manifest.files for p in file.parts}
        for key in self.objects:
            if key not in named and not key.endswith(("/head", "/collection")):
                raise self._broken(f"{key} is an orphan")
        ids = {each.id for job in JOBS for each in self.head(job).kept}
        for _, checkpoint, _, _ in self.partitions.pins:
            if checkpoint not in ids:
                raise self._broken(f"a pin of {checkpoint} is left")

    # Who acts.

    def _new_actor(self, number: int) -> tuple[str, Coroutine[Any, Any, None]]:
        job = self.chance.choice(JOBS)
        kind = self.chance.choice(("writer", "writer", "writer", "collector", "keeper", "trimmer"))
        name = f"{kind} {number} of {job}"
        checkpoints = self._checkpoints(job, name)
        match kind:
            case "writer":
                return name, self._write(checkpoints, name)
            case "collector":
                return name, _ending_well(Collector(checkpoints.place).collect())
            case "keeper":
                return name, _ending_well(checkpoints.keep(1))
        return name, _ending_well(self._trim(name))

    def _checkpoints(self, job: str, name: str) -> AsyncCheckpoints:
        async def step(what: str, effect: Callable[[], Any]) -> Any:
            return await self._step(name, what, effect)

        log = MemoryLog(self.partitions, step)
        return checkpoints_in(self.objects, job, log=log, step=step, token=self._token)

    def _token(self) -> str:
        self._names += 1
        return f"{self._names:016x}"

    async def _write(self, checkpoints: AsyncCheckpoints, name: str) -> None:
        chance = self.chance
        other = JOBS[1 - JOBS.index(checkpoints.job)]
        known = sorted(self.ever_kept[other])
        bases = [(other, chance.choice(known))] if known and chance.random() < 0.5 else []
        try:
            writer = await checkpoints.begin([PARTITION], keep=chance.choice((1, 2)), bases=bases)
            owner = checkpoints.job, writer.epoch
            if owner in self.owners:
                raise self._broken(f"{name}: epoch {writer.epoch} has two owners")
            self.owners.add(owner)
            log_end = len(self.partitions.records[PARTITION])
            last = await writer.latest()
            if last is not None and chance.random() < 0.3:
                for path in await last.files():
                    await last.read(path)
            for _ in range(chance.randrange(5)):
                await self._append(name, writer)
                self._check_appends(checkpoints.job, writer.epoch, log_end)
                for path in chance.sample("xyz", chance.randrange(3)):
                    await writer.put(path, chance.choice(CONTENTS))
                first = self.partitions.start.get(PARTITION, 0)
                offset = chance.randint(first, len(self.partitions.records[PARTITION]))
                await self._commit(writer, offset)
        except OctadError as error:
            self.story.append(f"{name} ends: {error!r}")

    async def _commit(self, writer: AsyncCheckpointWriter, offset: int) -> None:
        try:
            made = await writer.commit({PARTITION: offset})
        except Unavailable:  # It goes on; whether that one is there will turn out.
            return
        if made.id not in self.ever_kept[writer.job]:
            raise self._broken(f"{made.id} was said to be committed, and never was")

    async def _append(self, name: str, writer: AsyncCheckpointWriter) -> None:
        fences = self.partitions.fences

        def effect() -> None:
            if writer.epoch < fences.get((*PARTITION, writer.job), 0):
                raise ConditionFailed("fenced", "end", code="", status=412, request_id="")
            self.partitions.records[PARTITION].append((writer.job, writer.epoch))

        await self._step(name, "append", effect)

    async def _trim(self, name: str) -> None:
        def effect() -> None:
            records = len(self.partitions.records[PARTITION])
            self.partitions.start[PARTITION] = min([records, *self.partitions.pins.values()])

        await self._step(name, "trim", effect)

    # Steps.

    def _kill(self, name: str, actor: Coroutine[Any, Any, None]) -> None:
        self._dead.add(name)
        with suppress(_Killed, StopIteration):
            actor.send(None)

    async def _step(self, name: str, what: str, effect: Callable[[], Any]) -> Any:
        if self._calm:
            return effect()
        if name in self._dead:
            raise _Killed
        await _Turn()
        if name in self._dead:
            raise _Killed
        lost = Unavailable(f"{what}: no answer", "try again", outcome_unknown=True)
        luck = self.chance.random()
        is_read = what.startswith(("read", "list", "pins"))
        if luck < 0.02:
            self.story.append(f"{name}: {what}, not done")
            raise lost
        if luck < 0.05 and not is_read:
            self.story.append(f"{name}: {what}, not yet")
            self._late.append(effect)
            raise lost
        self.story.append(f"{name}: {what}")
        result = effect()
        if not is_read:
            self._check(what)
        if luck > 0.97 and not is_read:
            self.story.append("  its answer is lost")
            raise lost
        return result

    def _happen(self, effect: Callable[[], Any]) -> None:
        self.story.append("what was given up happens")
        try:
            effect()
        except OctadError:
            return
        self._check("put delete trim head")

    # What must hold.

    def head(self, job: str) -> Head:
        key = LAYOUT.head(job)
        return opened(self.objects[key], Head, key)

    def _check(self, what: str) -> None:
        if not any(word in what for word in ("delete", "head", "trim")):
            return
        for job in JOBS:
            if LAYOUT.head(job) in self.objects:
                self._check_job(job)

    def _check_job(self, job: str) -> None:
        head = self.head(job)
        if head.epoch < self.epochs.get(job, 0):
            raise self._broken(f"job {job} went back to epoch {head.epoch}")
        self.epochs[job] = head.epoch
        for kept in head.kept:
            if kept.id not in self.ever_kept[job]:
                self.ever_kept[job].add(kept.id)
                if owner_of(kept.id) != f"{head.epoch}-{head.nonce}":
                    raise self._broken(f"{kept.id} was committed by another one than the owner")
            key = LAYOUT.manifest(job, kept.id)
            if key not in self.objects:
                raise self._broken(f"{key} is kept and gone")
            for file in opened(self.objects[key], Manifest, key).files:
                for part in file.parts:
                    if LAYOUT.data(part.data) not in self.objects:
                        raise self._broken(f"{part.data}, of {kept.id} of {job}, is gone")
            for at in kept.offsets:
                if self.partitions.start.get((at.topic, at.partition), 0) > at.offset:
                    raise self._broken(f"the log of {kept.id} of {job} is trimmed")

    def _check_appends(self, job: str, epoch: int, log_end: int) -> None:
        for name, token in self.partitions.records[PARTITION][log_end:]:
            if name == job and token < epoch:
                raise self._broken(f"epoch {token} of {job} appended behind the begin of {epoch}")

    def _broken(self, rule: str) -> Broken:
        return Broken("\n".join([rule, *self.story[-60:]]))


async def _ending_well(work: Coroutine[Any, Any, Any]) -> None:
    try:
        await work
    except OctadError:
        return


def _drive(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("it waited")
