# mypy: disable-error-code="override"
"""The event loop of one simulated process: asyncio without a selector, a thread or a clock.

Tasks, futures, timers and timeouts are asyncio's own. Time is the machine's clock, which runs a
little fast or slow; sockets are those of the simulated network; and what goes to a thread happens
in one piece, some moments later, as a thread might have done it. All else is refused, so that no
code can leave the simulation unseen.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar

from tests.simulation.virtual.network import Network, Server, Transport
from tests.simulation.virtual.timeline import Timeline

STEP_S = 10e-6  # What an event takes its process.
ROUNDING_S = 1e-9  # A timer never ends a moment too early.
CLEANUPS_MAX = 1000
THREAD_S = (0.00005, 0.003)  # How long something in a thread takes.

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Clock:
    """A machine's monotonic clock: any origin, a little fast or slow."""

    origin: float
    rate: float

    def shows(self, time: float) -> float:
        return self.origin + self.rate * time

    def when(self, shown: float) -> float:
        return (shown - self.origin) / self.rate


if TYPE_CHECKING:
    Refusing = asyncio.BaseEventLoop  # To it, what an AbstractEventLoop refuses is not there.
else:
    Refusing = asyncio.AbstractEventLoop


class VirtualLoop(Refusing):
    """See the module. `pause` and `kill` are what happens to processes."""

    def __init__(self, timeline: Timeline, network: Network, host: str, clock: Clock) -> None:
        self.timeline = timeline
        self.host = host
        self.clock = clock
        self.number = timeline.next_number()
        self.is_dead = False
        self.paused_until = 0.0
        self._network = network
        self._ready: deque[events.Handle] = deque()
        self._woken = False
        self._busy_until = 0.0
        timeline.hold(self)

    # -- what happens to a process ---------------------------------------------------------------

    def pause(self, seconds: float) -> None:
        """It does not run for so long; its clock goes on."""
        self.paused_until = max(self.paused_until, self.timeline.time + seconds)

    def kill(self) -> None:
        """It never runs again; nothing of it is finished or closed."""
        self.is_dead = True

    def abandon(self) -> None:
        """After the run: end all tasks where they stand, whatever they think of it."""
        self.kill()
        events._set_running_loop(self)
        for task in asyncio.all_tasks(self):
            for _ in range(CLEANUPS_MAX):
                try:
                    task.get_coro().close()
                    break
                except RuntimeError:  # It waits for something in its cleanup: for nothing, now.
                    continue
                except BaseException:
                    break
        events._set_running_loop(None)
        self._ready.clear()

    def is_paused(self) -> bool:
        return self.timeline.time < self.paused_until

    # -- time ------------------------------------------------------------------------------------

    def time(self) -> float:
        return self.clock.shows(self.timeline.time)

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.Handle:
        handle = events.Handle(callback, args, self, context)
        self._ready.append(handle)
        if not self._woken:
            self._wake()
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> events.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> events.TimerHandle:
        handle = events.TimerHandle(when, callback, args, self, context)
        self.timeline.at(self.clock.when(when) + ROUNDING_S, self._due, handle)
        return handle

    def _timer_handle_cancelled(self, handle: events.TimerHandle) -> None:
        """It stays on the heap, and is passed over."""

    def _due(self, handle: events.TimerHandle) -> None:
        if self.is_dead or handle.cancelled():
            return
        self._ready.append(handle)
        if not self._woken:
            self._wake()

    def _wake(self) -> None:
        self._woken = True
        self.timeline.at(max(self._busy_until, self.paused_until), self._turn)

    def _turn(self) -> None:
        """Deliver what is ready now; what that makes ready comes in the next turn."""
        timeline, ready = self.timeline, self._ready
        if self.is_dead:
            return
        if timeline.time < self.paused_until:
            timeline.at(self.paused_until, self._turn)
            return
        count = len(ready)
        timeline.current = self
        events._set_running_loop(self)
        try:
            for _ in range(count):
                handle = ready.popleft()
                if not handle._cancelled:
                    timeline.count_step(self.number)
                    handle._run()
        finally:
            events._set_running_loop(None)
            timeline.current = None
        self._busy_until = timeline.time + count * STEP_S
        self._woken = False
        if ready and not self.is_dead:
            self._wake()

    def after(self, delay: float, what: Callable[..., object], *args: Any) -> None:
        """Something that this process's threads do: not while it is paused, nor after its end."""
        self.timeline.after(delay, self._outside, what, args)

    def _outside(self, what: Callable[..., object], args: tuple[Any, ...]) -> None:
        timeline = self.timeline
        if self.is_dead:
            return
        if self.is_paused():
            timeline.at(self.paused_until, self._outside, what, args)
            return
        timeline.count_step(self.number)
        timeline.current = self
        try:
            what(*args)
        finally:
            timeline.current = None

    # -- tasks -----------------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        if self.is_dead:
            coro.close()  # It will never run.
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def begin(self, coro: Coroutine[Any, Any, None], name: str) -> None:
        """From outside of the process: something that raises nothing."""
        self.spawn(coro, name).add_done_callback(self._report)

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.call_exception_handler({"message": f"{task.get_name()} died", "exception": error})

    def spawn(self, coro: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """`create_task` from outside of the process."""
        timeline, before = self.timeline, self.timeline.current
        timeline.current = self
        events._set_running_loop(self)
        try:
            return self.create_task(coro, name=name)
        finally:
            events._set_running_loop(before)
            timeline.current = before

    def run_in_executor(
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """In a thread: in one piece, a little later. A cancelled caller does not stop it."""
        future = self.create_future()
        delay = self.timeline.random.uniform(*THREAD_S)
        self.after(delay, self._in_thread, future, func, args)
        return future

    def _in_thread(
        self, future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        try:
            result, error = func(*args), None
        except Exception as raised:
            result, error = None, raised
        self.call_soon(_end, future, result, error)

    # -- sockets ---------------------------------------------------------------------------------

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[Transport, asyncio.BaseProtocol]:
        """Raises ConnectionRefusedError where no one listens; waits where no one answers."""
        return await self._network.connect(self, protocol_factory, host, port)

    async def create_server(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> Server:
        return self._network.listen(self, protocol_factory, host, port)

    # -- errors ----------------------------------------------------------------------------------

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What no one caught is a bug, wherever it happens; but not what a kill leaves behind."""
        if self.is_dead:
            return
        what, error = context.get("message"), context.get("exception")
        of = context.get("task") or context.get("future")
        coro = of.get_coro() if isinstance(of, asyncio.Task) else None
        where = f" ({coro.cr_code.co_qualname})" if isinstance(coro, CoroutineType) else ""
        self.timeline.failures.append(f"{what}: {error!r}{where}")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self.timeline.current is self

    def is_closed(self) -> bool:
        return self.is_dead


def _end(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
