"""Connections whose answers are written down, and a clock that goes on only while one waits."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable
from typing import Any

from octad.client.http.blocking import BlockingGate
from octad.client.http.transport import (
    Address,
    Bytes,
    CannotConnect,
    ConnectionFailed,
    Proxy,
    Result,
    SilentPeer,
    Transport,
)

Script = Iterable[bytes | Exception | float]


class ScriptedTransport:
    """Answers each request with the next of `script`: bytes, an error, or seconds of silence.

    After its last one the connection has ended.
    """

    def __init__(self, script: Script, runtime: ScriptedRuntime | None = None) -> None:
        self._script = deque(script)
        self._runtime = runtime
        self.sent: list[bytes] = []
        self.closed = False
        self._asked = False

    async def send(self, data: Bytes, until: float) -> None:
        self.sent.append(bytes(data))
        self._asked = True

    async def receive(self, until: float) -> bytes:
        if not await self.wait_readable(until):
            raise SilentPeer("it was silent while receiving")
        self._asked = False
        following = self._script.popleft() if self._script else b""
        if isinstance(following, Exception):
            raise following
        assert isinstance(following, bytes)
        return following

    async def wait_readable(self, until: float) -> bool:
        while self._script and isinstance(self._script[0], float):
            assert self._runtime is not None
            left = until - self._runtime.time
            if left < self._script[0]:
                self._runtime.time += max(left, 0.0)
                self._script[0] -= max(left, 0.0)
                return False
            self._runtime.time += self._script[0]
            self._script.popleft()
        return True

    def is_readable(self) -> bool:
        return not self._script or (self._asked and isinstance(self._script[0], bytes))

    @property
    def silent_s(self) -> float:
        """How long it will say nothing."""
        return self._script[0] if self._script and isinstance(self._script[0], float) else 0.0

    def close(self) -> None:
        self.closed = True


class ScriptedRuntime:
    """`scripts` has the scripts of connections to each host, in the order they are made."""

    def __init__(self, scripts: dict[str, list[Script | Exception]]) -> None:
        self.time = 0.0
        self.slept: list[float] = []
        self.connections: list[tuple[str, ScriptedTransport]] = []
        self.attempts: list[str] = []
        self._scripts = {host: deque(script) for host, script in scripts.items()}
        self._home = object()

    def now(self) -> float:
        return self.time

    def home(self) -> object:
        return self._home

    def move(self) -> None:
        """As a fork does."""
        self._home = object()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    async def connect(
        self, address: Address, authority_file: str, until: float, proxy: Proxy | None
    ) -> Transport:
        self.attempts.append(address.host)
        scripts = self._scripts[address.host]
        script = scripts.popleft() if len(scripts) > 1 else scripts[0]
        if isinstance(script, ConnectionFailed):
            raise script
        if isinstance(script, Exception):
            raise CannotConnect(str(script))
        connection = ScriptedTransport(script, self)
        self.connections.append((address.host, connection))
        return connection

    async def first_readable(self, transports: tuple[Transport, Transport], until: float) -> int:
        first, second = transports
        assert isinstance(first, ScriptedTransport)
        assert isinstance(second, ScriptedTransport)
        quicker = 0 if first.silent_s <= second.silent_s else 1
        return quicker if await transports[quicker].wait_readable(until) else -1

    async def in_order(
        self, jobs: AsyncIterable[Callable[[], Coroutine[Any, Any, Result]]], at_once: int
    ) -> AsyncGenerator[Result, None]:
        async for job in jobs:
            yield await job()

    def gate(self) -> BlockingGate:
        return BlockingGate()

    async def aside(self, work: Callable[[], Result]) -> Result:
        return work()
