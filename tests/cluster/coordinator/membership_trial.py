"""Three etcd, two coordinators behind links, instances in processes, watchers: all to be hit.

Coordinators reach etcd, and everyone reaches the coordinators, through links of the trial's own.
What is checked at the end is read from etcd itself, past all of them (`membership_check.py`).
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from tests.cluster.coordinator.coordinator_site import CoordinatorProcess, until
from tests.cluster.coordinator.membership_check import (
    Acknowledged,
    Death,
    Poll,
    Seen,
    Span,
    Stored,
)
from tests.cluster.coordinator.membership_worker import Task
from tests.cluster.coordinator.tcp_link import TcpLink, tcp_link
from tests.cluster.store.etcd_process import EtcdMember, make_etcd
from tests.harness.process_tree import ProcessTree

from octad.client.cluster.join_token import decode_join_token
from octad.client.membership import ServiceEvent, watch
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.etcd import EtcdStore
from octad.coordinator.store.interface import Put, Revision, StoreUnavailable
from octad.coordinator.store.watching import watching

SERVICE = "web"
TTL_S = 4.0
POLL_S = 0.2
READY_S_MAX = 60.0
SETTLED_S_MAX = 30.0  # After the last fault: renewals, and watchers that back off.
# Once a member is back: an election, and coordinators that give up on connections to it.
ETCD_RECOVERS_S = 3.0
# A member that was frozen as the leader asks to end the leases that are over by its clock before it
# hears of the next leader. Seen with 3.6.16: that waits in etcd for as long as any request may.
ETCD_REVOKES_S = 7.0


Fault = Callable[[random.Random], Awaitable[None]]


@dataclass
class Coordinator:
    """One of the two: its process, the link to it, and its links to etcd's members."""

    front: TcpLink
    etcd: list[TcpLink]
    log: Path
    process: CoordinatorProcess


@dataclass
class Worker:
    """A process with instances; ended and started again it is the same worker."""

    task: Task
    log: Path
    process: ProcessTree

    def acknowledged(self) -> list[Acknowledged]:
        told = []
        for line in self.log.read_bytes().splitlines():
            with suppress(msgspec.DecodeError):  # Not ours, or the process was killed just then.
                told.append(msgspec.json.decode(line, type=Acknowledged))
        return told


