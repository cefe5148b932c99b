"""Registrations over two coordinators that freeze, on one store, in virtual time from one seed.

What runs is what ships: the SDK's sessions with their calls, and the coordinators' registry. Only
the way between them, the store's leases and time are simulated. A coordinator that is frozen goes
on with all it was asked when it thaws, however late, whoever has given up: that is harsher than the
real one, which drops what no one waits for. (Renewals are dropped here, too: a late one makes a
dead process live for another time to live, and does no other harm.)

Checked at every change of the store:

- a session changes nothing of an instance while its process takes it for settled;
- a name has one address for as long as anyone lives who had it and has not let go;
- no one takes a name from a younger process.

And when faults have ended: the newest process at the address is listed as it believes itself to be,
the others know that they are superseded, and of those that died nothing is left.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import msgspec
from tests.unit.membership.registration_ways import KEYS, URLS, Calls, Coordinator, VirtualLoop

from octad.client.cluster.coordinator_calls import (
    CallRefused,
    CoordinatorsUnreachable,
)
from octad.client.cluster.service_records import (
    ServiceInstance,
)
from octad.client.membership.session import Session
from octad.coordinator.membership.relisting import LOOK_S
from octad.coordinator.store.interface import (
    Compare,
    Delete,
    Event,
    KeyValue,
    LeaseExpired,
    LeaseId,
    Outcome,
    StoreOperation,
)
from octad.coordinator.store.keyspace import Keyspace

TTL_S = 4.0
FAULTS_S = 60.0
CALM_S = 2 * TTL_S + 8.0  # The longest freeze, a time to live, and what retries take.
SERVICE = "web"
# One name that several want, of them one at another address; one that no one else wants.
SHARED, OWN = ("a", "10.0.0.5:80"), ("b", "10.0.0.5:81")
RIVAL = ("a", "10.0.0.6:80")


class Violation(AssertionError):
    """An invariant does not hold; the message ends with the last of the story."""


class World:
    """One run; `run_seed` makes it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.loop = asyncio.get_running_loop()
        self.story: list[str] = []
        self.keyspace = Keyspace()
        self.leases: dict[LeaseId, tuple[float, float]] = {}  # How long, and until when.
        self.processes: list[Process] = []
        self.owners: dict[LeaseId, Process] = {}
        self.began: dict[LeaseId, int] = {}  # The first revision with each session.
        self.parts: dict[str, dict[LeaseId, str]] = {}  # Who had each name, and where.
        self.store_is_away = False
        self.coordinators = {url: Coordinator(self, url) for url in URLS}
        self.requests = set[asyncio.Task[tuple[int, bytes]]]()
        self.violation: Violation | None = None
        self.late = self.takeovers = 0

    def tell(self, what: str) -> None:
        self.story.append(f"{self.loop.time():8.3f} {what}")

    def fail(self, what: str) -> None:
        story = "\n".join(self.story[-40:])
        self.violation = self.violation or Violation(f"{what}\n{story}")

    # -- the store -----------------------------------------------------------------------------

    def transact(
        self, compares: Sequence[Compare], operations: Sequence[StoreOperation]
    ) -> Outcome:
        staging = self.keyspace.stage(self.leases.__contains__)
        outcome = staging.transact(compares, operations)
        for change in staging.changes:
            self._check(change.events)
        self.keyspace.publish(staging.changes)
        return outcome

    def grant(self, ttl_s: float) -> LeaseId:
        lease = LeaseId(self.random.getrandbits(62))
        self.leases[lease] = (ttl_s, 0.0)
        self.renew(lease)
        return lease

    def renew(self, lease: LeaseId) -> None:
        if lease not in self.leases:
            raise LeaseExpired(f"{lease:x}")
        ttl_s, _ = self.leases[lease]
        self.leases[lease] = (ttl_s, self.loop.time() + ttl_s)
        self.loop.call_later(ttl_s, self._end_if_due, lease)

    def end(self, lease: LeaseId) -> None:
        if self.leases.pop(lease, None) is None:
            return
        for parts in self.parts.values():
            parts.pop(lease, None)
        staging = self.keyspace.stage(self.leases.__contains__)
        staging.delete_keys_of(lease)
        self.keyspace.publish(staging.changes)

    def _end_if_due(self, lease: LeaseId) -> None:
        if lease in self.leases and self.leases[lease][1] <= self.loop.time():
            self.tell(f"lease {lease:x} ends")
            self.end(lease)

    # -- what must hold ------------------------------------------------------------------------

    def listed(self) -> dict[str, KeyValue]:
        entries = self.keyspace.range(KEYS.services).entries
        return {entry.key.removeprefix(KEYS.services): entry for entry in entries}

    def _check(self, events: Sequence[Event]) -> None:
        by_key = {event.key: event.entry for event in events}
        [writer] = [
            entry.lease
            for key, entry in by_key.items()
            if key.startswith(KEYS.sessions) and entry is not None
        ] or [LeaseId(0)]
        before = self.listed()
        for key, entry in by_key.items():
            if key.startswith(KEYS.sessions) and entry is not None:
                self.began.setdefault(entry.lease, entry.create_revision)
            if not key.startswith(KEYS.services):
                continue
            name = key.removeprefix(KEYS.services)
            old = before.get(name)
            self._check_settled(writer, name)
            if entry is not None:
                self._check_holder(name, entry, old)
        self._let_go(writer, by_key)

    def _check_settled(self, writer: LeaseId, name: str) -> None:
        owner = self.owners.get(writer)
        if owner is not None and owner.is_settled(name):
            self.fail(f"{owner} takes {name} for settled, and it is changed in its name")

    def _check_holder(self, name: str, entry: KeyValue, old: KeyValue | None) -> None:
        record = msgspec.json.decode(entry.value, type=ServiceInstance)
        self.tell(f"{name} is {record.version} at {record.address}, lease {entry.lease:x}")
        parts = self.parts.setdefault(name, {})
        others = {at for lease, at in parts.items() if lease != entry.lease} - {record.address}
        if others:
            self.fail(f"{name} moves to {record.address} while someone of {others} lives")
        parts[entry.lease] = record.address
        if old is not None and old.lease != entry.lease:
            self.takeovers += 1
            if self._age(old.lease) > self._age(entry.lease):
                self.fail(f"{name} is taken from a younger process")

    def _age(self, lease: LeaseId) -> int:
        owner = self.owners.get(lease)
        assert owner is not None, "no one registers with a session that it does not know"
        return owner.born

    def _let_go(self, writer: LeaseId, by_key: dict[str, KeyValue | None]) -> None:
        """Whose name or claim a session has deleted itself, and not by being listed again."""
        for name, parts in self.parts.items():
            own = (KEYS.services + name, f"{KEYS.claims}{name}/{writer:x}")
            entry = by_key.get(own[0])
            if entry is not None and entry.lease == writer:
                continue
            if any(key in by_key and by_key[key] is None for key in own):
                parts.pop(writer, None)

    def check_calm(self) -> None:
        """Once faults have ended for long enough."""
        listed = self.listed()
        for name in {f"{SERVICE}/{instance}" for instance, _ in (SHARED, OWN)}:
            here = [p for p in self.processes if p.is_alive and p.wants == name]
            entry = listed.get(name)
            if not here:
                if entry is not None:
                    self.fail(f"{name} is a ghost")
                continue
            if entry is None:
                self.fail(f"{name} is renewed by {[str(p) for p in here]} and not listed")
                return
            self._check_group(name, entry, here)

    def _check_group(self, name: str, entry: KeyValue, here: list[Process]) -> None:
        owner = self.owners[entry.lease]
        same = [p for p in here if p.address == owner.address]
        if owner is not max(same, key=lambda p: p.born, default=None):
            self.fail(f"{name} shows {owner} of {[str(p) for p in same]}")
        elif entry.value != msgspec.json.encode(owner.believed(name)):
            self.fail(f"{name} shows {entry.value!r} and {owner} believes {owner.believed(name)}")
        for process in same:
            wanted = "listed" if process is owner else "superseded"
            state = process.session.state(*name.split("/"))
            if state != wanted:
                self.fail(f"{process} takes itself for {state}, it is {wanted}")

    async def _check_heir(self) -> None:
        """When the newest leaves, one from before is there, and does not wait for its renewal."""
        name = f"{SERVICE}/{SHARED[0]}"
        entry = self.listed().get(name)
        if entry is None:
            return
        newest = self.owners[entry.lease]
        heirs = [p for p in self._living() if p.wants == name and p.address == newest.address]
        heirs.remove(newest)
        await newest.leave()
        await self.pass_time(LOOK_S + 0.2)
        entry = self.listed().get(name)
        if heirs and (entry is None or self.owners[entry.lease] not in heirs):
            self.fail(f"{name} is free, and none of {[str(p) for p in heirs]} is listed")

    # -- what happens --------------------------------------------------------------------------

    async def run(self) -> None:
        for instance, address in (SHARED, SHARED, OWN, RIVAL):
            self.start(instance, address)
            await self.pass_time(0.3)
        steps = [
            (6, self._update), (1, self._leave), (2, self._crash), (2, self._start),
            (1, self._withdraw), (3, self._reappear), (4, self._freeze), (1, self._lose_store),
            (1, self._lose_lease), (1, self._lose_name),
        ]  # fmt: skip
        weights, doings = zip(*steps, strict=True)
        relisting = [self.loop.create_task(c.relist()) for c in self.coordinators.values()]
        while self.loop.time() < FAULTS_S and self.violation is None:
            self.random.choices(doings, weights)[0]()
            await self.pass_time(self.random.uniform(0.05, 1.5))
        for coordinator in self.coordinators.values():
            coordinator.freeze(1.5)
        for process in self._living():
            process.do(process.register)  # Some give up, and it is done all the same.
        self.store_is_away = False
        await self.pass_time(CALM_S)
        if self.violation is None:
            self.check_calm()
            await self._check_heir()
        for process in self.processes:
            await process.die()
        for task in relisting:
            task.cancel()
        await asyncio.gather(*relisting, return_exceptions=True)
        await asyncio.gather(*self.requests, return_exceptions=True)
        if self.violation is not None:
            raise self.violation

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def start(self, instance: str, address: str) -> None:
        process = Process(self, len(self.processes) + 1, instance, address)
        self.processes.append(process)
        process.do(process.register)

    def _living(self) -> list[Process]:
        return [process for process in self.processes if process.is_alive]

    def _some(self) -> Process:
        return self.random.choice(self._living() or self.processes)

    def _start(self) -> None:
        if len(self._living()) < 6:
            self.start(*self.random.choice((SHARED, SHARED, OWN, RIVAL)))

    def _update(self) -> None:
        process = self._some()
        process.do(process.register)

    def _withdraw(self) -> None:
        process = self._some()
        process.do(process.withdraw)

    def _reappear(self) -> None:
        process = self._some()
        process.do(process.reappear)

    def _leave(self) -> None:
        process = self._some()
        process.do(process.leave)

    def _crash(self) -> None:
        process = self._some()
        self.tell(f"{process} crashes")
        self.loop.create_task(process.die())
        self.loop.call_later(TTL_S + 1.0, self._check_gone, process)

    def _check_gone(self, process: Process) -> None:
        for name, entry in self.listed().items():
            if self.owners.get(entry.lease) is process and not process.is_alive:
                self.fail(f"{process} died, and {name} still shows it")

    def _freeze(self) -> None:
        url = self.random.choice(URLS)
        self.coordinators[url].freeze(self.random.uniform(0.5, 8.0))

    def _lose_store(self) -> None:
        self.store_is_away = True
        seconds = self.random.uniform(0.2, 3.0)
        self.tell(f"the store is away for {seconds:.1f} s")
        self.loop.call_later(seconds, setattr, self, "store_is_away", False)

    def _lose_lease(self) -> None:
        if self.leases:
            lease = self.random.choice(sorted(self.leases))
            self.tell(f"the store loses lease {lease:x}")
            self.end(lease)

    def _lose_name(self) -> None:
        """An operator deletes it by mistake, and so the hold of who has it."""
        for name, entry in self.listed().items():
            self.tell(f"{name} is deleted by hand")
            self.parts[name].pop(entry.lease)
            self.transact([], [Delete(KEYS.services + name)])
            return


