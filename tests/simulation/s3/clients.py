"""Clients of S3 that do everything at once to a few keys, uploads and buckets, through any node.

Each is one task: a request, its answer, a pause. A request without an answer may be tried again, at
another node, as an SDK does it; all tries are one operation. What was asked and answered is in
`keys`, `uploads` and `buckets`, which know what can be.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from tests.simulation.s3.buckets import Buckets
from tests.simulation.s3.exchange import Door, NoAnswer, Reply
from tests.simulation.s3.keys import Keys, items_of
from tests.simulation.s3.requests import Broken, Call, Signer, ask, etag_of
from tests.simulation.s3.uploads import Uploads

BUCKET = "simulated"
NAMES = ("a/1", "a/2", "a/ü +", "b/1", "b/2", "c")
LOGS = ("log/1", "log/2")
RACED = ("raced-1", "raced-2")
TRIES_MAX = 3
AGAIN_S = 0.1
NO_DOOR_S = 0.2
_SURE_TRIES = 300


@dataclass(frozen=True)
class Habits:
    """`patience_s`: how long one of them waits for an answer, None: for ever."""

    think_s: float = 0.1
    patience_s: float | None = 4.0
    retries: float = 0.6  # Of the requests that got no answer.
    sizes: tuple[int, ...] = (20, 20, 700, 3000)


class Clients:
    """What all of them share. `door` gives a node that takes requests now, or None."""

    def __init__(
        self, door: Callable[[], Door | None], signer: Signer, random: Random, habits: Habits
    ) -> None:
        self.signer = signer
        self.random = random
        self.habits = habits
        self.keys = Keys(NAMES, LOGS)
        self.uploads = Uploads()
        self.buckets = Buckets(RACED)
        self.counts: Counter[str] = Counter()
        self.seen: dict[str, str] = {}  # By key, the last known entity tag.
        self.ends: dict[str, int] = {}  # Of logs, where they were seen to end.
        self.logs_seen: dict[str, str] = {}  # By entity tag, the items.
        self.stopped = False
        self._door = door
        self._invocations = 0

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def run(self, act: Callable[[Clients], Awaitable[None]]) -> None:
        """One client, which does `act` again and again."""
        while not self.stopped:
            try:
                await act(self)
                self.counts["answered"] += 1
            except NoAnswer:
                self.counts["not answered"] += 1
            await asyncio.sleep(self.random.random() * self.habits.think_s)

    async def ask(self, call: Call, *, may_retry: bool = True) -> Reply:
        """Raises Refused, and NoAnswer when no try of it got an answer."""
        self._invocations += 1
        invocation = f"{self._invocations:08x}-{self.random.getrandbits(64):016x}"
        if may_retry:
            call = Call(**{**vars(call), "invocation": invocation})
        while True:
            try:
                return await self._try(call)
            except NoAnswer:
                if not may_retry or call.attempt == TRIES_MAX:
                    raise
                if self.random.random() > self.habits.retries:
                    raise
            self.counts["tried again"] += 1
            call = call.again()
            await asyncio.sleep(self.random.random() * AGAIN_S)

    async def _try(self, call: Call) -> Reply:
        while (door := self._door()) is None:
            await asyncio.sleep(NO_DOOR_S)
        try:
            async with asyncio.timeout(self.habits.patience_s):
                return await ask(door, self.signer, call)
        except TimeoutError:
            raise NoAnswer("no patience") from None

    def value_seen(self, key: str) -> str | None:
        """The last known value of a key: its entity tag, or the items of a log."""
        etag = self.seen.get(key)
        return self.logs_seen.get(etag or "") if key in self.keys.logs else etag

    def saw_log(self, key: str, reply: Reply, body: bytes) -> str:
        """This is the log, and a reply names its entity tag; gives its items."""
        self.seen[key], self.ends[key] = etag_of(reply), len(body)
        self.logs_seen[etag_of(reply)] = items_of(body)
        return items_of(body)

    async def make_bucket(self) -> None:
        """Before anything else."""
        await self.surely(partial(self.ask, Call("PUT", BUCKET)))

    async def surely(self, of: Callable[[], Awaitable[object]]) -> None:
        """Until there is an answer, as there must be when nothing is wrong."""
        for _ in range(_SURE_TRIES):
            try:
                await of()
            except NoAnswer:
                await asyncio.sleep(AGAIN_S)
            else:
                return
        raise Broken("no answer, though nothing is wrong")

    def violations(self) -> list[str]:
        """Whatever cannot be."""
        return [
            *self.keys.violations(),
            *self.uploads.violations(),
            *self.buckets.violations(),
        ]
