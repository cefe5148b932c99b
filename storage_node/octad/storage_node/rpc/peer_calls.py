"""The calls under way on one connection: who waits for which answer, and until when.

One timer serves all of them, set to the earliest deadline: a call that is answered in time costs no
timer of its own.
"""

from __future__ import annotations

import asyncio

from octad.sharding.ids import NodeId
from octad.storage_node.rpc.messages import Message
from octad.storage_node.rpc.rpc_errors import CallTimeout, PeerUnavailable

Answered = tuple[Message, memoryview]

# Deadlines closer together than this are met by one run of the timer.
DEADLINE_GRAIN_S = 0.01


# The future, its deadline, the timeout that set it, and what the call is about.
_Waiting = tuple[asyncio.Future[Answered], float, float, int | None]


class PeerCalls:
    """Made with a connection, ended with it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, node: NodeId) -> None:
        self._loop = loop
        self._node = node
        self._last_id = 0
        self._waiting: dict[int, _Waiting] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self, timeout_s: float, about: int | None) -> tuple[int, asyncio.Future[Answered]]:
        """A new call id, and where its answer will be."""
        self._last_id += 1
        future: asyncio.Future[Answered] = self._loop.create_future()
        deadline = self._loop.time() + timeout_s
        self._waiting[self._last_id] = (future, deadline, timeout_s, about)
        if self._timer is None or deadline < self._timer_at - DEADLINE_GRAIN_S:
            self._set_timer(deadline)
        return self._last_id, future

    def forget(self, call_id: int) -> None:
        """Forget the call: its caller no longer waits."""
        self._waiting.pop(call_id, None)

    def answer(self, call_id: int, result: Answered | Exception) -> bool:
        """Hands an answer to its caller; False when there is none any more."""
        waiting = self._waiting.pop(call_id, None)
        if waiting is None or (future := waiting[0]).done():
            return False
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
        return True

    def give_up(self, about: int) -> None:
        """Calls that wait for an answer `about` this wait in vain."""
        for call_id, waiting in list(self._waiting.items()):
            if waiting[3] == about:
                moved = PeerUnavailable(self._node, "it is not the one to ask any more", sent=True)
                self.answer(call_id, moved)

    def end(self) -> None:
        """The connection is lost: the outcome of every call under way is unknown."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for call_id in list(self._waiting):
            lost = PeerUnavailable(self._node, "the connection was lost", sent=True)
            self.answer(call_id, lost)

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        due = self._loop.time() + DEADLINE_GRAIN_S
        for call_id, (_, deadline, timeout_s, _) in list(self._waiting.items()):
            if deadline <= due:
                self.answer(call_id, CallTimeout(self._node, timeout_s=timeout_s))
        if self._waiting:
            self._set_timer(min(waiting[1] for waiting in self._waiting.values()))