class _Session(Session):
    """Tells of those that it opens; of two that answer at once it takes one."""

    def __init__(self, calls: Calls, ttl_s: float, opened: Callable[[str], None]) -> None:
        super().__init__(calls, ttl_s)
        self._opened = opened

    async def _open(self) -> str:
        session = await super()._open()
        self._opened(session)
        return session


class Process:
    """One that registers one instance, with the SDK."""

    def __init__(self, world: World, number: int, instance: str, address: str) -> None:
        self.number = number
        self.address = address
        self.is_alive = True
        self.born = 0  # The revision at which its first session began.
        self.name = f"{SERVICE}/{instance}"
        self._instance = instance
        self._world = world
        self._calls = Calls(world, self)
        self.session = _Session(self._calls, TTL_S, self._opened)
        self._updates = 0
        self._doing: asyncio.Task[None] | None = None
        self._tasks = [
            world.loop.create_task(self.session.keep_alive()),
            world.loop.create_task(self.session.keep_settled()),
        ]

    def __str__(self) -> str:
        return f"p{self.number}@{self.address}"

    @property
    def wants(self) -> str | None:
        """What it means to have registered."""
        return self.name if self.believed(self.name) is not None else None

    def believed(self, name: str) -> ServiceInstance | None:
        own = self.session._own._own.get(name)
        return None if own is None else own.record

    def _opened(self, session: str) -> None:
        lease = LeaseId(int(session.partition("-")[0], 16))
        self.born = self.born or self._world.began[lease]

    def is_settled(self, name: str) -> bool:
        own = self.session._own._own.get(name)
        return own is not None and own.is_settled

    def do(self, what: Callable[[], Awaitable[None]]) -> None:
        """One thing at a time, as its owner would; sometimes without patience."""
        if self.is_alive and (self._doing is None or self._doing.done()):
            self._doing = self._world.loop.create_task(self._try(what))

    async def _try(self, what: Callable[[], Awaitable[None]]) -> None:
        patience_s = self._world.random.choice((0.5, 30.0, 30.0))
        try:
            async with asyncio.timeout(patience_s):
                await what()
        except (CallRefused, CoordinatorsUnreachable, TimeoutError) as error:
            self._world.tell(f"{self}: {type(error).__name__} {error}")

    async def register(self) -> None:
        self._updates += 1
        version = f"{self.number}.{self._updates}"
        self._world.tell(f"{self} registers {version}")
        await self.session.register(
            ServiceInstance(
                service=SERVICE, instance=self._instance, address=self.address, version=version
            )
        )
        self._world.tell(f"{self} has registered {version}")

    async def withdraw(self) -> None:
        self._world.tell(f"{self} withdraws")
        await self.session.withdraw(SERVICE, self._instance)

    async def reappear(self) -> None:
        """Gone for a moment, and without patience."""
        with suppress(CallRefused, CoordinatorsUnreachable, TimeoutError):
            async with asyncio.timeout(0.3):
                await self.withdraw()
        await self.register()

    async def leave(self) -> None:
        self._world.tell(f"{self} leaves")
        await self.die(by_itself=True)
        await self.session.leave()

    async def die(self, *, by_itself: bool = False) -> None:
        self.is_alive = False
        tasks = [*self._tasks, *([self._doing] if self._doing and not by_itself else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run_seed(seed: int) -> World:
    """Raises Violation."""
    loop = VirtualLoop()
    random.seed(seed)

    async def run() -> World:
        world = World(seed)
        await world.run()
        return world

    try:
        return loop.run_until_complete(run())
    finally:
        with suppress(RuntimeError):
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
