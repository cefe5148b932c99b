"""Clients at the nodes' object stores: they read, write, delete and list a few keys, delete some of
them together, and remember what they saw.

Many a writer does not wait for its front door's patience to end, but tries again through another
one, as an SDK does. It hears its newest try alone; the older ones go on where they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.model.simulated_clients import pieces

from octad.chaos.check.linearizability import ANY, INFINITE, Done, Verdict, check
from octad.sharding.ids import BucketId
from octad.sharding.limits import SDK_RETRY_AGE_S
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.conditions import ANY_ETAG, Condition
from octad.storage_node.shards.object_store import (
    Bucket,
    ListQuery,
    PreconditionFailed,
    StoreError,
)

if TYPE_CHECKING:
    from tests.simulation.cluster.machines.node_process import NodeProcess
    from tests.simulation.cluster.world import World

BUCKET = "bucket"
KEYS = tuple(f"key-{number}".encode() for number in range(10))
THINK_S = 0.12
NOBODY = -1
ATTEMPTS_MAX = 3
SIZES = (0, 1, 100, 3000)

Answer = Callable[[str, Any], None]
"""The outcome ("done", "refused" or "unknown") and what was found."""


def body_of(value: str) -> bytes:
    """The bytes of the object whose ETag is `value`: of many sizes."""
    size = SIZES[sum(value.encode()) % len(SIZES)]
    return (value.encode() * (size // len(value) + 1))[: max(size, len(value))]


@dataclass(slots=True, eq=False)
class Invocation:
    """One write of one client, however often it is tried."""

    key: bytes
    value: str | None  # None: a delete.
    condition: Any  # The value that must stand (None: absent), or ANY.
    request_id: bytes
    done: Done
    attempts: int = 0
    finished: bool = False


class Clients:
    """See the module. Its choices come from a source of their own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = Random(f"clients {world.timeline.seed}")
        self.history: dict[bytes, list[Done]] = {key: [] for key in KEYS}
        self._refused_for_good: set[bytes] = set()
        self._tried_again: set[int] = set()  # The ids of the histories' entries of such writes.
        self._committed: set[bytes] = set()  # By whichever node, and whoever has asked.
        self.impatient = self.random.random() < 0.6
        self.hasty = self.random.random() < 0.15
        self.stopped = False
        self.answered = self.unknown = self.refused = self.lists = self.retried = 0
        self.undecided = 0
        self._seen: dict[tuple[int, bytes], str | None] = {}
        self._numbers = 0
        self._bucket: Bucket | None = None

    # -- what they do ------------------------------------------------------------------------------

    async def make_bucket(self, process: NodeProcess) -> None:
        """Before anything else."""
        self._bucket = await process.objects.create_bucket(BUCKET, "root")

    @property
    def bucket_id(self) -> BucketId:
        assert self._bucket is not None
        return self._bucket.id

    def start(self, clients: int) -> None:
        for client in range(clients):
            self.world.timeline.after(client * 0.01, self._next, client)

    def _next(self, client: int) -> None:
        """Something at a running node; the next one follows its answer."""
        world, random = self.world, self.random
        if self.stopped:
            return
        process = world.any_serving(random)
        if process is None:
            world.timeline.after(0.2, self._next, client)
            return
        key, dice = random.choice(KEYS), random.random()
        if dice < 0.08:
            self._list(client, process)
        elif dice < 0.45:
            self._read(client, process, key, head=dice < 0.12)
        elif dice < 0.49:
            self._delete_together(client, process)
        else:
            condition: Any = ANY
            if dice > 0.75:
                condition = self._seen.get((client, key)) if random.random() < 0.8 else None
            self._numbers += 1
            value = None if dice < 0.53 or dice > 0.96 else f"v{self._numbers}"
            self._write(client, process, key, value, condition)

    def _think(self, client: int) -> None:
        if client != NOBODY:
            self.world.timeline.after(self.random.random() * THINK_S, self._next, client)

    def _read(self, client: int, process: NodeProcess, key: bytes, *, head: bool) -> None:
        done = self._begin(key, is_write=False)

        async def read() -> str | None:
            objects, bucket = process.objects, await process.objects.get_bucket(BUCKET)
            if head:
                row = await objects.get_row(bucket, key)
                return None if row is None else row.etag
            found = await objects.get_object(bucket, key)
            if found is None:
                return None
            if found.data is None or bytes(found.data) != body_of(found.row.etag):
                self.world.fail(f"the bytes of {key!r} are not those of {found.row.etag}")
            return found.row.etag

        def finish(outcome: str, found: Any) -> None:
            if outcome == "done":
                done.returned, done.value = self.world.timeline.time, found
                self._seen[client, key] = found
            self._count(outcome)
            self._think(client)

        self.ask(process, read(), finish)

    def _list(self, client: int, process: NodeProcess) -> None:
        """A read of every key, at any moment of it."""
        called = self.world.timeline.time

        async def list_all() -> dict[bytes, str]:
            bucket = await process.objects.get_bucket(BUCKET)
            page = await process.objects.list_keys(bucket, ListQuery(limit=1000))
            if [key for key, _ in page.entries] != sorted({key for key, _ in page.entries}):
                self.world.fail(f"a list is not in order: {page.entries}")
            return {key: row.etag for key, row in page.entries if row is not None}

        def finish(outcome: str, found: Any) -> None:
            if outcome == "done":
                self.lists += 1
                returned = self.world.timeline.time
                for key in KEYS:
                    self.history[key].append(Done(called, returned, False, found.get(key)))
            self._count(outcome)
            self._think(client)

        self.ask(process, list_all(), finish)

    def _begin(
        self, key: bytes, *, is_write: bool, value: str | None = None, condition: Any = ANY
    ) -> Done:
        done = Done(self.world.timeline.time, INFINITE, is_write, value, condition)
        self.history[key].append(done)
        return done

    # -- writes ------------------------------------------------------------------------------------

    def _write(
        self, client: int, process: NodeProcess, key: bytes, value: str | None, condition: Any
    ) -> None:
        invocation = self._invoke(key, value, condition)

        def finish(outcome: str) -> None:
            self._end_write(client, invocation, outcome)
            self._think(client)

        self._try_at(process, invocation, finish)
        if self.impatient and self.random.random() < 0.5:
            self.world.timeline.after(self._patience_s(), self._try_elsewhere, invocation, finish)

    def _delete_together(self, client: int, process: NodeProcess) -> None:
        """Several keys by one request. Who tries again asks for each that is left by itself."""
        keys = self.random.sample(KEYS, self.random.randint(2, 5))
        asked = {key: self._invoke(key, None, ANY, attempts=1) for key in keys}
        ends = {key: partial(self._end_write, client, each) for key, each in asked.items()}

        async def delete() -> dict[bytes, Any]:
            objects, bucket = process.objects, await process.objects.get_bucket(BUCKET)
            ids = {key: each.request_id for key, each in asked.items()}
            return {**await objects.delete_objects(bucket, ids)}

        def answer(outcome: str, found: Any) -> None:
            for key, invocation in asked.items():
                if invocation.finished or invocation.attempts != 1:
                    continue
                is_done = outcome == "done" and not isinstance(found[key], StoreError)
                if self.impatient and not is_done:
                    self.world.timeline.after(0.1, self._try_elsewhere, invocation, ends[key])
                    continue
                invocation.finished = True
                ends[key]("done" if is_done else "unknown")
            self._think(client)

        self.ask(process, delete(), answer)
        if self.impatient and self.random.random() < 0.5:
            delay = self._patience_s()
            for key, invocation in asked.items():
                self.world.timeline.after(delay, self._try_elsewhere, invocation, ends[key])

    def _invoke(
        self, key: bytes, value: str | None, condition: Any, attempts: int = 0
    ) -> Invocation:
        done = self._begin(key, is_write=True, value=value, condition=condition)
        request_id = b"client  " + self.random.randbytes(8)
        return Invocation(key, value, condition, request_id, done, attempts)

    def _end_write(self, client: int, invocation: Invocation, outcome: str) -> None:
        if outcome != "unknown":
            invocation.done.returned = self.world.timeline.time
            invocation.done.refused = outcome == "refused"
        if outcome == "refused":
            lost = self.world.operator.recoveries
            if invocation.request_id in self._committed and not lost:
                self.world.fail(f"{invocation} is refused, and was committed")
            self._refused_for_good.add(invocation.request_id)
        elif outcome == "done":
            self._seen[client, invocation.key] = invocation.value
        self._count(outcome)

    def _patience_s(self) -> float:
        """How long a client waits before it tries elsewhere beside its first try."""
        delay = self.random.random() ** 2 * 2.5
        return delay * 0.02 if self.hasty else delay + 0.1

    def _try_at(
        self, process: NodeProcess, invocation: Invocation, finish: Callable[[str], None]
    ) -> None:
        """One more attempt of the client's, of which it hears from now on."""
        invocation.attempts += 1
        if invocation.attempts > 1:
            self._tried_again.add(id(invocation.done))
        attempt = invocation.attempts

        def answer(outcome: str, _: Any) -> None:
            if invocation.finished or invocation.attempts != attempt:
                return
            if outcome == "unknown" and self.impatient and attempt < ATTEMPTS_MAX:
                self.world.timeline.after(0.1, self._try_elsewhere, invocation, finish)
                return
            invocation.finished = True
            finish(outcome)

        age_s = 0.0 if attempt == 1 else SDK_RETRY_AGE_S
        self.ask(process, _written(process, invocation, age_s), answer)

    def _try_elsewhere(self, invocation: Invocation, finish: Callable[[str], None]) -> None:
        process = self.world.any_serving(self.random)
        if invocation.finished or invocation.attempts == ATTEMPTS_MAX:
            return
        if process is None:
            self.world.timeline.after(0.3, self._try_elsewhere, invocation, finish)
            return
        self.retried += 1
        self._try_at(process, invocation, finish)
        delay = 0.1 + self.random.random() * 1.5
        self.world.timeline.after(delay, self._try_elsewhere, invocation, finish)

    # -- a node ------------------------------------------------------------------------------------

    def ask(self, process: NodeProcess, work: Coroutine[Any, Any, Any], answer: Answer) -> None:
        """Do it in the node's process; its end is an answer, too."""

        def on_end(outcome: str, found: Any) -> None:
            if answers.pop(task, None) is not None:
                answer(outcome, found)

        def on_done(task: asyncio.Task[Any]) -> None:
            if task.cancelled():
                on_end("unknown", None)
                return
            error = task.exception()
            if error is None:
                on_end("done", task.result())
            elif isinstance(error, PreconditionFailed):
                on_end("refused", None)
            elif isinstance(error, StoreError):
                on_end("unknown", None)
            else:
                self.world.fail(f"a client's request ended in {error!r}")

        answers = process.answers
        task = process.loop.spawn(work, "a client's request")
        answers[task] = on_end
        task.add_done_callback(on_done)

    def _count(self, outcome: str) -> None:
        if outcome == "unknown":
            self.unknown += 1
        else:
            self.answered += 1
            self.refused += outcome == "refused"

    # -- afterwards --------------------------------------------------------------------------------

    def check_not_refused(self, kind: RecordKind, request_ids: Sequence[bytes]) -> None:
        """What is committed was refused to no one, and never will be."""
        if kind is RecordKind.REFUSED:
            return
        for request_id in request_ids:
            if request_id in self._refused_for_good:
                self.world.fail(f"request {request_id.hex()} was refused, and is committed")
        self._committed.update(request_ids)

    def read_everything(self) -> Callable[[], bool]:
        """The last reads of all, at each node; returns whether some are still under way."""
        for process in self.world.processes():
            for key in KEYS:
                self._read(NOBODY, process, key, head=False)
        return lambda: any(process.answers for process in self.world.processes())

    def check_histories(self) -> None:
        for key, whole in self.history.items():
            cuts = self.world.operator.cuts.get(key, [])
            for at_first, history in pieces(whole, cuts, self._tried_again):
                self._check_history(key, at_first, history)

    def _check_history(self, key: bytes, at_first: str | None, history: list[Done]) -> None:
        verdict = check(history, at_first)
        if verdict is Verdict.UNDECIDED:
            self.undecided += 1
        elif verdict is Verdict.VIOLATED:
            story = "\n".join(map(shown, sorted(history, key=lambda done: done.called)))
            self.world.fail(f"key {key!r} is not linearizable from {at_first}:\n{story}")


async def _written(process: NodeProcess, invocation: Invocation, age_s: float) -> None:
    objects, key, value = process.objects, invocation.key, invocation.value
    bucket = await objects.get_bucket(BUCKET)
    condition = None
    if invocation.condition is None:
        condition = Condition(none_match=(ANY_ETAG,))
    elif invocation.condition != ANY:
        condition = Condition(match=(invocation.condition,))
    of = invocation.request_id, age_s, condition
    if value is None:
        await objects.delete_object(bucket, key, *of)
    else:
        data = body_of(value)
        await objects.put_object(bucket, key, ObjectRow(len(data), value, 0), data, *of)


def shown(done: Done) -> str:
    """An operation in a line of the story."""
    what = f"write {done.value} if {done.if_match}" if done.is_write else f"read {done.value}"
    return f"{done.called:9.4f} … {done.returned:9.4f} {what}" + " refused" * done.refused
