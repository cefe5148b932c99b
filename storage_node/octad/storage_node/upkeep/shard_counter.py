"""Counts the rows of every shard anew, and compares their digest with the stored one.

So after each start, and within each period, every block of the index that has rows is read, and a
row that has gone, or is not what was written, is noticed while good copies exist: the index is
damaged then. A shard whose digest is not known is counted sooner, and before all others one that
someone asks for. Each goes row by row in the order in which others copy it, in steps beside the
requests.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice

from octad.sharding.ids import BucketId, PoolId, Seq, ShardId, number_of, pool_of, shard_name
from octad.sharding.limits import COUNT_POLL_S, DIGEST_POLL_S, DIGEST_WAIT_S, SCRUB_PERIOD_S
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index_format import (
    ROW_TABLES,
    bucket_of_row,
    decode_located,
    decode_shard_order_key,
    shard_order_range,
)
from octad.storage_node.index.shard_digest import Count, Found
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import CorruptRecord
from octad.storage_node.journal.record_format import Location
from octad.storage_node.replication.digest_messages import DigestRead, DigestsRead, ReadDigests
from octad.storage_node.replication.host.index_applier import keep_state
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.rpc.peer import Answer

COUNT_STEP_ROWS = 64  # Between two requests of clients: half a millisecond.
COUNT_SHARE = 0.05  # Share of a core.
COUNT_SHARE_SOON = 0.2  # The same, of what is not known or asked for.

log = logging.getLogger(__name__)


class ShardCounter:
    """See the module. `run` until cancelled, once the buckets are known; `count`: one shard."""

    def __init__(
        self,
        journal: Journal,
        index: CountedIndex,
        replicas: dict[ShardId, ShardReplica],
        pool_of_bucket: Callable[[BucketId], PoolId | None],
        period_s: float = SCRUB_PERIOD_S,
    ) -> None:
        self._journal = journal
        self._index = index
        self._replicas = replicas
        self._pool_of_bucket = pool_of_bucket
        self._period_s = period_s
        self._asked: dict[ShardId, None] = {}
        self._due: list[tuple[ShardId, float]] = []  # With shares of a core, the next one last,
        self._looked_at = 0.0  # as of then.
        self._counted_at: dict[ShardId, float] = {}
        self._failed_at: dict[ShardId, float] = {}  # Nor is one tried for ever that cannot be.
        self._news = asyncio.Event()
        self.counts: Counter[ShardId] = Counter()  # How often each was correct.

    def ask(self, shards: Iterable[ShardId]) -> None:
        """Count these next."""
        self._asked.update(dict.fromkeys(shards))
        self._news.set()

    async def run(self) -> None:
        """One after another, for ever. Raises IndexDamage."""
        while True:
            shard, share = self._next()
            if shard is None:
                self._news.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), COUNT_POLL_S)
                continue
            self._counted_at[shard] = time.monotonic()
            try:
                await self.count(shard, share)
            except (CorruptRecord, OSError) as error:  # Or its file could not be opened now.
                log.error("the rows of shard %s cannot be counted: %s", shard_name(shard), error)
                self._failed_at[shard] = time.monotonic()

    async def count(self, shard: ShardId, share: float = 1.0) -> None:
        """Count with this share of a core. Raises IndexDamage, also if rows differ from the digest.

        Raises CorruptRecord if the pool of a row is only in a record, which is damaged.
        """
        replica = self._replicas.get(shard)
        if replica is None or replica.depth is None:
            return
        digests = self._index.digests
        begin, end = shard_order_range(number_of(shard), replica.depth)
        count = digests.begin_count(shard, begin)
        while count.cursor < end:
            began = time.perf_counter()
            await self._step(count, end)
            await asyncio.sleep((time.perf_counter() - began) * (1 / share - 1))
        if digests is not self._index.digests:
            return  # This index has replaced a damaged one.
        kept, usage_known = digests.now(shard), digests.usage_known(shard)
        found = digests.counted(count)
        if found is Found.DIFFERENT:
            why = f"shard {shard_name(shard)} has {count.rows} rows and should have {kept}"
            raise self._index.note_damage(why)
        if found is Found.VOID:
            return
        self.counts[shard] += 1
        if (found is Found.NOW_KNOWN or not usage_known) and replica.complete_to is None:
            keep_state(self._index, replica)

    async def _step(self, count: Count, end: bytes) -> None:
        """The next rows: all at one moment, once it is known whose they are."""
        pools: dict[Location, PoolId] = {}
        while unknown := self._count_some(count, end, pools):
            for location in unknown:
                record = await asyncio.to_thread(self._journal.read, location)
                pools[location] = pool_of(record.shard)

    def _count_some(
        self, count: Count, end: bytes, pools: dict[Location, PoolId]
    ) -> list[Location]:
        """Returns the records with their rows' pools, to be read before counting."""
        keys = [key for key, _ in islice(self._index.scan(count.cursor, end), COUNT_STEP_ROWS)]
        pool = pool_of(count.shard)
        rows: list[tuple[bytes, bytes]] = []
        unknown: list[Location] = []
        for index_key in map(decode_shard_order_key, keys):
            value = self._index.get(index_key) if index_key[0] in ROW_TABLES else None
            if value is None:
                continue
            its_pool = self._pool_of_bucket(bucket_of_row(index_key, value))
            if its_pool is None:
                location = decode_located(value).location
                its_pool = pools.get(location)
                if its_pool is None:
                    unknown.append(location)
            if its_pool == pool:
                rows.append((index_key, value))
        if unknown:
            return unknown
        count.cursor = keys[-1] + b"\x00" if len(keys) == COUNT_STEP_ROWS else end
        for index_key, value in rows:
            count.add(index_key, value)
        return []

    # -- which is next -------------------------------------------------------------------------

    def _next(self) -> tuple[ShardId | None, float]:
        """The next shard: requested ones, unknown ones, then any not counted for a period.

        Also returns the share of a core.
        """
        if self._asked:
            shard = next(iter(self._asked))
            del self._asked[shard]
            return shard, COUNT_SHARE_SOON
        now = time.monotonic()
        if not self._due or now >= self._looked_at + COUNT_POLL_S:
            self._due, self._looked_at = self._look(now), now
        return self._due.pop() if self._due else (None, COUNT_SHARE)

    def _look(self, now: float) -> list[tuple[ShardId, float]]:
        """All shards to be counted now, the first of them last."""
        digests, before = self._index.digests, now - self._period_s
        soon: list[tuple[ShardId, float]] = []
        due: list[tuple[ShardId, float]] = []
        for shard, replica in self._replicas.items():
            if replica.depth is None:
                continue
            known = digests.now(shard) is not None and digests.usage_known(shard)
            unknown = replica.complete_to is None and not known
            if unknown and self._failed_at.get(shard, before) <= before:
                soon.append((shard, COUNT_SHARE_SOON))
            elif self._counted_at.get(shard, before) <= before:
                due.append((shard, COUNT_SHARE))
        random.shuffle(due)  # Not always the same first, where a node never runs for long.
        return due + soon

    # -- answering other nodes -----------------------------------------------------------------

    async def answer(self, asked: ReadDigests) -> Answer:
        """To a node that compares its copies with those here."""
        digests = self._index.digests
        here = [(shard, seq) for shard, seq in asked.shards if shard in self._replicas]
        if asked.count:
            self.ask(shard for shard, _ in here)
        deadline = time.monotonic() + DIGEST_WAIT_S
        while any(digests.seq(shard) < seq for shard, seq in here):
            if time.monotonic() >= deadline:
                break
            await asyncio.sleep(DIGEST_POLL_S)
        return DigestsRead([self._read(shard, seq) for shard, seq in here]), b""

    def _read(self, shard: ShardId, seq: Seq) -> DigestRead:
        """Void, partial and failed copies are compared with no one's."""
        digests, replica = self._index.digests, self._replicas[shard]
        counts = self.counts[shard]
        if replica.complete_to is not None or replica.rowless or replica.void or replica.failed:
            return DigestRead(shard, digests.seq(shard), None, counts)
        digest = digests.at(shard, seq)
        if digest is None:
            seq, digest = digests.seq(shard), digests.now(shard)
        if digest is None:
            self.ask([shard])
        return DigestRead(shard, seq, digest, counts)
