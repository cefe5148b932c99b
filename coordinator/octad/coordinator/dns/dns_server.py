"""Answers DNS over UDP and TCP, to whoever asks: so bytes, time and connections are bounded."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from contextlib import suppress

from octad.coordinator.dns.dns_answers import Instances, answer_to
from octad.coordinator.dns.dns_messages import (
    ANSWER_BYTES_MAX,
    QUESTION_BYTES_MAX,
    BadQuestion,
    decode_question,
    encode_answer,
)

TCP_CONNECTIONS_MAX = 64
_TCP_IDLE_S_MAX = 5.0
_TCP_QUESTIONS_MAX = 100  # Of one connection.
_UNSENT_BYTES_MAX = 1024 * 1024  # Beyond it, answers over UDP are dropped, as networks do.


class DnsServer:
    """Use: `await start(tcp, udp)` on bound sockets, `await stop()`."""

    def __init__(self, instances: Instances) -> None:
        self._instances = instances
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, tcp: socket.socket, udp: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._answer), sock=udp
        )
        self._server = await asyncio.start_server(self._serve, sock=tcp)

    async def stop(self) -> None:
        if self._transport is not None:
            self._transport.close()
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _answer(self, data: bytes, size: int | None) -> bytes | None:
        """`size` is None over UDP, where the question says it."""
        try:
            question = decode_question(data)
        except BadQuestion as bad:
            return bad.answer
        if question is None:
            return None
        answer = answer_to(question, self._instances, random.shuffle)
        return encode_answer(question, answer, question.size if size is None else size)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._connections) < TCP_CONNECTIONS_MAX:
                self._connections.add(task)
                with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                    await self._converse(reader, writer)
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(_TCP_QUESTIONS_MAX):
            async with asyncio.timeout(_TCP_IDLE_S_MAX):
                length = int.from_bytes(await reader.readexactly(2), "big")
                if length > QUESTION_BYTES_MAX:
                    return
                answer = self._answer(await reader.readexactly(length), ANSWER_BYTES_MAX)
                if answer is None:
                    return
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answer: Callable[[bytes, int | None], bytes | None]) -> None:
        self._answer = answer
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        assert self._transport is not None
        if len(data) > QUESTION_BYTES_MAX:
            return
        # Every loop's transports have it; the types leave it out.
        unsent_bytes: int = self._transport.get_write_buffer_size()  # type: ignore[attr-defined]
        if unsent_bytes > _UNSENT_BYTES_MAX:
            return
        answer = self._answer(data, None)
        if answer is not None:
            self._transport.sendto(answer, addr)  # type: ignore[arg-type]
