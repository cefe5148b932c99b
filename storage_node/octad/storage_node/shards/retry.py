"""How long a request goes on trying, and what it waits for between two tries.

A shard that has lost its primary answers again as soon as its configuration names another one. So a
waiting request is woken when that configuration changes, or the primary is connected again;
otherwise it tries after a pause that grows. Nothing here is made, and no timer set, for a request
whose first try succeeds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

from octad.client.runtime.steady_clock import now
from octad.sharding import limits
from octad.sharding.ids import NodeId, ShardId
from octad.sharding.map.shard_map import ShardConfiguration
from octad.storage_node.shards.object_store import NotServed, Unavailable

RETRY_PAUSE_S_MIN = 0.02  # Between two tries; doubled until it is RETRY_PAUSE_S_MAX.
RETRY_PAUSE_S_MAX = 0.25


class ConfigurationWaiters:
    """Waiters for a change of a shard's configuration; `None` stands for any shard."""

    def __init__(self, configurations: Mapping[ShardId, ShardConfiguration]) -> None:
        self.configurations = configurations
        self._waiting: dict[ShardId | None, dict[asyncio.Future[None], None]] = {}

    def changed(self, shard: ShardId) -> None:
        """The configuration of `shard` has changed."""
        if self._waiting:
            self._wake(shard)
            self._wake(None)

    def connected(self, node: NodeId) -> None:
        """`node` can be asked again."""
        for shard in list(self._waiting):
            configuration = None if shard is None else self.configurations.get(shard)
            if configuration is None or configuration.primary == node:
                self._wake(shard)

    async def wait(self, shard: ShardId | None, timeout_s: float) -> bool:
        """Whether something happened within `timeout_s`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(shard, {})
        waiting[future] = None  # Woken in order.
        try:
            await asyncio.wait([future], timeout=timeout_s)
            return future.done()
        finally:
            waiting.pop(future, None)
            if not waiting and self._waiting.get(shard) is waiting:
                del self._waiting[shard]

    def _wake(self, shard: ShardId | None) -> None:
        for future in self._waiting.pop(shard, ()):
            if not future.done():
                future.set_result(None)


class Patience:
    """How long one request keeps trying; made when its first try has failed.

    `started` is when that try was made, `known_age_s` how old the request was then.
    """

    def __init__(
        self,
        waiters: ConfigurationWaiters,
        shard: ShardId | None,
        started: float,
        known_age_s: float = 0.0,
    ) -> None:
        self.shard = shard  # Where the next try is made.
        self._waiters = waiters
        self._ends = started + limits.REQUEST_RETRY_S_MAX
        self._pause_s = RETRY_PAUSE_S_MIN
        # When the first try was made that may have had an effect; None: so far none had.
        self._made: float | None = started - known_age_s if known_age_s else None

    def left_s(self) -> float:
        """How long the next try may take."""
        return max(self._ends - now(), RETRY_PAUSE_S_MIN)

    def age_s(self) -> float:
        """The request's age for the next try; 0 if no earlier one can have had an effect."""
        return 0.0 if self._made is None else now() - self._made

    def failed(self, error: Unavailable, tried_at: float) -> None:
        """The try made at `tried_at` ended in `error`."""
        if self._made is None and not isinstance(error, NotServed):
            self._made = tried_at

    async def pause(self, seen: ShardConfiguration | None, error: Unavailable) -> None:
        """Returns when trying again makes sense; raises `error` when there is no time left.

        `seen` is the shard's configuration as the last try knew it.
        """
        left_s = self._ends - now()
        if left_s <= 0:
            raise error
        shard = self.shard
        changed = shard is not None and self._waiters.configurations.get(shard) is not seen
        if not changed:
            jittered_s = self._pause_s * random.uniform(0.75, 1.0)
            changed = await self._waiters.wait(shard, min(jittered_s, left_s))
        if changed:
            self._pause_s = RETRY_PAUSE_S_MIN
        else:
            self._pause_s = min(2 * self._pause_s, RETRY_PAUSE_S_MAX)
