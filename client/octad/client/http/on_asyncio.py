"""The client's coroutines on asyncio: a protocol of our own, no streams, no task but in parallel.

What arrives is handed on as it came. A connection that no one reads is told to stop at
`HELD_BYTES_MAX`, so memory stays flat however large a body is.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from octad.client.http.failures import cannot_connect
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
    from ssl import SSLContext

HELD_BYTES_MAX: Final = 512 * 1024
WRITTEN_AT_ONCE: Final = 256 * 1024


class AsyncioTransport(asyncio.Protocol):
    """A connection, as its loop's callbacks see it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._arrived: deque[bytes] = deque()
        self._held = 0
        self._reading = True
        self._writable = True
        self._over: Exception | None = None  # Set once it has ended, in whichever way.
        self._clean_end = False
        self._waiters: list[asyncio.Future[bool]] = []

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._arrived.append(data)
        self._held += len(data)
        if self._held > HELD_BYTES_MAX and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()
        if self._waiters:
            self._wake()

    def eof_received(self) -> bool:
        self._clean_end = True
        self._end(ConnectionFailed("the connection was closed"))
        return False  # The transport closes itself.

    def connection_lost(self, error: Exception | None) -> None:
        self._end(ConnectionFailed(f"the connection broke: {error or 'it was closed'}"))

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._wake()

    # What a connection calls.

    async def send(self, data: Bytes, until: float) -> None:
        if self._over is not None:
            raise self._over
        assert self._transport is not None
        if len(data) <= WRITTEN_AT_ONCE:
            self._transport.write(data)
            if not self._writable:
                await self._drained(until)
            return
        view = memoryview(data)
        for start in range(0, len(view), WRITTEN_AT_ONCE):
            self._transport.write(view[start : start + WRITTEN_AT_ONCE])
            if not self._writable:
                await self._drained(until)

    async def receive(self, until: float) -> bytes:
        while not self._arrived:
            if self._clean_end:
                return b""
            if self._over is not None:
                raise self._over
            if not await self._woken(until):
                raise SilentPeer("it was silent while receiving")
        data = self._arrived.popleft()
        self._held -= len(data)
        if not self._reading and self._held <= HELD_BYTES_MAX // 2 and self._over is None:
            assert self._transport is not None
            self._reading = True
            self._transport.resume_reading()
        return data

    async def wait_readable(self, until: float) -> bool:
        while not self.is_readable():
            if not await self._woken(until):
                return self.is_readable()
        return True

    def is_readable(self) -> bool:
        return bool(self._arrived) or self._over is not None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def secure(self, context: SSLContext, host: str) -> None:
        """Speak TLS from now on. Raises OSError."""
        assert self._transport is not None
        secured = await self._loop.start_tls(self._transport, self, context, server_hostname=host)
        if secured is None:
            raise ConnectionResetError("the connection was closed")
        self._transport = secured

    # Waiting.

    def add_waiter(self, waiter: asyncio.Future[bool]) -> None:
        """Have `waiter` done when something happens; more than one may be."""
        self._waiters.append(waiter)

    def forget(self, waiter: asyncio.Future[bool]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def _end(self, error: Exception) -> None:
        if self._over is None:
            self._over = error
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            _done(waiter, True)
        self._waiters.clear()

    async def _drained(self, until: float) -> None:
        while not self._writable:
            if self._over is not None:
                raise self._over
            if not await self._woken(until):
                raise SilentPeer("it took no bytes")

    async def _woken(self, until: float) -> bool:
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            return await _done_by(self._loop, waiter, until)
        finally:
            self.forget(waiter)


class AsyncioGate:
    """Tasks that wait for their turn."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[bool]] = deque()

    async def wait(self, until: float) -> bool:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(turn)
        try:
            return await _done_by(loop, turn, until)
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.open()  # It was let through, and will not go.
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def open(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(True)
                return


class AsyncioRuntime:
    """Waits on the loop that runs."""

    def __init__(self) -> None:
        self.now = time.monotonic
        self.home = asyncio.events._get_running_loop  # None, where it is made before a loop runs.

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def connect(
        self, address: Address, authority_file: str, until: float, proxy: Proxy | None
    ) -> AsyncioTransport:
        if proxy is not None:
            return await self._through(proxy, address, authority_file, until)
        loop = asyncio.get_running_loop()
        context = None
        if address.tls:
            from octad.client.http.tls import client_context

            context = client_context(authority_file)
        try:
            async with asyncio.timeout(max(until - self.now(), 0.0)):
                _, protocol = await loop.create_connection(
                    AsyncioTransport, address.host, address.port, ssl=context
                )
        except (OSError, UnicodeError) as error:
            if address.tls:
                from ssl import SSLError

                from octad.client.http.tls import failed_handshake

                if isinstance(error, SSLError):
                    raise failed_handshake(address, error) from error
            raise cannot_connect(address, error) from error
        return protocol

    async def _through(
        self, proxy: Proxy, address: Address, authority_file: str, until: float
    ) -> AsyncioTransport:
        plain = await self.connect(proxy.address, "", until, None)
        if not address.tls:
            return plain
        from octad.client.http.proxy import open_tunnel
        from octad.client.http.tls import client_context, failed_handshake

        try:
            await open_tunnel(plain, address, proxy, until)
            try:
                async with asyncio.timeout(max(until - self.now(), 0.0)):
                    await plain.secure(client_context(authority_file), address.host)
            except OSError as error:
                raise failed_handshake(address, error) from error
        except BaseException:
            plain.close()
            raise
        return plain

    async def first_readable(self, transports: tuple[Transport, Transport], until: float) -> int:
        loop = asyncio.get_running_loop()
        while True:
            waiter: asyncio.Future[bool] = loop.create_future()
            for place, transport in enumerate(transports):
                if transport.is_readable():
                    return place
                assert isinstance(transport, AsyncioTransport)
                transport.add_waiter(waiter)
            try:
                if not await _done_by(loop, waiter, until):
                    return -1
            finally:
                for transport in transports:
                    assert isinstance(transport, AsyncioTransport)
                    transport.forget(waiter)

    async def in_order(
        self, jobs: AsyncIterable[Callable[[], Coroutine[Any, Any, Result]]], at_once: int
    ) -> AsyncGenerator[Result, None]:
        running: deque[asyncio.Task[Result]] = deque()
        try:
            async for job in jobs:
                if len(running) == at_once:
                    yield await running[0]
                    running.popleft()
                running.append(asyncio.create_task(job()))
            while running:
                yield await running[0]
                running.popleft()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def gate(self) -> AsyncioGate:
        return AsyncioGate()

    async def aside(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(None, work)


async def _done_by(
    loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[bool], until: float
) -> bool:
    """Whether `waiter` was done by then: cheaper than a task with a timeout around it."""
    timer = loop.call_later(max(until - time.monotonic(), 0.0), _done, waiter, False)
    try:
        return await waiter
    finally:
        timer.cancel()


def _done(waiter: asyncio.Future[bool], result: bool) -> None:
    if not waiter.done():
        waiter.set_result(result)
