"""Compares the copies of the shards that this node leads with its own, and says how many are good.

Soon after a configuration has changed, then once a minute, one message a peer for many shards.
Where a copy differs at the same seq, both nodes count their rows: whose index is damaged finds it
then.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from octad.client.runtime.background_task import run_together
from octad.coordinator.schema.node_report import VerifiedCopies
from octad.sharding.ids import NodeId, Seq, ShardId, node_name, shard_name
from octad.sharding.limits import DIGEST_CALL_TIMEOUT_S
from octad.storage_node.index.shard_digest import FORMAT
from octad.storage_node.replication.copy_comparison import CopyComparison, Led
from octad.storage_node.replication.digest_messages import ReadDigests
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.rpc.peer import Call
from octad.storage_node.rpc.rpc_errors import BAD_MESSAGE, RemoteError, RpcError
from octad.storage_node.upkeep.shard_counter import ShardCounter

DIGEST_SHARDS_MAX = 1024  # Per message.
COMPARE_POLL_S = 1.0
COMPARE_FIRST_S = 5.0  # A shard that has just begun to be served is not reported without copies.

log = logging.getLogger(__name__)


class CopyComparer:
    """See the module. `run` until cancelled."""

    def __init__(self, host: ShardHost, counter: ShardCounter, call: Call) -> None:
        self._host = host
        self._counter = counter
        self._call = call
        self._comparison = CopyComparison(host.node)
        self._loop = asyncio.get_running_loop()
        self._unserved_since: dict[ShardId, float] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(COMPARE_POLL_S)
            await self.compare()

    async def compare(self) -> None:
        """Compare all copies that are due; nodes that do not answer are asked again next time."""
        led = self._led()
        due = self._comparison.due(led.values(), self._loop.time())
        await run_together(
            *(
                self._compare_with(node, shards[first : first + DIGEST_SHARDS_MAX], led)
                for node, shards in due.items()
                for first in range(0, len(shards), DIGEST_SHARDS_MAX)
            )
        )

    def verified(self) -> dict[str, VerifiedCopies]:
        """The verified copies of every shard that this node leads, by name."""
        digests = self._host.index.digests
        copies: dict[str, VerifiedCopies] = {}
        before, self._unserved_since = self._unserved_since, {}
        now = self._loop.time()
        for shard, led in self._led().items():
            if led.heard:
                found = self._comparison.judge(led, digests.now(shard) is not None)
                said = VerifiedCopies(led.epoch, found.equal, found.unknown, found.different)
            else:
                since = self._unserved_since[shard] = before.get(shard, now)
                said = VerifiedCopies(led.epoch, 0, int(now - since < COMPARE_FIRST_S))
            copies[shard_name(shard)] = said
        return copies

    def _led(self) -> dict[ShardId, Led]:
        return {
            shard: Led(shard, epoch, heard) for shard, epoch, heard in self._host.copies_heard()
        }

    async def _compare_with(
        self, node: NodeId, shards: list[ShardId], led: dict[ShardId, Led]
    ) -> None:
        digests = self._host.index.digests
        mine = {
            shard: (digests.seq(shard), digest)
            for shard in shards
            if (digest := digests.now(shard)) is not None
        }
        if not mine:
            return
        asked = ReadDigests([(shard, seq) for shard, (seq, _) in mine.items()])
        try:
            answer, _ = await self._call(node, asked, b"", DIGEST_CALL_TIMEOUT_S)
        except RpcError as error:
            if isinstance(error, RemoteError) and error.code == BAD_MESSAGE:
                for shard in mine:  # An older octad: it counts as it did there.
                    self._note(led[shard], node, is_equal=True)
            else:
                log.info("%s cannot be compared with: %s", node_name(node), error)
            return
        different: list[tuple[ShardId, Seq]] = []
        for theirs in answer.digests:
            seq, digest = mine[theirs.shard]
            if theirs.digest is None or theirs.seq != seq:
                continue  # It is counting its rows, or is behind: next time.
            is_equal = theirs.digest == digest or theirs.digest.format != FORMAT
            self._note(led[theirs.shard], node, is_equal=is_equal)
            if not is_equal:
                log.error(
                    "shard %s at seq %d: %s has %s and this node %s; both count their rows",
                    *(shard_name(theirs.shard), seq, node_name(node), theirs.digest, digest),
                )
                different.append((theirs.shard, Seq(0)))
        if different:
            self._counter.ask(shard for shard, _ in different)
            with suppress(RpcError):
                await self._call(node, ReadDigests(different, True), b"", DIGEST_CALL_TIMEOUT_S)

    def _note(self, led: Led, node: NodeId, *, is_equal: bool) -> None:
        self._comparison.compared(led.shard, led.epoch, node, is_equal, self._loop.time())
