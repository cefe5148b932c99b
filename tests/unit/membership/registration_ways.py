"""What the world of registrations is made of: time, coordinators, and the ways to and from them."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from octad.client.cluster.coordinator_calls import Coordinators
from octad.client.cluster.join_token import JoinToken
from octad.client.cluster.refusal import RefusalMessage
from octad.client.cluster.service_records import (
    SERVICES_PATH,
    SESSIONS_PATH,
    RegisterRequest,
    RenewRequest,
    SessionRequest,
    WithdrawRequest,
)
from octad.client.cluster.service_token import service_token
from octad.coordinator.membership.registrations import InstanceTaken
from octad.coordinator.membership.relisting import LOOK_S
from octad.coordinator.membership.service_registry import (
    InstancesLost,
    OtherSession,
    ServiceRegistry,
)
from octad.coordinator.membership.session_writes import LateWrite
from octad.coordinator.membership.sessions import SessionGone, Sessions
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.interface import (
    Compare,
    KeyValue,
    LeaseId,
    Listing,
    Outcome,
    Revision,
    StoreOperation,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from tests.unit.membership.registration_world import Process, World

TOKEN = JoinToken("1a2b3c4d", bytes(range(32)))
KEYS = StoreKeys(TOKEN.cluster)
URLS = ("http://a:1", "http://b:1")

_REFUSALS: dict[type[Exception], tuple[int, str]] = {
    InstanceTaken: (409, "instance-taken"),
    LateWrite: (409, "late"),
    OtherSession: (409, "other-session"),
    SessionGone: (410, "session-gone"),
    InstancesLost: (410, "lost"),
    StoreUnavailable: (503, "store-unavailable"),
}

_T = TypeVar("_T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Whoever sleeps wakes at once, and the clock shows that it was later."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Instant(self))

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


class _Instant(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everyone waits for nothing"
        self._loop.advance(timeout)
        return super().select(0)


class Calls(Coordinators):
    """The SDK's calls, over a way on which nothing is ever taken back."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__(",".join(URLS), service_token(TOKEN))
        self._world = world
        self._process = process

    async def _send(
        self, url: str, method: str, path: str, body: bytes, timeout_s: float
    ) -> tuple[int, bytes]:
        coordinator = self._world.coordinators[url]
        waiting = [True]
        serving = coordinator.serve(method, path.partition("?")[0], body, waiting)
        request = self._world.loop.create_task(serving)
        self._world.requests.add(request)
        request.add_done_callback(self._world.requests.discard)
        try:
            async with asyncio.timeout(timeout_s):
                status, answer = await asyncio.shield(request)
        finally:
            waiting.clear()
        if status == 200 and (method, path.partition("?")[0]) == ("POST", SESSIONS_PATH):
            lease = LeaseId(int(msgspec.json.decode(answer)["session"].partition("-")[0], 16))
            self._world.owners[lease] = self._process
        return status, answer


class Coordinator:
    """The registry that ships, and a store that it reaches when it is not frozen."""

    def __init__(self, world: World, url: str) -> None:
        self.url = url
        self._world = world
        self._frozen_until = 0.0
        self._store = Store(world, self)
        self._sessions = Sessions(self._store, KEYS, TOKEN)
        self._registry = ServiceRegistry(self._store, KEYS, self._sessions)

    def freeze(self, seconds: float) -> None:
        self._world.tell(f"{self.url} is frozen for {seconds:.1f} s")
        self._frozen_until = max(self._frozen_until, self._world.loop.time() + seconds)

    async def turn(self) -> None:
        """Something takes its time, and more while this is frozen."""
        await asyncio.sleep(self._world.random.uniform(0.0005, 0.01))
        while (frozen_s := self._frozen_until - self._world.loop.time()) > 0:
            await asyncio.sleep(frozen_s)

    async def relist(self) -> None:
        """Until cancelled; what it looks at may be old by the time that it writes."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                claims = await self._store.range(KEYS.claims)
                listed = await self._store.range(KEYS.services)
                taken = {e.key.removeprefix(KEYS.services) for e in listed.entries}
                claimed = {
                    e.key.removeprefix(KEYS.claims).rpartition("/")[0] for e in claims.entries
                }
                for name in sorted(claimed - taken):
                    await self._registry.relist(name)
            except StoreUnavailable:
                continue

    async def serve(
        self, method: str, path: str, body: bytes, waiting: list[bool]
    ) -> tuple[int, bytes]:
        await self.turn()
        self._world.late += not waiting
        if not waiting and path.endswith("/renew"):
            return 408, b""
        try:
            answer = await self._route(method, path, body)
            return 200, msgspec.json.encode(answer)
        except tuple(_REFUSALS) as error:
            status, code = _REFUSALS[type(error)]
            instances = getattr(error, "instances", msgspec.UNSET)
            message = RefusalMessage(
                code=code, reason=str(error), cluster=TOKEN.cluster, instances=instances
            )
            return status, msgspec.json.encode(message)

    async def _route(self, method: str, path: str, body: bytes) -> object:
        registry = self._registry
        if path == SESSIONS_PATH:
            return await self._sessions.open(msgspec.json.decode(body, type=SessionRequest))
        words = path.split("/")
        if path.startswith(SESSIONS_PATH):
            if method == "POST":
                question = msgspec.json.decode(body, type=RenewRequest)
                return await registry.renew(words[-2], question)
            await self._sessions.end(words[-1])
            return {}
        assert path.startswith(SERVICES_PATH)
        service, instance = words[-2:]
        if method == "PUT":
            request = msgspec.json.decode(body, type=RegisterRequest)
            return await registry.register(service, instance, request)
        wanted = msgspec.json.decode(body, type=WithdrawRequest)
        await registry.withdraw(service, instance, wanted)
        return {}


class Store:
    """What one coordinator sees of the store: late, or not at all, or without an answer."""

    def __init__(self, world: World, coordinator: Coordinator) -> None:
        self._world = world
        self._coordinator = coordinator

    async def get(self, key: str) -> KeyValue | None:
        return await self._ask(lambda: self._world.keyspace.get(key))

    async def range(self, prefix: str, revision: Revision | None = None) -> Listing:
        return await self._ask(lambda: self._world.keyspace.range(prefix, revision))

    async def transact(
        self, compares: Sequence[Compare], operations: Sequence[StoreOperation]
    ) -> Outcome:
        return await self._ask(lambda: self._world.transact(compares, operations))

    async def grant_lease(self, ttl_s: float) -> LeaseId:
        return await self._ask(lambda: self._world.grant(ttl_s))

    async def keep_alive(self, lease: LeaseId) -> None:
        """At once: what comes between a renewal's arrival and this is no time at all."""
        if self._world.store_is_away:
            raise StoreUnavailable("away")
        self._world.renew(lease)
        await self._coordinator.turn()

    async def revoke_lease(self, lease: LeaseId) -> None:
        await self._ask(lambda: self._world.end(lease))

    def watch(self, prefix: str, after: Revision) -> Any:
        raise NotImplementedError

    async def versions(self) -> Mapping[str, str]:
        raise NotImplementedError

    async def close(self) -> None:
        return

    async def _ask(self, do: Callable[[], _T]) -> _T:
        await self._coordinator.turn()
        if self._world.store_is_away and self._world.random.random() < 0.5:
            raise StoreUnavailable("it does not hear")
        result = do()
        if self._world.store_is_away:
            raise StoreUnavailable("it does not answer")
        await self._coordinator.turn()
        return result
