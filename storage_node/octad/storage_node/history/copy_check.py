"""Whether a copy of a shard's history is complete: its digest and its source's are the same.

Both are of one and the same seq, at or behind the newest row of the copy: what the entries up to
there have changed is in both. Here a digest means something only since the last row has come.
Rules: `docs/reference/history-copy.md`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from octad.sharding.ids import NodeId, Seq, ShardId, node_name, shard_name
from octad.sharding.limits import COUNT_POLL_S, DIGEST_CALL_TIMEOUT_S, DIGEST_POLL_S
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.shard_digest import FORMAT
from octad.storage_node.replication.digest_messages import DigestRead, ReadDigests
from octad.storage_node.rpc.peer import Call
from octad.storage_node.rpc.rpc_errors import BAD_MESSAGE, RemoteError

log = logging.getLogger(__name__)

UNKNOWN_MAX = 10  # Answers "still counting" of a source, before the next one is asked.
BEHIND_MAX = 3  # Answers of a source that is behind us, before it is taken to stand still.


class NotComparable(Exception):
    """The source does not know its digest at present: ask again, or another one."""


class Incomplete(Exception):
    """The copy differs from the source."""


class CopyCheck:
    """See the module. `ask_count` has rows counted here."""

    def __init__(
        self, index: CountedIndex, call: Call, ask_count: Callable[[Iterable[ShardId]], None]
    ) -> None:
        self._index = index
        self._call = call
        self._ask_count = ask_count

    async def check(
        self, shard: ShardId, newest: Seq, source: NodeId, is_wanted: Callable[[], bool]
    ) -> None:
        """Returns when the copy is complete, or no longer wanted.

        Raises Incomplete, NotComparable, RpcError. If the source's log stays behind ours its rows
        are counted instead: that proves it sound, and the copy complete. A source of a version
        without digests is trusted, as before: its copies are not verified.
        """
        digests = self._index.digests
        digests.forget_past(shard)
        while digests.seq(shard) < newest and is_wanted():
            await asyncio.sleep(DIGEST_POLL_S)
        while digests.now(shard) is None and is_wanted():
            self._ask_count([shard])
            await asyncio.sleep(COUNT_POLL_S)
        behind = unknown = counts = 0
        while is_wanted():
            theirs = await self._ask(shard, source, count=behind == BEHIND_MAX)
            if theirs is None:
                return
            if theirs.digest is None:
                unknown += 1
                if unknown > UNKNOWN_MAX:
                    raise NotComparable(f"{node_name(source)} counts its rows first")
                await asyncio.sleep(COUNT_POLL_S)
                continue
            while digests.seq(shard) < theirs.seq and is_wanted():
                await asyncio.sleep(DIGEST_POLL_S)
            mine = digests.at(shard, theirs.seq)
            if mine is not None:
                if mine == theirs.digest:
                    return
                raise Incomplete(f"at seq {theirs.seq} {mine} and not {theirs.digest}")
            behind = behind + 1 if digests.seq(shard) > theirs.seq else 0
            if behind <= BEHIND_MAX:
                counts = theirs.counts
            elif theirs.counts > counts:
                return
            else:
                await asyncio.sleep(COUNT_POLL_S)

    async def count_both(self, shard: ShardId, source: NodeId) -> None:
        """One of the two is wrong: the one whose rows differ from its stored digest."""
        self._ask_count([shard])
        await self._ask(shard, source, count=True)

    async def _ask(self, shard: ShardId, source: NodeId, *, count: bool) -> DigestRead | None:
        """None: it counts otherwise, or is too old to count."""
        asked = ReadDigests([(shard, self._index.digests.seq(shard))], count)
        try:
            answer, _ = await self._call(source, asked, b"", DIGEST_CALL_TIMEOUT_S)
        except RemoteError as error:
            if error.code != BAD_MESSAGE:
                raise
            log.info("shard %s is copied from an older octad: %s", shard_name(shard), error)
            return None
        if not answer.digests:
            raise NotComparable(f"{node_name(source)} has no copy")
        (read,) = answer.digests
        if read.digest is not None and read.digest.format != FORMAT:
            return None
        return read
