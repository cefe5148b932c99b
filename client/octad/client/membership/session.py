"""A session: the registrations of one process, which live and end together.

It renews twice in its time to live, at whichever coordinator answers: when one is silent the next
is asked beside it. Renewing never waits for a write that is under way. What a renewal finds missing
is written again at once, and so is everything after the cluster has lost the session (the
configuration store came back without it, or was away for longer than that).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from octad.client.cluster.coordinator_calls import (
    NEXT_AFTER_S,
    CallRefused,
    Coordinators,
    CoordinatorsUnreachable,
)
from octad.client.cluster.service_records import (
    SERVICES_PATH,
    SESSIONS_PATH,
    BadRegistration,
    RegisterAnswer,
    RegisterRequest,
    RenewAnswer,
    RenewRequest,
    ServiceInstance,
    SessionAnswer,
    SessionRequest,
    WithdrawRequest,
    check_instance,
)
from octad.client.membership.lock_records import (
    LOCKS_PATH,
    LockAnswer,
    LockRequest,
    UnlockRequest,
    check_lock,
)
from octad.client.membership.own_instances import (
    InstanceState,
    OwnInstances,
    RegistrationEvent,
    name_of,
)
from octad.client.runtime.change_signal import ChangeSignal
from octad.client.runtime.steady_clock import now
from octad.sharding.limits import SERVICE_INSTANCES_MAX

RENEWALS_PER_TTL = 2
RENEWAL_S_MIN = 1.0  # However short the time to live: an answer may take this long.
RETRY_S = 0.5
RETRY_S_MAX = 2.0
LEAVE_S_MAX = 2.0
_GONE = "session-gone"

OnEvent = Callable[[RegistrationEvent], None]

log = logging.getLogger(__name__)


class Session:
    """Made by `open_session`: instances that live and end together.

    `on_event` is called for changes that their owner did not make.
    """

    def __init__(
        self, coordinators: Coordinators, ttl_s: float, on_event: OnEvent | None = None
    ) -> None:
        self.ttl_s = ttl_s
        self._coordinators = coordinators
        self._on_event = on_event
        self._id: str | None = None
        self._born = 0
        self._own = OwnInstances()
        self._writing = asyncio.Lock()  # One write after the other, in the order of numbers.
        self._to_settle = asyncio.Event()
        self._left_locks: set[str] = set()  # It may still stand in their queues.
        self._sure_until = 0.0  # It lives until then, on the clock of `now`.
        self._changed = ChangeSignal()  # Of the line above, or of the session.

    async def register(self, record: ServiceInstance) -> int:
        """Register an instance or change its record; returns the revision that shows it.

        On failure the instance stays as it was, even if the request is carried out later. Raises
        BadRegistration, CallRefused (another process has the name), CoordinatorsUnreachable.
        """
        check_instance(record)
        name = name_of(record.service, record.instance)
        if name not in self._own and len(self._own) >= SERVICE_INSTANCES_MAX:
            raise BadRegistration(
                f"a session has at most {SERVICE_INSTANCES_MAX} instances: open another one"
            )
        async with self._writing:
            try:
                return await self._put(record)
            finally:
                self._settle_soon()

    async def withdraw(self, service: str, instance: str) -> None:
        """Take one instance away; the others stay.

        Raises CallRefused, CoordinatorsUnreachable: then it goes as soon as that has passed.
        """
        name = name_of(service, instance)
        async with self._writing:
            if name not in self._own:
                return
            self._own.give_up(name)
            try:
                await self._delete(name)
            finally:
                self._settle_soon()

    def state(self, service: str, instance: str) -> InstanceState:
        """The state of an instance."""
        return self._own.state(name_of(service, instance))

    async def enter(self, lock: str, value: str) -> tuple[str, LockAnswer]:
        """Stand in a lock's queue: as which session, and where.

        Raises BadLock, CallRefused, CoordinatorsUnreachable; it may stand there all the same.
        """
        check_lock(lock, value)
        async with self._writing:
            self._left_locks.discard(lock)
            number = self._own.next_number()
            session, body = await self._call(
                "PUT",
                f"{LOCKS_PATH}/{lock}",
                lambda session: LockRequest(session=session, number=number, value=value),
            )
            return session, msgspec.json.decode(body, type=LockAnswer)

    async def let_go(self, lock: str) -> None:
        """Leave a lock's queue; what hinders that now is done in the background."""
        async with self._writing:
            self._left_locks.add(lock)
            try:
                await self._leave_queue(lock)
            except (CoordinatorsUnreachable, CallRefused) as error:
                log.warning("lock %s is not let go of yet: %s", lock, error)
                self._to_settle.set()

    def lives(self, session: str) -> bool:
        """Whether `session` is this one, and certainly has not ended."""
        return self._id == session and now() < self._sure_until

    async def ended(self, session: str, before_s: float) -> None:
        """Returns `before_s` before `session` may end without another renewal."""
        while self._id == session and (left_s := self._sure_until - now() - before_s) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._changed.wait()

    @property
    def urls(self) -> str:
        """Of the coordinators."""
        return self._coordinators.urls

    @property
    def authority_file(self) -> str | None:
        """Whom to trust with https, if it was named."""
        return self._coordinators.authority_file

    async def keep_alive(self) -> None:
        """Renew the session until cancelled."""
        interval_s = self.ttl_s / RENEWALS_PER_TTL
        wait_s = interval_s * random.uniform(0.3, 1.0)  # Not all at once after a common start.
        while True:
            await asyncio.sleep(wait_s * random.uniform(0.9, 1.0))
            try:
                await self._renew(interval_s)
                wait_s = interval_s
            except (CoordinatorsUnreachable, CallRefused) as error:
                log.warning("the registration is not renewed: %s", error)
                wait_s = min(RETRY_S, interval_s)

    async def keep_settled(self) -> None:
        """Until cancelled: write what the cluster lacks, or may lack."""
        wait_s = RETRY_S
        while True:
            await self._to_settle.wait()
            self._to_settle.clear()
            try:
                async with self._writing:
                    await self._settle()
                wait_s = RETRY_S
            except (CoordinatorsUnreachable, CallRefused) as error:
                log.warning("the registration is not up to date yet: %s", error)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_S_MAX)
                self._to_settle.set()

    async def leave(self) -> None:
        """Watchers see it now, not when the time to live is over."""
        if self._id is None:
            return
        path = f"{SESSIONS_PATH}/{self._id}"
        try:
            async with asyncio.timeout(LEAVE_S_MAX):
                await self._coordinators.write("DELETE", path, next_after_s=LEAVE_S_MAX / 4)
        except (CoordinatorsUnreachable, CallRefused, TimeoutError) as error:
            log.info("the registration will expire: %s", error)

    async def _renew(self, interval_s: float) -> None:
        session, sent = self._id, self._own.renewing()
        if session is None:
            self._settle_soon()
            return
        others = max(1, self._coordinators.count - 1)
        sent_at = now()
        try:
            body = await self._coordinators.write(
                "POST",
                f"{SESSIONS_PATH}/{session}/renew",
                msgspec.json.encode(RenewRequest(instances=tuple(sent))),
                timeout_s=max(RENEWAL_S_MIN, interval_s),
                next_after_s=min(NEXT_AFTER_S, self.ttl_s / 4 / others),
            )
        except CallRefused as error:
            if error.code == "lost":
                self._live_until(session, sent_at + self.ttl_s)
                self._tell(self._own.lost(sent, error.instances))
                self._settle_soon()
            elif error.code == _GONE:
                self._lose(session)
            else:
                raise
            return
        self._live_until(session, sent_at + self.ttl_s)
        superseded = msgspec.json.decode(body, type=RenewAnswer).superseded
        self._tell(self._own.compared(sent, superseded))

    def _live_until(self, session: str, sure_until: float) -> None:
        """Unless another one is in its place by now."""
        if self._id == session:
            self._sure_until = max(self._sure_until, sure_until)
            self._changed.notify()

    def _settle_soon(self) -> None:
        if self._own.unsettled():
            self._to_settle.set()

    async def _settle(self) -> None:
        refused: CallRefused | None = None
        for name, record in self._own.unsettled().items():
            try:
                await (self._delete(name) if record is None else self._put(record))
            except CallRefused as error:
                refused = error
        for lock in tuple(self._left_locks):
            await self._leave_queue(lock)
        if refused is not None:
            raise refused

    async def _put(self, record: ServiceInstance) -> int:
        name = name_of(record.service, record.instance)
        number = self._own.begin(name)

        def request(session: str) -> RegisterRequest:
            sent = msgspec.Raw(msgspec.json.encode(record))
            return RegisterRequest(record=sent, session=session, number=number)

        _, body = await self._call("PUT", f"{SERVICES_PATH}/{name}", request)
        answer = msgspec.json.decode(body, type=RegisterAnswer)
        self._tell(self._own.settle(name, record, superseded=answer.superseded))
        if answer.session != self._id:  # A renewal has found that it ended meanwhile.
            self._tell(self._own.session_lost())
        return answer.revision

    async def _call(
        self, method: str, path: str, request: Callable[[str], object]
    ) -> tuple[str, bytes]:
        """A write of the session, or of the next one if it has ended: which it was, and the answer.

        `request` makes the message for a session.
        """
        session = self._id if self._id is not None else await self._open()
        try:
            return session, await self._send(method, path, request(session))
        except CallRefused as error:
            if error.code != _GONE:
                raise
            self._lose(session)
        session = await self._open()
        try:
            return session, await self._send(method, path, request(session))
        except CallRefused as error:
            if error.code == _GONE:
                self._lose(session)
            raise

    async def _send(self, method: str, path: str, message: object) -> bytes:
        return await self._coordinators.write(method, path, msgspec.json.encode(message))

    async def _delete(self, name: str) -> None:
        number, session = self._own.begin(name), self._id
        if session is not None:
            message = WithdrawRequest(session=session, number=number)
            try:
                await self._send("DELETE", f"{SERVICES_PATH}/{name}", message)
            except CallRefused as error:
                if error.code == _GONE:
                    self._lose(session)
                elif error.code != "other-session":
                    raise
        self._own.settle(name, None)

    async def _leave_queue(self, lock: str) -> None:
        number, session = self._own.next_number(), self._id
        if session is not None:
            message = UnlockRequest(session=session, number=number)
            try:
                await self._send("DELETE", f"{LOCKS_PATH}/{lock}", message)
            except CallRefused as error:
                if error.code != _GONE:
                    raise
                self._lose(session)
        self._left_locks.discard(lock)

    async def _open(self) -> str:
        begun_at = now()
        body = await self._send(
            "POST", SESSIONS_PATH, SessionRequest(ttl_s=self.ttl_s, born=self._born)
        )
        answer = msgspec.json.decode(body, type=SessionAnswer)
        self._id, self._born = answer.session, answer.born
        self._sure_until = 0.0
        self._live_until(answer.session, begun_at + self.ttl_s)
        return answer.session

    def _lose(self, session: str) -> None:
        """Another one takes its place with the next write, unless one has already."""
        if self._id == session:
            self._id = None
            self._changed.notify()
            self._tell(self._own.session_lost())
            self._settle_soon()

    def _tell(self, events: Sequence[RegistrationEvent]) -> None:
        for event in events:
            name = name_of(event.service, event.instance)
            if event.type == "lost":
                log.warning("the cluster has lost %s: registering it again", name)
            elif event.type == "listed":
                log.info("%s is listed again", name)
            else:
                log.warning(
                    "%s is superseded by a newer process at its address, and listed again when "
                    "that one ends",
                    name,
                )
            if self._on_event is not None:
                try:
                    self._on_event(event)
                except Exception:
                    log.exception("on_event failed")  # The registration goes on.