@dataclass
class Trial:
    """Made by `trial`. What it did and what was seen, for the checks."""

    members: list[EtcdMember]
    coordinators: list[Coordinator]
    token_text: str
    store: EtcdStore  # Past all links.
    version: str  # etcd's version.
    workers: list[Worker] = field(default_factory=list)
    seen: list[list[Seen]] = field(default_factory=list)
    arrived: dict[str, list[float]] = field(
        default_factory=dict
    )  # Times, of instances that joined.
    polls: list[Poll] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)
    etcd_faults: list[Span] = field(default_factory=list)
    etcd_freezes: list[Span] = field(default_factory=list)  # With what they lead to.
    story: list[str] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, work: Coroutine[None, None, None]) -> None:
        """In the background, until the trial ends."""
        self._tasks.append(asyncio.create_task(work))

    async def stop(self) -> None:
        """Raises what a task died of."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for task in self._tasks:
            if not task.cancelled():
                task.result()

    @property
    def urls(self) -> str:
        return ",".join(f"http://{each.front.address}" for each in self.coordinators)

    @property
    def prefix(self) -> str:
        keys = StoreKeys(decode_join_token(self.token_text).cluster)
        return keys.service(SERVICE, "")

    # -- instances and watchers ----------------------------------------------------------------

    def start_worker(self, directory: Path, number: int, instances: int) -> None:
        names = tuple(f"w{number}-{place}" for place in range(instances))
        task = Task(self.urls, self.token_text, SERVICE, names, TTL_S)
        log = directory / f"worker-{number}.log"
        self.workers.append(Worker(task, log, worker_process(task, log)))

    async def follow(self) -> None:
        """One watcher, until cancelled. Every other one prefers the second coordinator."""
        seen: list[Seen] = []
        urls = self.urls.split(",")
        urls = urls[:: -1 if len(self.seen) % 2 else 1]
        self.seen.append(seen)
        async with aclosing(watch(SERVICE, coordinator=",".join(urls))) as events:
            async for event in events:
                seen.append(_seen(event))
                if event.type == "join":
                    self.arrived.setdefault(seen[-1].name, []).append(time.monotonic())

    async def poll(self) -> None:
        """What is listed, read past everything, until cancelled."""
        while True:
            begun_at = time.monotonic()
            try:
                listing = await self.store.range(self.prefix)
            except StoreUnavailable:
                continue  # A member was silent.
            names = frozenset(entry.key.removeprefix(self.prefix) for entry in listing.entries)
            self.polls.append(Poll(begun_at, time.monotonic(), names))
            await asyncio.sleep(POLL_S)

    async def note_elections(self) -> None:
        """Until cancelled: a leader that is starved of time is followed as one that is frozen."""
        term, known_at = 0, time.monotonic()
        while True:
            begun_at = time.monotonic()
            newest = max(await asyncio.gather(*map(_term_of, self.members)))
            if newest > term > 0:
                now = time.monotonic()
                self.etcd_faults.append(Span(known_at, now + ETCD_RECOVERS_S))
                self.etcd_freezes.append(Span(known_at, now + ETCD_REVOKES_S))
                self._tell(f"etcd has held an election: term {newest}")
            if newest:
                term, known_at = max(term, newest), begun_at
            await asyncio.sleep(POLL_S)

    async def history(self, last: Revision) -> list[Stored]:
        """Every change of an instance's key from when etcd was made to `last`, which is one."""
        stored: list[Stored] = []
        async with watching(self.store, self.prefix, Revision(1)) as batches:
            async for batch in batches:
                for event in batch.events:
                    value = None if event.entry is None else event.entry.value
                    name = event.key.removeprefix(self.prefix)
                    stored.append(Stored(event.revision, name, value))
                    if event.revision >= last:
                        return stored
        raise AssertionError("unreachable: a watch has no end")

    async def put(self, name: str) -> Revision:
        """An instance that no session holds."""
        value = b'{"service":"%s","instance":"%s","address":"127.0.0.1:1"}'
        record = value % (SERVICE.encode(), name.encode())
        return (await self.store.transact([], [Put(self.prefix + name, record)])).revision

    async def settle(self) -> Revision:
        """Until every watcher has seen a change after all faults; its revision."""
        last = await self.put("~last")
        wanted = Seen("join", last, "~last")
        await until(
            lambda: all(wanted in seen for seen in self.seen),
            "every watcher sees what came after the faults",
            SETTLED_S_MAX,
        )
        return last

    # -- faults --------------------------------------------------------------------------------

    async def etcd_is_killed(self, rng: random.Random) -> None:
        member = rng.choice(self.members)
        await self._of_etcd(rng, f"{member.url} is killed", member.kill, member.start)

    async def etcd_is_frozen(self, rng: random.Random) -> None:
        member = rng.choice(self.members)
        await self._of_etcd(
            rng,
            f"{member.url} is frozen",
            member.freeze,
            member.thaw,
        )
        freeze = self.etcd_faults[-1]
        self.etcd_freezes.append(Span(freeze.begun_at, freeze.ended_at + ETCD_REVOKES_S))

    async def coordinator_is_killed(self, rng: random.Random) -> None:
        number = rng.randrange(len(self.coordinators))
        coordinator = self.coordinators[number]
        process = coordinator.process

        async def back() -> None:
            log = coordinator.log.with_suffix(f".{time.monotonic_ns()}.log")
            coordinator.process = coordinator_process(
                coordinator.etcd, log, self.token_text, process.address
            )
            await asyncio.to_thread(coordinator.process.wait_until_ready, READY_S_MAX)

        await self._during(rng, f"coordinator {number} is killed", process.kill, back)

    async def coordinator_is_frozen(self, rng: random.Random) -> None:
        number = rng.randrange(len(self.coordinators))
        process = self.coordinators[number].process
        await self._during(
            rng,
            f"coordinator {number} is frozen",
            process.freeze,
            process.thaw,
        )

    async def coordinator_loses_etcd(self, rng: random.Random) -> None:
        number = rng.randrange(len(self.coordinators))
        await self._cut(rng, f"coordinator {number} loses etcd", self.coordinators[number].etcd)

    async def clients_lose_a_coordinator(self, rng: random.Random) -> None:
        number = rng.randrange(len(self.coordinators))
        front = self.coordinators[number].front
        await self._cut(rng, f"all clients lose coordinator {number}", [front])

    async def worker_is_killed(self, rng: random.Random) -> None:
        worker = rng.choice(self.workers)
        self._tell(f"{worker.log.stem} is killed")
        await asyncio.to_thread(worker.process.kill)
        death = Death(frozenset(worker.task.names), time.monotonic())
        self.deaths.append(death)
        # Now and then before its time to live is over.
        await asyncio.sleep(rng.choice((0.5, TTL_S + 3.0)))
        death.replaced_at = time.monotonic()
        worker.process = worker_process(worker.task, worker.log)

    async def worker_is_frozen(self, rng: random.Random) -> None:
        worker = rng.choice(self.workers)
        process = worker.process
        await self._during(
            rng,
            f"{worker.log.stem} is frozen",
            process.freeze,
            process.thaw,
        )

    def pairs_of_faults(self, rng: random.Random) -> list[tuple[Fault, Fault]]:
        """Every kind once, two to come together; never two of etcd's, which needs its majority."""
        others: list[Fault] = [
            self.coordinator_is_frozen,
            self.coordinator_is_killed,
            self.coordinator_loses_etcd,
            self.clients_lose_a_coordinator,
            self.worker_is_killed,
            self.worker_is_frozen,
        ]
        rng.shuffle(others)
        firsts = [self.etcd_is_killed, self.etcd_is_frozen, *others[:2]]
        pairs = list(zip(firsts, others[2:], strict=True))
        rng.shuffle(pairs)
        return pairs

    async def _of_etcd(
        self, rng: random.Random, what: str, begin: Callable[[], object], end: Callable[[], object]
    ) -> None:
        begun_at = time.monotonic()
        try:
            await self._during(rng, what, begin, end)
        finally:
            self.etcd_faults.append(Span(begun_at, time.monotonic() + ETCD_RECOVERS_S))

    async def _cut(self, rng: random.Random, what: str, links: list[TcpLink]) -> None:
        silently = rng.random() < 0.5

        def begin() -> None:
            for link in links:
                link.silence() if silently else link.sever()

        def end() -> None:
            for link in links:
                link.heal()

        await self._during(rng, f"{what}, {'silently' if silently else 'at once'}", begin, end)

    async def _during(
        self, rng: random.Random, what: str, begin: Callable[[], object], end: Callable[[], object]
    ) -> None:
        self._tell(what)
        begin()
        try:
            await asyncio.sleep(rng.uniform(1.0, 5.0))
        finally:
            ended = end()
            if isinstance(ended, Awaitable):
                await ended
            self._tell(f"no longer: {what}")

    def _tell(self, what: str) -> None:
        self.story.append(f"{time.monotonic():.2f} {what}")


