"""Copies the histories of shards from other nodes: for learners and recruits.

    page of rows asked for ─ compared with what is here ─ only what lacks is asked for, in several
    messages at a time ─ `history_writer.py` ─ next page … compared with the source's rows as they
    are (`copy_check.py`) ─ installed durably ─ `on_copied`

Some shards at a time, the most urgent first. A copy goes on with the next source when one fails,
behind the last page that it finished, for ever. It holds back while the disk is full, while much is
pending in the journal, and while clients write (`history_pace.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from octad.client.runtime.background_task import run_together
from octad.sharding.ids import BucketId, NodeId, PoolId, Seq, ShardId, node_name, number_of
from octad.sharding.ids import shard_name as name_of
from octad.sharding.limits import (
    HISTORY_MESSAGE_BYTES,
    HISTORY_MESSAGE_RECORDS,
    HISTORY_PAGE_ROWS,
    HISTORY_STEP_ROWS,
)
from octad.storage_node.history.copy_check import CopyCheck, Incomplete, NotComparable
from octad.storage_node.history.history_messages import (
    HistoryRead,
    HistoryRow,
    ReadHistory,
    ReadRecords,
)
from octad.storage_node.history.history_pace import HistoryPace
from octad.storage_node.history.history_writer import BadHistory, HistoryWriter
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index import IndexDamage
from octad.storage_node.index.index_format import decode_shard_order_key, shard_order_range
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import JournalFailed, JournalFull
from octad.storage_node.journal.record_format import Position
from octad.storage_node.replication.shard_ports import CopyTarget
from octad.storage_node.rpc.peer import Call
from octad.storage_node.rpc.rpc_errors import RpcError

HISTORY_CALLS = 4  # Calls under way at a time, per copy.
HISTORY_COPIES = 24  # Shards copied at a time; the others wait.
HISTORY_CALL_TIMEOUT_S = 10.0
HISTORY_RETRY_S_MIN = 0.05  # After every source has failed once; doubled each time.
HISTORY_RETRY_S_MAX = 2.0
HISTORY_UNEQUAL_S = 5.0  # After a copy was not what its source has for the second time.

log = logging.getLogger(__name__)


class _NotWanted(Exception):
    """The replica has begun another log, or is gone."""


@dataclass(slots=True, eq=False)
class _Copy:
    """One shard's copy: what is wanted, and how far it has come."""

    target: CopyTarget
    shard: ShardId
    start: Seq
    sources: tuple[NodeId, ...]
    urgency: int
    begin: bytes
    end: bytes
    cursor: bytes
    newest: Seq
    task: asyncio.Task[None] | None = None
    is_complete: bool = False  # All rows are in the index, but not durable yet.
    unequal: int = 0  # How often a copy differed from its source.
    tried: int = 0  # Sources, since one of them last brought a page.
    bytes_done: int = 0  # Bytes of records copied, or already here.
    ids: list[tuple[bytes, Seq]] = field(default_factory=list)

    def source(self) -> NodeId:
        return self.sources[self.tried % len(self.sources)]

    def bytes_total(self) -> int | None:
        """Hashes are spread evenly: the part seen so far predicts the rest."""
        begin, end, at = (_as_number(key) for key in (self.begin, self.end, self.cursor))
        return self.bytes_done * (end - begin) // (at - begin) if at > begin else None


