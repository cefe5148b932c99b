"""What the coroutines of this client stand on: bytes of one connection, and the ways to wait.

The same coroutines serve both faces. Over blocking sockets no wait ever suspends them, so that one
step carries a call through; under asyncio they are awaited as usual. Hence nothing above this room
may await anything but what is declared here.

`until` is a moment of `Runtime.now()`: where it comes first, the wait raises `SilentPeer`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine
from typing import Any, NamedTuple, Protocol, TypeVar

Result = TypeVar("Result")
Bytes = bytes | bytearray | memoryview


class ConnectionFailed(Exception):
    """A connection could not be made, or broke; the message says why.

    `sent`: bytes of a request may have arrived, so what it asked for may have been done.
    """

    def __init__(self, reason: str, *, sent: bool = True) -> None:
        super().__init__(reason)
        self.sent = sent


class CannotConnect(ConnectionFailed):
    """No connection was made, so nothing was asked for."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, sent=False)


class SilentPeer(ConnectionFailed):
    """Nothing came, or nothing could be sent, for as long as was to be waited."""


class NotHttp(ConnectionFailed):
    """What answers does not speak HTTP, or not the way it was addressed (TLS or plain)."""


class Address(NamedTuple):
    """Where a server listens. `host` of IPv6 has no brackets."""

    host: str
    port: int
    tls: bool = False

    @property
    def authority(self) -> str:
        """As the Host header and URLs have it; the port only where it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"


class Proxy(NamedTuple):
    """One on the way out: where it listens, and the header with which it is asked; "": none."""

    address: Address
    authorization: str = ""


class Transport(Protocol):
    """The bytes of one connection."""

    async def send(self, data: Bytes, until: float) -> None:
        """Hand all of `data` to the system; it is not changed before that is done."""

    async def receive(self, until: float) -> bytes:
        """The next bytes, or b"" at the end."""

    async def wait_readable(self, until: float) -> bool:
        """Whether bytes, the end or an error had come by then."""

    def is_readable(self) -> bool:
        """Whether something has come; of a connection without a request, that it is over."""

    def close(self) -> None:
        """At once; nothing is waited for. A second time does nothing."""


class Gate(Protocol):
    """Where callers wait for their turn."""

    async def wait(self, until: float) -> bool:
        """Whether `open` was called by then; the longest waiting one goes first."""

    def open(self) -> None:
        """Let one through, if any waits."""


class Runtime(Protocol):
    """How time passes and connections are made, with threads or on an event loop."""

    def now(self) -> float:
        """Seconds since some moment; monotonic."""

    def home(self) -> object:
        """Where connections may be used; another one in a child process, or on another loop."""

    async def sleep(self, seconds: float) -> None: ...

    async def connect(
        self, address: Address, authority_file: str, until: float, proxy: Proxy | None
    ) -> Transport:
        """Raises CannotConnect, NotHttp. `authority_file`: whom TLS trusts; "": the usual ones."""

    async def first_readable(self, transports: tuple[Transport, Transport], until: float) -> int:
        """Which of them something came on first; -1 where it was none by then."""

    def in_order(
        self, jobs: AsyncIterable[Callable[[], Coroutine[Any, Any, Result]]], at_once: int
    ) -> AsyncGenerator[Result, None]:
        """The jobs' results in their order, with up to `at_once` running or waiting to be taken.

        Where one fails, or the generator is closed, the others are ended before that is over.
        """

    def gate(self) -> Gate: ...

    async def aside(self, work: Callable[[], Result]) -> Result:
        """What `work` returns, which may block: it reads or writes a file."""