async def _term_of(member: EtcdMember) -> int:
    """The term of etcd's present leader, as the member knows it; 0 if it does not answer."""
    try:
        return await asyncio.to_thread(member.term)
    except OSError:
        return 0


def _seen(event: ServiceEvent) -> Seen:
    if event.type == "reset":
        names = frozenset(each.instance for each in event.instances)
        return Seen("reset", event.revision, names=names)
    assert event.instance is not None, "it was seen before it left"
    return Seen(event.type, event.revision, event.instance.instance)


def worker_process(task: Task, log: Path) -> ProcessTree:
    module = "tests.cluster.coordinator.membership_worker"
    command = [sys.executable, "-m", module, msgspec.json.encode(task).decode()]
    return ProcessTree(command, log).start()


def coordinator_process(
    etcd: list[TcpLink], log: Path, token_text: str | None, address: str | None = None
) -> CoordinatorProcess:
    urls = ",".join(f"http://{link.address}" for link in etcd)
    options = [] if token_text is None else ["--join-token", token_text]
    return CoordinatorProcess(urls, log, options, address).start()


def _kill_process(coordinator: Coordinator) -> None:
    coordinator.process.kill()


def _kill_workers(made: Trial) -> None:
    for worker in made.workers:
        worker.process.kill()


@asynccontextmanager
async def trial(directory: Path) -> AsyncIterator[Trial]:
    """etcd and coordinators that are ready; whatever the trial starts ends with the block."""
    members = make_etcd(directory / "etcd", 3)
    async with AsyncExitStack() as stack:
        for member in members:
            stack.callback(member.kill)
            member.start()
        for member in members:
            await asyncio.to_thread(member.wait_until_ready)
        store = EtcdStore([member.url for member in members])
        stack.push_async_callback(store.close)
        coordinators: list[Coordinator] = []
        token_text: str | None = None
        for number in range(2):
            links = [
                await stack.enter_async_context(tcp_link(member.url.removeprefix("http://")))
                for member in members
            ]
            log = directory / f"coordinator-{number}.log"
            process = coordinator_process(links, log, token_text)
            front = await stack.enter_async_context(tcp_link(process.address))
            coordinators.append(Coordinator(front, links, log, process))
            stack.callback(_kill_process, coordinators[-1])
            await asyncio.to_thread(process.wait_until_ready, READY_S_MAX)
            token_text = token_text or process.printed("join token")
        assert token_text is not None
        version = await asyncio.to_thread(members[0].version)
        made = Trial(members, coordinators, token_text, store, version)
        stack.push_async_callback(made.stop)
        stack.callback(_kill_workers, made)
        yield made
