"""One watch stream of etcd: a thread reads it, the loop takes what came.

etcd sends all events of a revision in one answer (unless asked for fragments, which we do not).
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor

import grpc

from octad.coordinator.store.etcd_connection import Connection, Message, rpc, store_error
from octad.coordinator.store.interface import Compacted, StoreUnavailable

UNREAD_ANSWERS_MAX = 10_000  # A reader further behind has to list again.


class WatchStream:
    """A watch of [key, range_end) from a revision on. To be closed."""

    def __init__(
        self, connection: Connection, threads: Executor, key: bytes, range_end: bytes, start: int
    ) -> None:
        self._target = connection.target
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._echo_key = key + b"\0"
        self._answers: asyncio.Queue[Sequence[Message] | Exception] = asyncio.Queue()
        self._watch_id: int | None = None
        self._echoed = asyncio.Event()
        self._requests: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._requests_ended = threading.Event()
        self._closed = False
        create = rpc.WatchCreateRequest(key=key, range_end=range_end, start_revision=start)
        self._requests.put(rpc.WatchRequest(create_request=create))
        self._call = connection.watch(self._each_request())
        self._reader = threading.Thread(target=self._read, name="etcd-watch", daemon=True)
        self._reader.start()

    async def next(self, seconds: float) -> Sequence[Message] | None:
        """The events of the next answer, or None if none came in time.

        Raises what ended the watch: StoreUnavailable or Compacted.
        """
        try:
            async with asyncio.timeout(seconds):
                answer = await self._answers.get()
        except TimeoutError:
            return None
        if isinstance(answer, Exception):
            raise answer
        if self._answers.qsize() > UNREAD_ANSWERS_MAX:
            raise StoreUnavailable("the reader of this watch fell too far behind")
        return answer

    async def echo(self, seconds: float) -> None:
        """Make sure that the stream still answers; raises StoreUnavailable."""
        self._echoed.clear()
        create = rpc.WatchCreateRequest(key=self._echo_key)
        self._requests.put(rpc.WatchRequest(create_request=create))
        try:
            async with asyncio.timeout(seconds):
                await self._echoed.wait()
        except TimeoutError as error:
            raise StoreUnavailable(f"etcd at {self._target}: the watch is frozen") from error

    async def close(self) -> None:
        """No thread is left."""
        if self._closed:
            return
        self._closed = True
        self._call.cancel()
        self._requests.put(None)
        await self._loop.run_in_executor(self._threads, self._join)

    def _join(self) -> None:
        self._reader.join()
        self._requests_ended.wait()

    def _each_request(self) -> Iterator[Message]:
        try:
            while (request := self._requests.get()) is not None:
                yield request
        finally:
            self._requests_ended.set()

    def _read(self) -> None:
        end: Exception = StoreUnavailable(f"etcd at {self._target}: the watch ended")
        try:
            for answer in self._call:
                self._hand_over(self._take, answer)
        except grpc.RpcError as error:
            end = store_error(self._target, error)
        self._hand_over(self._answers.put_nowait, end)

    def _hand_over(self, take: Callable[[Message], None], answer: Message) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(take, answer)

    def _take(self, answer: Message) -> None:
        if answer.created and self._watch_id is not None:
            self._echoed.set()
            cancel = rpc.WatchCancelRequest(watch_id=answer.watch_id)
            self._requests.put(rpc.WatchRequest(cancel_request=cancel))
            return
        if answer.created:
            self._watch_id = answer.watch_id
        if answer.watch_id != self._watch_id:
            return  # The end of an echo.
        if answer.compact_revision:
            self._answers.put_nowait(Compacted(f"compacted at {answer.compact_revision}"))
        elif answer.canceled:
            reason = answer.cancel_reason or "the watch was cancelled"
            self._answers.put_nowait(StoreUnavailable(f"etcd at {self._target}: {reason}"))
        elif answer.events:
            self._answers.put_nowait(answer.events)