class HistoryCopier:
    """The shards' Histories: see the module. `start` it after the replay; `close` at the end."""

    def __init__(
        self,
        journal: Journal,
        index: CountedIndex,
        call: Call,
        pool_of_bucket: Callable[[BucketId], PoolId | None],
        ask_count: Callable[[Iterable[ShardId]], None],
    ) -> None:
        self._journal = journal
        self._call = call
        self._check = CopyCheck(index, call, ask_count)
        self._writer = HistoryWriter(journal, index, pool_of_bucket)
        self._copies: dict[ShardId, _Copy] = {}
        self._forgetting: dict[asyncio.Task[None], None] = {}
        self._pace = HistoryPace(lambda: journal.records_appended - journal.upkeep_appended)

    def start(self, complete: Iterable[tuple[ShardId, Seq]]) -> None:
        """The replay has ended, and these shards are complete, applied up to there.

        Before, nothing may be copied.
        """
        self._writer.recovered()
        for shard, applied in complete:
            self.forget_marks(shard, applied)

    def begin(
        self,
        target: CopyTarget,
        shard: ShardId,
        depth: int,
        start: Seq,
        sources: tuple[NodeId, ...],
        urgency: int = 0,
    ) -> None:
        """Copy `shard` as of `start` or later; the lowest urgency goes first.

        Replaces an earlier copy of the shard; one with the same start continues.
        """
        known = self._copies.get(shard)
        if known is not None and known.start == start:
            known.sources, known.urgency = sources, urgency
            self._start_next()
            return
        self.cancel(shard)
        begin, end = shard_order_range(number_of(shard), depth)
        self._copies[shard] = _Copy(
            target, shard, start, sources, urgency, begin, end, begin, start
        )
        self._start_next()

    def cancel(self, shard: ShardId) -> None:
        """Stop the copy; rows copied so far stay."""
        copy = self._copies.pop(shard, None)
        if copy is not None and copy.task is not None:
            copy.task.cancel()

    def forget_marks(self, shard: ShardId, upto: Seq) -> None:
        """The shard's replica is complete, and has applied `upto`."""
        task = asyncio.create_task(self._writer.forget_marks(shard, upto))
        self._forgetting[task] = None
        task.add_done_callback(self._forgetting.pop)

    def progress(self) -> dict[ShardId, tuple[int, int | None, NodeId | None]]:
        """Bytes done, the estimated total, and the source; also for queued copies."""
        return {
            shard: (copy.bytes_done, copy.bytes_total(), copy.source() if copy.sources else None)
            for shard, copy in self._copies.items()
        }

    async def close(self) -> None:
        """End all copies."""
        tasks = [copy.task for copy in self._copies.values() if copy.task is not None]
        tasks += self._forgetting
        self._copies.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- one shard -----------------------------------------------------------------------------

    def _start_next(self) -> None:
        running = sum(
            copy.task is not None and not copy.is_complete for copy in self._copies.values()
        )
        if running >= HISTORY_COPIES:
            return
        waiting = [copy for copy in self._copies.values() if copy.task is None and copy.sources]
        waiting.sort(key=lambda copy: copy.urgency)
        for copy in waiting[: HISTORY_COPIES - running]:
            copy.task = asyncio.create_task(self._run(copy), name=f"copy of {name_of(copy.shard)}")
            copy.task.add_done_callback(partial(self._ended, copy))

    def _ended(self, copy: _Copy, task: asyncio.Task[None]) -> None:
        if self._copies.get(copy.shard) is copy:
            del self._copies[copy.shard]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the copy of shard %s hit a bug", name_of(copy.shard), exc_info=error)
        if self._copies:
            self._start_next()

    async def _run(self, copy: _Copy) -> None:
        """Copy until it is complete, or no longer wanted."""
        pause = HISTORY_RETRY_S_MIN
        while self._wanted(copy):
            source, at = copy.source(), copy.cursor
            try:
                await self._copy_from(copy, source)
                await self._check.check(
                    copy.shard, copy.newest, source, partial(self._wanted, copy)
                )
                await self._install(copy)
                return
            except (_NotWanted, JournalFailed, IndexDamage):
                return  # The node goes down, or begins anew with another index.
            except (RpcError, BadHistory, NotComparable, JournalFull, OSError) as error:
                shard = name_of(copy.shard)
                log.warning("copying shard %s from %s: %s", shard, node_name(source), error)
            except Incomplete as error:
                await self._begin_again(copy, source, error)
            copy.tried += 1
            if copy.cursor != at:
                pause = HISTORY_RETRY_S_MIN
            if copy.tried % len(copy.sources) == 0:
                await asyncio.sleep(pause)
                pause = min(2 * pause, HISTORY_RETRY_S_MAX)

    async def _begin_again(self, copy: _Copy, source: NodeId, why: Incomplete) -> None:
        """Compare every row once more; from the second time on, someone's index is damaged."""
        shard = name_of(copy.shard)
        log.error("the copy of shard %s differs from that of %s: %s", shard, node_name(source), why)
        copy.cursor, copy.bytes_done = copy.begin, 0
        copy.unequal += 1
        if copy.unequal > 1:
            with suppress(RpcError, NotComparable):
                await self._check.count_both(copy.shard, source)
            await asyncio.sleep(HISTORY_UNEQUAL_S)

    async def _install(self, copy: _Copy) -> None:
        copy.is_complete = True
        self._start_next()
        while self._wanted(copy):
            try:
                await self._writer.install(copy.shard, copy.start, copy.newest, copy.ids)
            except JournalFull:
                await asyncio.sleep(HISTORY_RETRY_S_MAX)
                continue
            if self._wanted(copy):
                del self._copies[copy.shard]
                copy.target.on_copied(copy.shard, copy.start, copy.newest, copy.ids)

    def _wanted(self, copy: _Copy) -> bool:
        mine = self._copies.get(copy.shard) is copy
        return mine and copy.target.wants_copy(copy.shard, copy.start)

    async def _copy_from(self, copy: _Copy, source: NodeId) -> None:
        """Page by page, the next one asked for while this one's records come."""
        coming = asyncio.create_task(self._read_page(copy, source, copy.cursor))
        try:
            while copy.cursor != copy.end and self._wanted(copy):
                page = await coming
                if page.end != copy.end:
                    coming = asyncio.create_task(self._read_page(copy, source, page.end))
                await self._take_page(copy, source, page)
                copy.newest = max(copy.newest, page.newest)
                copy.cursor, copy.ids = page.end, page.request_ids
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    async def _read_page(self, copy: _Copy, source: NodeId, begin: bytes) -> HistoryRead:
        asked = ReadHistory(copy.shard, copy.start, begin, copy.end, HISTORY_PAGE_ROWS)
        page, _ = await self._call(source, asked, b"", HISTORY_CALL_TIMEOUT_S)
        if not begin < page.end <= copy.end:
            raise BadHistory(f"{page.end.hex()} ends no page behind {begin.hex()}")
        return page

    async def _take_page(self, copy: _Copy, source: NodeId, page: HistoryRead) -> None:
        lacking, gone = await self._writer.compare(copy.shard, copy.cursor, page)
        await self._writer.delete(copy.shard, page.as_of, gone, partial(self._wanted, copy))
        copied = sum(row.size for row in lacking)
        copy.bytes_done += sum(row.size for row in page.rows) - copied
        groups = _in_messages(lacking)
        workers = min(HISTORY_CALLS, len(groups))
        await run_together(*(self._take_records(copy, source, groups) for _ in range(workers)))

    async def _take_records(
        self, copy: _Copy, source: NodeId, groups: deque[list[HistoryRow]]
    ) -> None:
        """Group after group: ask, append, wait until it is durable, put the rows."""
        while groups:
            async with self._pace.turn():
                rows = groups.popleft() if groups else []
                while rows:
                    rows = await self._take_message(copy, source, rows)

    async def _take_message(
        self, copy: _Copy, source: NodeId, rows: list[HistoryRow]
    ) -> list[HistoryRow]:
        """Returns what the message had no room for."""
        wanted = [(decode_shard_order_key(row.order_key), row.epoch, row.seq) for row in rows]
        asked = ReadRecords(copy.shard, copy.start, wanted)
        answer, body = await self._call(source, asked, b"", HISTORY_CALL_TIMEOUT_S)
        if not answer.looked_at:
            raise BadHistory("the answer brings no records")
        await self._journal.wait_for_room()
        if not self._wanted(copy):
            raise _NotWanted
        copied: list[tuple[Position, HistoryRow, bytes]] = []
        data, at = memoryview(body), 0
        try:
            for number, record in enumerate(answer.records):
                if number % HISTORY_STEP_ROWS == HISTORY_STEP_ROWS - 1:
                    await asyncio.sleep(0)
                    if not self._wanted(copy):
                        raise _NotWanted
                row = rows[record.number]
                piece = data[at : at + record.data_bytes]
                at += record.data_bytes
                copied.append(self._writer.append(copy.shard, row, record, piece))
        finally:
            await self._writer.put(copy.shard, copied, partial(self._wanted, copy))
        copy.newest = max(copy.newest, answer.newest)
        copy.bytes_done += sum(row.size for row in rows[: answer.looked_at])
        return rows[answer.looked_at :]


def _in_messages(rows: list[HistoryRow]) -> deque[list[HistoryRow]]:
    """Rows whose records fit into one message each time."""
    groups: deque[list[HistoryRow]] = deque()
    size = 0
    for row in rows:
        full = size + row.size > HISTORY_MESSAGE_BYTES
        if not groups or full or len(groups[-1]) >= HISTORY_MESSAGE_RECORDS:
            groups.append([])
            size = 0
        groups[-1].append(row)
        size += row.size
    return groups


def _as_number(order_key: bytes) -> int:
    """The place in the order of shards, on a scale of 2^72."""
    return int.from_bytes(order_key[:9].ljust(9, b"\x00"), "big")
