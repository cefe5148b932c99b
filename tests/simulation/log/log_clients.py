"""Clients of the log at the nodes of a simulated cluster, and what they know when it is over.

Producers send each batch until they hear of it; owners of a job follow one another, the last ones
unaware of it; others expect an offset, pin, release, trim, and read anything at any node.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from octad.storage_node.log.log_messages import PartitionRead
from octad.storage_node.log.partition_tail import ANY_OFFSET, Refusal
from octad.storage_node.log.record_batch import batch_of, split_batches
from octad.storage_node.log.records import Record, decode_records, encode_records
from octad.storage_node.log.topic_log import Appended, AppendRefused, Batch, TopicLog
from octad.storage_node.shards.object_store import (
    StoreError,
    Topic,
    Unavailable,
)

if TYPE_CHECKING:
    from tests.simulation.cluster.machines.node_process import NodeProcess
    from tests.simulation.cluster.world import World

TOPIC, JOB, PARTITIONS = "topic", "job", 2
PRODUCERS = 3
THINK_S = 0.25
TRY_AGAIN_S = 0.1
Found = TypeVar("Found")


class LogClients:
    """See the module. `counts`: what they got done."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.loop = world.new_loop("clients of the log")
        self.random = Random(f"clients of the log {world.timeline.seed}")
        self.counts: Counter[str] = Counter()
        self.stopped = False
        self._running: set[asyncio.Task[Any]] = set()
        self._numbers = 0
        self._tokens = 0
        self._values: list[dict[int, str]] = [{} for _ in range(PARTITIONS)]  # By offset, as seen.
        self._acknowledged: list[tuple[int, int, str]] = []  # Partition, offset, value.
        self._fenced: list[tuple[int, int, int]] = []  # Partition, token, where the log ended.
        self._pins: dict[tuple[int, str], int] = {}  # Those that are there for certain.
        self._trimmed = [0] * PARTITIONS
        self._marks: defaultdict[tuple[int, int], int] = defaultdict(int)  # Of reader, partition.

    # -- what they do --------------------------------------------------------------------------

    def begin(self) -> asyncio.Task[Any]:
        """Make the topic, before anything else."""
        return self._spawn(self._make())

    def start(self) -> None:
        for number in range(PRODUCERS):
            self._spawn(self._produce(number))
        for act in (self._own, self._expect, self._pin, self._trim, self._read, self._read):
            self._spawn(self._again(act))

    async def _make(self) -> None:
        async def make(log: TopicLog) -> Topic:
            try:
                return await log.topic(TOPIC)
            except StoreError:
                return await log.create(TOPIC, "root", PARTITIONS, "", {})

        await self._surely(make)

    async def _again(self, act: Callable[[], Awaitable[None]]) -> None:
        while not self.stopped:
            await asyncio.sleep(self.random.random() * THINK_S)
            await act()

    async def _produce(self, number: int) -> None:
        """Each batch again and again, by any node, until it is answered."""
        id = await self._surely(lambda log: _with_topic(log, log.make_producer))
        sequence, partition = 0, number % PARTITIONS
        while not self.stopped:
            await asyncio.sleep(self.random.random() * THINK_S)
            count = self.random.randint(1, 3)
            values = [f"p{number}.{sequence + n}" for n in range(count)]
            appended = None
            while appended is None:
                appended = await self._append(partition, values, (id, 0, sequence))
                await asyncio.sleep(TRY_AGAIN_S if appended is None else 0)
            if isinstance(appended, AppendRefused):
                self.world.fail(f"producer {number} is refused {values}: {appended}")
            sequence += count

    async def _own(self) -> None:
        """The job, beside those who own it no more and do not know."""
        self._tokens += 1
        token, partition = self._tokens, self.random.randrange(PARTITIONS)

        async def fence(log: TopicLog) -> tuple[int, int]:
            topic = await log.topic(TOPIC)
            stands = await log.raise_fence(topic, partition, JOB, token)
            return stands, (await log.bounds(topic, partition)).next

        fenced = await self._ask(fence)
        if fenced is None:
            return
        stands, end = fenced
        if stands < token:
            self.world.fail(f"a fence of {token} is answered with {stands}")
        self._fenced.append((partition, stands, end))
        self.counts["fenced"] += 1
        if stands == token:
            self._spawn(self._append_as_owner(partition, token))

    async def _append_as_owner(self, partition: int, token: int) -> None:
        for _ in range(self.random.randint(1, 12)):
            if self.stopped:
                return
            values = [f"j{token}.{self._number()}"]
            appended = await self._append(partition, values, job=JOB, token=token)
            if isinstance(appended, AppendRefused):
                assert appended.refusal is Refusal.FENCED_JOB
                if appended.fence <= token:
                    self.world.fail(f"{token} is refused, and the fence is {appended.fence}")
                self.counts["fenced out"] += 1
                return
            await asyncio.sleep(self.random.random() * THINK_S)

    async def _expect(self) -> None:
        partition = self.random.randrange(PARTITIONS)
        bounds = await self._ask(_bounds_of(partition))
        if bounds is None:
            return
        expected = bounds.next + self.random.choice((0, 0, 0, 1, -1))
        if expected < 0:
            return
        appended = await self._append(partition, [f"e{self._number()}"], expect=expected)
        if isinstance(appended, Appended) and appended.base != expected:
            self.world.fail(f"{expected} was expected, and it is at {appended.base}")
        self.counts["expected, done" if isinstance(appended, Appended) else "expected"] += 1

    async def _pin(self) -> None:
        partition, id = self.random.randrange(PARTITIONS), f"{self._number()}"
        held = [pin for pin in self._pins if pin[0] == partition]
        if len(held) > 2 or (held and self.random.random() < 0.4):
            released = self.random.choice(held)
            del self._pins[released]  # From now on it may be gone.
            of = *released[:1], JOB, released[1]
            await self._ask(lambda log: _done(log, log.release_pin, *of))
            return
        bounds = await self._ask(_bounds_of(partition))
        if bounds is None:
            return
        offset = self.random.randint(bounds.start, bounds.next)
        of_pin = partition, JOB, id, offset
        if await self._ask(lambda log: _done(log, log.pin, *of_pin)):
            self._pins[partition, id] = offset
            self.counts["pinned"] += 1

    async def _trim(self) -> None:
        partition = self.random.randrange(PARTITIONS)
        held = {pin: at for pin, at in self._pins.items() if pin[0] == partition}
        floor = self._trimmed[partition]
        bounds = await self._ask(_bounds_of(partition))
        if bounds is None:
            return
        still = [at for pin, at in held.items() if pin in self._pins]
        if not floor <= bounds.start <= min(still, default=bounds.start):
            self.world.fail(f"the log begins at {bounds.start}: trimmed {floor}, pins at {still}")
        start = self.random.randint(bounds.start, bounds.next)
        if self.random.random() < 0.7:
            start = bounds.start + (start - bounds.start) // 4
        if await self._ask(lambda log: _done(log, log.trim, partition, start)):
            self._trimmed[partition] = max(self._trimmed[partition], start)
            self.counts["trimmed"] += 1

    async def _read(self) -> None:
        partition, reader = self.random.randrange(PARTITIONS), self.random.randrange(3)
        seen = self._marks[reader, partition]
        offset = self.random.randint(self._trimmed[partition], max(seen, self._trimmed[partition]))
        await self._fetch(partition, offset, reader, seen)

    async def _fetch(self, partition: int, offset: int, reader: int, seen: int) -> int | None:
        """Where to go on; None: it is not known. Only from the door of one node, if it is told."""
        wait_s = self.random.choice((0.0, 0.0, 0.3))

        async def fetch(log: TopicLog) -> tuple[int, bytes]:
            topic = await log.topic(TOPIC)
            fetched, data = await log.fetch(topic, partition, offset, 5000, wait_s, seen)
            return fetched.next, bytes(data)

        found = await self._ask(fetch)
        if found is None:
            return None
        mark, data = found
        if mark < seen and data:
            self.world.fail(f"reader {reader} has seen {seen}, and is shown {mark}")
        self._marks[reader, partition] = max(self._marks[reader, partition], mark)
        return self._note(partition, offset, mark, data)

    def _note(self, partition: int, offset: int, mark: int, data: bytes) -> int:
        """Every offset has one value for ever, and none is left out."""
        values, place = self._values[partition], None
        for header, batch in split_batches(memoryview(data)):
            for at, record in decode_records(header, batch):
                if at >= mark or at != (place if place is not None else at):
                    self.world.fail(f"{at} is read, after {place} and with the mark at {mark}")
                place = at + 1
                value = (record.value or b"").decode()
                if values.setdefault(at, value) != value:
                    self.world.fail(f"{at} was {values[at]}, and is {value}")
        if data and not min(header.base for header, _ in split_batches(memoryview(data))) <= offset:
            self.world.fail(f"what is read from {offset} on begins later")
        self.counts["read"] += bool(data)
        return offset if place is None else place

    # -- appends -------------------------------------------------------------------------------

    async def _append(
        self,
        partition: int,
        values: Sequence[str],
        producer: tuple[int, int, int] = (-1, -1, -1),
        expect: int = ANY_OFFSET,
        job: str = "",
        token: int = -1,
    ) -> Appended | AppendRefused | None:
        """None: no one knows."""
        records = [Record(None, value.encode(), 1) for value in values]
        data = memoryview(batch_of(encode_records(records, 1), len(values), 1, 1, producer))
        batches = [Batch(header, batch) for header, batch in split_batches(data)]

        async def append(log: TopicLog) -> Appended | AppendRefused:
            topic = await log.topic(TOPIC)
            (outcome,) = await log.append(topic, partition, batches, expect, job, token)
            return outcome

        outcome = await self._ask(append)
        if isinstance(outcome, Appended):
            self._acknowledged += [
                (partition, outcome.base + n, value) for n, value in enumerate(values)
            ]
            self.counts["appended"] += 1
        return outcome

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    # -- a node --------------------------------------------------------------------------------

    async def _surely(self, work: Callable[[TopicLog], Awaitable[Found]]) -> Found:
        while (found := await self._ask(work)) is None:
            await asyncio.sleep(TRY_AGAIN_S)
        return found

    async def _ask(
        self,
        work: Callable[[TopicLog], Awaitable[Found]],
        at: NodeProcess | None = None,
    ) -> Found | None:
        """At any node; None: it refuses, or no one knows what became of it."""
        process = at or self.world.any_serving(self.random)
        if process is None:
            await asyncio.sleep(TRY_AGAIN_S)
            return None
        world, arrived = self.world, self.loop.create_future()

        def answer(outcome: str, found: Any) -> None:
            reply = found if outcome == "done" else None
            world.timeline.after(
                world.network.delay(), self.loop.call_soon, _arrive, arrived, reply
            )

        def begin() -> None:
            if process.is_serving and process.parts is not None:
                world.clients.ask(process, _answered(work(process.parts.objects.topics)), answer)
            else:
                answer("unknown", None)

        world.timeline.after(world.network.delay(), begin)
        reply: Found | None = await arrived
        return reply

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = self.loop.spawn(work, "a client of the log")
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            raise error

    # -- afterwards ----------------------------------------------------------------------------

    def read_everything(self) -> asyncio.Task[Any]:
        """At each node, when all works again."""
        return self._spawn(self._read_everything(set(self._running)))

    async def _read_everything(self, running: set[asyncio.Task[Any]]) -> None:
        if running:  # What is asked for already may be appended yet.
            await asyncio.wait(running)
        for partition in range(PARTITIONS):
            bounds = await self._surely(_bounds_of(partition))
            for process in self.world.processes():
                offset = bounds.start
                while offset < bounds.next:
                    offset = await self._read_on(process, partition, offset, bounds.next)
            self._check(partition, bounds.start, bounds.next)

    async def _read_on(self, process: NodeProcess, partition: int, offset: int, end: int) -> int:
        async def fetch(log: TopicLog) -> tuple[int, bytes]:
            topic = await log.topic(TOPIC)
            fetched, data = await log.fetch(topic, partition, offset, 5000, 1.0, end)
            return fetched.next, bytes(data)

        found = await self._ask(fetch, process)
        if found is None:
            await asyncio.sleep(TRY_AGAIN_S)
            return offset
        return self._note(partition, offset, *found)

    def _check(self, partition: int, start: int, end: int) -> None:
        fail = self.world.fail
        values = {at: v for at, v in self._values[partition].items() if start <= at}
        if sorted(values) != list(range(start, end)):
            fail(f"there are {sorted(values)} of {start} to {end}")
        there = Counter(self._values[partition].values())
        if there and max(there.values()) > 1:
            fail(f"more than once: {[value for value, n in there.items() if n > 1]}")
        for number, at, value in self._acknowledged:
            if number == partition and at >= start and values.get(at) != value:
                fail(f"{value} was acknowledged at {at}, where {values.get(at)} is")
        for number in range(PRODUCERS):
            mine = [v for _, v in sorted(values.items()) if v.startswith(f"p{number}.")]
            sequences = [int(value.partition(".")[2]) for value in mine]
            if sequences and sequences != list(range(sequences[0], sequences[0] + len(sequences))):
                fail(f"the batches of producer {number} are not in order: {sequences}")
        for number, token, fenced_at in self._fenced:
            late = [v for at, v in values.items() if at >= fenced_at and _token_of(v) < token]
            if number == partition and late:
                fail(f"{late} came after the fence of {token} was raised, at {fenced_at}")
        pins = [at for (number, _), at in self._pins.items() if number == partition]
        if not self._trimmed[partition] <= start <= min(pins, default=start):
            fail(f"it begins at {start}: trimmed {self._trimmed[partition]}, pins at {pins}")


def _token_of(value: str) -> int:
    """A value of nobody's job has the highest of all."""
    return int(value[1:].partition(".")[0]) if value.startswith("j") else 1 << 62


def _bounds_of(partition: int) -> Callable[[TopicLog], Awaitable[PartitionRead]]:
    return lambda log: _with_topic(log, log.bounds, partition)


async def _with_topic(log: TopicLog, ask: Callable[..., Awaitable[Found]], *of: Any) -> Found:
    return await ask(await log.topic(TOPIC), *of)


async def _done(log: TopicLog, ask: Callable[..., Awaitable[None]], *of: Any) -> bool:
    await ask(await log.topic(TOPIC), *of)
    return True


async def _answered(work: Awaitable[Found]) -> Found | None:
    """None where it is refused."""
    try:
        return await work
    except Unavailable:
        raise
    except StoreError:
        return None


def _arrive(arrived: asyncio.Future[Any], found: Any) -> None:
    if not arrived.done():
        arrived.set_result(found)
