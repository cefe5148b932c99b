"""The client's coroutines without an event loop: sockets that block, and threads that end.

`drive` carries a coroutine through in one step, since nothing in it ever waits but in the kernel.
There is no thread but while something is done in parallel, so a fork finds nothing half-done, and
it all works where a loop runs already, as in a notebook.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic

from octad.client.http.failures import cannot_connect
from octad.client.http.forks import generation
from octad.client.http.transport import (
    Address,
    Bytes,
    ConnectionFailed,
    Proxy,
    Result,
    SilentPeer,
    Transport,
)

if TYPE_CHECKING:
    import threading
    from ssl import SSLSocket

RECEIVE_BYTES: Final = 256 * 1024


def drive(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """What `coroutine` returns or raises. Whatever it awaits must be of this module."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine of the synchronous client waited for an event loop")


def iterate(results: AsyncGenerator[Result, None]) -> Iterator[Result]:
    """What `results` yields; it is closed with the iterator."""
    try:
        while True:
            try:
                result = drive(results.__anext__())
            except StopAsyncIteration:
                return
            yield result
    finally:
        drive(results.aclose())


class BlockingTransport:
    """A connected socket."""

    __slots__ = ("_secured", "_socket")

    def __init__(self, connected: socket.socket, secured: SSLSocket | None) -> None:
        self._socket = secured or connected
        self._secured = secured

    async def send(self, data: Bytes, until: float) -> None:
        try:
            self._socket.settimeout(_left(until))
            self._socket.sendall(data)
        except OSError as error:
            raise _failure(error, "sending") from error

    async def receive(self, until: float) -> bytes:
        try:
            self._socket.settimeout(_left(until))
            return self._socket.recv(RECEIVE_BYTES)
        except OSError as error:
            raise _failure(error, "receiving") from error

    async def wait_readable(self, until: float) -> bool:
        return bool(_readable((self,), until - time.monotonic()))

    def is_readable(self) -> bool:
        return bool(_readable((self,), 0.0))

    def close(self) -> None:
        self._socket.close()

    @property
    def has_decrypted(self) -> bool:
        """Whether bytes wait that the kernel no longer knows of."""
        return self._secured is not None and self._secured.pending() > 0

    def fileno(self) -> int:
        return self._socket.fileno()


class BlockingGate:
    """Threads that wait for their turn."""

    def __init__(self) -> None:
        self._waiting: deque[threading.Event] = deque()

    async def wait(self, until: float) -> bool:
        import threading  # Here as below: who does one thing at a time need not wait for it.

        turn = threading.Event()
        self._waiting.append(turn)
        if turn.wait(until - time.monotonic()):
            return True
        try:
            self._waiting.remove(turn)
        except ValueError:  # It was let through just now.
            return True
        return False

    def open(self) -> None:
        try:
            self._waiting.popleft().set()
        except IndexError:
            return


class BlockingRuntime:
    """Waits in the kernel."""

    def __init__(self) -> None:
        self.now = time.monotonic
        self.home = generation

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 (there is no loop)

    async def connect(
        self, address: Address, authority_file: str, until: float, proxy: Proxy | None
    ) -> BlockingTransport:
        there = address if proxy is None else proxy.address
        try:
            connected = socket.create_connection((there.host, there.port), timeout=_left(until))
        except (OSError, UnicodeError) as error:
            raise cannot_connect(there, error) from error
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain = BlockingTransport(connected, None)
        if not address.tls:
            return plain
        if proxy is not None:
            from octad.client.http.proxy import open_tunnel

            try:
                await open_tunnel(plain, address, proxy, until)
            except BaseException:
                plain.close()
                raise
        from octad.client.http.tls import client_context, failed_handshake

        try:
            context = client_context(authority_file)
            secured = context.wrap_socket(connected, server_hostname=address.host)
        except OSError as error:
            connected.close()
            raise failed_handshake(address, error) from error
        return BlockingTransport(connected, secured)

    async def first_readable(self, transports: tuple[Transport, Transport], until: float) -> int:
        found = _readable(transports, until - time.monotonic())
        return transports.index(found[0]) if found else -1

    async def in_order(
        self, jobs: AsyncIterable[Callable[[], Coroutine[Any, Any, Result]]], at_once: int
    ) -> AsyncGenerator[Result, None]:
        """Each job has a thread of its own, which has ended when this has."""
        running: deque[_Job[Result]] = deque()
        try:
            async for job in jobs:
                if len(running) == at_once:
                    yield running.popleft().result()
                running.append(_Job(job))
            while running:
                yield running.popleft().result()
        finally:
            for left in running:
                left.join()

    def gate(self) -> BlockingGate:
        return BlockingGate()

    async def aside(self, work: Callable[[], Result]) -> Result:
        return work()


class _Job(Generic[Result]):
    """A coroutine that a thread carries through."""

    def __init__(self, job: Callable[[], Coroutine[Any, Any, Result]]) -> None:
        self._job = job
        self._results: list[Result] = []
        self._error: BaseException | None = None
        import threading

        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self) -> Result:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            self._results.append(drive(self._job()))
        except BaseException as error:
            self._error = error


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.001)  # 0 would mean not to wait at all.


def _readable(transports: Sequence[Transport], timeout_s: float) -> list[Transport]:
    poll = select.poll()
    places = {}
    for each in transports:
        assert isinstance(each, BlockingTransport)
        if each.has_decrypted:
            return [each]
        places[each.fileno()] = each
        poll.register(each.fileno(), select.POLLIN)
    return [places[descriptor] for descriptor, _ in poll.poll(max(timeout_s, 0.0) * 1000)]


def _failure(error: OSError, doing: str) -> ConnectionFailed:
    if isinstance(error, TimeoutError):
        return SilentPeer(f"it was silent while {doing}")
    return ConnectionFailed(f"the connection broke while {doing}: {error}")
